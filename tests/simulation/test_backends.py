"""The same task and controls on C MuJoCo and on MJX."""

import copy

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jgps import tasks
from jgps.simulation import (
    Conditions,
    Sensing,
    System,
    check_conditions,
    load_model,
    make_sampler,
)

ROLLING = """
<mujoco>
  <option timestep="0.005" iterations="4" ls_iterations="10"/>
  <worldbody>
    <geom name="floor" type="plane" size="2 2 0.1"/>
    <body name="ball" pos="0 0 0.12">
      <freejoint name="free"/>
      <geom name="ball" type="sphere" size="0.1" mass="1" friction="0.01 0.005 0.0001"/>
      <site name="mark" pos="0.1 0 0"/>
    </body>
    <body name="marker" mocap="true" pos="0 0 1"/>
    <body name="weight" pos="1 0 0.5">
      <joint name="lift" type="slide" axis="0 0 1" damping="1"/>
      <geom size="0.05" contype="0" conaffinity="0"/>
    </body>
  </worldbody>
  <equality><weld name="hold" body1="weight" active="false"/></equality>
  <actuator><general name="lift" joint="lift" gear="10" dyntype="filter" dynprm="0.05"
    biastype="affine" ctrlrange="-1 1" ctrllimited="true" forcerange="-9 9"
    forcelimited="true"/></actuator>
</mujoco>
"""


def _open_loop(params, x, o, t, noise):
    del params, x, o, t
    return noise


def _both(system, conditions, controls):
    params = jnp.zeros((conditions.num, 1))
    native = make_sampler(system, conditions, _open_loop, "native").sample(params, controls)
    mjx = jax.jit(make_sampler(system, conditions, _open_loop, "mjx").sample)(params, controls)
    return native, mjx


