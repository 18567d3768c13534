"""A task's simulator as a known system: its derivatives, and what iLQG makes of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jgps import tasks
from jgps.optimise.ilqg import simulated, solve
from jgps.optimise.ilqg.system import Feedback
from jgps.optimise.ilqg.task_system import task_system
from jgps.simulation.derivatives import DerivativesConfig

H = 12
# A floating body that is turned by thrusters, with an arm; conditions differ in mass and target.
SHIP = """
<mujoco>
  <option timestep="0.01" gravity="0 0 0"/>
  <worldbody>
    <body name="ship"><freejoint/><geom type="box" size=".2 .1 .05" mass="1"/>
      <site name="port" pos=".1 .1 0"/><site name="stern" pos="-.2 0 0"/>
      <body name="arm" pos=".2 0 0"><joint name="arm" axis="0 0 1" damping=".01"/>
        <geom type="capsule" fromto="0 0 0 .2 0 0" size=".02" mass=".2"/>
        <site name="tip" pos=".2 0 0"/></body></body>
  </worldbody>
  <actuator>
    <motor site="port" gear="0 1 .5 0 0 0" ctrllimited="true" ctrlrange="-1 1"/>
    <motor site="stern" gear="1 0 0 0 .2 0" ctrllimited="true" ctrlrange="-1 1"/>
    <general joint="arm" dyntype="filterexact" dynprm=".05" gainprm=".1"/>
  </actuator>
</mujoco>
"""


def _cost(s):
    def cost(x, u, t, target):
        facing = x[s["body_rot:ship"]] - jnp.array([0.0, 1, 0, -1, 0, 0])
        near = x[s["site_pos:tip"]] - target
        rest = jnp.sum(x[s["qvel"]] ** 2) * 0.01
        return jnp.sum(facing**2) + jnp.sum(near**2) + rest + 0.01 * (1 + t / H) * jnp.sum(u**2)

    return cost


def _task(source=SHIP, entries=("qpos", "qvel", "act", "body_rot:ship", "site_pos:tip")):
    return tasks.from_mjcf(
        source, state=entries, cost=_cost, horizon=H, control_dt=0.02,
        qpos=np.tile([0.0, 0, 0, 1, 0, 0, 0, 0], (2, 1)),
        changes={"body_mass:arm": [0.2, 0.5]},
        params=np.array([[0.3, 0.2, 0], [0.2, 0.3, 0.1]]),
    )  # fmt: skip


def test_slopes_are_those_of_the_rolled_out_cost():
    """By all controls, through orientations, sensors and activations; and by single precision."""
    with jax.enable_x64(True):
        task = _task()
        config = DerivativesConfig(centred=True)
        system, begin, goal = simulated.known_system(task, task.train, config)
        rng = np.random.default_rng(0)
        begin = begin._replace(u=0.5 * rng.uniform(-1, 1, (2, H, 3)))
        still = np.zeros((2, H, 3, system.tangent_dim))

        def of(u):
            feedback = Feedback(begin._replace(u=u), np.zeros_like(u), still, np.zeros(1))
            return jax.tree.map(lambda a: np.asarray(a)[:, 0], system.roll_out(feedback, goal))

        paths = of(begin.u)
        F, H_, g = map(np.asarray, system.expand(paths, goal))
        dS, v = system.tangent_dim, 0
        slopes = np.empty((2, H, 3))
        for t in reversed(range(H)):
            q = g[:, t] + (0 if t == H - 1 else np.einsum("bij,bi->bj", F[:, t], v))
            slopes[:, t], v = q[:, dS:], q[:, :dS]
        for t, i in [(0, 0), (3, 1), (5, 2), (H - 1, 0)]:
            step = np.zeros_like(begin.u)
            step[:, t, i] = 1e-5
            by_hand = (of(begin.u + step).cost - of(begin.u - step).cost) / 2e-5
            np.testing.assert_allclose(slopes[:, t, i], by_hand, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(H_, H_.swapaxes(-1, -2))


def test_searches_to_the_optimum_within_limits_whatever_the_batch():
    task = _task()
    config = solve.SearchConfig(iterations=15, step_sizes=4, smallest_step=0.1)
    system, begin, goal = simulated.known_system(task, task.train)
    both, _ = solve.make_solve(system, config)(begin, goal)
    first = solve.start(system, begin, goal, config).search.cost
    assert np.all(both.search.cost < first - 1) and np.all(both.search.gradient < 1e-3)
    assert np.abs(both.paths.u[..., :2]).max() == 1  # at the limits, and not beyond
    alone = task.train.select(np.array([1]))
    one, _ = solve.make_solve(*_one(task, alone), config)(*simulated.known_system(task, alone)[1:])
    np.testing.assert_allclose(one.search.cost[0], both.search.cost[1], rtol=1e-5)


def _one(task, conditions):
    return simulated.known_system(task, conditions)[:1]


def test_a_state_that_diverges_leaves_the_others_bit_identical():
    task = _task()
    system, begin, goal = simulated.known_system(task, task.train)
    config = solve.SearchConfig(iterations=3, step_sizes=4, smallest_step=0.1)
    search = solve.make_solve(system, config)
    whole, _ = search(begin, goal)
    broken = begin.u.copy()
    broken[0, 2, 2] = np.nan
    found, _ = search(begin._replace(u=broken), goal)
    assert found.search.outcome[0] == solve.NON_FINITE
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(whole), strict=True):
        np.testing.assert_array_equal(np.asarray(one)[1], np.asarray(other)[1])


def test_delayed_actuators_are_refused():
    delay = 'name="port" delay=".04" nsample="5"'
    task = _task(SHIP.replace('<motor site="port"', f'<motor {delay} site="port"'))
    with pytest.raises(ValueError, match="actuator 'port' has a delay"):
        simulated.known_system(task, task.train)


def test_mjx_is_the_same_system():
    """Rolled out and expanded in one program, with another mass in each condition."""
    source = """<mujoco><worldbody><body name="rod"><joint name="a" axis="0 1 0" damping=".1"/>
      <geom type="capsule" fromto="0 0 0 0 0 -.5" size=".03" contype="0" conaffinity="0"/>
      </body></worldbody><actuator><motor joint="a" ctrllimited="true" ctrlrange="-1 1"/>
      </actuator></mujoco>"""
    task = tasks.from_mjcf(
        source, cost=lambda s: lambda x, u, t: 1 - jnp.cos(x[0] - 1) + 0.1 * u @ u, horizon=4,
        control_dt=0.02, qpos=[[0.3], [0.9]], changes={"body_mass_scale:rod": [1.0, 2.0]},
    )  # fmt: skip
    draws = np.random.default_rng(0)
    k, K = (draws.normal(size=(2, 4, 1, *last)).astype(np.float32) for last in ((), (2,)))
    found = []
    for backend in ("native", "mjx"):
        known = task_system(task, task.train, backend)
        system, begin, goal = known[:3]
        assert system.jittable == (backend == "mjx")

        def both(begin, goal, system=system):
            feedback = Feedback(begin, k, K, jnp.array([1.0, 0.5]))
            paths = system.roll_out(feedback, goal)
            first = jax.tree.map(lambda a: a[:, 0], paths)
            return first, paths.x, paths.u, paths.cost, system.expand(first, goal)

        first, *rest = (jax.jit(both) if system.jittable else both)(begin, goal)
        found.append([known.rollouts(first).qpos, *rest])
    for one, other in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-4)
