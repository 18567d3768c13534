"""The passes of a linear-quadratic problem: values backward, distributions forward.

    minimise E[sum_t 1/2 z'H_t z + g_t'z + h_t] - sum_t w_t entropy(u_t | x_t),    z = [x; u]
    x_{t+1} ~ N(F_t z_t + f_t, W_t),    u_t ~ N(K_t x_t + k_t, C_t)

`jgps.core.lqr` is the public face of this file.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jgps.core import linalg
from jgps.core.types import (
    NON_FINITE,
    NOT_PD,
    OK,
    Controller,
    Dynamics,
    Gaussian,
    Marginals,
    QuadraticCost,
    QuadraticValue,
    Status,
    first_failure,
    ok_status,
    promote,
    worst,
)


@jax.jit
@linalg.full_precision
def backward(
    dynamics: Dynamics, cost: QuadraticCost, entropy_weight: float | jax.Array = 1.0
) -> tuple[Controller, QuadraticValue, Status]:
    """Optimal controller and value function by the Riccati recursion.

    K = -Q_uu^-1 Q_ux, k = -Q_uu^-1 q_u, C = w Q_uu^-1. The value belongs to the whole objective:
    its constant has the noise's 1/2 tr(V_xx W) and the entropy's -w/2 (dU log(2 pi w) - log|Q_uu|).

    Args:
      dynamics: F [T-1, dX, dX+dU], f [T-1, dX], W [T-1, dX, dX]; of length 0 where T is 1.
      cost: H [T, dX+dU, dX+dU], of which the symmetric part counts, g [T, dX+dU], h [T].
      entropy_weight: w >= 0, a scalar or [T]. With 0 the controller is deterministic (C = 0).

    Returns:
      The controller, the value at every step, and a status: NOT_PD where some Q_uu is not positive
      definite, NON_FINITE where an input or a result is not finite or w is not >= 0. Its step is
      the one the recursion met first, which is the last in time. NOT_PD also with the first step
      whose W is no covariance: not symmetric, or with a negative variance in some direction. At
      a step where the recursion fails the controller is zero with C = w I (0 where w is unusable)
      and the value restarts at zero, so that outputs stay finite.

    Raises:
      ValueError: shapes disagree.
    """
    dynamics, cost = promote(dynamics, cost)
    T, _, _ = check_problem(dynamics, cost)
    cost = cost._replace(H=linalg.symmetrise(cost.H))
    weights = per_step(entropy_weight, T, cost.H.dtype, "entropy_weight")
    controller, value, status = recursion(dynamics, cost, weights, jnp.zeros_like(weights))
    return controller, value, worst(status, covariance_status(dynamics))


def covariance_status(dynamics: Dynamics) -> Status:
    """NOT_PD with the first step whose W is no covariance; what is not finite is not judged."""
    if dynamics.f.shape[0] == 0:
        return ok_status()
    finite = jnp.all(jnp.isfinite(dynamics.W), axis=(-2, -1))
    return first_failure(finite & ~linalg.is_covariance(dynamics.W), NOT_PD)


def recursion(
    dynamics: Dynamics, cost: QuadraticCost, weights: jax.Array, ridge: jax.Array
) -> tuple[Controller, QuadraticValue, Status]:
    """`backward` for the cost plus `ridge` [T] / 2 u'u, with `weights` [T] and symmetric H.

    Shapes and dtypes agree already.
    """
    T, n, _ = cost.H.shape
    dX, dtype = dynamics.F.shape[1], cost.H.dtype
    dynamics = at_least_one_step(dynamics, dX, n - dX, dtype)

    # Steps are read and written in place by index: scanned arrays would be copied, in and out, to
    # put time before the batch.
    def step(state, t: jax.Array):
        value, results = state
        # After the last step nothing moves; a NaN of the last transition is not this step's.
        motion = at(dynamics, jnp.minimum(t, dynamics.f.shape[0] - 1))
        motion = jax.tree.map(lambda a: jnp.where(t < T - 1, a, 0), motion)
        result = _backward_step(motion, at(cost, t), value, weights[t], ridge[t])
        results = jax.tree.map(
            lambda all_steps, one: jax.lax.dynamic_update_index_in_dim(all_steps, one, t, 0),
            results,
            result,
        )
        return (result[1], results), None

    end = QuadraticValue(
        V_xx=jnp.zeros((dX, dX), dtype), v_x=jnp.zeros(dX, dtype), v=jnp.zeros((), dtype)
    )
    first = jax.eval_shape(_backward_step, at(dynamics, 0), at(cost, 0), end, weights[0], ridge[0])
    results = jax.tree.map(lambda a: jax.lax.empty((T, *a.shape), a.dtype), first)
    (_, results), _ = jax.lax.scan(step, (end, results), jnp.arange(T), reverse=True)
    controller, value, codes = results
    value = value._replace(v=jax.lax.cumsum(value.v, reverse=True))
    failed = codes != OK
    last = T - 1 - jnp.argmax(failed[::-1]).astype(jnp.int32)
    status = Status(code=codes[last], step=jnp.where(jnp.any(failed), last, -1))
    return controller, value, status


def _backward_step(
    motion: Dynamics,
    cost: QuadraticCost,
    value: QuadraticValue,
    weight: jax.Array,
    ridge: jax.Array,
) -> tuple[Controller, QuadraticValue, jax.Array]:
    """One step of the recursion: policy, value before the step, status code.

    The returned v is only this step's share. The value is rebuilt as
    V_xx = [I; K]'H [I; K] + A'V A with the closed loop A = F_x + F_u K (Joseph form): errors of K
    enter squared. In float32, on the stiff problem of the tests, the cost is 2e-7 above the
    optimum; 5e-5 without the refinement of K, 0.5 with Q_xx - Q_xu Q_uu^-1 Q_ux instead.
    Its rounding error of asymmetry shrinks with the closed loop, so no pass symmetrises V_xx.
    Transposes stand apart from the products, which run 2 times faster on untransposed factors.
    """
    dX = motion.f.shape[0]
    dU = cost.g.shape[0] - dX
    F_x, F_u = motion.F[:, :dX], motion.F[:, dX:]
    H_xu, H_ux = cost.H[:dX, dX:], cost.H[dX:, :dX]
    H_uu = cost.H[dX:, dX:] + ridge * jnp.eye(dU, dtype=cost.H.dtype)
    V, f = value.V_xx, motion.f

    v_next = value.v_x + V @ f
    q = cost.g + v_next @ motion.F
    q_x, q_u = q[:dX], q[dX:]
    F_uTV = _transposed(F_u) @ V
    Q_ux = H_ux + F_uTV @ F_x
    Q_uu = linalg.symmetrise(H_uu + F_uTV @ F_u)
    Q_uu_inv, log_det, positive = linalg.inverse_psd(Q_uu)
    K = -Q_uu_inv @ Q_ux
    k = -Q_uu_inv @ q_u
    # One refinement: with the explicit inverse alone the error is a hundred times larger.
    K = K - Q_uu_inv @ (Q_ux + Q_uu @ K)
    k = k - Q_uu_inv @ (q_u + Q_uu @ k)

    A = F_x + F_u @ K
    H_xxK = cost.H[:dX, :dX] + H_xu @ K  # [H_xx H_xu] [I; K]
    V_xx = H_xxK + _transposed(K) @ (H_ux + H_uu @ K) + _transposed(A) @ (V @ A)
    v_x = q_x + q_u @ K + k @ (Q_ux + Q_uu @ K)
    v = (
        cost.h
        + 0.5 * (jnp.dot(f, value.v_x + v_next) + jnp.sum(V * motion.W))
        + jnp.dot(k, q_u + 0.5 * Q_uu @ k)
        - _entropy_gain(weight, dU, log_det)
    )
    # The diagonal as a strided slice: more passes over the largest array would cost a tenth each.
    diagonal = V_xx.reshape(-1)[:: dX + 1]
    H_sum = jnp.sum(cost.H @ jnp.ones_like(q))
    in_range = (weight >= 0) & (weight < jnp.inf)
    given = in_range & jnp.isfinite(jnp.sum(Q_uu) + jnp.sum(Q_ux) + jnp.sum(q_u) + H_sum)
    result = jnp.isfinite(jnp.sum(diagonal) + jnp.sum(v_x) + v + jnp.sum(K) + jnp.sum(k))
    code = jnp.where(positive, jnp.where(result, OK, NON_FINITE), NOT_PD)
    code = jnp.where(given, code, NON_FINITE).astype(jnp.int32)
    ok = code == OK
    policy = Controller(
        K=jnp.where(ok, K, 0),
        k=jnp.where(ok, k, 0),
        C=jnp.where(in_range, weight, 0) * jnp.where(ok, Q_uu_inv, jnp.eye(dU, dtype=K.dtype)),
    )
    value = QuadraticValue(
        V_xx=jnp.where(ok, V_xx, 0),
        v_x=jnp.where(ok, v_x, 0),
        v=jnp.where(ok, v, 0),
    )
    return policy, value, code


def _transposed(a: jax.Array) -> jax.Array:
    """a', kept from being merged into the product that uses it."""
    return jax.lax.optimization_barrier(a.T)


