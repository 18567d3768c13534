"""Tasks of locomotion: their geometry, cost and measures, and one plan that walks."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jgps import tasks
from jgps.tasks.locomotion.progress import at_speed, way_missed
from jgps.tasks.start import initial_states


def _starts(task, num):
    """Drawn starts, as float64."""
    keys = jax.random.split(jax.random.key(7), num)
    return [np.asarray(a, np.float64) for a in jax.vmap(task.random_start)(keys)]


def test_the_walker_is_the_described_one():
    model = tasks.make("walker").model
    assert (model.nv, model.nu, model.jnt(0).name, model.jnt(1).name) == (9, 6, "rootx", "rootz")
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    assert data.qpos[1] == data.body("torso").xpos[2] == pytest.approx(1.3)
    soles = [data.geom(f"{side}_foot").xpos[2] - 0.04 for side in ("right", "left")]
    np.testing.assert_allclose(soles, 0, atol=1e-9)


def test_walkers_start_with_the_lower_foot_on_the_floor():
    task = tasks.make("walker")
    data = mujoco.MjData(task.model)
    feet = [task.model.geom(f"{side}_foot").id for side in ("right", "left")]
    radius, half = task.model.geom_size[feet[0], :2]
    drawn, speeds = _starts(task, 20)
    assert np.isfinite(speeds).all() and np.unique(drawn[:, 3]).size == 20
    for qpos in (*task.train.qpos, *task.test.qpos, *drawn):
        data.qpos[:] = qpos
        mujoco.mj_kinematics(task.model, data)
        lean = half * np.abs(data.geom_xmat[feet].reshape(-1, 3, 3)[:, 2, 2])
        lowest = data.geom_xpos[feet, 2] - lean - radius
        assert lowest.min() == pytest.approx(0, abs=1e-6)
        low, high = task.model.jnt_range[3:].T
        assert (low <= qpos[3:]).all() and (qpos[3:] <= high).all()


def test_the_cost_of_walking_is_its_formula():
    task = tasks.make("walker")
    s, rng = task.layout, np.random.default_rng(0)
    x, u = rng.normal(size=task.state_dim) * 0.05, rng.normal(size=6)
    q, v = x[s["qpos"]], x[s["qvel"]]
    soles = [f"{side}_{end}" for side in ("right", "left") for end in ("heel", "toe")]
    heights = np.array([x[s[f"site_pos:{sole}"]][2] for sole in soles])
    along = np.array([x[s[f"site_vel:{sole}"]][0] for sole in soles])
    low = 1 / (1 + np.exp((heights - 0.03) / 0.01))
    # The right foot is a third through its stance, the left one a quarter through its swing.
    places = np.array([x[s[f"site_pos:{sole}"]][0] for sole in soles])
    x[s["sensor:clock"]] = 4 * 0.8 + 0.2 * 0.8
    way, swing = 1.7 * 0.8 * 0.6, np.array([0, 0.25])
    ahead = way * np.array([0.5 - 1 / 3, -0.5 + 0.25 - 1 / (2 * np.pi)])
    squares = [
        (x[s["sensor:velocity"]][0] - 1.7) ** 2,
        (20 * (q[1] - 1.22)) ** 2,
        (10 * (q[2] - 0.05)) ** 2,
        (0.3 * v[2]) ** 2,
        *(0.3 * u) ** 2,
        *(0.3 * low * along) ** 2,
        *(10 * (heights.reshape(2, 2).mean(1) - 0.1 * np.sin(np.pi * swing) ** 2)) ** 2,
        *(4 * (places.reshape(2, 2).mean(1) - q[0] - ahead)) ** 2,
    ]
    params = {"speed": jnp.float32(1.7)}
    got = task.cost(jnp.asarray(x, jnp.float32), jnp.asarray(u, jnp.float32), 0, params)
    assert float(got) == pytest.approx(0.5 * np.sum(squares), rel=1e-5)


def test_success_of_walking_asks_for_speed_and_height():
    task = tasks.make("walker")
    x = np.zeros((task.horizon, task.state_dim), np.float32)
    steps = np.arange(task.horizon)
    x[:, 0], x[:, 1] = 2.1 * 0.01 * np.maximum(steps - 50, 0), 1.2  # stands for half a second
    u, params = jnp.zeros((task.horizon, 6)), {"speed": jnp.float32(2.1)}
    assert bool(task.success(x, u, params))
    assert not bool(task.success(x, u, {"speed": jnp.float32(1.8)}))
    assert float(task.distance(x, params)) == pytest.approx(2.1 * 0.5, rel=1e-4)
    x[120, 1] = 0.99
    assert not bool(task.success(x, u, params))


def test_mean_speeds_count_from_the_middle():
    x = np.zeros((11, 2))
    x[:, 1] = [0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5]
    params = {"speed": 10.0}
    assert bool(at_speed(1, 0.1)(x, params)) and bool(at_speed(1, 0.1)(x, {"speed": 10.9}))
    assert not bool(at_speed(1, 0.1)(x, {"speed": 11.2}))
    assert not bool(at_speed(1, 0.1)(x, {"speed": -10.0}))
    assert bool(at_speed(1, 0.1)(-x, {"speed": -10.0}))
    assert float(way_missed(1, 0.1)(x, params)) == pytest.approx(5)


def test_networks_do_not_see_how_far_a_robot_is():
    for name in ("walker", "swimmer"):
        task = tasks.make(name)
        assert "qpos:rootx" not in task.observation.slices
        assert "qpos" not in task.observation.slices
        assert np.abs(np.asarray(initial_states(task, task.test))[:, 0]).max() == 0


def test_the_swimmer_weighs_what_water_does():
    task = tasks.make("swimmer")
    model = task.model
    radius, half = model.geom_size[1, :2]
    volume = np.pi * radius**2 * (2 * half + 4 / 3 * radius)
    np.testing.assert_allclose(model.body_mass[1:], 1000 * volume, rtol=1e-6)
    assert (model.nv, model.nu) == (5, 2) and model.opt.density == 1000
    qpos, _ = _starts(task, 10)
    assert np.abs(qpos[:, 3:]).max() < 0.5 and (qpos[:, :2] == 0).all()
