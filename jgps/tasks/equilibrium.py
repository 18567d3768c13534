"""Controls and activations with which a robot stays where it is, by statics.

At a pose at rest the actuators' forces B u + b and those of contacts and constraints, J'l, have to
equal what gravity, springs and the like ask for, r. So this asks for as little acceleration as
possible:

    minimise  |B u + b + J'l - r|^2 + (a little) |u - u_idle|^2   over u in its range and l,

in the metric of the inverse mass matrix, so that what remains is the least acceleration. Contacts
push within a friction pyramid, joint limits push, equality constraints may pull. u is what enters
an actuator's force: its activation, where it has one that follows or integrates its control.
"""

import copy
from collections.abc import Iterator
from typing import NamedTuple

import mujoco
import numpy as np

from jgps.mujoco_log import quiet_mujoco
from jgps.simulation import Conditions, condition_models

_GRIP = 0.7  # of the friction that may be leant on: soft contacts creep as they come near its end
_FREE = 1e10  # in place of infinity, which the solver cannot take
_REGULARISATION = 1e-9  # of unknowns that nothing asks for, in units of the mean curvature
# A robot may be placed somewhat above the ground, on which it comes to stand: tried, in metres.
_MARGINS = (0.0, 0.01, 0.05)
_FOLLOWING = (
    int(mujoco.mjtDyn.mjDYN_FILTER),
    int(mujoco.mjtDyn.mjDYN_FILTEREXACT),
    int(mujoco.mjtDyn.mjDYN_MUSCLE),
)
_INTEGRATING = int(mujoco.mjtDyn.mjDYN_INTEGRATOR)


class Inputs(NamedTuple):
    """What enters the force of every control's actuator; leaves [nu]."""

    actuator: np.ndarray  # the actuator of a control
    simple: np.ndarray  # bool: it has one control, one force and at most one activation
    activation: (
        np.ndarray
    )  # the address of the activation that enters the force, or -1: the control
    integrates: np.ndarray  # bool: that activation is the integral of the control


class Linear(NamedTuple):
    """What one unit of an input does at a pose; leaves [nu]."""

    force: np.ndarray  # [nu], of the actuator's own force
    idle: np.ndarray  # [nu] the input at which that force is zero, 0 where it has no effect
    joint_forces: np.ndarray  # [nu, nv]
    offset: np.ndarray  # [nv], joint forces where every input is zero


def inputs_of(model: mujoco.MjModel) -> Inputs:
    """What enters the actuators' forces.

    An actuator that is not simple (of several controls or forces, or with dynamics of its own kind)
    counts by its controls alone, with its activations at zero.
    """
    numbers = np.arange(model.nactuator)
    actuator = np.repeat(numbers, model.actuator_ctrlnum)
    order = np.argsort(np.repeat(model.actuator_ctrladr, model.actuator_ctrlnum), kind="stable")
    actuator = actuator[order]
    dyntype = model.actuator_dyntype[actuator]
    one_each = (model.actuator_ctrlnum == 1) & (model.actuator_outnum == 1)
    integrates = dyntype == _INTEGRATING
    stateful = (integrates | np.isin(dyntype, _FOLLOWING)) & (model.actuator_actnum[actuator] == 1)
    simple = one_each[actuator] & (stateful | (dyntype == int(mujoco.mjtDyn.mjDYN_NONE)))
    stateful = stateful & simple
    return Inputs(
        actuator=actuator,
        simple=simple,
        activation=np.where(stateful, model.actuator_actadr[actuator], -1),
        integrates=integrates & stateful,
    )


def half_widths(model: mujoco.MjModel, inputs: Inputs) -> np.ndarray:
    """Half of every input's range [nu]: of the activation's or the control's; 1 without a range."""
    lower, upper = _input_range(model, inputs)
    widths = (upper - lower) / 2
    return np.where((widths > 0) & (widths < 0.4 * _FREE), widths, 1.0)


@quiet_mujoco()
def settle(model: mujoco.MjModel, conditions: Conditions) -> np.ndarray:
    """The inputs [C, nu] that hold the start pose of every condition at rest, within their ranges.

    An input is an activation where the actuator has one, else a control, see `inputs_of`. Where no
    inputs hold the pose, those that leave the least acceleration.
    """
    held = []
    for c, changed in enumerate(condition_models(model, conditions)):
        data = at_rest(changed, conditions, c)
        found, best = None, np.inf
        for margin in _MARGINS:
            trial, wanted, remaining = _least_acceleration(changed, *data, margin)
            if found is None or remaining < 0.9 * best:
                found, best = trial, remaining
            if best <= 1e-6 * wanted:
                break
        held.append(found)
    return np.stack(held)


