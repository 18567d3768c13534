"""What holds for both tasks: what looks different acts the same, and MJX sees the same contacts."""

import copy

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from mujoco import mjx

from jgps import tasks
from jgps.rendering import RenderConfig, render
from jgps.simulation import condition_models, make_sampler
from jgps.tasks.bench import manipulation as bench

NAMES = ("hammer", "bottle")
PLACES = {  # a fixture, its site that is the goal, and the point of the object that goes there
    "hammer": ("nail", "nail_shaft", "claw"),
    "bottle": ("bottle", "bottle_top", "cap"),
}
SHIFTS = (
    (0.01, 0.002, 0.0), (-0.012, 0.001, 0.001), (0.001, 0.012, 0.002), (0.002, -0.011, 0.003),
    (0.009, 0.008, 0.002), (-0.008, 0.009, 0.001), (0.003, 0.002, 0.022), (0.001, 0.004, -0.022),
)  # fmt: skip
TOUCHED = {
    "hammer": {"prong_left", "prong_right", "shaft", "block", "nail_head_inside"},
    "bottle": {"lid", "bottle_neck", *(f"skirt_{i}" for i in range(8))},
}


@pytest.mark.parametrize("name", NAMES)
def test_distractors_leave_every_state_as_it_is(name):
    task = tasks.make(name)
    assert task.distracted is not None
    num = task.train.num
    noise = jax.random.normal(jax.random.key(0), (task.distracted.num, 1, task.horizon, 7))
    runs = []
    for conditions in (task.train, task.distracted):
        sampler = make_sampler(task.system, conditions, lambda p, x, o, t, e: 3 * e, "native")
        run = sampler.sample(jnp.zeros(conditions.num), noise[: conditions.num])
        runs.append(jax.tree.map(lambda leaf: leaf[:num], run))
    assert np.asarray(runs[0].valid).all()
    runs = [run._replace(o=run.o[..., task.configuration]) for run in runs]
    for field in ("x", "o", "qpos"):
        np.testing.assert_array_equal(getattr(runs[0], field), getattr(runs[1], field))
    pictures = [
        render(condition_models(task.model, c)[0], task.train.qpos[0], bench.HEAD_CAMERA, width=64,
               height=64, config=RenderConfig())
        for c in (task.train, task.distracted)
    ]  # fmt: skip
    assert np.any(pictures[0] != pictures[1], axis=-1).sum() > 60


@pytest.mark.parametrize("name", NAMES)
def test_the_robots_camera_sees_object_and_place_at_the_start(name):
    """Without either of them the first picture is another one, in every condition."""
    task = tasks.make(name)
    for model in condition_models(task.model, task.train):
        views = []
        for gone in ((), ("held",), (PLACES[name][0],)):
            changed = copy.copy(model)
            for body in gone:
                changed.body(body).pos[2] -= 3
            views.append(
                render(
                    changed, task.train.qpos[0], bench.HEAD_CAMERA, width=64, height=64,
                    config=RenderConfig(shadows=0, supersample=1),
                )
            )  # fmt: skip
        for body, view in zip(("held", PLACES[name][0]), views[1:], strict=True):
            assert np.any(views[0] != view, axis=-1).sum() > 60, body


@pytest.mark.parametrize("name", NAMES)
def test_mjx_and_mujoco_find_the_same_contacts(name):
    """Between the same geoms and as deep, with the object pushed into its place from all sides."""
    task = tasks.make(name)
    model, data = task.model, mujoco.MjData(task.model)
    fixture, goal, point = PLACES[name]
    data.qpos[:] = task.train.qpos[0]
    mujoco.mj_forward(model, data)
    origin = model.body(fixture).pos + data.site(point).xpos - data.site(goal).xpos
    compiled = mjx.put_model(model)
    pose = mjx.put_data(model, data)

    @jax.jit
    def collide(body_pos):
        moved = compiled.replace(body_pos=body_pos)
        contact = mjx.collision(moved, mjx.kinematics(moved, pose))._impl.contact
        return contact.geom, contact.dist

    touched = set()
    for shift in SHIFTS:  # of the fixture, metres
        model.body(fixture).pos[:] = origin + shift
        mujoco.mj_forward(model, data)
        native = _deepest(data.contact.geom, data.contact.dist)
        ours = _deepest(*collide(jnp.asarray(model.body_pos, jnp.float32)))
        assert set(ours) == set(native)
        for pair, depth in native.items():
            assert ours[pair] == pytest.approx(depth, abs=2e-4), pair
        touched |= {model.geom(geom).name for pair in native for geom in pair}
    assert touched == TOUCHED[name]


def _deepest(geoms, distances):
    """The deepest contact of every pair of geoms that touch by more than 0.1 mm."""
    found = {}
    for pair, distance in zip(np.sort(geoms, axis=1), np.asarray(distances), strict=True):
        if distance < -1e-4:
            key = (int(pair[0]), int(pair[1]))
            found[key] = min(float(distance), found.get(key, 0.0))
    return found