def _entropy_gain(weight: jax.Array, dU: int, log_det_precision: jax.Array) -> jax.Array:
    """Free energy w/2 (dU log(2 pi w) - log|Q_uu|) of the optimal Gaussian; 0 at w = 0."""
    safe = jnp.where(weight > 0, weight, 1)
    gain = 0.5 * weight * (dU * (math.log(2 * math.pi) + jnp.log(safe)) - log_det_precision)
    return jnp.where(weight > 0, gain, 0)


@jax.jit
@linalg.full_precision
def forward(controller: Controller, dynamics: Dynamics, initial: Gaussian) -> Marginals:
    """Distribution of z = [x; u] at every step under a controller.

    Args:
      controller: K [T, dU, dX], k [T, dU], C [T, dU, dU].
      dynamics: of length T - 1.
      initial: of the first state, [dX].

    Raises:
      ValueError: shapes disagree.
    """
    controller, dynamics, initial = promote(controller, dynamics, initial)
    if controller.K.ndim != 3:
        raise ValueError(
            f"controller.K must be [T, dU, dX], got {controller.K.shape}; use jax.vmap for batches"
        )
    T, dU, dX = controller.K.shape
    check_controller("controller", controller, T, dX, dU)
    check_dynamics(dynamics, T, dX, dU)
    _check_shape("initial.mean", initial.mean, (dX,))
    _check_shape("initial.cov", initial.cov, (dX, dX))
    states = propagate(closed_loop(controller, dynamics), initial)
    K, mean, cov = controller.K, states.mean, states.cov
    KS = K @ cov
    u_cov = linalg.symmetrise(KS @ linalg.transpose(K)) + controller.C
    u_mean = jnp.einsum("tij,tj->ti", K, mean) + controller.k
    return Marginals(
        mean=jnp.concatenate([mean, u_mean], axis=-1),
        cov=jnp.block([[cov, linalg.transpose(KS)], [KS, u_cov]]),
    )


