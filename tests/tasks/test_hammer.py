"""The hammer: what touches what, and what counts as a claw under the nail's head."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jgps import tasks
from jgps.simulation import condition_models
from jgps.tasks.bench import hammer
from jgps.tasks.bench import manipulation as bench
from jgps.tasks.start import initial_states


@pytest.fixture(scope="module")
def task():
    return tasks.make("hammer")


def _state(task, claw=(0.0, 0.0, 0.0), rotation=None):
    """A state [dX] with the point between the prongs at `claw` by the shaft, and a rotation."""
    x = np.zeros(task.state_dim, np.float32)
    axes = np.eye(3) if rotation is None else rotation
    offsets = np.asarray(hammer.TARGET).reshape(3, 3)
    for entry, offset in zip(bench.places(hammer.POINTS), offsets, strict=True):
        x[task.layout[entry]] = np.asarray(claw) + axes @ offset
    return x


def _about(axis, angle):
    quat, matrix = np.empty(4), np.empty(9)
    mujoco.mju_axisAngle2Quat(quat, np.asarray(axis, float), angle)
    mujoco.mju_quat2Mat(matrix, quat)
    return matrix.reshape(3, 3)


def test_places_are_those_of_the_paper_and_some_between_them(task):
    assert (task.train.num, task.test.num, task.distracted.num) == (15, 60, 60)
    assert task.configuration_dim == 32 and task.state_dim == 14 + 18
    nails, grasps = (task.train.changes[f"body_{k}"] for k in ("pos:nail", "quat:held"))
    assert len(np.unique(nails, axis=0)) == 5 and len(np.unique(grasps, axis=0)) == 3
    unseen = task.test.changes["body_pos:nail"]
    assert (unseen >= nails.min(0)).all() and (unseen <= nails.max(0)).all()
    assert np.linalg.norm(unseen[:, None] - nails, axis=-1).min() > 0.015
    assert np.abs(task.test.changes["body_quat:held"][:, None] - grasps).max(-1).min() > 0.05
    for name in bench.DISTRACTORS:  # clear of the block, which is 7 cm wide
        changes = task.distracted.changes
        apart = changes[f"body_pos:{name}"] - changes["body_pos:nail"]
        assert np.linalg.norm(apart, axis=-1).min() > 0.07


def test_success_is_a_claw_about_the_shaft_under_the_head(task):
    success, u = jax.jit(task.success), jnp.zeros((task.horizon, 7))

    def solved(**kwargs):
        x = jnp.broadcast_to(_state(task, **kwargs), (task.horizon, task.state_dim))
        return bool(success(x, u))

    assert solved()
    assert solved(claw=(0.01, 0.005, -0.01)) and solved(claw=(-0.012, 0.0, 0.012))
    assert not solved(claw=(0.02, 0.0, 0.0)), "the shaft in the hammer's head"
    assert not solved(claw=(0.0, 0.0159, 0.0)), "the shaft in a prong"
    assert not solved(claw=(0.0, 0.0, 0.04)), "above the head"
    assert not solved(claw=(0.0, 0.0, -0.03)), "in the block"
    assert not solved(claw=(-0.03, 0.0, 0.0)), "the shaft only at the tips"
    assert not solved(claw=(0.06, 0.0, 0.0)), "the shaft within the hammer's head"
    assert not solved(claw=(0.0, 0.025, 0.0)) and not solved(claw=(0.0, -0.025, 0.0)), "beside"
    assert not solved(rotation=_about((1, 0, 0), 0.5)) and not solved(
        rotation=_about((0, 1, 0), 0.5)
    )
    # It may come from anywhere around the nail.
    assert solved(rotation=_about((0, 0, 1), 1.0))
    # Only the end counts.
    x = np.tile(_state(task), (task.horizon, 1))
    x[-1] = _state(task, claw=(0.0, 0.0, 0.04))
    assert not bool(success(jnp.asarray(x), u))


def test_the_test_of_success_knows_the_hammer_of_the_model(task):
    """Prongs, their gap and the height of the shaft are those of the MJCF."""
    model = task.model
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    held = data.body("held").xpos, data.body("held").xmat.reshape(3, 3)
    sites = [held[1].T @ (data.site(name).xpos - held[0]) for name in hammer.POINTS]
    np.testing.assert_allclose(np.ravel(sites - sites[0]), hammer.TARGET, atol=1e-9)
    for name, sign in (("prong_left", 1), ("prong_right", -1)):
        geom = model.geom(name)
        axis = np.empty(9)
        mujoco.mju_quat2Mat(axis, geom.quat)
        along = geom.size[1] * axis.reshape(3, 3)[:, 2]
        ends = sorted(
            (geom.pos - along - sites[0], geom.pos + along - sites[0]), key=lambda e: e[0]
        )
        np.testing.assert_allclose([e[0] for e in ends], hammer.PRONGS, atol=1e-9)
        np.testing.assert_allclose([sign * e[1] for e in ends], hammer.PRONG_GAPS, atol=1e-9)
        np.testing.assert_allclose([e[2] for e in ends], 0, atol=1e-9)
    head, block = model.geom("nail_head"), model.geom("block")
    middle = model.site("nail_shaft").pos[2]
    thickness = model.geom("prong_left").size[0]
    assert middle + hammer.MAX_HEIGHT + thickness <= head.pos[2] - head.size[1]
    assert middle - hammer.MAX_HEIGHT - thickness >= block.pos[2] + block.size[2]
    # The head is wider than the gap wherever the shaft may be: pulled up, the claw takes the nail.
    widest = np.interp(hammer.PRONGS[1] - hammer.MIN_TIPS, hammer.PRONGS, hammer.PRONG_GAPS)
    assert head.size[0] > widest - thickness


def test_the_claw_guides_the_shaft_and_pulls_on_the_head(task):
    model = condition_models(task.model, task.train)[5]  # the middle grasp and nail
    data, jacobian = mujoco.MjData(model), np.empty((3, 3, model.nv))
    data.qpos[:] = hammer.START
    mujoco.mj_forward(model, data)
    nail = data.site("nail_shaft").xpos.copy()
    frame = data.site("nail_shaft").xmat.reshape(3, 3).copy()
    sites = [model.site(name).id for name in hammer.POINTS]
    offsets = np.asarray(hammer.TARGET).reshape(3, 3)

    def push(start, end, steps):
        """Draws the claw along places in the nail's frame: where it ends, whether it touched."""
        touched = False
        for place in np.linspace(start, end, steps):
            mujoco.mj_forward(model, data)
            force = 0
            for point, site, offset in zip(jacobian, sites, offsets, strict=True):
                mujoco.mj_jacSite(model, data, point, None, site)
                gap = nail + frame @ (place + offset) - data.site_xpos[site]
                force = force + point.T @ (300 * gap)
            data.ctrl[:] = force - 2 * data.qvel
            mujoco.mj_step(model, data)
            touched |= data.ncon > 0  # what slides along comes off for a step now and then
        x = task.layout.of(data)
        return x[task.layout["sensor:claw_place"]], touched

    push((-0.12, 0.012, 0.05), (-0.09, 0.012, 0.0), 150)
    # Pushed in 12 mm beside the shaft and too far, the prongs slide along it, and it stops them.
    place, contacts = push((-0.09, 0.012, 0.0), (0.06, 0.012, 0.0), 300)
    assert contacts and abs(place[1]) < 0.010 and place[0] < 0.04
    # Drawn up, the claw stays under the head.
    place, contacts = push((0.0, 0.0, 0.0), (0.0, 0.0, 0.05), 200)
    assert contacts and place[2] < 0.025


def test_cost_is_least_under_the_head_and_at_first_behind_the_nail(task):
    cost, u = jax.jit(jax.value_and_grad(task.cost)), jnp.zeros(7)
    under, behind = _state(task), _state(task, claw=(-hammer.BEHIND, 0.0, 0.0))
    least = 0.05 * np.log(1e-5)
    for x, t in ((behind, 0), (behind, 10), (under, 25), (under, 49)):
        assert float(cost(x, u, jnp.int32(t))[0]) == pytest.approx(least, abs=1e-4)
    squares = 3 * hammer.BEHIND**2
    value, gradient = cost(behind, u, jnp.int32(40))
    assert float(value) == pytest.approx(5 * squares + 0.05 * np.log(squares + 1e-5), rel=1e-4)
    assert np.isfinite(gradient).all()


def test_grasps_differ_in_where_the_claw_is_not_in_the_arm(task):
    x0 = np.asarray(initial_states(task, task.train))
    np.testing.assert_array_equal(x0[:, :14], np.tile(x0[0, :14], (15, 1)))
    claw = x0[:, task.layout["sensor:claw_place"]]
    assert np.linalg.norm(claw[0] - claw[5]) > 0.03  # one nail, two grasps
