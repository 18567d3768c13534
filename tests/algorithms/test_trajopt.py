"""Trajectory optimisation on fitted models."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from jgps import costs, tasks
from jgps.algorithms import StepSizeConfig, TrajoptConfig, trajopt
from jgps.algorithms.step_size import adapt
from jgps.core.types import OK
from jgps.dynamics import MixturePriorConfig, NoPriorConfig
from jgps.simulation import make_sampler


def _noise_free(task, policy):
    sampler = make_sampler(task.system, task.train, policy.act, "native")
    shape = (task.train.num, 1, task.horizon, task.action_dim)
    return sampler.sample(policy.params_for(policy.x0), jnp.zeros(shape))


def _run(task, config, iterations, seed=0):
    algorithm = trajopt(task, config, backend="native")
    state, history = algorithm.init(jax.random.key(seed)), []
    for _ in range(iterations):
        state, metrics = algorithm.step(state)
        history.append(metrics)
    return state, history


@pytest.fixture(scope="module")
def point_mass_run():
    task = tasks.make("point_mass")
    return task, *_run(task, TrajoptConfig(), 6)


def test_the_point_mass_arrives(point_mass_run):
    task, state, history = point_mass_run
    final = _noise_free(task, state.policy)
    distances = jax.vmap(task.distance)(final.x[:, 0])
    assert float(distances.max()) < 0.05
    first, last = history[0]["cost"], history[-1]["cost"]
    assert bool((last < 0.2 * first).all())


def test_the_point_mass_reaches_the_optimum_of_the_known_model(point_mass_run):
    """Independent: the exact discrete-time LQR by SciPy, gains far from the horizon's end."""
    task, state, _ = point_mass_run
    # MuJoCo's semi-implicit Euler with damping in the velocity update, two substeps of 0.05 s.
    h, damping = 0.05, 0.2
    shrink = 1 / (1 + h * damping)
    A1 = np.array([[1, h * shrink], [0, shrink]])
    B1 = np.array([[h * h * shrink], [h * shrink]])
    A, B = A1 @ A1, A1 @ B1 + B1
    Q, R = np.diag([2.0, 0.2]), np.array([[1e-2]])
    P = scipy.linalg.solve_discrete_are(A, B, Q, R)
    value = 0.5 * np.array([1.0, 0.0]) @ P @ np.array([1.0, 0.0]) * 2  # both axes start 1 m away
    final = _noise_free(task, state.policy)
    total = costs.evaluate(task.cost, final.x[:, 0], final.u[:, 0]).sum(-1)
    # The actuators' limit of 5 N costs a little; no controller can be better than the optimum.
    assert float(total.min()) >= value * 0.999
    assert float(total.max()) <= value * 1.1


def test_every_step_keeps_to_its_bound(point_mass_run):
    _, _, history = point_mass_run
    for metrics in history:
        assert bool((metrics["kl"] <= 1.1 * metrics["kl_bound"]).all())


def test_it_works_without_a_prior_given_enough_samples():
    task = tasks.make("point_mass")
    config = TrajoptConfig(num_samples=12, prior=NoPriorConfig())
    _, history = _run(task, config, 4)
    assert bool((history[-1]["status"] == OK).all())
    assert bool((history[-1]["cost"] < 0.3 * history[0]["cost"]).all())


def test_a_bad_sample_is_left_out_and_training_goes_on():
    """A policy that blows up now and then: clipped noise is not there to help."""
    task = tasks.make("point_mass")
    algorithm = trajopt(task, TrajoptConfig(), backend="native")
    state, _ = algorithm.step(algorithm.init(jax.random.key(0)))
    K = state.policy.controllers.K
    poisoned = state.policy.controllers._replace(K=K.at[2].set(jnp.nan))
    bad = state._replace(policy=state.policy._replace(controllers=poisoned))
    after, metrics = algorithm.step(bad)
    assert metrics["samples_valid"].tolist() == [5, 5, 0, 5]
    assert metrics["status"].tolist()[2] != OK
    assert [metrics["status"].tolist()[c] for c in (0, 1, 3)] == [OK] * 3
    for leaf in jax.tree.leaves(after.policy.controllers):
        assert bool(jnp.isfinite(leaf[jnp.array([0, 1, 3])]).all())


def test_step_size_rule():
    config = StepSizeConfig()
    one = jnp.ones(())

    def after(predicted, actual):
        return float(adapt(one, jnp.asarray(predicted), jnp.asarray(actual), config))

    assert after(2.0, 1.0) == pytest.approx(1.0)  # half of it came true: the step stays
    assert after(2.0, 1.9) == pytest.approx(5.0)  # as predicted: at most five times
    assert after(2.0, -8.0) == pytest.approx(0.1)  # it became worse
    assert after(2.0, 0.0) == pytest.approx(0.5)
    assert float(adapt(one * 10, jnp.asarray(2.0), jnp.asarray(2.0), config)) == 10
    assert float(adapt(one * 0.01, jnp.asarray(2.0), jnp.asarray(-2.0), config)) == pytest.approx(
        0.01
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TrajoptConfig(num_samples=1), "num_samples is 1; .* at least 2 rollouts"),
        (lambda: TrajoptConfig(noise_smoothing=-1), "noise_smoothing is -1; it has to be >= 0"),
        (lambda: TrajoptConfig(initial_variance=0), "initial_variance is 0; it has to be > 0"),
        (lambda: StepSizeConfig(kl_step=0), "kl_step is 0; it has to be finite and > 0"),
        (lambda: StepSizeConfig(min_multiplier=2), "0 < min <= 1 <= max"),
        (lambda: MixturePriorConfig(strength=-1), "strength is -1"),
    ],
)
def test_config_values_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_users_own_arm_in_under_30_lines():
    # --- the user's lines begin
    arm = """<mujoco><option timestep="0.01" gravity="0 0 0"/>
      <default><joint axis="0 0 1" damping="0.2" armature="0.02"/></default><worldbody>
      <body><joint name="a"/><geom type="capsule" fromto="0 0 0 .3 0 0" size=".02"/>
      <body pos=".3 0 0"><joint name="b"/><geom type="capsule" fromto="0 0 0 .3 0 0" size=".02"/>
      <body pos=".3 0 0"><joint name="c"/><geom type="capsule" fromto="0 0 0 .3 0 0" size=".02"/>
      <site name="tip" pos=".3 0 0"/></body></body></body></worldbody>
      <actuator><motor joint="a"/><motor joint="b"/><motor joint="c"/></actuator></mujoco>"""
    goal = np.array([0.4, 0.5, 0.0])
    task = tasks.from_mjcf(
        arm,
        state=("qpos", "qvel", "site_pos:tip", "site_vel:tip"),
        cost=lambda s: costs.weighted_sum(
            (1.0, costs.action(1e-3)),
            (1.0, costs.distance(s["site_pos:tip"], goal, penalty=costs.Penalty(l2=5.0, log=0.01))),
        ),
        distance=lambda s: lambda x: jnp.linalg.norm(x[-1, s["site_pos:tip"]] - goal),
        qpos=[[0, 0.3, 0.3], [1.5, -0.3, -0.3]],
        horizon=40,
    )
    algorithm = trajopt(task)
    state = algorithm.init(jax.random.key(0))
    for _ in range(10):
        state, metrics = algorithm.step(state)
    # --- and end
    final = _noise_free(task, state.policy)
    assert float(jax.vmap(task.distance)(final.x[:, 0]).max()) < 0.03