class ClosedLoop(NamedTuple):
    """x' ~ N(A x + a, N) with the controller inside."""

    A: jax.Array  # [T-1, dX, dX]
    a: jax.Array  # [T-1, dX]
    N: jax.Array  # [T-1, dX, dX]


def closed_loop(controller: Controller, dynamics: Dynamics) -> ClosedLoop:
    """The state's own dynamics under a controller."""
    dX = controller.K.shape[-1]
    F_x, F_u = dynamics.F[..., :dX], dynamics.F[..., dX:]
    K, k, C = controller.K[:-1], controller.k[:-1], controller.C[:-1]
    return ClosedLoop(
        A=F_x + F_u @ K,
        a=dynamics.f + jnp.einsum("tij,tj->ti", F_u, k),
        N=linalg.symmetrise(F_u @ C @ linalg.transpose(F_u)) + dynamics.W,
    )


def propagate(loop: ClosedLoop, initial: Gaussian) -> Gaussian:
    """Mean [T, dX] and covariance [T, dX, dX] of the state."""

    def step(state: Gaussian, t: jax.Array):
        motion = at(loop, t)
        mean = motion.A @ state.mean + motion.a
        cov = linalg.symmetrise(motion.A @ state.cov @ motion.A.T) + motion.N
        return (following := Gaussian(mean=mean, cov=cov)), following

    if loop.a.shape[0] == 0:
        return jax.tree.map(lambda first: first[None], initial)
    _, rest = jax.lax.scan(step, initial, jnp.arange(loop.a.shape[0]))
    return jax.tree.map(lambda first, tail: jnp.concatenate([first[None], tail]), initial, rest)


