"""What holds a task's start poses, for any mix of actuators.

The nominal controls are those of statics (`jgps.tasks.equilibrium`), or those that the task names.
A position servo holds with them alone. Every other actuator whose motion is that of hinge and slide
joints in the state gets LQR feedback on a model of its own. Along the direction in which it moves
the joints, e is the distance from the start, v the velocity and a what enters its force:

    e' = v,   v' = (f a + s e + d v) / m,   and a' = (u - a) / lag, or a' = u, or a = u,

with f, s and d the change of its force with a, e and v, and m the mass that it moves.
"""

from typing import Any, NamedTuple

import mujoco
import numpy as np

from jgps.controllers import Hold, HoldConfig
from jgps.core.warn import warn
from jgps.simulation import Conditions, StateLayout, condition_models
from jgps.tasks import equilibrium
from jgps.tasks.equilibrium import Inputs

_ROUNDS = 1000  # of the Riccati recursion, which has long converged by then
_AFFINE = int(mujoco.mjtBias.mjBIAS_AFFINE)
_SCALAR_JOINTS = (int(mujoco.mjtJoint.mjJNT_HINGE), int(mujoco.mjtJoint.mjJNT_SLIDE))
_STEP = 1e-5  # of finite differences, radians or metres


class Plant(NamedTuple):
    """What every control's actuator moves at a pose; leaves [nu] but the first.

    All but the gain zero where that is not hinge and slide joints of the state alone.
    """

    direction: np.ndarray  # [nu, nv] of unit length: how it moves the joints
    gain: np.ndarray  # its own force per unit of its input
    force: np.ndarray  # the same along the direction
    stiffness: np.ndarray  # change of that force with the distance along it, usually negative
    damping: np.ndarray  # change of that force with the velocity
    mass: np.ndarray  # that it moves
    lag: np.ndarray  # seconds by which the activation follows the control; 0 where there is none
    delay: np.ndarray  # seconds after which a control begins to count


class Places(NamedTuple):
    """Where the state x has the joints' positions and velocities, by degree of freedom [nv]."""

    position: np.ndarray  # -1 where it has none, and for ball and free joints
    velocity: np.ndarray


def resting_controls(model: mujoco.MjModel, conditions: Conditions) -> np.ndarray:
    """The controls [C, nu] with which actuators hold the start poses, by statics."""
    integrates = equilibrium.inputs_of(model).integrates
    return np.where(integrates, 0.0, equilibrium.settle(model, conditions))


def resting_activations(model: mujoco.MjModel, conditions: Conditions) -> np.ndarray:
    """The activations [C, na] with which actuators hold the start poses, at rest themselves.

    Those that follow their controls are at the conditions' controls, where these are given.
    """
    inputs = equilibrium.inputs_of(model)
    settled = _settle(model, conditions, inputs)
    act = np.zeros((conditions.num, model.na))
    stateful = inputs.activation >= 0
    act[:, inputs.activation[stateful]] = settled[:, stateful]
    return act


