"""Tasks with known dynamics: what MuJoCo computes, and what DDP solves from random starts."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jgps import tasks
from jgps.optimise.ilqg import solve
from jgps.optimise.ilqg.solve import CONVERGED, SearchConfig
from jgps.optimise.ilqg.system import Paths, analytic
from jgps.simulation import resolve_backend


def known(name):
    """The task, its dynamics, and its random start."""
    task = tasks.make(name)
    assert task.dynamics is not None and task.random_start is not None
    return task, task.dynamics, task.random_start


SIMULATED = ("pendulum", "cartpole", "acrobot")


@pytest.mark.parametrize("name", SIMULATED)
def test_dynamics_are_what_mujoco_computes(name):
    """Control steps from random states, fast ones too, with random controls (seed 0)."""
    (task, dynamics, _), rng = known(name), np.random.default_rng(0)
    model, data, num = task.model, mujoco.MjData(task.model), 50
    x = rng.normal(size=(num, task.state_dim)) * 4
    u = rng.uniform(*task.model.actuator_ctrlrange.T, size=(num, task.action_dim))
    expected = []
    for x0, control in zip(x, u, strict=True):
        data.qpos[:], data.qvel[:], data.ctrl[:] = x0[: model.nq], x0[model.nq :], control
        mujoco.mj_step(model, data, task.substeps)
        expected.append(np.concatenate([data.qpos, data.qvel]))
    with jax.enable_x64(True):
        found = jax.vmap(lambda x, u: dynamics(x, u, jnp.int32(3)))(x, u)
        np.testing.assert_allclose(found, expected, atol=1e-10)
    single = jax.vmap(lambda x, u: dynamics(x, u, jnp.int32(3)))(
        jnp.asarray(x, jnp.float32), jnp.asarray(u, jnp.float32)
    )
    np.testing.assert_allclose(single, expected, rtol=1e-4, atol=1e-4)


def _two_axles(x, u, h=0.03, d=2.0):
    """The car's front and back axles as points that its wheels move along, by the cosine rule."""
    place, heading, speed = x[:2], x[2], x[3]
    rolled = h * speed
    front = place + d * np.array([np.cos(heading), np.sin(heading)])
    front = front + rolled * np.array([np.cos(heading + u[0]), np.sin(heading + u[0])])
    # The back axle stays on its line through the car, d away from the front one.
    along = np.array([np.cos(heading), np.sin(heading)])
    gap = front - place
    b = gap @ along - np.sqrt((gap @ along) ** 2 - gap @ gap + d * d)
    turned = np.arcsin(np.sin(u[0]) * rolled / d)
    return np.array([*(place + b * along), heading + turned, speed + h * u[1]])


def test_the_car_is_the_published_one():
    (task, dynamics, _), rng = known("car"), np.random.default_rng(0)
    assert resolve_backend("auto", task.system) == "analytic"
    with pytest.raises(ValueError, match="backend is 'native', but no actuator of this task's mod"):
        resolve_backend("native", task.system)
    x = rng.normal(size=(20, 4)) * [2, 2, 3, 2]
    u = rng.uniform(-1, 1, size=(20, 2)) * [0.5, 2.0]
    np.testing.assert_array_equal(task.model.actuator_ctrlrange, [[-0.5, 0.5], [-2, 2]])
    np.testing.assert_allclose(task.train.qpos[0], [1, 1, 1.5 * np.pi, 0])
    assert (task.horizon, task.control_dt) == (500, 0.03)

    def z(y, p):
        return np.sqrt(y**2 + p**2) - p

    running = x[:, :2].copy()
    effort = (u**2) @ [1e-2, 1e-4]
    near = 1e-3 * z(running, 0.1).sum(axis=1)
    end = (np.array([0.1, 0.1, 1, 0.3]) * z(x, np.array([0.01, 0.01, 0.01, 1]))).sum(axis=1)
    with jax.enable_x64(True):
        step = jax.vmap(lambda x, u: dynamics(x, u, jnp.int32(0)))(x, u)
        np.testing.assert_allclose(step, [_two_axles(*each) for each in zip(x, u, strict=True)])
        for t, expected in ((0, effort + near), (499, effort + near + end)):
            cost = jax.vmap(lambda x, u, t=t: task.cost(x, u, jnp.int32(t)))(x, u)
            np.testing.assert_allclose(cost, expected)


def solved(task, qpos, qvel, iterations):
    """Success [B] and searches from these starts [B, ...], by DDP that begins with no control."""
    num = len(qpos)
    x0 = jnp.concatenate([qpos, qvel], axis=-1)[:, task.layout.index].astype(jnp.float32)
    limits = task.model.actuator_ctrlrange.T
    assert task.dynamics is not None
    system = analytic(task.dynamics, task.cost, task.state_dim, limits, second_order=True)
    x = jnp.repeat(x0[:, None], task.horizon, axis=1)
    u = jnp.zeros((num, task.horizon, task.action_dim))
    search = solve.make_solve(system, SearchConfig(iterations=iterations))
    state, _ = search(Paths(x, x, u, jnp.zeros(num)))
    return np.asarray(jax.vmap(task.success)(state.paths.x, state.paths.u)), state.search


def solved_from_anywhere(name, num, iterations):
    """The same from random starts (seed 0)."""
    task, _, random_start = known(name)
    qpos, qvel = jax.vmap(random_start)(jax.random.split(jax.random.key(0), num))
    return solved(task, qpos, qvel, iterations)


@pytest.mark.parametrize(("name", "share"), [("pendulum", 0.9), ("cartpole", 0.7)])
def test_swing_ups_are_solved_from_random_starts(name, share):
    """Most of them in at most 60 iterations, 20 of 20 in the end."""
    success, search = solved_from_anywhere(name, 20, 150)
    assert success.all()
    assert np.mean(np.asarray(search.iterations) <= 60) >= share
    assert np.mean(np.asarray(search.outcome) == CONVERGED) >= 0.9


def test_the_acrobot_is_solved_from_random_starts():
    success, search = solved_from_anywhere("acrobot", 8, 300)
    assert success.all() and np.all(np.asarray(search.outcome) == CONVERGED)


def test_the_car_parks_forwards():
    """From the third training condition, behind the place and beside it; the others take longer."""
    task = tasks.make("car")
    success, search = solved(task, task.train.qpos[2:3], task.train.qvel[2:3], 60)
    assert success.all() and np.asarray(search.cost)[0] < 0.3
