"""What was compiled for one task serves the next: an equal one, or one with other numbers."""

import dataclasses

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from compilations import count_compilations

import jgps
from jgps import costs, policies, tasks
from jgps.controllers import HoldConfig, NearestController, NoiseConfig, PdHoldConfig, lqr_hold
from jgps.simulation import Conditions, load_model
from jgps.tasks import Task
from jgps.tasks.start import (
    hold_from_model,
    initial_controller,
    initial_controllers,
    initial_states,
)

ARM = """<mujoco><option timestep="0.01" gravity="0 0 0"/>
  <default><joint axis="0 0 1" damping="0.2" armature="0.02"/></default><worldbody>
  <body><joint name="a"/><geom type="capsule" fromto="0 0 0 .3 0 0" size=".02"/>
  <body name="end" pos=".3 0 0"><joint name="b"/>
  <geom type="capsule" fromto="0 0 0 .3 0 0" size=".02"/>
  <site name="tip" pos=".3 0 0"/></body></body></worldbody>
  <actuator><motor joint="a"/><motor joint="b"/></actuator></mujoco>"""
HORIZON = 6


def _task(goal: tuple[float, ...] = (0.3, 0.4, 0.0), angle=0.3, mass=1.0) -> Task:
    target = jnp.array(goal)
    penalty = costs.Penalty(l2=5.0, log=0.01)
    return tasks.from_mjcf(
        ARM,
        state=("qpos", "qvel", "site_pos:tip", "site_vel:tip"),
        cost=lambda s: costs.weighted_sum(
            (1.0, costs.action(1e-3)),
            (1.0, costs.distance(s["site_pos:tip"], target, penalty=penalty)),
        ),
        distance=lambda s: lambda x: jnp.linalg.norm(x[-1, s["site_pos:tip"]] - target),
        success=lambda s: lambda x, u: jnp.all(jnp.abs(x[-1, s["site_pos:tip"]] - target) < 0.4),
        qpos=[[0, angle], [1.5, -0.3]],
        changes={"body_mass:end": [mass, 1.5]},
        horizon=HORIZON,
    )


def _controllers(task: Task):
    x0 = initial_states(task, task.train)
    return NearestController(controllers=initial_controllers(task, x0), x0=x0)


def _network(task: Task, hidden: tuple[int, ...] = (8,), seed: int = 0):
    network = policies.mlp(task.state_dim, task.action_dim, hidden)
    key, dtype = jax.random.key(seed), jnp.zeros(()).dtype
    return policies.initialise(network, key, task.state_dim, task.action_dim, dtype)


def _evaluate(task: Task, policy, backend="native", results=None):
    """The result, which also joins `results`."""
    result = jgps.evaluate(task, policy, key=jax.random.key(1), backend=backend, num_samples=2)
    if results is not None:
        results.append(result)
    return result


CHANGED = {
    "nothing": {},
    "start": {"angle": 0.5},
    "mass": {"mass": 1.3},
    "goal": {"goal": (0.1, 0.5, 0.0)},
    "all": {"angle": -0.2, "mass": 0.7, "goal": (0.0, 0.5, 0.0)},
}


@pytest.mark.parametrize("make_policy", [_controllers, _network])
def test_a_second_evaluation_compiles_nothing(make_policy):
    task = _task()
    first, found = _evaluate(task, make_policy(task)), []
    for name, change in CHANGED.items():
        other = _task(**change)
        policy = make_policy(other)
        assert count_compilations(_evaluate, other, policy, "native", found) == 0, name
        result = found[-1]
        assert np.array_equal(result.test.cost, first.test.cost) == (name == "nothing")
        # Each has its own goal and its own model.
        rollouts = result.test.rollouts
        total = jnp.sum(costs.evaluate(other.cost, rollouts.x, rollouts.u), axis=-1)
        np.testing.assert_allclose(result.test.cost, np.mean(total, axis=1), rtol=1e-5)
        assert other.distance is not None and other.success is not None
        distances = jax.vmap(jax.vmap(other.distance))(rollouts.x)
        np.testing.assert_allclose(result.test.distance, np.mean(distances, axis=1), rtol=1e-5)
        successes = jax.vmap(jax.vmap(other.success))(rollouts.x, rollouts.u)
        np.testing.assert_array_equal(result.test.success, np.mean(successes, axis=1))