def make_hold(
    model: mujoco.MjModel,
    layout: StateLayout,
    conditions: Conditions,
    x: np.ndarray,
    *,
    control_dt: float,
    config: HoldConfig = HoldConfig(),
) -> Hold:
    """What holds the start poses of all conditions, each in the condition's own model.

    The nominal controls are those of the conditions, or what statics gives.

    Args:
      model: of the robot.
      layout: of the state.
      conditions: the poses, and what they change in the model.
      x: their states [C, dX].
      control_dt: seconds per control step.
      config: of noise and feedback.
    """
    inputs, places = equilibrium.inputs_of(model), places_of(model, layout)
    settled, ctrl = _settle(model, conditions, inputs), conditions.ctrl
    controls = np.where(inputs.integrates, 0.0, settled) if ctrl is None else ctrl
    _warn_of_dampers(model, conditions, inputs, settled)
    plant, servo, scale = _plants(model, conditions, inputs, places, settled)
    activations = layout.slices.get("act")
    seen = (inputs.activation >= 0) & (activations is not None)
    gains = _gains(plant, inputs, seen, scale, control_dt, config)
    gains[servo] = 0
    e, v = (_columns(plant.direction, place, layout.size) for place in places)
    K = gains[..., :1] * e + gains[..., 1:2] * v
    # The input at which the force stays as it is where the pose is another one.
    moves = plant.force != 0
    follow = -np.where(moves, plant.stiffness / np.where(moves, plant.force, 1), 0)[..., None] * e
    on_activation = np.where(seen, gains[..., 2], 0)
    is_position = np.isin(np.arange(layout.size), places.position).astype(float)
    offset = controls - np.einsum("cux,cx->cu", K, x * is_position) - on_activation * settled
    slope = np.where(inputs.integrates[:, None], 0, follow) - on_activation[..., None] * follow - K
    if activations is not None:
        entries = activations.start + inputs.activation[seen]
        K[:, np.flatnonzero(seen), entries] = on_activation[:, seen]
    part = np.where(servo, config.servo_exploration, config.exploration)
    return Hold(
        x=x,
        positions=np.broadcast_to(is_position, x.shape),
        K=K,
        slope=slope,
        offset=offset,
        variance=(part * scale) ** 2,
    )


def _settle(model: mujoco.MjModel, conditions: Conditions, inputs: Inputs) -> np.ndarray:
    """The inputs [C, nu] that hold the start poses: named by the conditions, or by statics."""
    if conditions.ctrl is not None and not inputs.integrates.any():
        return conditions.ctrl
    settled = equilibrium.settle(model, conditions)
    if conditions.ctrl is None:
        return settled
    return np.where(inputs.integrates, settled, conditions.ctrl)


def _warn_of_dampers(
    model: mujoco.MjModel, conditions: Conditions, inputs: Inputs, settled: np.ndarray
) -> None:
    """Says where a joint with a damper moves off from a start pose, which no damper can hold."""
    gain = model.actuator_gainprm[inputs.actuator]
    dampers = model.actuator_gaintype[inputs.actuator] == int(mujoco.mjtGain.mjGAIN_AFFINE)
    dampers &= ~gain[:, :2].any(axis=1)
    for c, changed in enumerate(condition_models(model, conditions) if dampers.any() else ()):
        moving = dampers & equilibrium.accelerated(changed, conditions, c, inputs, settled[c])
        if moving.any():
            name = model.actuator(int(inputs.actuator[np.argmax(moving)])).name
            warn(
                f"actuator {name!r} is a damper, which exerts no force at rest, and nothing else "
                f"holds its joint in the start pose of condition {c}: it moves off. Start where it "
                "rests, or give the joint a motor"
            )
            return


def _plants(
    model: mujoco.MjModel,
    conditions: Conditions,
    inputs: Inputs,
    places: Places,
    settled: np.ndarray,
) -> tuple[Plant, np.ndarray, np.ndarray]:
    """Plants of all conditions, which of their controls are positions, and scales: [C, nu, ...]."""
    known: dict[tuple[Any, ...], tuple[Plant, np.ndarray, np.ndarray]] = {}
    found = []
    for c, changed in enumerate(condition_models(model, conditions)):
        key = (id(changed), conditions.qpos[c].tobytes(), settled[c].tobytes())
        if key not in known:
            plant = make_plant(changed, conditions, inputs, places, settled[c], number=c)
            servo = is_servo(changed, inputs, plant)
            known[key] = plant, servo, _scale(changed, inputs, plant, servo)
        found.append(known[key])
    plants, servos, scales = zip(*found, strict=True)
    return Plant(*map(np.stack, zip(*plants, strict=True))), np.stack(servos), np.stack(scales)


def places_of(model: mujoco.MjModel, layout: StateLayout) -> Places:
    """Where the state has the positions and velocities of hinge and slide joints."""
    where = {int(feature): entry for entry, feature in enumerate(layout.index)}
    position, velocity = np.full((2, model.nv), -1)
    for joint in np.flatnonzero(np.isin(model.jnt_type, _SCALAR_JOINTS)):
        dof = int(model.jnt_dofadr[joint])
        position[dof] = where.get(int(model.jnt_qposadr[joint]), -1)
        velocity[dof] = where.get(int(model.nq) + dof, -1)
    return Places(position, velocity)