@jax.jit
@linalg.full_precision
def expected_cost(marginals: Marginals, cost: QuadraticCost) -> jax.Array:
    """Expected cost at every step, [T]: 1/2 tr(H (cov + mean mean')) + g'mean + h.

    Raises:
      ValueError: shapes disagree.
    """
    marginals, cost = promote(marginals, cost)
    if marginals.mean.ndim != 2:
        raise ValueError(
            f"marginals.mean must be [T, dX+dU], got {marginals.mean.shape}; use jax.vmap for"
            " batches"
        )
    T, n = marginals.mean.shape
    _check_shape("marginals.cov", marginals.cov, (T, n, n))
    _check_cost(cost, T, n)
    mean, cov = marginals.mean, marginals.cov
    Hm = jnp.einsum("tij,tj->ti", cost.H, mean)
    of_cov = jnp.sum(cost.H * cov, axis=(-2, -1))
    return 0.5 * of_cov + jnp.sum((0.5 * Hm + cost.g) * mean, axis=-1) + cost.h


def at(bundle, t: int | jax.Array):
    """Step `t` of a bundle whose leaves have leading axis time."""
    return jax.tree.map(lambda a: jax.lax.dynamic_index_in_dim(a, t, 0, keepdims=False), bundle)


def per_step(value: float | jax.Array, T: int, dtype, name: str) -> jax.Array:
    """A scalar or [T] as [T]."""
    array = jnp.asarray(value, dtype)
    if array.shape not in ((), (T,)):
        raise ValueError(f"{name} must be a scalar or have shape ({T},), got {array.shape}")
    return jnp.broadcast_to(array, (T,))


def at_least_one_step(dynamics: Dynamics, dX: int, dU: int, dtype) -> Dynamics:
    """Dynamics that can be indexed even where T is 1 (the entry is multiplied by a zero value)."""
    if dynamics.f.shape[0]:
        return dynamics
    return Dynamics(
        F=jnp.zeros((1, dX, dX + dU), dtype),
        f=jnp.zeros((1, dX), dtype),
        W=jnp.zeros((1, dX, dX), dtype),
    )


def check_problem(dynamics: Dynamics, cost: QuadraticCost) -> tuple[int, int, int]:
    """T, dX and dU of a problem whose shapes agree.

    Raises:
      ValueError: they do not; the message names the argument and both shapes.
    """
    if cost.H.ndim != 3 or dynamics.F.ndim != 3:
        raise ValueError(
            f"cost.H must be [T, dX+dU, dX+dU] and dynamics.F [T-1, dX, dX+dU], got"
            f" {cost.H.shape} and {dynamics.F.shape}; use jax.vmap for batches"
        )
    T, n, _ = cost.H.shape
    dX = dynamics.F.shape[1]
    if not 0 < dX < n:
        raise ValueError(f"dynamics.F {dynamics.F.shape} leaves no action in cost.H {cost.H.shape}")
    _check_cost(cost, T, n)
    check_dynamics(dynamics, T, dX, n - dX)
    return T, dX, n - dX


def _check_cost(cost: QuadraticCost, T: int, n: int) -> None:
    _check_shape("cost.H", cost.H, (T, n, n))
    _check_shape("cost.g", cost.g, (T, n))
    _check_shape("cost.h", cost.h, (T,))


def check_dynamics(dynamics: Dynamics, T: int, dX: int, dU: int) -> None:
    """Raises ValueError unless `dynamics` fits T steps of dX states and dU actions."""
    _check_shape("dynamics.F", dynamics.F, (T - 1, dX, dX + dU))
    _check_shape("dynamics.f", dynamics.f, (T - 1, dX))
    _check_shape("dynamics.W", dynamics.W, (T - 1, dX, dX))


def check_controller(name: str, controller: Controller, T: int, dX: int, dU: int) -> None:
    """Raises ValueError unless `controller` fits T steps of dX states and dU actions."""
    _check_shape(f"{name}.K", controller.K, (T, dU, dX))
    _check_shape(f"{name}.k", controller.k, (T, dU))
    _check_shape(f"{name}.C", controller.C, (T, dU, dU))


def _check_shape(name: str, array: jax.Array, expected: tuple[int, ...]) -> None:
    if array.shape != expected:
        raise ValueError(f"{name} must have shape {expected}, got {array.shape}")
