"""Where a task's trajectories start, and the controllers to start with."""

from collections.abc import Callable
from typing import Any

import jax
import mujoco
import numpy as np

from jgps.controllers import LqrHoldConfig, NoiseConfig, lqr_hold, pd_hold, pure_noise
from jgps.core.host import to_device
from jgps.core.lifted import Lifted, lift
from jgps.core.types import Controller
from jgps.mujoco_log import quiet_mujoco
from jgps.simulation import Conditions, condition_models, initial_act
from jgps.tasks.task import Task


@quiet_mujoco()
def initial_states(task: Task, conditions: Conditions) -> jax.Array:
    """States x0 [C, dX] in which the conditions begin."""
    states = []
    models, acts = condition_models(task.model, conditions), initial_act(task.model, conditions)
    starts = zip(models, conditions.qpos, conditions.qvel, acts, strict=True)
    for model, qpos, qvel, act in starts:
        data = mujoco.MjData(model)  # which takes mocap poses from the condition's model
        data.qpos[:], data.qvel[:], data.act[:] = qpos, qvel, act
        mujoco.mj_forward(model, data)
        states.append(task.layout.state(data.qpos, data.qvel, data.act, data.sensordata, np))
    return to_device(np.stack(states))


@quiet_mujoco()
def hold_from_model(model: mujoco.MjModel, conditions: Conditions) -> LqrHoldConfig:
    """An LQR hold whose gains and noise fit the model.

    In the first condition's pose: the gains are the accelerations that one unit of control gives
    each actuator's own joint, by the mass matrix; gravity and springs are held against. The
    noise's standard deviation is a fifth of the (geometric mean of the) control ranges'
    half-widths; 1 where an actuator has no range.

    Raises:
      ValueError: if an actuator is not a plain motor, whose force is its control times a gain.
    """
    plain = (
        (model.actuator_gaintype == int(mujoco.mjtGain.mjGAIN_FIXED))
        & (model.actuator_biastype == int(mujoco.mjtBias.mjBIAS_NONE))
        & (model.actuator_dyntype == int(mujoco.mjtDyn.mjDYN_NONE))
    )
    if not plain.all():
        name = model.actuator(int(np.argmin(plain))).name
        raise ValueError(
            f"actuator {name!r} is a servo, a muscle or has an activation, with which the default "
            "initial controller can't hold a pose; pass initial=jgps.controllers.NoiseConfig() or "
            "jgps.controllers.PdHoldConfig()"
        )
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
    drift = tuple(float(-gain * control) for gain, control in zip(gains, holding, strict=True))
    return LqrHoldConfig(gains=gains, acceleration=drift, variance=deviation**2)


def initial_controllers(task: Task, x0: jax.Array) -> Controller:
    """The task's initial controller in every condition, leaves [C, T, ...].

    Compiled once for all tasks that differ in numbers alone, such as a mass.

    Raises:
      ValueError: if the controller holds joints, but some actuator drives none that is in the
        state.
    """
    return _in_every_condition(initial_controller(task, x0.dtype), x0)


@jax.jit
def _in_every_condition(controller: Lifted, x0: jax.Array) -> Controller:
    return jax.vmap(controller)(x0)


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
    like = jax.ShapeDtypeStruct((task.state_dim,), dtype or jax.dtypes.canonicalize_dtype(float))
    return lift(_make_initial(task), like)


def _make_initial(task: Task) -> Callable[[jax.Array], Controller]:
    layout, config = task.layout, task.initial
    if isinstance(config, NoiseConfig):
        return lambda x: pure_noise(x, task.action_dim, task.horizon, config)
    if len(layout.positions) != task.action_dim:
        raise ValueError(
            "the initial controller holds one hinge or slide joint per actuator, but some actuator "
            f"of {task.name!r} drives no such joint with its qpos and qvel in the state; pass "
            "initial=jgps.controllers.NoiseConfig() to begin with noise around zero action"
        )
    if config is None:
        config = hold_from_model(task.model, task.train)
    entries = (layout.positions.tolist(), layout.velocities.tolist())
    if isinstance(config, LqrHoldConfig):
        return lambda x: lqr_hold(
            x, *entries, task.action_dim, task.horizon, task.control_dt, config
        )
    return lambda x: pd_hold(x, *entries, task.action_dim, task.horizon, config)