def test_a_second_evaluation_in_mjx_compiles_nothing():
    task, found = _task(), []
    policy = _network(task)
    _evaluate(task, policy, "mjx")
    for name in ("nothing", "all"):
        other = _task(**CHANGED[name])
        assert count_compilations(_evaluate, other, policy, "mjx", found) == 0, name
        native = _evaluate(other, policy)
        np.testing.assert_allclose(found[-1].test.cost, native.test.cost, rtol=1e-3)


def test_another_network_is_another_program():
    task = _task()
    _evaluate(task, _network(task))
    assert count_compilations(_evaluate, task, _network(task, seed=1)) == 0
    assert count_compilations(_evaluate, task, _network(task, (9,))) > 0


def test_functions_of_equal_networks_are_equal():
    def observe(o):
        return o

    networks = [policies.mlp(4, 2, (8,)) for _ in range(2)] + [policies.mlp(4, 2, (9,))]
    for make in (policies.acting, lambda network: policies.acting_on_images(network, observe)):
        one, same, other = (make(network) for network in networks)
        assert one == same and hash(one) == hash(same) and one != other
    assert policies.acting(networks[0]) != policies.acting_on_images(networks[0], observe)


def test_a_policy_that_is_no_pytree_is_evaluated():
    task = _task()
    policy = _network(task)

    class Wrapped:
        act = staticmethod(policy.act)
        params_for = staticmethod(policy.params_for)

    wrapped = _evaluate(task, Wrapped())
    np.testing.assert_array_equal(wrapped.test.cost, _evaluate(task, policy).test.cost)


def test_a_cost_for_another_horizon_is_refused():
    ramp = costs.ramp("linear", HORIZON + 1)
    task = dataclasses.replace(_task(), cost=costs.action(1.0, ramp))
    with pytest.raises(ValueError, match=str(HORIZON + 1)):
        _evaluate(task, _network(task))


@pytest.mark.parametrize("initial", [None, "alike", NoiseConfig(variance=0.3), PdHoldConfig()])
def test_initial_controllers_of_another_mass_compile_nothing(initial):
    def make(mass: float) -> Task:
        model = ARM.replace("armature", f'stiffness="{mass}" armature')  # changes gains and drift
        task = dataclasses.replace(_task(angle=mass), initial=initial)
        if initial == "alike":  # one LQR hold for all: no load, no differences
            model = ARM
            rest = Conditions(qpos=np.zeros((2, 2)), qvel=np.zeros((2, 2)))
            task = dataclasses.replace(task, initial=None, train=rest)
        heavier, *_ = load_model(model, tuple(task.layout.slices))
        heavier.body_mass[:] *= mass
        mujoco.mj_setConst(heavier, mujoco.MjData(heavier))
        return dataclasses.replace(task, model=heavier)

    make_all = jax.jit(lambda controller, x0: jax.vmap(controller)(x0))
    found = []
    for number, task in enumerate((make(1.0), make(2.0))):
        x0 = initial_states(task, task.train)
        controller = initial_controller(task)
        compiled = count_compilations(initial_controllers, task, x0)
        assert number == 0 or compiled == 0
        # Also as an argument of a function that is compiled once.
        assert (count_compilations(make_all, controller, x0) > 0) == (number == 0)
        found.append(make_all(controller, x0))
        for one, other in zip(found[-1], initial_controllers(task, x0), strict=True):
            np.testing.assert_array_equal(one, other)
    if initial is None:  # masses and poses differ
        held = initial_controllers(dataclasses.replace(task, initial=HoldConfig()), x0)
        for got, array in zip(found[1], held, strict=True):
            np.testing.assert_allclose(got, array, rtol=1e-5, atol=1e-6)
    if initial == "alike":
        hold = hold_from_model(task.model, task.train)
        entries = (task.layout.positions.tolist(), task.layout.velocities.tolist())
        expected = lqr_hold(x0[0], *entries, 2, HORIZON, task.control_dt, hold)
        for got, array in zip(found[1], expected, strict=True):
            np.testing.assert_allclose(got[0], array, rtol=1e-6, atol=1e-7)
    if initial in (None, "alike"):
        assert not np.allclose(found[0].K, found[1].K)