def make_plant(
    model: mujoco.MjModel,
    conditions: Conditions,
    inputs: Inputs,
    places: Places,
    values: np.ndarray,
    number: int = 0,
) -> Plant:
    """What the actuators of a condition's model move about the pose of that number.

    Inputs are at these values [nu].
    """
    model, data = equilibrium.at_rest(model, conditions, number)
    actuation = equilibrium.linear_actuation(model, data, inputs)
    length = np.linalg.norm(actuation.joint_forces, axis=1)
    direction = actuation.joint_forces / np.where(length > 0, length, 1)[:, None]
    foreign = (places.position < 0) | (places.velocity < 0)
    known = inputs.simple & (length > 0) & ~np.any(np.abs(direction[:, foreign]) > 1e-6, axis=1)
    direction = np.where(known[:, None], direction, 0)
    accelerations = np.zeros_like(direction)
    mujoco.mj_solveM(model, data, accelerations, direction)
    inverse_mass = np.sum(direction * accelerations, axis=1)
    changes = np.zeros((2, model.nu))
    qpos = data.qpos.copy()
    for i in np.flatnonzero(known):
        for change, moved in zip(changes, ("qpos", "qvel"), strict=True):
            ends = []
            for step in (_STEP, -_STEP):
                data.qpos[:], data.qvel[:] = qpos, 0
                if moved == "qpos":
                    mujoco.mj_integratePos(model, data.qpos, direction[i], step)
                else:
                    data.qvel[:] = step * direction[i]
                ends.append(equilibrium.own_forces(model, data, inputs, values)[i])
            change[i] = (ends[0] - ends[1]) / (2 * _STEP)
    # Of the force along the direction; a motor's pull is as long as its joint forces.
    pull = length / np.where(actuation.force != 0, np.abs(actuation.force), 1)
    sign = np.where(actuation.force < 0, -1, 1)  # directions are those of a greater input
    prm = model.actuator_dynprm[inputs.actuator]
    follows = (inputs.activation >= 0) & ~inputs.integrates
    muscle = model.actuator_dyntype[inputs.actuator] == int(mujoco.mjtDyn.mjDYN_MUSCLE)
    return Plant(
        direction=direction,
        gain=actuation.force,
        force=np.where(known, length, 0),
        stiffness=sign * pull * changes[0],
        damping=sign * pull * changes[1],
        mass=np.where(known, 1 / np.where(inverse_mass > 0, inverse_mass, 1), 1),
        lag=np.where(follows, np.where(muscle, prm[:, :2].max(axis=1), prm[:, 0]), 0),
        delay=model.actuator_delay[inputs.actuator],
    )


def is_servo(model: mujoco.MjModel, inputs: Inputs, plant: Plant) -> np.ndarray:
    """Which controls are positions [nu]: moving by one changes the force about as they do.

    The control of an integrator is none: it is the velocity of what may be one.
    """
    affine = model.actuator_biastype[inputs.actuator] == _AFFINE
    enough = -plant.stiffness >= 0.1 * plant.force * equilibrium.half_widths(model, inputs)
    return affine & enough & (plant.force > 0) & ~inputs.integrates


def _scale(model: mujoco.MjModel, inputs: Inputs, plant: Plant, servo: np.ndarray) -> np.ndarray:
    """Half of every control's range [nu], or of what its force's range amounts to; else 1."""
    half = np.diff(model.actuator_ctrlrange, axis=1)[:, 0] / 2
    limited = model.actuator_ctrllimited.astype(bool) & (half > 0)
    forces = np.diff(model.actuator_forcerange[inputs.actuator], axis=1)[:, 0] / 2
    gain = np.abs(plant.gain)
    by_force = model.actuator_forcelimited[inputs.actuator].astype(bool) & (gain > 0) & ~servo
    by_force &= inputs.simple & ~inputs.integrates & (forces > 0)
    return np.where(limited, half, np.where(by_force, forces / np.where(gain > 0, gain, 1), 1.0))


