"""Controllers to start from: they hold the initial pose, or only make noise."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np

from jgps.core.checks import Config, Range
from jgps.core.types import Controller

Entries = slice | Sequence[int]
Gains = float | tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class LqrHoldConfig(Config):
    """Settings of `lqr_hold`.

    Attributes:
      variance: of the exploration noise, in squared actuator units, > 0.
      stiffness: weight of position errors, relative to squared actions, >= 0, one for all joints or
        one per joint.
      velocity_stiffness: weight of velocity errors as a multiple of `stiffness`, >= 0.
      final_weight: multiplies the state cost of the last step, >= 0.
      gains: acceleration per actuator unit, one for all joints or one per joint, finite and not 0.
      acceleration: constant acceleration of every joint that the controller has to cancel.
    """

    variance: Annotated[float, Range("> 0")] = 1.0
    stiffness: Annotated[Gains, Range(">= 0")] = 1.0
    velocity_stiffness: Annotated[float, Range(">= 0")] = 0.5
    final_weight: Annotated[float, Range(">= 0")] = 1.0
    gains: Annotated[Gains, Range("!= 0")] = 1.0
    acceleration: Annotated[Gains, Range()] = 0.0


@dataclass(frozen=True, kw_only=True)
class PdHoldConfig(Config):
    """Settings of `pd_hold`; every gain is one number for all joints or one per joint.

    Attributes:
      position_gain: actuator units per unit of position error, >= 0.
      velocity_gain: actuator units per unit of velocity, >= 0.
      variance: of the exploration noise, in squared actuator units, > 0.
    """

    position_gain: Annotated[Gains, Range(">= 0")] = 1.0
    velocity_gain: Annotated[Gains, Range(">= 0")] = 0.1
    variance: Annotated[Gains, Range("> 0")] = 1.0


@dataclass(frozen=True, kw_only=True)
class NoiseConfig(Config):
    """Settings of `pure_noise`.

    Attributes:
      variance: of the actions, in squared actuator units, > 0; one for all or one per actuator.
    """

    variance: Annotated[Gains, Range("> 0")] = 1.0


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
    gains, offset, variance = _solve_joints(config, dU, T, dt)
    # A value too large for the dtype becomes infinite here, to be refused below.
    with np.errstate(over="ignore"):
        gains, offset, variance = (a.astype(x0.dtype) for a in (gains, offset, variance))
    if not all(np.all(np.isfinite(a)) for a in (gains, offset, variance)):
        raise ValueError(
            f"lqr_hold has no controller in {x0.dtype} for {config} and dt = {dt}; lower "
            "stiffness, final_weight, gains or dt."
        )
    joints = np.arange(dU)
    K = np.zeros((T, dU, x0.shape[0]), x0.dtype)
    K[:, joints, q], K[:, joints, qdot] = gains[..., 0], gains[..., 1]
    C = np.zeros((T, dU, dU), x0.dtype)
    C[:, joints, joints] = variance
    k = jnp.asarray(offset) - jnp.asarray(gains[..., 0]) * x0[q]
    return Controller(K=jnp.asarray(K), k=k, C=jnp.asarray(C))


def pd_hold(
    x0: jax.Array,
    positions: Entries,
    velocities: Entries,
    dU: int,
    T: int,
    config: PdHoldConfig = PdHoldConfig(),
) -> Controller:
    """Holds the pose of x0 by u = -position_gain (q - q(x0)) - velocity_gain qdot + noise.

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
    stiffness = jnp.asarray(_per_joint(config, "position_gain", dU), x0.dtype)
    damping = jnp.asarray(_per_joint(config, "velocity_gain", dU), x0.dtype)
    variance = jnp.asarray(_per_joint(config, "variance", dU), x0.dtype)
    joints = np.arange(dU)
    K = jnp.zeros((dU, x0.shape[0]), x0.dtype)
    K = K.at[joints, q].set(-stiffness).at[joints, qdot].set(-damping)
    every_step = Controller(K=K, k=stiffness * x0[q], C=jnp.diag(variance))
    return jax.tree.map(lambda a: jnp.broadcast_to(a, (T, *a.shape)), every_step)


