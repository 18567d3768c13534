"""Each condition's start is held in its own model and pose; delays, dampers, random starts."""

import dataclasses
import warnings

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jgps import tasks
from jgps.controllers import HoldConfig, NearestController
from jgps.simulation import Conditions, Starts, condition_models, make_sampler
from jgps.tasks import equilibrium
from jgps.tasks.start import initial_controllers, initial_states, resting_act

POSES = ((0.0, 0.0), (1.2, -0.5), (-1.0, 0.8))
MOTORS = '<motor name="m" joint="a"/><motor name="n" joint="b"/>'
SERVO = '<position name="m" joint="a" kp="40"/><motor name="n" joint="b"/>'
SPRING = 'stiffness="3" springref="20"'


def _arm(actuators: str = MOTORS, joint: str = "") -> str:
    return f"""<mujoco><option timestep=".005"/><worldbody><body name="upper" pos="0 0 1">
      <joint name="a" axis="0 1 0" damping=".3" {joint}/>
      <geom type="capsule" fromto="0 0 0 .3 0 0" size=".02" mass="1"/>
      <body name="fore" pos=".3 0 0" gravcomp=".5"><joint name="b" axis="0 1 0" damping=".2"/>
        <geom type="capsule" fromto="0 0 0 .2 0 0" size=".02" mass=".5"/></body></body></worldbody>
      <actuator>{actuators}</actuator></mujoco>"""


def _task(source: str, **settings) -> tasks.Task:
    usual = {"control_dt": 0.02, "horizon": 101, "cost": lambda s: lambda x, u, t: u @ u}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the model has .* activation states")
        return tasks.from_mjcf(source, **{**usual, **settings})


def _moves(task: tasks.Task) -> np.ndarray:
    """How far each condition moves without noise [C], in two seconds of the library's rollouts."""
    x0 = initial_states(task, task.train)
    policy = NearestController(controllers=initial_controllers(task, x0), x0=x0)
    sampler = make_sampler(
        task.system, task.train, lambda p, x, o, t, noise: p.K[t] @ x + p.k[t], "native"
    )
    noise = jnp.zeros((task.train.num, 1, task.horizon, task.action_dim))
    qpos = np.asarray(sampler.sample(policy.controllers, noise).qpos)[:, 0]
    return np.abs(qpos - qpos[:, :1]).max(axis=(1, 2))


def _rows(*columns: int, **values) -> np.ndarray:
    """Rows [3, width] that are zero but for some columns."""
    rows = np.zeros((3, values["width"]))
    rows[:, columns] = np.reshape(values["numbers"], (3, -1))
    return rows


