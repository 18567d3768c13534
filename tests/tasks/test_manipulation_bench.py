"""The robot at its bench, which several tasks share."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jgps import costs, tasks
from jgps.rendering import RenderConfig, render
from jgps.simulation import Conditions, condition_models, make_sampler
from jgps.tasks.bench import manipulation as bench
from jgps.tasks.start import initial_states

OBJECTS = """
<mujoco model="reach">
  <worldbody>
    <body name="held">
      <geom class="held" name="stick" type="capsule" fromto="0 0 0 0.1 0 0" size="0.01"/>
      <site name="tip" pos="0.11 0 0"/>
    </body>
    <body name="pad" pos="0.6 0 -0.3" euler="0 0 1.5707963">
      <geom class="fixture" name="pad" type="box" pos="0 0 0.02" size="0.05 0.05 0.02"/>
      <site name="goal" pos="0.01 0.02 0.04"/>
    </body>
  </worldbody>
</mujoco>
"""
START = (-0.43, -0.22, -1.48, -1.75, -1.34, -1.6, -1.8)  # rad: the gripper points down
PADS = ((0.55, -0.05, -0.3), (0.65, 0.05, -0.3))
POINTS = ("tip",)


def _task(vision: str | None = None, **sets) -> tasks.Task:
    plain = bench.conditions(START, body_pos__pad=PADS)
    return tasks.from_mjcf(
        bench.bench(OBJECTS, POINTS, "goal"),
        state=bench.full_state(POINTS),
        observation=bench.CONFIGURATION,
        cost=lambda s: costs.distance(s["sensor:tip_place"], (0.0, 0.0, 0.0)),
        qpos=plain.qpos,
        changes=plain.changes,
        horizon=10,
        vision=vision,
        test=tasks.EvaluationSets(**{"distracted": bench.distracted(plain, 2), **sets}),
    )


def test_the_arm_is_that_of_the_peg_insertion():
    ours, peg = _task().model, tasks.make("peg_insertion").model
    np.testing.assert_array_equal(ours.opt.gravity, 0)
    for name in bench.JOINTS:
        for field in ("axis", "range", "limited"):
            one, other = getattr(ours.joint(name), field), getattr(peg.joint(name), field)
            np.testing.assert_array_equal(one, other, err_msg=name)
        dof, dof_peg = ours.joint(name).dofadr[0], peg.joint(name).dofadr[0]
        assert ours.dof_damping[dof] == peg.dof_damping[dof_peg]
        assert ours.dof_armature[dof] == peg.dof_armature[dof_peg]
        body, body_peg = (m.body(m.joint(name).bodyid[0]) for m in (ours, peg))
        np.testing.assert_array_equal(body.pos, body_peg.pos)


def test_the_state_is_relative_to_the_goal_and_the_network_does_not_see_it():
    task = _task()
    assert (task.state_dim, task.observation_dim) == (7 + 7 + 3 + 3, 32)
    assert not any("place" in entry or "pad" in entry for entry in bench.CONFIGURATION)
    x0 = np.asarray(initial_states(task, task.train))
    for model, qpos, x in zip(
        condition_models(task.model, task.train), task.train.qpos, x0, strict=True
    ):
        data = mujoco.MjData(model)
        data.qpos[:] = qpos
        mujoco.mj_kinematics(model, data)
        goal = data.site("goal")
        expected = goal.xmat.reshape(3, 3).T @ (data.site("tip").xpos - goal.xpos)
        np.testing.assert_allclose(x[task.layout["sensor:tip_place"]], expected, atol=1e-6)


def test_an_arm_pushed_down_stops_on_what_is_there():
    task = _task()
    model = condition_models(task.model, task.train)[0]
    model.body("pad").pos[:] = 0.52, -0.08, -0.28  # below the gripper
    data, jacobian = mujoco.MjData(model), np.empty((3, model.nv))
    data.qpos[:] = START
    for _ in range(300):  # towards a point 2 cm below the pad's top
        mujoco.mj_forward(model, data)
        mujoco.mj_jacSite(model, data, jacobian, None, model.site("tip").id)
        gap = np.array([0.52, -0.08, -0.26]) - data.site("tip").xpos
        data.ctrl[:] = jacobian.T @ (200 * gap) - 2 * data.qvel
        mujoco.mj_step(model, data)
    assert data.ncon > 0 and data.site("tip").xpos[2] == pytest.approx(-0.24, abs=0.004)


def test_distractors_change_the_picture_and_nothing_else():
    task = _task()
    assert task.distracted is not None and task.distracted.num == task.train.num == 2
    plain, other = (condition_models(task.model, c) for c in (task.train, task.distracted))
    for camera in (bench.HEAD_CAMERA, bench.SIDE_CAMERA):
        views = [
            render(m[0], task.train.qpos[0], camera, width=64, height=64, config=RenderConfig())
            for m in (plain, other)
        ]
        assert np.any(views[0] != views[1], axis=-1).sum() > 60, camera
        assert np.all(views[0] == views[1], axis=-1).mean() > 0.7, camera
    # The same torques lead along the same path, bit by bit.
    noise = jax.random.normal(jax.random.key(0), (2, 2, task.horizon, 7))
    runs = [
        make_sampler(task.system, c, lambda p, x, o, t, e: 10 * e, "native").sample(
            jnp.zeros(2), noise
        )
        for c in (task.train, task.distracted)
    ]
    np.testing.assert_array_equal(runs[0].x, runs[1].x)
    np.testing.assert_array_equal(runs[0].o, runs[1].o)
    # In two conditions they lie on different spots.
    for name in bench.DISTRACTORS:
        spots = task.distracted.changes[f"body_pos:{name}"]
        assert np.linalg.norm(spots[0] - spots[1]) > 0.05


def test_distracted_conditions_take_turns_and_never_look_alike():
    plain = bench.conditions(START, body_pos__pad=PADS)
    found = bench.distracted(plain, 60)
    assert found.num == 60 and found.qpos.shape == (60, 7)
    np.testing.assert_array_equal(found.changes["body_pos:pad"], np.tile(PADS, (30, 1)))
    where = np.stack([found.changes[f"body_pos:{name}"] for name in bench.DISTRACTORS], axis=1)
    assert len(np.unique(where, axis=0)) == 60
    known = {(*spot, bench.TABLE) for spot in bench.SPOTS}
    for spots in where:
        used = {tuple(spot) for spot in spots}
        assert len(used) == len(bench.DISTRACTORS) and used <= known
    with pytest.raises(ValueError, match="4 distractors on 5 spots have 120 arrangements, fewer"):
        bench.distracted(plain, 121)
    with pytest.raises(ValueError, match="on 3 spots have 0 arrangements"):
        bench.distracted(plain, 2, bench.SPOTS[:3])


def test_unseen_places_are_spread_over_the_hull_of_the_seen_ones():
    triangle = ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0))
    places = np.array(bench.unseen_places(triangle, 200, gap=0.05))
    assert places.shape == (200, 2)
    assert (places >= 0).all() and (places.sum(axis=1) <= 1).all()
    assert np.linalg.norm(places[:, None] - np.array(triangle), axis=-1).min() >= 0.05
    # Each quarter of the triangle has its share, but for what the gap takes of three of them.
    quarters = [places[:, 0] > 0.5, places[:, 1] > 0.5, places.sum(axis=1) < 0.5]
    assert all(0.18 < np.mean(quarter) < 0.32 for quarter in quarters)
    square = (*triangle, (1.0, 1.0))
    assert (np.array(bench.unseen_places(square, 50, gap=0.0)).sum(axis=1) > 1).any()
    for places, gap in ((triangle, 2.0), (((0, 0), (1, 1), (2, 2)), 0.0)):
        with pytest.raises(ValueError, match="0 of 7 places are in the hull of the 3 given ones"):
            bench.unseen_places(places, 7, gap=gap)


def test_bodies_that_a_camera_sees_move():
    arm = ("arm", "shoulder_lift", "upper_arm", "elbow", "forearm", "wrist", "hand", "gripper")

    def found(**settings):
        task = _task(vision=bench.HEAD_CAMERA, **settings)
        return {task.model.body(body).name for body in task.vision.bodies}

    assert found() == {*arm, "held", "pad", *bench.DISTRACTORS}
    assert found() - found(distracted=None) == set(bench.DISTRACTORS)


def test_distracted_conditions_are_checked():
    rows = np.zeros((1, 7))
    with pytest.raises(ValueError, match="the model has no object 'ball'"):
        _task(distracted=Conditions(rows, rows, {"body_pos:ball": np.zeros((1, 3))}))
    with pytest.raises(ValueError, match=r"qpos has shape \(1, 6\), expected \(1, 7\)"):
        _task(distracted=Conditions(rows[:, :6], rows))
    assert tasks.make("point_mass").distracted is None
