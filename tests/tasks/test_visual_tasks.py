"""The tasks at the bench: what is success, what collides, where they take place."""

import itertools

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jgps import tasks
from jgps.rendering import RenderConfig, render
from jgps.simulation import condition_models, make_sampler
from jgps.tasks.bench import manipulation as bench

NAMES = ("shape_sorting_cube", "hanger")


def _succeeds(task: tasks.Task, **points) -> bool:
    """Whether a trajectory that ends with these points of the object in the goal's frame does."""
    assert task.success is not None
    x = jnp.zeros((task.horizon, task.state_dim))
    for point, place in points.items():
        x = x.at[-1, task.layout[f"sensor:{point}_place"]].set(jnp.asarray(place))
    return bool(task.success(x, jnp.zeros((task.horizon, task.action_dim))))


def _draw_to(
    task: tasks.Task, goals: list[np.ndarray], seconds: float = 2.0
) -> tuple[np.ndarray, float]:
    """Springs draw the points to each of `goals` [P, 3] in the goal's frame, one after another.

    Returns where they end, and how deep the object was in what it touched, metres.
    """
    model = condition_models(task.model, task.train)[0]
    data, jacobian = mujoco.MjData(model), np.empty((3, model.nv))
    data.qpos[:] = task.train.qpos[0]
    entries = [e for e in task.layout.slices if e.endswith("_place")]
    sensors = [model.sensor(e.removeprefix("sensor:")) for e in entries]
    steps, deepest = round(seconds / model.opt.timestep), 0.0
    for goal, step in itertools.product(goals, range(steps)):
        mujoco.mj_forward(model, data)
        data.ctrl[:] = -3 * data.qvel
        for sensor, place in zip(sensors, goal, strict=True):
            frame = data.site_xmat[sensor.refid[0]].reshape(3, 3)
            here = data.sensordata[sensor.adr[0] : sensor.adr[0] + 3]
            mujoco.mj_jacSite(model, data, jacobian, None, sensor.objid[0])
            stiffness = 150 * min(1.0, 2 * step / steps)
            data.ctrl[:] += jacobian.T @ (frame @ (stiffness * (place - here)))
        mujoco.mj_step(model, data)
        deepest = max(deepest, *(-contact.dist for contact in data.contact), 0.0)
    mujoco.mj_forward(model, data)
    return np.stack([data.sensordata[s.adr[0] : s.adr[0] + 3] for s in sensors]), deepest


@pytest.mark.parametrize("name", NAMES)
def test_a_network_sees_the_robot_and_its_camera_the_rest(name):
    task = tasks.make(name)
    assert task.observation is not None
    assert tuple(task.observation.slices)[: len(bench.CONFIGURATION)] == bench.CONFIGURATION
    assert (task.configuration_dim, task.state_dim, task.action_dim) == (32, 32, 7)
    cameras = [task.model.camera(i).name for i in range(task.model.ncam)]
    assert task.camera == bench.SIDE_CAMERA and bench.HEAD_CAMERA in cameras
    bodies = {k.partition(":")[2] for k in task.train.changes}
    assert task.vision is not None and task.vision.camera == bench.HEAD_CAMERA
    seen = {task.model.body(body).name for body in task.vision.bodies}
    assert bodies | {"gripper", "held", *bench.DISTRACTORS} <= seen
    assert {task.model.body(body).name for body in task.vision.objects} == bodies
    # In every condition the robot sees another picture.
    views = [
        render(model, qpos, bench.HEAD_CAMERA, width=64, height=64, config=RenderConfig()).astype(
            int
        )
        for conditions in (task.train, task.test)
        for model, qpos in zip(
            condition_models(task.model, conditions), conditions.qpos, strict=True
        )
    ]
    for one, other in itertools.combinations(views, 2):
        assert np.any(np.abs(one - other) > 20, axis=-1).sum() >= 10


@pytest.mark.parametrize("name", NAMES)
def test_distractors_leave_the_motion_as_it_is(name):
    task = tasks.make(name)
    assert task.distracted is not None
    for key, rows in task.train.changes.items():
        turns = np.arange(task.distracted.num) % task.train.num
        np.testing.assert_array_equal(task.distracted.changes[key], rows[turns])
    moved = set(task.distracted.changes) - set(task.train.changes)
    assert moved == {f"body_pos:{each}" for each in bench.DISTRACTORS}
    first = task.train.num
    noise = jax.random.normal(jax.random.key(1), (task.distracted.num, 1, task.horizon, 7))
    runs = [
        make_sampler(task.system, conditions, lambda p, x, o, t, e: 3 * e, "native").sample(
            jnp.zeros(conditions.num), noise[: conditions.num]
        )
        for conditions in (task.train, task.distracted)
    ]
    assert runs[0].valid.all() and runs[1].valid.all()
    np.testing.assert_array_equal(runs[0].x, runs[1].x[:first])
    for config in (bench.HEAD_CAMERA, bench.SIDE_CAMERA):
        pair = [
            render(condition_models(task.model, c)[0], task.train.qpos[0], config,
                   width=64, height=64, config=RenderConfig())
            for c in (task.train, task.distracted)
        ]  # fmt: skip
        assert np.any(pair[0] != pair[1], axis=-1).sum() >= 40
    # They stand free of what the task moves.
    for model in condition_models(task.model, task.distracted):
        data = mujoco.MjData(model)
        data.qpos[:] = task.train.qpos[0]
        mujoco.mj_kinematics(model, data)
        ours = [g for g in range(model.ngeom) if model.body(model.geom_bodyid[g]).name in
                {k.partition(":")[2] for k in task.train.changes} | {"held"}]  # fmt: skip
        for each, geom in itertools.product(bench.DISTRACTORS, ours):
            apart = mujoco.mj_geomDistance(model, data, model.geom(each).id, geom, 1.0, None)
            assert apart > 0.005, (each, model.geom(geom).name)