def test_a_ball_that_drops_and_rolls_is_the_same_on_both():
    """With all that conditions can say of their start and of the model, most of it once for each.

    A solver that stops early and goes on from its warm start, contact, a free joint, a site off its
    centre, activations, mocap poses, friction of a contact and of a joint that only one condition
    has, ranges of controls, masses, strengths of an actuator, an equality that is on in one; a push
    and a mocap body that moves; noise and latency. Only the observation needs sensors; what it
    names is not in the state.
    """
    felt = ("body_rot:ball", "body_up:ball", "gyro:free", "phase:0.3", "phase:0.07", "ctrl")
    seen = ("qvel:lift", "site_pos:mark", "site_vel:mark", *felt, "body_pos:marker")
    model, layout, observation = load_model(ROLLING, ("qpos", "qvel", "act"), seen)
    assert observation is not None
    system = System(model, layout, 21, 4, observation)
    qpos = np.tile([0, 0, 0.12, 1, 0, 0, 0, 0.0], (3, 1))
    qvel = np.tile([0.5, 0, 0, 0, 0, 0, 0.0], (3, 1))
    hand = np.array([[[0.1, 0, 1]], [[0.2, 0.3, 1]], [[0, 0, 2]]])
    turned = np.tile([0.6, 0, 0.8, 0], (3, 1, 1))
    changes = {
        "geom_friction:floor": np.array(
            [[0.02, 0.005, 1e-4], [1.0, 0.005, 1e-4], [1, 0.005, 1e-4]]
        ),
        "dof_frictionloss:lift": [0, 5, 0],
        "actuator_ctrlrange:lift": np.array([[-0.1, 0.1], [-1, 1], [-5, 5]]),
        "eq_active0:hold": [0, 0, 1],
        "body_mass_scale:ball": [1, 1, 2],
        "actuator_gainprm:lift": np.eye(1, 10) * [[2], [1], [1]],
        "actuator_biasprm:lift": np.eye(1, 10, 2) * [[-0.5], [0], [0]],
        "actuator_forcerange:lift": np.array([[-0.15, 0.15], [-9, 9], [-9, 9]]),
    }
    # The marker moves for four steps and stays; the ball is pushed aside in one of two that differ.
    places = hand + np.arange(4)[:, None] * (0, 0.1, 0)
    push = np.zeros((3, 8, 6))
    push[1, 5:7, 1] = 4
    seen_late = Sensing(np.zeros((3, 2, observation.size)), [0, 2, 50])
    seen_late.noise[1, 1] = 0.25
    given = Conditions(
        qpos, qvel, changes, act=np.array([[0], [0.4], [0.0]]), mocap_pos=hand, mocap_quat=turned,
        inputs={"mocap_pos:marker": places, "xfrc_applied:ball": push}, sensing=seen_late,
    )  # fmt: skip
    controls = 2 * jax.random.normal(jax.random.key(0), (3, 1, 21, 1))
    native, mjx = _both(system, check_conditions(model, given), controls)
    assert bool(native.valid.all()) and bool(mjx.valid.all())
    np.testing.assert_allclose(mjx.x, native.x, atol=1e-3)
    np.testing.assert_allclose(mjx.qpos, native.qpos, atol=1e-3)
    np.testing.assert_allclose(mjx.u, native.u, atol=1e-6)
    assert native.o.shape == (3, 1, 21, 1 + 3 + 3 + 6 + (3 + 3 + 2 + 2 + 1) + 3)
    np.testing.assert_allclose(mjx.o, native.o, atol=1e-3)
    marker = np.asarray(mjx.o)[:, 0, :, -3:]
    np.testing.assert_allclose(marker[0, :6], places[0, [0, 1, 2, 3, 3, 3]], atol=1e-6)
    odd = 0.25 * (np.arange(6)[:, None] % 2)  # steps with noise
    np.testing.assert_allclose(marker[1, :6], places[1, [0, 0, 0, 1, 2, 3]] + odd, atol=1e-6)
    np.testing.assert_allclose(marker[2], np.tile(places[2, 0], (21, 1)), atol=1e-6)
    ball = layout["qpos"].start + 3
    np.testing.assert_allclose(  # both orientations are that of the ball, where it is seen at once
        mjx.o[0, ..., observation["body_rot:ball"]], mjx.x[0, ..., ball : ball + 6], atol=1e-5
    )
    np.testing.assert_allclose(  # its third row
        native.o[0, ..., observation["body_up:ball"]][..., :2],
        native.x[0][..., [ball + 2, ball + 5]],
        atol=1e-6,
    )
    angle = 2 * np.pi / 0.07 * 0.02 * np.arange(21)
    for rollouts in (native, mjx):
        shown = rollouts.o[0, 0, :, observation["phase:0.07"]]
        expected = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
        np.testing.assert_allclose(shown, expected, atol=1e-5)
        before = np.roll(np.asarray(rollouts.u)[0], 1, axis=1)
        before[:, 0] = 0
        np.testing.assert_array_equal(rollouts.o[0, ..., observation["ctrl"]], before)
    turning = np.asarray(native.o[..., observation["gyro:free"]])
    assert np.abs(turning).max() > 1
    x, lift = np.asarray(native.x)[:, 0], layout["qpos"].stop - 1
    assert abs(x[0, -1, layout["qvel"]][4] - x[1, -1, layout["qvel"]][4]) > 0.1  # they do differ
    assert x[0, -1, 2] < 0.11  # and the ball did land
    np.testing.assert_allclose(x[:, 5, 1], 0, atol=1e-6)  # state 6 is the first under the push
    assert x[1, 6, 1] > 1e-4 and x[1, -1, 1] > 0.02
    assert abs(x[2, -1, lift]) < 0.01 < abs(x[0, -1, lift])  # held, and falling
    np.testing.assert_allclose(np.abs(np.asarray(native.u)).max(axis=(1, 2, 3))[:2], [0.1, 1])


def _above_the_slot(model, offset):
    """The arm's pose [7] with the peg upright, 1 cm above the rim and so far off, and a push down.

    The push is torques [7] that make 5 N at the tip.
    """
    data, pose = mujoco.MjData(model), np.array((0.1, 0.1, -1.54, -1.7, 1.54, -0.2, 0.0))
    tip = np.array((0, 0.3 + offset, -0.39))
    jacobian = np.empty((2, 3, model.nv))
    for _ in range(20):
        data.qpos[:] = pose
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        for each, site in zip(jacobian, ("tip", "top"), strict=True):
            mujoco.mj_jacSite(model, data, each, None, model.site(site).id)
        points = np.r_[data.site("tip").xpos, data.site("top").xpos]
        gap = np.r_[tip, tip + (0, 0, 0.3)] - points
        pose += np.linalg.lstsq(jacobian.reshape(6, -1), gap, rcond=1e-6)[0]
    return pose, jacobian[0].T @ (0, 0, -5.0)


