"""The default initial controller holds robots of any mix of actuators where they start."""

import copy
import dataclasses
import warnings

import jax
import mujoco
import numpy as np
import pytest
import servo_robots as robots

from jgps import tasks
from jgps.algorithms import trajopt
from jgps.controllers import HoldConfig, LqrHoldConfig, NoiseConfig, PdHoldConfig
from jgps.simulation import Conditions
from jgps.tasks import equilibrium
from jgps.tasks.hold import make_plant, places_of, resting_activations
from jgps.tasks.start import (
    hold_from_model,
    initial_controller,
    initial_controllers,
    initial_states,
)

SERVO = """<mujoco><option timestep="0.005"/><worldbody><body pos="0 0 1">
  <joint name="a" axis="0 1 0" damping="2" armature=".1"/>
  <geom type="capsule" fromto="0 0 0 .3 0 0" size=".02"/></body></worldbody>
  <actuator><position joint="a" kp="20"/></actuator>
  <keyframe><key name="home" qpos=".9" ctrl=".9"/><key name="low" qpos="1.2"/></keyframe>
  </mujoco>"""
ELBOW_POSE = (-0.3, 0.5)


def _task(source: str, **settings) -> tasks.Task:
    usual = {"control_dt": 0.02, "horizon": 101, "cost": lambda s: lambda x, u, t: u @ u}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the model has .* activation states")
        return tasks.from_mjcf(source, **{**usual, **settings})


def _roll_out(task: tasks.Task, number: int = 0) -> np.ndarray:
    """Joint positions [T, nq] without noise, by stepping MuJoCo by hand."""
    controller = initial_controllers(task, initial_states(task, task.train))
    K, k = (np.asarray(a[number], float) for a in (controller.K, controller.k))
    conditions, model = task.train, task.model
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = conditions.qpos[number], conditions.qvel[number]
    if conditions.act is not None:
        data.act[:] = conditions.act[number]
    poses = []
    for t in range(task.horizon):
        mujoco.mj_forward(model, data)
        poses.append(data.qpos.copy())
        data.ctrl[:] = K[t] @ task.layout.of(data)
        data.ctrl[:] += k[t]
        mujoco.mj_step(model, data, task.substeps)
    return np.stack(poses)


def _farthest(task: tasks.Task, number: int = 0) -> float:
    poses = _roll_out(task, number)
    return float(np.abs(poses - poses[0]).max())


@pytest.mark.parametrize("name", robots.ELBOWS)
def test_every_kind_of_actuator_holds_an_elbow(name):
    source = robots.elbow(robots.ELBOWS[name])
    task = _task(source, qpos=ELBOW_POSE)
    assert _farthest(task) < 1e-3
    if task.model.na:
        assert _farthest(_task(source, qpos=ELBOW_POSE, state=("qpos", "qvel", "act"))) < 1e-3


@pytest.mark.parametrize("name", ["tendon motors", "filters", "velocity servos", "muscles"])
def test_feedback_brings_it_back(name):
    source = robots.elbow(robots.ELBOWS[name])
    state = ("qpos", "qvel", "act") if name in ("filters", "muscles") else ("qpos", "qvel")
    pushed = _task(source, qpos=ELBOW_POSE, qvel=(0.3, -0.3), state=state)
    poses = _roll_out(pushed)
    assert np.abs(poses[-1] - poses[0]).max() < 0.05
    left_alone = _task(
        source, qpos=ELBOW_POSE, qvel=(0.3, -0.3), state=state, initial=HoldConfig(stiffness=0)
    )
    free = _roll_out(left_alone)
    assert np.abs(free[-1] - free[0]).max() > 4 * np.abs(poses[-1] - poses[0]).max()


