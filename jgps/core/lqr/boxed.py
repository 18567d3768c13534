"""The backward pass about a trajectory whose controls have limits.

Everything is a deviation from the trajectory, dx in the tangent space of its states:

    dx_{t+1} = F_t [dx_t; du_t],    cost 1/2 z'H_t z + g_t'z of z = [dx; du],
    du_t = k_t + K_t dx_t,    lower_t <= k_t <= upper_t

Source: Tassa, Mansard & Todorov (2014), "Control-limited differential dynamic programming"; the
regularisation of the state's value is that of Tassa, Erez & Todorov (2012), "Synthesis and
stabilization of complex behaviors through online trajectory optimization".
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jgps.core import box_qp, linalg
from jgps.core.types import OK, Status


class BoxedPlan(NamedTuple):
    """How the controls of one trajectory are to change, and what that promises."""

    k: jax.Array  # [T, dU], within the limits
    K: jax.Array  # [T, dU, dX], where a control is at its limit rows of `held`, or of zeros
    free: jax.Array  # [T, dU] bool, which controls are not held at a limit
    Quu: jax.Array  # [T, dU, dU], curvature of the cost to go by the controls
    slope: jax.Array  # [] cost changes by slope a + curvature a^2 for k scaled by a
    curvature: jax.Array  # []
    gradient: jax.Array  # [] largest derivative by a control that is free to move against it
    status: Status  # with the first failing step, which is the last in time


@linalg.full_precision
def backward(
    F: jax.Array,
    H: jax.Array,
    g: jax.Array,
    limits: tuple[jax.Array, jax.Array],
    regularisation: jax.Array,
    bend: tuple[Callable[[Any, jax.Array], jax.Array], Any] | None = None,
    held: jax.Array | None = None,
) -> BoxedPlan:
    """The plan of one trajectory.

    Args:
      F: [T-1, dX, dX+dU], derivatives of the next state.
      H: [T, dX+dU, dX+dU], symmetric; g: [T, dX+dU].
      limits: lower and upper limits of the change of controls, [T, dU] each, lower <= 0 <= upper
        where the trajectory is within its own.
      regularisation: [] mu >= 0, what is added to the curvature by controls and by next states when
        gains are computed; what they promise is that of the cost itself.
      bend: a function and its first argument, leaves [T-1, ...]: of that at one step, and the slope
        [dX] of the cost to go by the next state, it makes the curvature [dX+dU, dX+dU] that the
        dynamics' second derivatives bring. None leaves it out (iLQG); with it this is DDP.
      held: gains [T, dU, dX] of controls that are at a limit, where what the limits are of is no
        control by itself but one beside a feedback; None for zero.

    Returns:
      The plan; from a step that fails on, back in time, it is zero.
    """
    T, n, _ = H.shape
    dX = F.shape[1]
    dU = n - dX
    eye = jnp.eye(dU, dtype=H.dtype)
    F = jnp.concatenate([F, jnp.zeros((1, dX, n), F.dtype)])
    bending = None if bend is None else jax.tree.map(_one_more, bend[1])

    def step(carry, at):
        V, v, warm, code = carry
        F, H, g, lower, upper, bending, held = at
        back = linalg.transpose(F)
        Q = H + linalg.symmetrise(linalg.product(back, linalg.product(V, F)))
        if bend is not None:  # nothing follows from the last step: v is zero there
            Q = Q + linalg.symmetrise(bend[0](bending, v))
        q = g + _times(back, v)
        Fx, Fu = F[:, :dX], F[:, dX:]
        firm = Q[dX:, dX:] + regularisation * (eye + linalg.product(back[dX:], Fu))
        cross = Q[dX:, :dX] + regularisation * linalg.product(back[dX:], Fx)
        found = box_qp.solve(linalg.symmetrise(firm), q[dX:], lower, upper, warm)
        code = jnp.where(code == OK, found.code, code)
        sound = code == OK
        k = jnp.where(sound, found.x, 0)
        if held is None:
            K = -linalg.product(found.inverse, cross)
        else:
            fixed = jnp.where(found.free[:, None], 0, held)
            K = fixed - linalg.product(found.inverse, cross + linalg.product(firm, fixed))
        K = jnp.where(sound, K, 0)
        # The value of the closed loop is symmetric, and positive where the cost is.
        closed = jnp.concatenate([jnp.eye(dX, dtype=K.dtype), K])
        folded = linalg.transpose(closed)
        V = linalg.symmetrise(linalg.product(folded, linalg.product(Q, closed)))
        bent = _times(Q[dX:, dX:], k)
        change = jnp.concatenate([_times(linalg.transpose(Q[dX:, :dX]), k), bent])
        v = _times(folded, q + change)
        qu = q[dX:]
        stuck = ((lower >= 0) & (qu > 0)) | ((upper <= 0) & (qu < 0))
        gradient = jnp.max(jnp.where(stuck, 0, jnp.abs(qu)))
        promise = jnp.sum(k * qu), 0.5 * jnp.sum(k * bent), gradient
        return (V, v, k, code), (k, K, found.free, Q[dX:, dX:], *promise, code)

    zero = jnp.zeros((dX, dX), H.dtype), jnp.zeros(dX, H.dtype), jnp.zeros(dU, H.dtype)
    first = (*zero, jnp.asarray(OK, jnp.int32))
    (*_, code), (k, K, free, Quu, slope, curvature, gradient, codes) = jax.lax.scan(
        step, first, (F, H, g, *limits, bending, held), reverse=True
    )
    failed = codes != OK
    where = T - 1 - jnp.argmax(failed[::-1])
    status = Status(code=code, step=jnp.where(code == OK, -1, where).astype(jnp.int32))
    return BoxedPlan(
        k=k,
        K=K,
        free=free,
        Quu=Quu,
        slope=jnp.sum(slope),
        curvature=jnp.sum(curvature),
        gradient=jnp.max(gradient),
        status=status,
    )


def _one_more(steps: jax.Array) -> jax.Array:
    """The last step twice."""
    return jnp.concatenate([steps, steps[-1:]])


def _times(matrix: jax.Array, vector: jax.Array) -> jax.Array:
    return linalg.product(matrix, vector[:, None])[:, 0]
