"""What the shipped tasks' costs and models have to be like, beyond the contract of every task."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jgps import tasks
from jgps.tasks.start import initial_states


def test_the_square_of_disc_point_mass_pays_and_has_no_gradient():
    task = tasks.make("disc_point_mass")
    inside = jnp.array([0.5, 0.2, 0, 0])
    outside = jnp.array([0.5, 0.1, 0, 0])

    def cost(x):
        return task.cost(x, jnp.zeros(2), jnp.int32(0))

    def smooth(x):  # by hand: there is no effort, the lure lies at (0.8, 0)
        return (x[0] - 0.8) ** 2 + x[1] ** 2

    for x, region in ((inside, 0.0), (outside, 1.0)):
        np.testing.assert_allclose(cost(x), smooth(x) + region, rtol=1e-6)
        np.testing.assert_allclose(jax.grad(cost)(x), jax.grad(smooth)(x), atol=1e-6)
    # The lure is no success though the smooth cost ends there; the square is cheaper.
    lure = jnp.array([0.8, 0, 0, 0])
    assert float(cost(inside)) < float(cost(lure))
    for place, solved in ((inside, True), (lure, False)):
        x = jnp.broadcast_to(place, (task.horizon, 4))
        assert task.success is not None
        assert bool(task.success(x, jnp.zeros((task.horizon, 2)))) is solved


def test_random_starts_lie_among_the_training_starts():
    keys = jax.random.split(jax.random.key(0), 200)
    for name in ("point_mass", "disc_point_mass", "pusher"):
        task = tasks.make(name)
        assert task.random_start is not None
        qpos, qvel = map(np.asarray, jax.vmap(task.random_start)(keys))
        lowest, highest = task.train.qpos.min(0), task.train.qpos.max(0)
        assert (qpos >= lowest - 1e-6).all() and (qpos <= highest + 1e-6).all(), name
        np.testing.assert_array_equal(qvel, 0)
        # They fill that range.
        spread = np.ptp(qpos, axis=0)
        np.testing.assert_array_less(0.9 * (highest - lowest) - 1e-6, spread)


def test_the_blind_peg_starts_where_the_seen_one_does_but_in_the_joints():
    seen, blind = tasks.make("peg_insertion"), tasks.make("blind_peg_insertion")
    assert blind.observation is not None and tuple(blind.observation.slices) == ("qpos", "qvel")
    assert blind.observation_dim == 14 and blind.state_dim == seen.state_dim == 26
    assert not blind.train.changes and not blind.test.changes
    limited = blind.model.jnt_limited.astype(bool)
    lower, upper = blind.model.jnt_range[limited].T
    for conditions, reference in ((blind.train, seen.train), (blind.test, seen.test)):
        points = np.asarray(initial_states(blind, conditions))[:, 14:20]
        expected = np.asarray(initial_states(seen, reference))[:, 14:20]
        np.testing.assert_allclose(points, expected, atol=1e-6)
        assert (conditions.qpos[:, limited] > lower).all()
        assert (conditions.qpos[:, limited] < upper).all()
    # Neighbouring poses are alike, so that a policy can go from one to the next.
    assert np.abs(np.diff(blind.test.qpos, axis=0)).max() < 0.1


def test_the_pushers_hand_pushes_the_block_and_its_cost_is_the_formula():
    task = tasks.make("pusher")
    data = mujoco.MjData(task.model)
    data.qpos[:] = task.train.qpos[0]
    data.qpos[3:5] = 0.45, 0.0  # before the hand
    for _ in range(100):
        data.ctrl[:] = -1.0, 2.0, -1.0  # stretches the arm
        mujoco.mj_step(task.model, data)
    assert data.qpos[3] > 0.5 and np.isfinite(data.qpos).all()

    x = np.asarray(initial_states(task, task.train), np.float64)[0]
    u, block, hand = np.array([0.5, -1.0, 2.0]), x[3:5], x[12:14]
    near = [10 * s + 0.1 * (np.sqrt(s + 1e-5) - np.sqrt(1e-5)) for s in (
        np.sum((block - [0.68, 0.05]) ** 2), np.sum((hand - block) ** 2))]  # fmt: skip
    expected = 0.5e-3 * u @ u + 4 * (31 / 60) ** 2 * near[0] + near[1]
    assert float(task.cost(jnp.asarray(x), jnp.asarray(u), jnp.int32(30))) == pytest.approx(
        expected, rel=1e-4
    )


def test_the_door_opens_by_its_handle():
    task = tasks.make("door_opening")
    model = task.model
    data = mujoco.MjData(model)
    # The finger behind the bar, upright, drawn towards the arm.
    data.qpos[:] = -0.121, 0.390, -1.111, 0.721, 0.0
    mujoco.mj_forward(model, data)
    gap = data.site("finger").xpos - data.site("handle").xpos
    assert np.linalg.norm(gap[:2]) < 0.05
    jacobian, gear = np.empty((3, model.nv)), model.actuator_gear[:, 0]
    for _ in range(100):
        mujoco.mj_forward(model, data)
        mujoco.mj_jacSite(model, data, jacobian, None, model.site("finger").id)
        data.ctrl[:] = (jacobian.T @ (-20.0, 0.0, 0.0))[:4] / gear  # 20 N
        mujoco.mj_step(model, data)
    assert data.qpos[4] > 0.2
    # Success and distance are the door's angle.
    x = jnp.zeros((task.horizon, task.state_dim))
    u = jnp.zeros((task.horizon, task.action_dim))
    assert task.success is not None and task.distance is not None
    for angle, solved in ((0.79, False), (0.81, True)):
        x = x.at[-1, 4].set(angle)
        assert bool(task.success(x, u)) is solved
        assert float(task.distance(x)) == pytest.approx(0.4 * (1 - angle), rel=1e-5)