def test_robots_of_servos_hold_and_stand():
    assert _farthest(_task(robots.ARM, qpos=robots.ARM_POSE)) < 1e-3
    assert _farthest(_task(robots.DRONE)) < 1e-6
    quadruped = _task(robots.quadruped(), qpos="home")
    np.testing.assert_array_equal(quadruped.ctrl, quadruped.train.qpos[:, 7:])
    poses = _roll_out(quadruped)
    assert abs(poses[-1, 2] - poses[0, 2]) < 0.02 and poses[-1, 3] > 0.99
    # By statics it does not even give way, though it begins a millimetre above the ground.
    assert _farthest(_task(robots.quadruped(), qpos=quadruped.train.qpos)) < 0.02
    humanoid = _task(robots.humanoid(), qpos="stand")
    assert humanoid.action_dim == 22 and humanoid.ctrl is None
    assert _farthest(humanoid) < 0.05


def test_a_keyframe_says_how_it_is_held():
    task = _task(SERVO, qpos="home")
    np.testing.assert_array_equal(task.train.qpos, [[0.9]])
    controllers = initial_controllers(task, initial_states(task, task.train))
    np.testing.assert_allclose(controllers.k, 0.9, rtol=1e-6)
    stays = 0.918337  # where MuJoCo comes to rest under that control
    assert abs(_roll_out(task)[-1, 0] - stays) < 1e-4
    both = _task(SERVO, qpos=("low", "low"))
    np.testing.assert_array_equal(_task(SERVO, qpos=np.array(["low", "low"])).train.qpos, 1.2)
    assert both.train.num == 2 and both.ctrl is None
    assert _farthest(both, 1) < 1e-3
    said = _task(SERVO, qpos="home", ctrl=[0.5])
    np.testing.assert_array_equal(said.ctrl, [[0.5]])


def test_a_keyframe_moves_mocap_bodies_and_sets_activations():
    source = """<mujoco><worldbody><body name="m" mocap="true" pos="1 0 0"><geom size=".1"/></body>
      <body><joint name="j"/><geom size=".1" pos=".2 0 0"/></body></worldbody>
      <actuator><intvelocity joint="j" kp="9" actrange="-3 3"/></actuator>
      <keyframe><key name="moved" qpos=".3" qvel=".1" act=".2" mpos="0 1 0"/>
      <key name="same" qpos=".3"/></keyframe></mujoco>"""
    task = _task(source, qpos="moved")
    train = task.train
    np.testing.assert_array_equal(train.mocap_pos, [[[0, 1, 0]]])
    np.testing.assert_array_equal((train.qvel, train.act), [[[0.1]], [[0.2]]])
    assert train.mocap_quat is None
    same = _task(source, qpos="same")
    assert same.train.mocap_pos is None
    np.testing.assert_allclose(same.train.act, 0.3, rtol=1e-6)  # gravity pulls along the axis
    np.testing.assert_array_equal(_task(source, qpos="moved", act=[0.7]).train.act, [[0.7]])


def test_activations_begin_at_rest():
    for name, source in robots.ELBOWS.items():
        model = mujoco.MjModel.from_xml_string(robots.elbow(source))
        if not model.na:
            continue
        conditions = Conditions(qpos=np.array([ELBOW_POSE]), qvel=np.zeros((1, 2)))
        act = resting_activations(model, conditions)
        data = mujoco.MjData(model)
        data.qpos[:], data.act[:] = ELBOW_POSE, act[0]
        inputs = equilibrium.inputs_of(model)
        data.ctrl[:] = np.where(inputs.integrates, 0, act[0])
        mujoco.mj_forward(model, data)
        np.testing.assert_allclose(data.act_dot, 0, atol=1e-9, err_msg=name)
        np.testing.assert_allclose(data.qacc, 0, atol=1e-6, err_msg=name)
    test = Conditions(qpos=np.zeros((1, 2)), qvel=np.zeros((1, 2)))
    task = _task(robots.elbow(robots.ELBOWS["filters"]), qpos=ELBOW_POSE, test=test)
    assert task.test.act is not None and np.abs(task.test.act - task.train.act).max() > 0.01