def _columns(direction: np.ndarray, entries: np.ndarray, size: int) -> np.ndarray:
    """Directions [..., nv] as rows [..., dX] over the state's entries."""
    rows = np.zeros((*direction.shape[:-1], size))
    present = entries >= 0
    rows[..., entries[present]] = direction[..., present]
    return rows


def _gains(
    plant: Plant,
    inputs: Inputs,
    seen: np.ndarray,
    scale: np.ndarray,
    dt: float,
    config: HoldConfig,
) -> np.ndarray:
    """LQR gains [C, nu, 3] on distance, velocity and activation; zero where nothing is known.

    An activation that is not `seen` counts as the control itself, and gains are lowered until it
    follows them, as they are for controls that count after a delay; an integral that is not seen
    gets none.
    """
    stateful = seen | inputs.integrates
    inverse_mass, zero = 1 / plant.mass, np.zeros(scale.shape)
    drive = plant.force * inverse_mass
    A, B = np.zeros((*scale.shape, 3, 3)), np.zeros((*scale.shape, 3))
    A[..., 0, 1] = 1
    A[..., 1, :] = np.stack(
        [plant.stiffness * inverse_mass, plant.damping * inverse_mass,
         np.where(stateful, drive, 0)], axis=-1,
    )  # fmt: skip
    lag = np.where(plant.lag > 0, plant.lag, 1)
    follows = seen & ~inputs.integrates
    A[..., 2, 2] = np.where(follows, -1 / np.maximum(lag, dt / 10), 0)
    B[..., 1] = np.where(stateful, 0, drive)
    B[..., 2] = np.where(inputs.integrates, 1, np.where(follows, -A[..., 2, 2], zero))
    # No faster than a third of a radian per control step, see `hold_from_model`.
    effort = np.maximum(1 / scale**2, (drive * dt**2 / 0.1) ** 2 * config.stiffness)
    late = plant.delay + np.where((inputs.activation >= 0) & ~stateful, lag, 0)
    slow = drive**2 * config.stiffness * (late / 0.25) ** 4  # a bandwidth of 0.25 / late
    effort = np.maximum(effort, slow)
    state = config.stiffness * np.array([1.0, config.velocity_stiffness, 0.0])
    gains = _stationary_lqr(*_discrete(A, B, dt), state, effort)
    useful = (plant.force > 0) & ~(inputs.integrates & ~seen)
    return np.where(useful[..., None], gains, 0)


def _discrete(A: np.ndarray, B: np.ndarray, dt: float) -> tuple[np.ndarray, np.ndarray]:
    """X' = F x + g u over one control step, of the rates A [..., 3, 3] and B [..., 3]."""
    whole = np.zeros((*A.shape[:-2], 4, 4))
    whole[..., :3, :3], whole[..., :3, 3] = A * dt, B * dt
    halvings = max(0, int(np.ceil(np.log2(max(np.abs(whole).sum(axis=-1).max(), 1e-9)))) + 1)
    whole = whole / 2.0**halvings
    result = term = np.broadcast_to(np.eye(4), whole.shape)
    for order in range(1, 12):
        term = term @ whole / order
        result = result + term
    for _ in range(halvings):
        result = result @ result
    return result[..., :3, :3], result[..., :3, 3]


def _stationary_lqr(
    F: np.ndarray, g: np.ndarray, state: np.ndarray, effort: np.ndarray
) -> np.ndarray:
    """Gains [..., 3] of u = K x that minimise the sum of x'diag(state)x + effort u^2."""
    V = np.broadcast_to(np.diag(state), F.shape)
    K = np.zeros(g.shape)
    for _ in range(_ROUNDS):
        Vg = np.einsum("...ij,...j->...i", V, g)
        K = -np.einsum("...i,...ij->...j", Vg, F) / (effort + np.sum(Vg * g, axis=-1))[..., None]
        closed = F + g[..., :, None] * K[..., None, :]
        V = np.diag(state) + np.swapaxes(closed, -1, -2) @ V @ closed
        V = V + effort[..., None, None] * K[..., :, None] * K[..., None, :]
    return K