def _pushed_down(name):
    """The task, and a push down into the slot's middle and onto its rim, 12 and 20 mm off."""
    task = tasks.make(name)
    posed = [_above_the_slot(task.model, offset) for offset in (0.0, 0.012, 0.02)]
    poses, pushes = (np.stack(each) for each in zip(*posed, strict=True))
    conditions = check_conditions(task.model, Conditions(poses, np.zeros_like(poses)))
    controls = jnp.asarray(np.tile(pushes[:, None, None], (1, 1, 14, 1)), jnp.float32)
    return task, task.system._replace(horizon=14), conditions, controls


def test_a_flat_peg_meets_slot_and_rim_alike_on_both():
    """MJX has no cylinder that meets boxes: there it is a prism."""
    task, system, conditions, controls = _pushed_down("peg_insertion")
    native, mjx = _both(system, conditions, controls)
    np.testing.assert_allclose(mjx.u, native.u, atol=1e-6)
    # Until the peg touches anything it is the same arm.
    np.testing.assert_allclose(mjx.x[:, :, :2], native.x[:, :, :2], atol=1e-3)
    height = task.layout["site_pos:tip"].stop - 1
    for rollouts in (native, mjx):
        middle, *off = np.asarray(rollouts.x)[:, 0, :, height] + 0.4  # above the rim
        assert middle[-1] < -0.04
        np.testing.assert_allclose([each[3:] for each in off], 0.004, atol=3e-3)


def test_a_round_peg_slides_in_from_where_a_flat_one_rests():
    task, system, conditions, controls = _pushed_down("peg_insertion_round")
    sampler = make_sampler(system, conditions, _open_loop, "native")
    rollouts = sampler.sample(jnp.zeros((conditions.num, 1)), controls)
    height = task.layout["site_pos:tip"].stop - 1
    assert (np.asarray(rollouts.x)[:, 0, -1, height] < -0.44).all()


def test_a_stand_in_for_mjx_has_to_be_the_same_but_for_geoms():
    task = tasks.make("peg_insertion")
    for field, number in (("body_mass", 0.1), ("jnt_type", 1)):
        other = copy.copy(task.mjx_model)
        getattr(other, field)[-1] += number
        with pytest.raises(ValueError, match=f"Task.mjx_model has another {field} than Task.model"):
            make_sampler(task.system._replace(mjx_model=other), task.train, _open_loop, "mjx")


def test_a_bad_sample_on_mjx_is_marked_and_leaves_the_others_alone():
    """In simulations of a minute, after which a phase in float32 is still right."""
    task = tasks.make("point_mass")
    layouts = load_model(task.model, ("qpos", "qvel"), ("phase:0.5", "phase:0.7"))[1:]
    T = round(60 / task.control_dt) + 1
    system = System(task.model, layouts[0], T, task.substeps, layouts[1])
    sampler = make_sampler(system, task.train, _open_loop, "mjx")
    sample = jax.jit(sampler.sample)
    params = jnp.zeros((4, 1))
    noise = 0.1 * jax.random.normal(jax.random.key(2), (4, 2, T, 2))
    clean, bad = sample(params, noise), sample(params, noise.at[3, 1, 5, 0].set(jnp.nan))
    assert bool(clean.valid.all())
    assert not bool(bad.valid[3, 1]) and int(bad.valid.sum()) == 7
    np.testing.assert_array_equal(np.asarray(bad.x)[:3], np.asarray(clean.x)[:3])
    angle = 2 * np.pi * task.control_dt * np.arange(T)[:, None] / np.array([0.5, 0.7])
    expected = np.stack([np.cos(angle), np.sin(angle)], axis=-1).reshape(-1, 4)
    np.testing.assert_allclose(clean.o[0, 0], expected, atol=2e-4)


def test_a_model_that_mjx_cannot_simulate_names_the_remedy():
    model, layout, _ = load_model(
        """<mujoco><option integrator="implicit"/><worldbody><body><joint name="j"/><geom size="1"/>
        </body></worldbody><actuator><motor joint="j"/></actuator></mujoco>""",
        ("qpos", "qvel"),
    )
    conditions = check_conditions(model, Conditions(np.zeros((1, 1)), np.zeros((1, 1))))
    with pytest.raises(ValueError, match=r"MJX can't simulate this model .*native backend"):
        make_sampler(System(model, layout, 5, 1), conditions, _open_loop, "mjx")