def test_each_condition_is_held_by_what_it_weighs():
    body = '<geom type="capsule"'
    source = SERVO.replace("<body pos", '<body name="link" pos')
    assert body in source
    task = _task(source, qpos=[0.0], changes={"body_mass:link": [0.3, 1.5]})
    controllers = initial_controllers(task, initial_states(task, task.train))
    lifts = -np.asarray(controllers.k)[:, 0, 0]
    np.testing.assert_allclose(lifts[1] / lifts[0], 5, rtol=1e-4)


def test_algorithms_begin_with_it():
    task = _task(SERVO, qpos="home")
    x0 = initial_states(task, task.train)
    began = trajopt(task, backend="native").init(jax.random.key(0)).controllers
    for one, other in zip(began, initial_controllers(task, x0), strict=True):
        np.testing.assert_array_equal(one, other)


def test_other_poses_follow_the_nearest_known_one():
    task = _task(SERVO, qpos=[[0.0], [1.0]])
    of_pose = initial_controller(task)
    states = initial_states(task, task.train)
    near = of_pose(states[1] + np.float32([0.05, 0]))
    known = initial_controllers(task, states)
    np.testing.assert_allclose(near.k[0], known.k[1, 0] + 0.05, atol=1e-6)  # in the servo's radians
    moved = initial_controllers(task, states + np.float32([0.05, 0]))
    np.testing.assert_allclose(moved.k[:, 0], known.k[:, 0] + 0.05, atol=1e-6)


def test_noise_is_in_each_actuators_own_units():
    arm = _task(robots.ARM, qpos=robots.ARM_POSE)
    C = np.asarray(initial_controllers(arm, initial_states(arm, arm.train)).C[0, 0])
    half = np.diff(arm.model.actuator_ctrlrange, axis=1)[:, 0] / 2
    np.testing.assert_allclose(np.sqrt(np.diag(C)), 0.05 * half, rtol=1e-5)
    source = robots.elbow(robots.ELBOWS["a motor and a servo"])
    mixed = _task(source, qpos=ELBOW_POSE)
    C = np.asarray(initial_controllers(mixed, initial_states(mixed, mixed.train)).C[0, 0])
    np.testing.assert_allclose(np.sqrt(np.diag(C)), [0.2 * 10, 0.05], rtol=1e-5)
    unlimited = source.replace('ctrlrange="-10 10"', 'gear="2" forcerange="-6 6"')
    mixed = _task(unlimited, qpos=ELBOW_POSE)
    C = np.asarray(initial_controllers(mixed, initial_states(mixed, mixed.train)).C[0, 0])
    np.testing.assert_allclose(np.sqrt(np.diag(C)), [0.2 * 6, 0.05], rtol=1e-5)


def test_plants_are_what_mujoco_does():
    source = robots.elbow(robots.ELBOWS["a motor and a servo"])
    task = _task(source, qpos=ELBOW_POSE)
    model, inputs = task.model, equilibrium.inputs_of(task.model)
    plant = make_plant(model, task.train, inputs, places_of(model, task.layout), np.zeros(2))
    np.testing.assert_allclose(plant.force, [1, 30])
    np.testing.assert_allclose(plant.stiffness, [0, -30], atol=1e-6)
    np.testing.assert_allclose(plant.damping, [0, -1], atol=1e-6)
    data = mujoco.MjData(model)
    data.qpos[:] = ELBOW_POSE
    mujoco.mj_forward(model, data)
    inverse = np.zeros((2, 2))
    mujoco.mj_solveM(model, data, inverse, np.eye(2))
    np.testing.assert_allclose(plant.mass, 1 / np.diag(inverse))