KP = (40, 100, 20)
CASES = {
    "poses": (_arm(), POSES, {}),
    "masses": (_arm(), POSES[:1], {"body_mass_scale:upper": [1, 4, 0.25]}),
    "gains": (_arm(), POSES[:1],
              {"actuator_gainprm:m": _rows(0, width=10, numbers=(1, 5, 0.2))}),
    "gears": (_arm(), POSES[:1], {"actuator_gear:m": _rows(0, width=6, numbers=(1, 5, -1))}),
    "a broken motor": (_arm(MOTORS + '<motor joint="a"/>'), POSES[:1],
                       {"actuator_gear:m": _rows(0, width=6, numbers=(1, 0, 1))}),
    "springs": (_arm(joint=SPRING), POSES[:1], {"jnt_stiffness:a": [3, 30, 0]}),
    "gravity": (_arm(), POSES[:1], {"body_gravcomp:fore": [0.5, 1, 0]}),
    "servos": (_arm(SERVO), POSES[:1],
               {"actuator_gainprm:m": _rows(0, width=10, numbers=KP),
                "actuator_biasprm:m": _rows(1, width=10, numbers=-np.array(KP))}),
    "a servo or a motor": (_arm(SERVO), POSES[:1],
                           {"actuator_gainprm:m": _rows(0, width=10, numbers=(40, 1, 40)),
                            "actuator_biasprm:m": _rows(1, width=10, numbers=(-40, 0, -40))}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_every_condition_is_held(name):
    """In the hold's first form the second and third moved by radians, and gained from the first."""
    source, qpos, changes = CASES[name]
    assert np.all(_moves(_task(source, qpos=qpos, changes=changes)) < 1e-3)


def test_gains_and_noise_are_those_of_the_condition():
    gears = _rows(0, width=6, numbers=(1, 4, 1))
    ranges = [[-1, 1], [-1, 1], [-3, 3]]
    limited = MOTORS.replace('joint="a"', 'joint="a" ctrlrange="-1 1"')
    task = _task(
        _arm(limited), qpos=POSES[:1], initial=HoldConfig(stiffness=0.1),
        changes={"actuator_gear:m": gears, "actuator_ctrlrange:m": ranges},
    )  # fmt: skip
    found = initial_controllers(task, initial_states(task, task.train))
    for c in range(3):
        alone = dataclasses.replace(
            task, train=task.train.select([c])._replace(changes={}),
            model=condition_models(task.model, task.train)[c],
        )  # fmt: skip
        [expected] = zip(
            *initial_controllers(alone, initial_states(alone, alone.train)), strict=True
        )
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one[c], other, rtol=1e-5, atol=1e-7)
    assert np.abs(found.K[0] - found.K[1]).max() > 0.01
    np.testing.assert_allclose(np.sqrt(found.C[:, 0, 0, 0]), [0.2, 0.2, 0.6], rtol=1e-5)


def test_other_states_are_held_as_in_their_own_model():
    task = _task(_arm(), qpos=POSES[:1], changes={"body_mass_scale:upper": [1, 4, 1]})
    x0 = initial_states(task, task.train)
    known = initial_controllers(task, x0)
    rows = np.array([1, 0, 2, 1])
    found = initial_controllers(task, x0[rows], rows)
    np.testing.assert_allclose(found.k, known.k[rows], rtol=1e-6)
    moved = jax.jit(lambda x: initial_controllers(task, x, rows).k)(x0[rows] + 1e-3)
    np.testing.assert_allclose(moved[:, 0, 0], known.k[rows, 0, 0], atol=0.05)


def test_conditions_that_replace_others_bring_their_own_controls():
    task = _task(_arm(), qpos=POSES, ctrl=np.zeros((3, 2)))
    assert task.ctrl is not None and np.all(_moves(task)[:2] > 0.1)  # as they were told
    rest = Conditions(qpos=np.array(POSES[::-1]), qvel=np.zeros((3, 2)))
    assert np.all(_moves(dataclasses.replace(task, train=rest)) < 1e-3)
    told = dataclasses.replace(task, train=rest._replace(ctrl=np.ones((3, 2))))
    np.testing.assert_array_equal(told.ctrl, np.ones((3, 2)))
    filters = '<general joint="a" dyntype="filter" dynprm=".1"/><motor joint="b"/>'
    task = _task(_arm(filters), qpos=POSES[:1], state=("qpos", "qvel", "act"))
    assert np.all(_moves(dataclasses.replace(task, train=rest)) < 1e-3)


DELAYS = {
    "motors": '<motor joint="a" delay=".1" nsample="30" interp="linear"/>'
    '<motor joint="b" delay=".04" nsample="10"/>',
    "servos": '<position joint="a" kp="40" kv="2" delay=".04" nsample="10"/>'
    '<position joint="b" kp="20" kv="1"/>',
    "filters": '<general joint="a" dyntype="filterexact" dynprm=".1" delay=".04" nsample="10"/>'
    '<motor joint="b"/>',
}  # fmt: skip


@pytest.mark.parametrize("name", DELAYS)
def test_actuators_with_a_delay_remember_what_holds(name):
    """They began with no control, and fell by radians until the first one counted."""
    task = _task(_arm(DELAYS[name]), qpos=POSES)
    assert task.ctrl is not None
    assert np.all(_moves(task) < 1e-3)
    pushed = _task(_arm(DELAYS[name]), qpos=POSES[:2], qvel=(0.3, -0.3))
    assert np.all(_moves(pushed) < 0.06)


def test_a_motor_without_force_does_not_stand_in_the_way():
    task = _task(_arm(MOTORS.replace('joint="a"', 'joint="a" gear="0"')), qpos=[np.pi / 2, 0])
    assert np.all(_moves(task) < 1e-3)  # it hangs


def test_dampers_hold_nothing_and_say_so():
    damper = '<damper name="d" joint="a" kv="3" ctrlrange="0 1"/><motor joint="b"/>'
    task = _task(_arm(damper), qpos=POSES[:1])
    with pytest.warns(UserWarning, match="actuator 'd' is a damper, .* condition 0: it moves off"):
        initial_controllers(task, initial_states(task, task.train))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.all(_moves(_task(_arm('<motor joint="a"/>' + damper), qpos=POSES)) < 1e-3)


@pytest.mark.parametrize("kind", ["dyn", "gain", "bias"])
def test_actuators_that_call_back_are_refused(kind):
    user = f'<general name="u" joint="a" {kind}type="user"/>'
    with pytest.raises(ValueError, match=f"actuator 'u' has {kind}type=\"user\", for which MuJoCo"):
        _task(_arm(user))


def test_random_starts_are_at_rest():
    """By the same statics as the training poses, traced or not; not with the activations there."""
    source = _arm('<intvelocity joint="a" kp="40" kv="2" actrange="-3 3"/><motor joint="b"/>')
    changes = {"body_mass_scale:upper": [1, 2, 3]}
    task = _task(source, qpos=POSES, changes=changes, state=("qpos", "qvel", "act"))
    qpos = np.float32([[0.3, -0.2], [0.3, -0.2], [np.nan, 0], [-0.4, 1]])
    rows = np.array([0, 2, 1, 1])
    act = resting_act(task, jnp.asarray(qpos), rows)
    traced = jax.jit(lambda q: resting_act(task, q, rows))(qpos)
    np.testing.assert_array_equal(act, traced)
    models = condition_models(task.model, task.train)
    for row in (0, 1, 3):
        changed = task.train.select(rows)._replace(qpos=qpos.astype(float))
        model, data = equilibrium.at_rest(models[rows[row]], changed, row)
        inputs = equilibrium.inputs_of(model)
        values = equilibrium.settle(task.model, changed.select([row]))[0]
        np.testing.assert_allclose(act[row, 0], values[0], rtol=1e-5)
        equilibrium.own_forces(model, data, inputs, values)
        mujoco.mj_fwdAcceleration(model, data)
        np.testing.assert_allclose(data.qacc_smooth, 0, atol=1e-4)
    assert abs(act[0, 0] - act[1, 0]) > 0.01
    motors = _task(_arm(), qpos=POSES)
    assert resting_act(motors, jnp.asarray(qpos), rows) is None
    assert Starts(qpos, qpos).act is None
