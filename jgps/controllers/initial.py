"""Controllers to start from: they hold the initial pose and explore around it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jgps.core import lqr
from jgps.core.types import OK, Controller, Dynamics, QuadraticCost

Entries = slice | Sequence[int]
Gains = float | tuple[float, ...]


def _check(field: str, value: Gains, text: str, in_range):
    values = value if isinstance(value, tuple) else (value,)
    if not all(math.isfinite(v) and in_range(v) for v in values):
        raise ValueError(f"{field} is {value}; it has to be finite and {text}.")


@dataclass(frozen=True, kw_only=True)
class LqrHoldConfig:
    """Settings of `lqr_hold`.

    Attributes:
      variance: of the exploration noise, in squared actuator units, > 0.
      stiffness: weight of position errors, relative to squared actions, >= 0.
      velocity_stiffness: weight of velocity errors as a multiple of `stiffness`, >= 0.
      final_weight: multiplies the state cost of the last step, >= 0.
      gains: acceleration per actuator unit, one for all joints or one per joint, finite and not 0.
      acceleration: constant acceleration of every joint that the controller has to cancel.
    """

    variance: float = 1.0
    stiffness: float = 1.0
    velocity_stiffness: float = 0.5
    final_weight: float = 1.0
    gains: Gains = 1.0
    acceleration: Gains = 0.0

    def __post_init__(self):
        name = type(self).__name__
        _check(f"{name}.variance", self.variance, "> 0", lambda v: v > 0)
        for field in ("stiffness", "velocity_stiffness", "final_weight"):
            _check(f"{name}.{field}", getattr(self, field), ">= 0", lambda v: v >= 0)
        _check(f"{name}.gains", self.gains, "not 0", lambda v: v != 0)
        _check(f"{name}.acceleration", self.acceleration, "finite", lambda v: True)


@dataclass(frozen=True, kw_only=True)
class PdHoldConfig:
    """Settings of `pd_hold`; every gain is one number for all joints or one per joint.

    Attributes:
      position_gain: actuator units per unit of position error, >= 0.
      velocity_gain: actuator units per unit of velocity, >= 0.
      variance: of the exploration noise, in squared actuator units, > 0.
    """

    position_gain: Gains = 1.0
    velocity_gain: Gains = 0.1
    variance: Gains = 1.0

    def __post_init__(self):
        name = type(self).__name__
        for field in ("position_gain", "velocity_gain"):
            _check(f"{name}.{field}", getattr(self, field), ">= 0", lambda v: v >= 0)
        _check(f"{name}.variance", self.variance, "> 0", lambda v: v > 0)


def lqr_hold(
    x0: jax.Array,
    positions: Entries,
    velocities: Entries,
    dU: int,
    T: int,
    dt: float,
    config: LqrHoldConfig = LqrHoldConfig(),
) -> Controller:
    """Holds the pose of x0 by LQR on a double integrator per joint.

    Joint j has e = [q_j - q_j(x0), qdot_j], moved by u_j with gain b and acceleration a:

      e' = [[1, dt], [0, 1]] e + [dt^2, dt] (b u_j + a)

    and the maximum-entropy controller of the cost

      1/(2 variance) [ stiffness ((q_j - q_j(x0))^2 + velocity_stiffness qdot_j^2) + u_j^2 ]

    (state part times final_weight at the last step) is taken. Its covariance Q_uu^-1 =
    variance / (1 + variance B'V_xx B) is `variance` at the last step and somewhat less before.
    Entries of the state other than those positions and velocities have zero gain.

    Args:
      x0: initial state, [dX]; only its positions are read. May be traced (vmap over conditions).
      positions, velocities: entries of the state that hold the actuated joints' positions and
        velocities, in actuator order, dU of each.
      dU, T: actuators and steps.
      dt: control step in seconds, > 0.
      config: weights and gains.

    Returns:
      Controller in the dtype of x0.

    Raises:
      ValueError: on entries that do not fit, values out of range, or a problem that has no solution
        in this dtype.

    Source: the initial controller of Levine & Abbeel (2014), code release. There, final_weight also
    scales the action's cost, which shrinks the noise of the last step; here it does not.
    """
    x0 = jnp.asarray(x0)
    q, qdot = _joint_entries(x0, positions, velocities, dU)
    _check_horizon(T, dt)
    # Gains do not depend on x0: solving now gives an error to raise even while the caller traces.
    with jax.ensure_compile_time_eval():
        joint, _, status = _solve_joints(*_double_integrators(config, dU, T, dt, x0.dtype))
        if np.any(np.asarray(status.code) != OK):
            raise ValueError(
                f"lqr_hold has no controller in {x0.dtype} for {config} and dt = {dt}; lower "
                "stiffness, final_weight, gains or dt."
            )
        gains, offset, variance = (np.asarray(a[:, :, 0]) for a in joint)  # [dU, T, ...]
    joints = np.arange(dU)
    K = np.zeros((T, dU, x0.shape[0]), x0.dtype)
    K[:, joints, q], K[:, joints, qdot] = gains[..., 0].T, gains[..., 1].T
    C = np.zeros((T, dU, dU), x0.dtype)
    C[:, joints, joints] = variance[..., 0].T
    return Controller(
        K=jnp.asarray(K), k=jnp.asarray(offset.T) - gains[..., 0].T * x0[q], C=jnp.asarray(C)
    )


def pd_hold(
    x0: jax.Array,
    positions: Entries,
    velocities: Entries,
    dU: int,
    T: int,
    config: PdHoldConfig = PdHoldConfig(),
) -> Controller:
    """Holds the pose of x0 by u = -position_gain (q - q(x0)) - velocity_gain qdot + noise.

    With both gains 0 this is pure noise around zero action.

    Args:
      x0: initial state, [dX]; only its positions are read. May be traced.
      positions, velocities: entries of the state that hold the actuated joints' positions and
        velocities, in actuator order, dU of each.
      dU, T: actuators and steps.
      config: gains and variance.

    Returns:
      Controller in the dtype of x0, the same at every step.

    Raises:
      ValueError: on entries that do not fit or values out of range.
    """
    x0 = jnp.asarray(x0)
    q, qdot = _joint_entries(x0, positions, velocities, dU)
    _check_horizon(T, 1.0)
    stiffness = jnp.asarray(_per_joint("position_gain", config.position_gain, dU), x0.dtype)
    damping = jnp.asarray(_per_joint("velocity_gain", config.velocity_gain, dU), x0.dtype)
    variance = jnp.asarray(_per_joint("variance", config.variance, dU), x0.dtype)
    joints = np.arange(dU)
    K = jnp.zeros((dU, x0.shape[0]), x0.dtype)
    K = K.at[joints, q].set(-stiffness).at[joints, qdot].set(-damping)
    every_step = Controller(K=K, k=stiffness * x0[q], C=jnp.diag(variance))
    return jax.tree.map(lambda a: jnp.broadcast_to(a, (T, *a.shape)), every_step)


_solve_joints = jax.jit(jax.vmap(lqr.backward))


def _double_integrators(
    config: LqrHoldConfig, dU: int, T: int, dt: float, dtype
) -> tuple[Dynamics, QuadraticCost]:
    """Every joint's problem about the initial pose, z = [q - q0, qdot, u]; leaves [dU, T, ...]."""
    gains = _per_joint("gains", config.gains, dU)
    acceleration = _per_joint("acceleration", config.acceleration, dU)
    push = np.array([dt**2, dt])
    F = np.stack([np.array([[1, dt, dt**2 * b], [0, 1, dt * b]]) for b in gains])
    f = acceleration[:, None] * push
    state_weights = config.stiffness * np.array([1.0, config.velocity_stiffness])
    H = np.tile(np.diag([*state_weights, 1.0]) / config.variance, (T, 1, 1))
    H[-1, :2, :2] *= config.final_weight
    dynamics = Dynamics(
        F=jnp.asarray(np.tile(F[:, None], (1, T - 1, 1, 1)), dtype),
        f=jnp.asarray(np.tile(f[:, None], (1, T - 1, 1)), dtype),
        W=jnp.zeros((dU, T - 1, 2, 2), dtype),
    )
    cost = QuadraticCost(
        H=jnp.asarray(np.tile(H, (dU, 1, 1, 1)), dtype),
        g=jnp.zeros((dU, T, 3), dtype),
        h=jnp.zeros((dU, T), dtype),
    )
    return dynamics, cost


def _joint_entries(
    x0: jax.Array, positions: Entries, velocities: Entries, dU: int
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the joints' positions and velocities in the state, checked."""
    if x0.ndim != 1 or not jnp.issubdtype(x0.dtype, jnp.floating):
        raise ValueError(
            f"x0 has shape {x0.shape} and type {x0.dtype}; it has to be one floating-point state "
            "[dX]. Use jax.vmap over conditions."
        )
    if dU < 1:
        raise ValueError(f"dU is {dU}; it has to be >= 1, the number of actuators.")
    dX = x0.shape[0]
    found = []
    for field, entries in (("positions", positions), ("velocities", velocities)):
        if isinstance(entries, slice):
            indices = np.arange(dX)[entries]
            within = all(b is None or -dX <= b <= dX for b in (entries.start, entries.stop))
        else:
            indices = np.asarray(entries, int)
            within = bool(np.all((indices >= -dX) & (indices < dX)))
        if not within or indices.shape != (dU,):
            raise ValueError(
                f"{field} is {entries!r}; it has to choose dU = {dU} entries of a state of {dX}, "
                "one for every actuator. Take them from the layout of this task."
            )
        found.append(indices % dX)
    q, qdot = found
    if np.unique(np.concatenate(found)).size != 2 * dU:
        raise ValueError(
            f"positions {positions!r} and velocities {velocities!r} overlap or repeat an entry; "
            "every joint has to have entries of its own."
        )
    return q, qdot


def _check_horizon(T: int, dt: float):
    if T < 1:
        raise ValueError(f"T is {T}; it has to be >= 1, the number of time steps.")
    if not (math.isfinite(dt) and dt > 0):
        raise ValueError(f"dt is {dt}; it has to be > 0, the control step in seconds.")


def _per_joint(field: str, value: Gains, dU: int) -> np.ndarray:
    values = np.asarray(value, float)
    if values.ndim and values.shape != (dU,):
        raise ValueError(
            f"{field} has {values.size} numbers for {dU} actuators; pass one per actuator, or one "
            "for all."
        )
    return np.broadcast_to(values, (dU,))