def test_limits_of_the_actuators_are_kept():
    weak = robots.ARM.replace('ctrlrange="-1.8 1.8"', 'ctrlrange="-1.8 1.8" forcerange="-5 5"')
    task = _task(weak, qpos=robots.ARM_POSE)
    settled = equilibrium.settle(task.model, task.train)[0]
    model, data = copy.copy(task.model), mujoco.MjData(task.model)
    model.actuator_forcelimited[:] = 0
    data.qpos[:], data.ctrl[:] = robots.ARM_POSE, settled
    mujoco.mj_forward(model, data)
    assert abs(data.actuator_force[1]) == pytest.approx(5)
    muscles = _task(robots.elbow(robots.ELBOWS["muscles"]), qpos=ELBOW_POSE)
    settled = equilibrium.settle(muscles.model, muscles.train)[0]
    assert np.all(settled >= 0) and np.all(settled <= 1) and settled.max() > 0.05


def test_motors_without_a_load_are_held_as_ever():
    motors = robots.elbow('<motor joint="shoulder"/><motor joint="elbow"/>')
    default = _task(motors, qpos=ELBOW_POSE)
    x0 = initial_states(default, default.train)
    held = dataclasses.replace(default, initial=HoldConfig())  # against gravity
    for one, other in zip(
        initial_controllers(default, x0), initial_controllers(held, x0), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    with_ctrl = _task(motors, qpos=ELBOW_POSE, ctrl=[1.0, 2.0])
    named = initial_controllers(with_ctrl, x0)
    u = np.asarray(named.K[0, 0]) @ np.asarray(x0[0]) + np.asarray(named.k[0, 0])
    np.testing.assert_allclose(u, [1, 2], rtol=1e-5)
    floating = motors.replace("<option", '<option gravity="0 0 0"')
    default = _task(floating, qpos=[ELBOW_POSE, ELBOW_POSE])
    x0 = initial_states(default, default.train)
    lqr = hold_from_model(default.model, default.train)
    explicit = dataclasses.replace(default, initial=lqr)
    for one, other in zip(
        initial_controllers(default, x0), initial_controllers(explicit, x0), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("initial", [PdHoldConfig(), LqrHoldConfig()])
def test_holds_of_motors_say_that_they_hold_no_servo(initial):
    task = _task(SERVO, qpos="home", initial=initial)
    with pytest.warns(UserWarning, match=r"holds motors.*pass jgps.controllers.HoldConfig\(\)"):
        initial_controllers(task, initial_states(task, task.train))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"qpos": "hom"}, "the model has no keyframe 'hom'; it has: home, low; did you mean home"),
        ({"qpos": np.array(["hom"])}, "the model has no keyframe 'hom'; it has: home, low"),
        ({"changes": [1]}, r"changes is \[1\]; it has to be a mapping"),
        ({"ctrl": [1.0, 2.0]}, r"ctrl has shape \(1, 2\), expected \(1, 1\)"),
        ({"ctrl": [np.nan]}, "ctrl has values that are not finite"),
        ({"qpos": "home", "initial": NoiseConfig(), "ctrl": [1.0]}, "ctrl .* NoiseConfig"),
        ({"act": [1.0]}, r"act has shape \(1, 1\), expected \(1, 0\)"),
    ],
)
def test_mistakes(settings, message):
    with pytest.raises(ValueError, match=message):
        _task(SERVO, **settings)


def test_loads_too_small_for_float32_count_as_none():
    """What is left of a sum that cancels; humanoid_CMU of dm_control has such a joint."""
    model = """<mujoco><option gravity="1e-33 0 -9.81"/><worldbody>
      <body><joint name="up" type="slide" axis="0 0 1"/><geom size=".1"/>
      <body><joint name="on" type="slide" axis="1 0 0"/><geom size=".1"/></body></body></worldbody>
      <actuator><motor joint="up"/><motor joint="on"/></actuator></mujoco>"""
    task = _task(model)
    np.testing.assert_allclose(hold_from_model(task.model, task.train).acceleration, [-9.81, 0])