def test_the_cubes_places_are_those_of_the_paper():
    task = tasks.make("shape_sorting_cube")
    train, test = (c.changes["body_pos:cube"][:, :2] for c in (task.train, task.test))
    assert len(train) == 9 and len(test) == 36
    np.testing.assert_allclose(np.ptp(train, axis=0), (0.10, 0.16))
    assert (test > train.min(0)).all() and (test < train.max(0)).all()
    assert np.linalg.norm(train[:, None] - test, axis=-1).min() > 0.008


def test_success_of_the_cube_is_the_block_at_the_bottom_of_its_hole():
    task = tasks.make("shape_sorting_cube")
    for place, axis, solved in (
        ((0, 0, 0), (0, 0, 1), True),
        ((0.004, -0.004, 0.005), (0.1, 0, 0.995), True),
        ((0, 0, 0.012), (0, 0, 1), False),  # not at the bottom
        ((0, 0, 0.05), (0, 0, 1), False),  # on the rim
        ((0, 0.04, 0), (0, 0, 1), False),  # beside the hole
        ((0, 0, -0.01), (0, 0, 1), False),  # through the bottom
        ((0, 0, -0.15), (0, 0, 1), False),  # below the table
        ((0, 0, 0), (0, 0, -1), False),  # upside down, from below
        ((0, 0, 0), (0.5, 0, 0.87), False),  # askew
    ):
        top = np.asarray(place) + 0.11 * np.asarray(axis)
        assert _succeeds(task, block_tip=place, block_top=top) is solved, (place, axis)


def test_the_block_goes_into_the_hole_and_not_through_the_cube():
    task = tasks.make("shape_sorting_cube")
    upright = np.array([[0, 0, 0], [0, 0, 0.11], [0, 0.05, 0]])
    above = upright + (0, 0, 0.12)
    assert np.abs(_draw_to(task, [above])[0] - above).max() < 0.01
    points, deepest = _draw_to(task, [upright])
    assert _succeeds(task, block_tip=points[0], block_top=points[1]) and deepest < 0.003
    # Pressed down beside the hole it slides in or off; it never goes through the walls.
    for beside in ((0.0, 0.045), (0.0, -0.05), (0.045, 0.0)):
        points, deepest = _draw_to(task, [upright + (*beside, 0)])
        inside = np.abs(points[0, :2]).max() < 0.01
        outside = np.abs(points[0, :2]).max() > 0.06 + 0.01
        assert deepest < 0.003 and (inside or outside or points[0, 2] > 0.04), beside


def test_clearance_of_the_block():
    model = tasks.make("shape_sorting_cube").model
    half = model.geom("block").size[1]
    inner = model.geom("cube_left").pos[1] - model.geom("cube_left").size[1]
    assert inner - half == pytest.approx(0.004)


def test_the_hangers_conditions_are_grasps_by_racks():
    task = tasks.make("hanger")
    for conditions, racks, grasps in ((task.train, 3, 2), (task.test, 8, 3)):
        assert conditions.num == racks * grasps
        assert len(np.unique(conditions.changes["body_pos:rack"], axis=0)) == racks
        assert len(np.unique(conditions.changes["body_quat:held"], axis=0)) == grasps
        np.testing.assert_allclose(
            np.linalg.norm(conditions.changes["body_quat:held"], axis=1), 1.0
        )
    for key in ("body_pos:rack", "body_quat:held", "body_pos:held"):
        train, test = task.train.changes[key], task.test.changes[key]
        assert (test <= train.max(0)).all() and (test >= train.min(0)).all()
        if key != "body_pos:held":
            assert np.linalg.norm(train[:, None] - test, axis=-1).min() > 0.01


def test_success_of_the_hanger_is_a_hook_on_the_rod():
    task = tasks.make("hanger")
    for hook, below, solved in (
        ((0, 0, -0.010), (0, 0, -0.110), True),
        ((0.004, 0.03, -0.010), (-0.02, 0.03, -0.107), True),
        ((0, 0, 0), (0, 0, -0.1), False),  # around the rod, but held in the air
        ((0, 0, -0.0092), (0, 0, -0.1092), False),  # nearly on it
        ((0.0128, 0, -0.0005), (0.0128, 0, -0.1005), False),  # its stem leans on the rod
        ((0, 0, 0.010), (0, 0, -0.09), False),  # the rod lies in no hook, below it
        ((0, 0, -0.03), (0, 0, -0.13), False),  # through the rod
        ((-0.045, 0, -0.010), (-0.045, 0, -0.11), False),  # beside the rod
        ((0, 0.08, -0.010), (0, 0.08, -0.11), False),  # past the rod's middle part
        ((0, 0, -0.010), (0, 0.08, -0.07), False),  # tilted
    ):
        assert _succeeds(task, hook=hook, hook_below=below) is solved, hook


def test_the_hook_catches_on_the_rod():
    task = tasks.make("hanger")
    upright = np.array([[0, 0, 0], [0, 0, -0.1], [0, 0.06, 0]])
    # In front of the rod and above, then over it, then down: it rests on the rod.
    way = [upright + off for off in ((-0.02, 0, 0.05), (0, 0, 0.03), (0, 0, -0.02))]
    points, deepest = _draw_to(task, way)
    assert _succeeds(task, hook=points[0], hook_below=points[1]) and deepest < 0.002
    # Drawn down from behind the rod it does not go through it.
    points, deepest = _draw_to(task, [upright + (-0.05, 0, -0.03), upright - (0, 0, 0.02)])
    assert not _succeeds(task, hook=points[0], hook_below=points[1])
    assert deepest < 0.004