def pure_noise(x0: jax.Array, dU: int, T: int, config: NoiseConfig = NoiseConfig()) -> Controller:
    """Controller u ~ N(0, variance) at every step, whatever the state x0 [dX]: it knows no joints.

    Raises:
      ValueError: if `variance` has neither one entry nor dU, or dU or T is below 1.
    """
    x0 = jnp.asarray(x0)
    _check_state(x0, dU)
    _check_horizon(T, 1.0)
    variance = jnp.asarray(_per_joint(config, "variance", dU), x0.dtype)
    return Controller(
        K=jnp.zeros((T, dU, x0.shape[0]), x0.dtype),
        k=jnp.zeros((T, dU), x0.dtype),
        C=jnp.broadcast_to(jnp.diag(variance), (T, dU, dU)),
    )


def _solve_joints(
    config: LqrHoldConfig, dU: int, T: int, dt: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every joint's Riccati recursion about the initial pose: K [T, dU, 2], k [T, dU], C [T, dU].

    In NumPy float64 and not by `core.lqr`: the problem is a constant of the host, two states wide,
    and compiling a scan for it would take far longer (seconds) than solving it.
    """
    b = _per_joint(config, "gains", dU)
    push = np.array([dt**2, dt])
    F = np.stack([np.array([[1, dt, dt**2 * gain], [0, 1, dt * gain]]) for gain in b])
    f = _per_joint(config, "acceleration", dU)[:, None] * push
    stiffness = _per_joint(config, "stiffness", dU)[:, None]
    state_weight, effort = stiffness * np.array([1.0, config.velocity_stiffness]), np.ones((dU, 1))
    K, k, C = np.zeros((T, dU, 2)), np.zeros((T, dU)), np.zeros((T, dU))
    V_xx, v_x = np.zeros((dU, 2, 2)), np.zeros((dU, 2))
    transposed = np.swapaxes(F, 1, 2)
    for t in reversed(range(T)):
        final = config.final_weight if t == T - 1 else 1.0
        weights = np.concatenate([final * state_weight, effort], axis=1)
        Q = weights[:, :, None] * np.eye(3) / config.variance + transposed @ V_xx @ F
        q = (transposed @ (V_xx @ f[..., None] + v_x[..., None]))[..., 0]
        C[t] = 1 / Q[:, 2, 2]
        K[t], k[t] = -C[t][:, None] * Q[:, 2, :2], -C[t] * q[:, 2]
        V_xx = Q[:, :2, :2] + Q[:, :2, 2:] * K[t][:, None, :]
        V_xx = 0.5 * (V_xx + np.swapaxes(V_xx, 1, 2))
        v_x = q[:, :2] + Q[:, :2, 2] * k[t][:, None]
    return K, k, C


def _joint_entries(
    x0: jax.Array, positions: Entries, velocities: Entries, dU: int
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the joints' positions and velocities in the state, checked."""
    _check_state(x0, dU)
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


def _check_state(x0: jax.Array, dU: int):
    if x0.ndim != 1 or not jnp.issubdtype(x0.dtype, jnp.floating):
        raise ValueError(
            f"x0 has shape {x0.shape} and type {x0.dtype}; it has to be one floating-point state "
            "[dX]. Use jax.vmap over conditions."
        )
    if dU < 1:
        raise ValueError(f"dU is {dU}; it has to be >= 1, the number of actuators.")


def _check_horizon(T: int, dt: float):
    if T < 1:
        raise ValueError(f"T is {T}; it has to be >= 1, the number of time steps.")
    if not (math.isfinite(dt) and dt > 0):
        raise ValueError(f"dt is {dt}; it has to be > 0, the control step in seconds.")


def _per_joint(
    config: LqrHoldConfig | PdHoldConfig | NoiseConfig, field: str, dU: int
) -> np.ndarray:
    values = np.asarray(getattr(config, field), float)
    if values.ndim and values.shape != (dU,):
        raise ValueError(
            f"{type(config).__name__}.{field} has {values.size} numbers for {dU} actuators; pass "
            "one per actuator, or one for all."
        )
    return np.broadcast_to(values, (dU,))
