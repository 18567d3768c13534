"""Where a task's trajectories start, and the controllers to start with."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import mujoco
import numpy as np
from jax.core import Tracer

from jgps.controllers import (
    Hold,
    HoldConfig,
    LqrHoldConfig,
    NoiseConfig,
    PdHoldConfig,
    hold_known,
    hold_pose,
    lqr_hold,
    pd_hold,
    pure_noise,
)
from jgps.core.host import to_device
from jgps.core.lifted import Lifted, lift
from jgps.core.types import Controller
from jgps.core.warn import warn
from jgps.mujoco_log import quiet_mujoco
from jgps.simulation import Conditions, condition_models, initial_act
from jgps.simulation.features import unit_quaternions
from jgps.tasks.hold import make_hold, resting_activations
from jgps.tasks.task import Task


def initial_states(task: Task, conditions: Conditions) -> jax.Array:
    """States x0 [C, dX] in which the conditions begin."""
    return to_device(_initial_states(task, conditions))


def condition_features(task: Task, conditions: Conditions) -> jax.Array:
    """What tells conditions apart, [C, D]: where they begin, x0, and behind it their params."""
    x0 = _initial_states(task, conditions)
    rows = [np.reshape(leaf, (len(x0), -1)) for leaf in jax.tree.leaves(conditions.params)]
    return to_device(np.concatenate([x0, *rows], axis=1))


@quiet_mujoco()
def _initial_states(task: Task, conditions: Conditions) -> np.ndarray:
    states = []
    models, acts = condition_models(task.model, conditions), initial_act(task.model, conditions)
    starts = zip(models, conditions.qpos, conditions.qvel, acts, strict=True)
    for model, qpos, qvel, act in starts:
        data = mujoco.MjData(model)  # which takes mocap poses from the condition's model
        data.qpos[:], data.qvel[:], data.act[:] = qpos, qvel, act
        mujoco.mj_forward(model, data)
        states.append(task.layout.of(data))
    return np.stack(states)


@quiet_mujoco()
def hold_from_model(
    model: mujoco.MjModel, conditions: Conditions, control_dt: float = 0.0
) -> LqrHoldConfig:
    """An LQR hold whose gains and noise fit the model.

    In the first condition's pose and model: the gains are the accelerations that one unit of
    control gives each actuator's own joint, by the mass matrix; gravity and springs are held
    against. The noise's standard deviation is a fifth of the (geometric mean of the) control
    ranges' half-widths; 1 where an actuator has no range.

    A joint that one unit of control moves by more than `_STRONG` in one control step of control_dt
    seconds is held less stiffly, so that its errors go within some control steps, not within one:
    its noise would be damped out before it moved anything, and nothing would be learned.

    Raises:
      ValueError: if an actuator is not a plain motor, whose force is its control times a gain.
    """
    plain = _plain(model)
    if not plain.all():
        name = model.actuator(int(np.argmin(plain))).name
        raise ValueError(
            f"actuator {name!r} is a servo, a muscle or has an activation or a delay, which an LQR "
            "hold of motors can't hold; use jgps.controllers.HoldConfig()"
        )
    [model] = condition_models(model, conditions.select([0]))
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = conditions.qpos[0], 0
    mujoco.mj_forward(model, data)
    forces = np.zeros((model.nu, model.nv))
    dofs = model.jnt_dofadr[model.actuator_trnid[:, 0]]
    forces[np.arange(model.nu), dofs] = model.actuator_gear[:, 0] * model.actuator_gainprm[:, 0]
    accelerations = np.zeros_like(forces)
    mujoco.mj_solveM(model, data, accelerations, forces)
    gains = tuple(float(a) for a in accelerations[np.arange(model.nu), dofs])
    deviation = 1.0
    if np.all(model.actuator_ctrllimited):
        widths = np.diff(model.actuator_ctrlrange, axis=1) / 2
        deviation = 0.2 * float(np.exp(np.mean(np.log(widths))))
    # What holds each actuated joint still, as if its gain alone produced the acceleration.
    holding = (data.qfrc_bias - data.qfrc_passive)[dofs] / forces[np.arange(model.nu), dofs]
    drift = -np.asarray(gains) * holding
    # What is left of a sum that cancels may be too small for float32 to count with.
    drift[np.abs(drift) <= np.finfo(float).eps * np.max(np.abs(drift), initial=0)] = 0
    return LqrHoldConfig(
        gains=gains,
        acceleration=tuple(drift.tolist()),
        variance=deviation**2,
        stiffness=_stiffness(gains, control_dt),
    )


_STRONG = 0.25  # radians or metres


def _stiffness(gains: tuple[float, ...], control_dt: float) -> float | tuple[float, ...]:
    """The default, or one per joint so that those which move far in one step are held softly.

    A double integrator's LQR has the frequency sqrt(gain sqrt(stiffness)); here it
    comes to a third of a radian per control step.
    """
    moves = np.abs(gains) * control_dt**2
    if np.all(moves <= _STRONG):
        return LqrHoldConfig.stiffness
    soft = (0.1 / np.maximum(moves, _STRONG)) ** 2
    return tuple(float(v) for v in np.where(moves > _STRONG, soft, 1.0))


def _plain(model: mujoco.MjModel) -> np.ndarray:
    """Which actuators [nactuator] are plain motors, whose force is their control times a gain."""
    return (
        (model.actuator_gaintype == int(mujoco.mjtGain.mjGAIN_FIXED))
        & (model.actuator_biastype == int(mujoco.mjtBias.mjBIAS_NONE))
        & (model.actuator_dyntype == int(mujoco.mjtDyn.mjDYN_NONE))
        & (model.actuator_delay == 0)
    )


def initial_controllers(
    task: Task, x0: jax.Array, conditions: np.ndarray | None = None
) -> Controller:
    """The task's initial controller in every condition, leaves [C, T, ...].

    Compiled once for all tasks that differ in numbers alone, such as a mass. The states of the
    training conditions get what holds each with its own changes of the model; for others see
    `jgps.controllers.hold_pose`.

    Args:
      task: the task.
      x0: states [C, dX] in which the controllers begin.
      conditions: the training conditions [C] whose models the states are in; None where it is not
        known. Then what holds the nearest start pose is taken, whatever the model is there.

    Raises:
      ValueError: if the controller holds joints, but some actuator drives none that is in the
        state.
    """
    config = _hold_config(task)
    if config is None:
        return _in_every_condition(initial_controller(task, x0.dtype), x0)
    hold = _make_hold(task, config, x0.dtype)
    trained = not isinstance(x0, Tracer) and np.array_equal(np.asarray(x0), hold.x)
    hold = Hold(*map(to_device, hold))
    if trained and conditions is None:
        return _known_holds(hold, task.horizon)
    if conditions is None:
        known = np.ones((len(x0), task.train.num), bool)
    else:
        known = _same_models(task)[conditions]
    return _known_poses(hold, x0, to_device(known), task.horizon)


def resting_act(task: Task, qpos: jax.Array, conditions: np.ndarray) -> jax.Array | None:
    """Activations [M, na] that hold poses qpos [M, nq] at rest, in models of training conditions.

    By statics, as those of the training conditions, on the host: where qpos is traced, it is called
    back. None where the model has none.

    Args:
      task: the task.
      qpos: poses; where they are not finite, the condition's own pose counts.
      conditions: the training condition [M] of each pose.
    """
    if not task.model.na:
        return None
    train = task.train.select(conditions)

    def settle(given: Any) -> np.ndarray:
        rows = np.asarray(given, np.float64)
        with np.errstate(invalid="ignore"):
            rows = unit_quaternions(task.model, rows)
        rows = np.where(np.isfinite(rows).all(axis=1, keepdims=True), rows, train.qpos)
        start = train._replace(qpos=rows, act=None, ctrl=None)
        return resting_activations(task.model, start).astype(given.dtype)

    if not isinstance(qpos, Tracer):
        return to_device(settle(np.asarray(qpos)))
    shape = jax.ShapeDtypeStruct((qpos.shape[0], int(task.model.na)), qpos.dtype)
    return jax.pure_callback(settle, shape, qpos)


def _same_models(task: Task) -> np.ndarray:
    """Which training conditions [C, C] have the same model."""
    numbers = [id(model) for model in condition_models(task.model, task.train)]
    return np.equal.outer(numbers, numbers)


@jax.jit
def _in_every_condition(controller: Lifted, x0: jax.Array) -> Controller:
    return jax.vmap(controller)(x0)


_known_holds = jax.jit(hold_known, static_argnames="T")


@functools.partial(jax.jit, static_argnames="T")
def _known_poses(hold: Hold, x0: jax.Array, known: jax.Array, T: int) -> Controller:
    return jax.vmap(lambda x, rows: hold_pose(hold, x, T, rows))(x0, known)


def initial_controller(task: Task, dtype: Any = None) -> Lifted:
    """The task's initial controller as a function of the state in which it begins, x0 [dX].

    Gains and variances, which follow from the model, are arrays of this pytree: a function that
    is given it as an argument is compiled once for all models of one kind.

    Args:
      task: the task.
      dtype: of x0; None is JAX's default.

    Raises:
      ValueError: if the controller holds joints, but some actuator drives none that is in the
        state.
    """
    dtype = dtype or jax.dtypes.canonicalize_dtype(float)
    config = _hold_config(task)
    if config is not None:
        hold = Hold(*map(to_device, _make_hold(task, config, dtype)))
        return _lift_hold(task, hold, dtype)
    return lift(_make_initial(task), jax.ShapeDtypeStruct((task.state_dim,), dtype))


def _hold_config(task: Task) -> HoldConfig | None:
    """Settings of the hold for any mix of actuators; None where the task has another initial one.

    That is the default, too, where some actuator is no plain motor of a joint of its own, and where
    motors bear a load or conditions differ in what an LQR hold of motors takes from the model.
    """
    if isinstance(task.initial, HoldConfig):
        return task.initial
    if task.initial is not None:
        return None
    plain = bool(_plain(task.model).all()) and task.ctrl is None
    if not (plain and _joints_of_their_own(task.model)):
        return HoldConfig()
    return None if _alike(task) else HoldConfig()


def _alike(task: Task) -> bool:
    """Whether one LQR hold of motors fits all training conditions, and none has to bear a load.

    It weighs a load against its effort, and gives way.
    """
    for model in condition_models(task.model, task.train):
        if not np.all(model.actuator_gear[:, 0] * model.actuator_gainprm[:, 0]):
            return False  # a motor without force, as of a broken joint
    rows = range(1 if _all_equal(task.train) else task.train.num)
    select = task.train.select
    holds = [hold_from_model(task.model, select([c]), task.control_dt) for c in rows]
    tables = np.array(
        [[np.broadcast_to(value, task.action_dim) for value in
          (hold.gains, hold.stiffness, hold.variance)] for hold in holds]
    )  # fmt: skip
    loads = np.array([hold.acceleration for hold in holds])
    scale = np.abs(tables[0]).max(axis=1, keepdims=True)
    alike = np.abs(tables - tables[0]) <= 1e-9 * scale  # but for rounding
    return bool(alike.all() and np.all(np.abs(loads) <= 1e-9 * np.abs(tables[:, 0])))


def _all_equal(conditions: Conditions) -> bool:
    return not conditions.changes and bool(np.all(conditions.qpos == conditions.qpos[0]))


def _joints_of_their_own(model: mujoco.MjModel) -> bool:
    """Whether every actuator drives one hinge or slide joint that no other one drives."""
    on_joint = (int(mujoco.mjtTrn.mjTRN_JOINT), int(mujoco.mjtTrn.mjTRN_JOINTINPARENT))
    scalar = (int(mujoco.mjtJoint.mjJNT_HINGE), int(mujoco.mjtJoint.mjJNT_SLIDE))
    joints = model.actuator_trnid[:, 0]
    return (
        bool(np.isin(model.actuator_trntype, on_joint).all())
        and bool(np.isin(model.jnt_type[joints], scalar).all())
        and np.unique(joints).size == joints.size
    )


def _make_hold(task: Task, config: HoldConfig, dtype: Any) -> Hold:
    """What holds the start poses, in this dtype."""
    hold = make_hold(
        task.model,
        task.layout,
        task.train,
        _initial_states(task, task.train),
        control_dt=task.control_dt,
        config=config,
    )
    return Hold(*(np.asarray(leaf, dtype) for leaf in hold))


def _lift_hold(task: Task, hold: Hold, dtype: Any) -> Lifted:
    like = jax.ShapeDtypeStruct((task.state_dim,), dtype)
    return lift(lambda x: hold_pose(hold, x, task.horizon), like)


def _make_initial(task: Task) -> Callable[[jax.Array], Controller]:
    layout, config = task.layout, task.initial
    if isinstance(config, NoiseConfig):
        return lambda x: pure_noise(x, task.action_dim, task.horizon, config)
    if len(layout.positions) != task.action_dim:
        raise ValueError(
            "the initial controller holds one hinge or slide joint per actuator, but some actuator "
            f"of {task.name!r} drives no such joint with its qpos and qvel in the state; add them "
            "to the state, or pass initial=jgps.controllers.HoldConfig(), which balances what it "
            "can't feed back, or initial=jgps.controllers.NoiseConfig() to begin with noise around "
            "zero action"
        )
    entries = (layout.positions.tolist(), layout.velocities.tolist())
    if config is not None and not _plain(task.model).all():
        name = task.model.actuator(int(np.argmin(_plain(task.model)))).name
        warn(
            f"{type(config).__name__} holds motors, whose control is their force; actuator "
            f"{name!r} of {task.name!r} is none, and the start pose is not held. Leave initial "
            "out, or pass jgps.controllers.HoldConfig()"
        )
    if isinstance(config, PdHoldConfig):
        return lambda x: pd_hold(x, *entries, task.action_dim, task.horizon, config)
    if not isinstance(config, LqrHoldConfig):
        config = hold_from_model(task.model, task.train, task.control_dt)
    return lambda x: lqr_hold(x, *entries, task.action_dim, task.horizon, task.control_dt, config)