def at_rest(
    model: mujoco.MjModel, conditions: Conditions, number: int
) -> tuple[mujoco.MjModel, mujoco.MjData]:
    """A copy of the model without limits and delays of its actuators, and the start pose."""
    model = copy.copy(model)
    model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_CLAMPCTRL)
    model.opt.jacobian = int(mujoco.mjtJacobian.mjJAC_DENSE)
    model.actuator_forcelimited[:] = 0
    model.actuator_actlimited[:] = 0
    model.actuator_actearly[:] = 0
    model.actuator_delay[:] = 0
    model.actuator_history[:] = 0
    model.jnt_actfrclimited[:] = 0
    model.tendon_actfrclimited[:] = 0
    data = mujoco.MjData(model)
    data.qpos[:] = conditions.qpos[number]
    _forward(model, data)
    return model, data


def linear_actuation(model: mujoco.MjModel, data: mujoco.MjData, inputs: Inputs) -> Linear:
    """How forces follow the inputs: they are affine in them, whatever the gains and biases are."""

    def forces(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return _actuate(model, data, inputs, values), data.qfrc_actuator.copy()

    own_offset, offset = forces(np.zeros(model.nu))
    force, joint_forces = np.zeros(model.nu), np.zeros((model.nu, model.nv))
    for i, unit in enumerate(np.eye(model.nu)):
        own, on_joints = forces(unit)
        force[i], joint_forces[i] = (own - own_offset)[i], on_joints - offset
    idle = np.where(force != 0, -own_offset / np.where(force != 0, force, 1), 0)
    return Linear(force, np.where(inputs.simple, idle, 0), joint_forces, offset)


@quiet_mujoco()
def accelerated(
    model: mujoco.MjModel, conditions: Conditions, number: int, inputs: Inputs, values: np.ndarray
) -> np.ndarray:
    """Which actuators [nu] drive joints that inputs [nu] don't keep at rest in a start pose."""
    model, data = at_rest(model, conditions, number)
    _actuate(model, data, inputs, values)
    mujoco.mj_fwdAcceleration(model, data)
    mujoco.mj_fwdConstraint(model, data)
    moves = np.abs(data.qacc) > 1e-3  # radians or metres per square second
    data.qvel[:] = 1  # at which dampers exert forces, too
    _forward(model, data)
    return np.any(linear_actuation(model, data, inputs).joint_forces[:, moves] != 0, axis=1)


@quiet_mujoco()
def own_forces(
    model: mujoco.MjModel, data: mujoco.MjData, inputs: Inputs, values: np.ndarray
) -> np.ndarray:
    """Forces [nu] of the controls' actuators with these inputs, at the data's pose and speed."""
    _forward(model, data)
    return _actuate(model, data, inputs, values)


@quiet_mujoco()
def _actuate(
    model: mujoco.MjModel, data: mujoco.MjData, inputs: Inputs, values: np.ndarray
) -> np.ndarray:
    stateful = inputs.activation >= 0
    data.ctrl[:] = np.where(inputs.integrates, 0, values)
    data.act[:] = 0
    data.act[inputs.activation[stateful]] = values[stateful]
    mujoco.mj_fwdActuation(model, data)
    return data.actuator_force[model.actuator_outadr[inputs.actuator]].copy()


@quiet_mujoco()
def _forward(model: mujoco.MjModel, data: mujoco.MjData) -> None:
    mujoco.mj_fwdPosition(model, data)
    mujoco.mj_fwdVelocity(model, data)


def _least_acceleration(
    limits: mujoco.MjModel, model: mujoco.MjModel, data: mujoco.MjData, margin: float
) -> tuple[np.ndarray, float, float]:
    """The inputs [nu], what was asked for and what remains of it, in the metric of the mass.

    `limits` is the model with the limits that `model` was freed from by `at_rest`.
    """
    widened = copy.copy(model)
    widened.geom_margin[:] += margin
    widened.pair_margin[:] += margin
    _forward(widened, data)
    inputs = inputs_of(model)
    actuation = linear_actuation(widened, data, inputs)
    low, high = _input_range(limits, inputs)
    low, high = _within_force_range(limits, inputs, actuation, low, high)
    scale = half_widths(limits, inputs)
    rows, pushing, strength = _constraint_rows(widened, data)
    idle = actuation.idle
    wanted = data.qfrc_bias - data.qfrc_passive - actuation.offset - idle @ actuation.joint_forces
    forces = np.concatenate([actuation.joint_forces * scale[:, None], rows * strength])
    accelerations = np.zeros_like(forces)
    if len(forces):
        mujoco.mj_solveM(widened, data, accelerations, forces)
    solved = np.zeros((1, model.nv))
    mujoco.mj_solveM(widened, data, solved, wanted[None])
    lower = np.concatenate([(low - idle) / scale, np.where(pushing, 0.0, -_FREE)])
    upper = np.concatenate([(high - idle) / scale, np.full(len(rows), _FREE)])
    curvature = accelerations @ forces.T
    mean = np.trace(curvature) / max(len(forces), 1)
    # Where nothing has a force, as a damper at rest, all unknowns do the same: the smallest ones.
    ridge = _REGULARISATION * mean if mean > 0 else 1.0
    unknowns = _bounded(curvature + ridge * np.eye(len(forces)), -accelerations @ wanted,
                        lower, upper)  # fmt: skip
    missing = wanted - unknowns @ forces
    left = np.zeros((1, model.nv))
    mujoco.mj_solveM(widened, data, left, missing[None])
    values = np.clip(idle + scale * unknowns[: model.nu], low, high)
    return values, float(solved[0] @ wanted), float(left[0] @ missing)


def _bounded(H: np.ndarray, g: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """The z that minimises 1/2 z'Hz + g'z between the bounds."""
    size = len(g)
    found = np.clip(np.zeros(size), lower, upper)
    factor = np.zeros((size, size + 7))
    if mujoco.mju_boxQP(found, factor, None, H, g, lower, upper) < 0:
        raise ValueError(
            "no controls could be found that hold the start pose, because the model's masses or "
            "forces are too far apart; pass ctrl, or initial=jgps.controllers.NoiseConfig()"
        )
    return found


def _input_range(model: mujoco.MjModel, inputs: Inputs) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest inputs [nu]; far out where there is no limit."""
    clamped = not model.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_CLAMPCTRL
    limited = model.actuator_ctrllimited.astype(bool) & ~inputs.integrates & clamped
    low = np.where(limited, model.actuator_ctrlrange[:, 0], -_FREE)
    high = np.where(limited, model.actuator_ctrlrange[:, 1], _FREE)
    actuator, stateful = inputs.actuator, inputs.activation >= 0
    limited = model.actuator_actlimited[actuator].astype(bool) & stateful
    range_ = model.actuator_actrange[actuator]
    low = np.where(limited, np.maximum(low, range_[:, 0]), low)
    high = np.where(limited, np.minimum(high, range_[:, 1]), high)
    return low, np.maximum(low, high)


def _within_force_range(
    model: mujoco.MjModel, inputs: Inputs, actuation: Linear, low: np.ndarray, high: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The range of the inputs beyond which the actuators' forces are cut off."""
    limited = model.actuator_forcelimited[inputs.actuator].astype(bool)
    limited = limited & inputs.simple & (actuation.force != 0)
    slope = np.where(limited, actuation.force, 1.0)[:, None]
    ends = actuation.idle[:, None] + model.actuator_forcerange[inputs.actuator] / slope
    lowest = np.clip(ends.min(axis=1), low, high)
    highest = np.clip(ends.max(axis=1), low, high)
    return np.where(limited, lowest, low), np.where(limited, highest, high)


def _constraint_rows(
    model: mujoco.MjModel, data: mujoco.MjData
) -> tuple[np.ndarray, np.ndarray, float]:
    """Joint forces [M, nv] of unit constraint forces, which of them only push [M], and their scale.

    Contacts that don't touch yet count only where a body that cannot move is met.
    """
    rows, pushing = [np.zeros((0, model.nv))], [np.zeros(0, bool)]
    jacobian = data.efc_J.reshape(data.nefc, model.nv) if data.nefc else np.zeros((0, model.nv))
    equality = int(mujoco.mjtConstraint.mjCNSTR_EQUALITY)
    limits = (
        int(mujoco.mjtConstraint.mjCNSTR_LIMIT_JOINT),
        int(mujoco.mjtConstraint.mjCNSTR_LIMIT_TENDON),
    )
    rows.append(jacobian[data.efc_type == equality])
    pushing.append(np.zeros(len(rows[-1]), bool))
    rows.append(jacobian[np.isin(data.efc_type, limits)])
    pushing.append(np.ones(len(rows[-1]), bool))
    for edges in _contact_edges(model, data):
        rows.append(edges)
        pushing.append(np.ones(len(edges), bool))
    weight = float(model.body_mass.sum() * np.linalg.norm(model.opt.gravity))
    return np.concatenate(rows), np.concatenate(pushing), weight or 1.0


def _contact_edges(model: mujoco.MjModel, data: mujoco.MjData) -> Iterator[np.ndarray]:
    """Of every contact the joint forces [1 or 4, nv] of unit forces along its pyramid's edges."""
    for contact in data.contact:
        if contact.exclude or contact.geom1 < 0 or contact.geom2 < 0:
            continue
        bodies = [int(model.geom_bodyid[geom]) for geom in (contact.geom1, contact.geom2)]
        if contact.dist > 0 and not any(model.body_weldid[body] == 0 for body in bodies):
            continue
        jacobians = np.zeros((2, 3, model.nv))
        for jacobian, body in zip(jacobians, bodies, strict=True):
            with quiet_mujoco():
                mujoco.mj_jac(model, data, jacobian, None, contact.pos, body)
        along = contact.frame.reshape(3, 3) @ (jacobians[1] - jacobians[0])
        if contact.dim == 1:
            yield along[:1]
            continue
        sideways = _GRIP * contact.friction[:2, None] * along[1:]
        yield np.concatenate([along[0] + sideways, along[0] - sideways])
