"""The bottle: what touches what, and what counts as screwed on."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jgps import tasks
from jgps.simulation import condition_models
from jgps.tasks.bench import bottle
from jgps.tasks.bench import manipulation as bench
from jgps.tasks.start import initial_states

STEP = 0.05  # rad, by which the cap turns in a step of the tests


@pytest.fixture(scope="module")
def task():
    return tasks.make("bottle")


def _states(task, angles, places, lean=0.0):
    """States [T, dX] of a cap at places [T, 3] by the neck's top, turned by angles [T]."""
    x = np.zeros((task.horizon, task.state_dim), np.float32)
    arm = 0.05 * np.stack([np.cos(angles), -np.sin(angles), np.zeros(task.horizon)], -1)
    x[:, task.layout["sensor:cap_place"]] = places
    axis = np.array([lean, 0, np.sqrt(0.01 - lean**2)])
    x[:, task.layout["sensor:cap_top_place"]] = places + axis
    x[:, task.layout["sensor:cap_mark_place"]] = places + arm
    return jnp.asarray(x)


def test_places_are_those_of_the_paper_and_some_between_them(task):
    assert (task.train.num, task.test.num, task.distracted.num) == (9, 12, 40)
    lower, upper = (f(task.train.changes["body_pos:bottle"], axis=0) for f in (np.min, np.max))
    np.testing.assert_allclose(upper - lower, (0.10, 0.16, 0))
    unseen = task.test.changes["body_pos:bottle"]
    assert (unseen >= lower).all() and (unseen <= upper).all()
    gaps = np.linalg.norm(unseen[:, None] - task.train.changes["body_pos:bottle"], axis=-1)
    assert gaps.min() > 0.008
    assert task.configuration_dim == 32 and task.state_dim == 14 + 18
    for name in bench.DISTRACTORS:  # clear of the bottle, which is 4.5 cm wide
        changes = task.distracted.changes
        apart = changes[f"body_pos:{name}"] - changes["body_pos:bottle"]
        assert np.linalg.norm(apart, axis=-1).min() > 0.08


def test_success_is_a_cap_that_is_turned_on_its_seat(task):
    turned = STEP * np.arange(task.horizon)
    still, seat = np.zeros(task.horizon), np.tile((0, 0, -0.002), (task.horizon, 1))
    high = seat + np.array([0, 0, 0.03])
    success, u = jax.jit(task.success), jnp.zeros((task.horizon, 7))

    def solved(*args, **kwargs):
        return bool(success(_states(task, *args, **kwargs), u))

    assert solved(turned, seat)
    assert not solved(still, seat), "seated but not turned"
    assert not solved(-turned, seat), "unscrewed"
    assert not solved(turned, high), "turned in the air"
    assert not solved(turned, seat + np.array([0, 0, 0.008])), "turned just above the neck"
    assert not solved(turned, seat - np.array([0, 0, 0.006])), "turned in the neck"
    assert not solved(turned, seat + np.array([0.012, 0, 0])), "beside the neck"
    assert not solved(turned, seat, lean=0.03), "askew"
    # Turned in the air, then put down; and seated long enough, then lifted.
    begun = np.arange(task.horizon)[:, None] < 45
    assert not solved(turned, np.where(begun, high, seat))
    assert not solved(turned, np.where(begun, seat, high))
    # What was turned on the seat counts, whatever was turned before, and a half turn is no trap.
    begun = np.arange(task.horizon)[:, None] < 10
    assert solved(turned + 3.0, np.where(begun, high, seat))


def test_the_angle_is_the_wrists(task):
    models = condition_models(task.model, task.train)
    data = mujoco.MjData(models[0])
    states = []
    for turn in (0.0, 0.3, 1.0):
        data.qpos[:] = task.train.qpos[0]
        data.qpos[6] += turn
        mujoco.mj_forward(models[0], data)
        states.append(task.layout.of(data))
    steps = jax.jit(lambda x: bottle.turns(x, task.layout))(jnp.asarray(np.stack(states)))
    np.testing.assert_allclose(steps, (0.3, 0.7), atol=0.01)


def test_the_cap_slips_onto_the_neck_and_is_held_there(task):
    """Pushed down beside the axis it centres itself; pushed aside on its seat it stays."""
    model = condition_models(task.model, task.train)[4]
    data, jacobian = mujoco.MjData(model), np.empty((2, 3, model.nv))
    data.qpos[:] = bottle.START
    mujoco.mj_forward(model, data)
    neck = data.site("bottle_top").xpos.copy()
    sites = [model.site(name).id for name in ("cap", "cap_top")]

    def push(aside, steps):
        for _ in range(steps):
            mujoco.mj_forward(model, data)
            force = 0
            for point, site, up in zip(jacobian, sites, (0.0, 0.1), strict=True):
                mujoco.mj_jacSite(model, data, point, None, site)
                height = max(0.06 - 0.0004 * data.time * 100, -0.01) + up
                gap = neck + np.array([aside, 0, height]) - data.site_xpos[site]
                force = force + point.T @ (300 * gap)
            data.ctrl[:] = force - 2 * data.qvel
            mujoco.mj_step(model, data)
        x = task.layout.of(data)
        return x[task.layout["sensor:cap_place"]]

    place = push(0.012, 500)
    np.testing.assert_allclose(place, 0, atol=0.006)
    assert data.ncon > 0
    place = push(0.05, 100)
    assert np.linalg.norm(place[:2]) < 0.012 and abs(place[2]) < 0.008


def test_cost_is_first_of_the_place_then_of_the_turn(task):
    x = np.asarray(initial_states(task, task.train), np.float64)[4]
    s, u = task.layout, jnp.zeros(7)
    with_gradient = jax.jit(jax.value_and_grad(task.cost))

    def cost(x, t):
        value, gradient = with_gradient(jnp.asarray(x, jnp.float32), u, jnp.int32(t))
        assert np.isfinite(gradient).all()
        return float(value)

    on_seat = x.copy()
    on_seat[s["sensor:cap_place"]] = 0, 0, bottle.PRESSED
    on_seat[s["sensor:cap_top_place"]] = 0, 0, bottle.PRESSED + 0.1
    above = on_seat.copy()
    heights = [s["sensor:cap_place"].start + 2, s["sensor:cap_top_place"].start + 2]
    above[heights] += bottle.LIFT - bottle.PRESSED
    turned = on_seat.copy()
    turned[6] += bottle.TURN
    assert cost(above, 0) < cost(on_seat, 0) and cost(on_seat, 20) < cost(above, 20)
    assert cost(on_seat, 18) < cost(turned, 18) and cost(turned, 45) < cost(on_seat, 45)
    least = 0.05 * np.log(1e-5)
    assert cost(turned, 59) == pytest.approx(least, abs=1e-4)
    assert cost(on_seat, 59) == pytest.approx(least + bottle.TURN**2, abs=1e-3)
