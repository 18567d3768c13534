"""Acting so that the next state is a wanted one, by a model of one step and within limits."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jgps.core import box_qp, linalg
from jgps.core.one_program import one_program
from jgps.core.types import NON_FINITE, OK, Dynamics, Status


class Target(NamedTuple):
    """The next state that is wanted, and what it is worth against an action that is usual."""

    x: jax.Array  # [dX], the wanted next state
    u: jax.Array  # [dU], the action that is best where nothing else matters: a plan's, or the last
    x_weight: jax.Array  # [dX], of squared distances from x; >= 0
    u_weight: jax.Array  # [dU], of squared distances from u; > 0


def track(
    model: Dynamics, x: jax.Array, target: Target, limits: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, Status]:
    """The action within limits after which a linear model expects to be nearest to the target.

    It minimises 1/2 (x' - x*)'X (x' - x*) + 1/2 (u - u*)'U (u - u*) with x' = F [x; u] + f, X and U
    the weights on a diagonal, by `jgps.core.box_qp`.

    Args:
      model: of one step, F [dX, dX+dU], f [dX]; its W does not matter.
      x: the state now, [dX].
      target: x* and u*, and the weights.
      limits: lower and upper [dU], which may be infinite.

    Returns:
      The action, and a status: NON_FINITE where the model, the state or the target is not finite,
      NOT_PD where u_weight is so small against x_weight that rounding hides it. The action is then
      the target's, within the limits.

    Raises:
      ValueError: shapes disagree; or, where they are known while tracing, a weight is out of its
        range or a lower limit is above its upper one.
    """
    _check(model, x, target, limits)
    return _track(model, x, target, limits)


@one_program()
@linalg.full_precision
def _track(
    model: Dynamics, x: jax.Array, target: Target, limits: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, Status]:
    dtype = jnp.result_type(model.F, float)
    lower, upper = (jnp.asarray(each, dtype) for each in limits)
    dX = model.f.shape[0]
    F_x, F_u = model.F[:, :dX], model.F[:, dX:]
    # About the action that is usual, so that nothing cancels where it is right already.
    usual = jnp.clip(jnp.asarray(target.u, dtype), lower, upper)
    missing = target.x - (F_x @ x + F_u @ usual + model.f)
    weighted = target.x_weight[:, None] * F_u
    H = linalg.symmetrise(F_u.T @ weighted) + jnp.diag(jnp.asarray(target.u_weight, dtype))
    g = -weighted.T @ missing + target.u_weight * (usual - target.u)
    found = box_qp.solve(H, g, lower - usual, upper - usual, jnp.zeros_like(usual))
    finite = jnp.all(jnp.isfinite(H)) & jnp.all(jnp.isfinite(g))
    code = jnp.where(finite, found.code, NON_FINITE).astype(jnp.int32)
    u = jnp.where(code == OK, jnp.clip(usual + found.x, lower, upper), usual)
    return u, Status(code=code, step=jnp.asarray(-1, jnp.int32))


def _check(
    model: Dynamics, x: jax.Array, target: Target, limits: tuple[jax.Array, jax.Array]
) -> None:
    if model.F.ndim != 2:
        raise ValueError(
            f"model.F must be [dX, dX+dU] of one step, got {model.F.shape}; use jax.vmap for "
            "batches"
        )
    dX = model.F.shape[0]
    dU = model.F.shape[1] - dX
    lower, upper = limits
    sizes = {
        "model.f": (model.f, dX),
        "x": (x, dX),
        "target.x": (target.x, dX),
        "target.u": (target.u, dU),
        "target.x_weight": (target.x_weight, dX),
        "target.u_weight": (target.u_weight, dU),
        "the lower limit": (lower, dU),
        "the upper limit": (upper, dU),
    }
    for name, (array, size) in sizes.items():
        if np.shape(array) != (size,):
            raise ValueError(
                f"{name} must be [{size}] to match model.F {model.F.shape}, got {np.shape(array)}"
            )
    _check_values(target, lower, upper)


def _check_values(target: Target, lower: jax.Array, upper: jax.Array) -> None:
    """Refuses weights and limits that are known and can't be."""
    known = [not isinstance(each, Tracer) for each in (target.x_weight, target.u_weight)]
    if known[0] and not np.all(np.asarray(target.x_weight) >= 0):
        raise ValueError(f"target.x_weight is {target.x_weight}; every weight has to be >= 0")
    if known[1] and not np.all(np.asarray(target.u_weight) > 0):
        raise ValueError(
            f"target.u_weight is {target.u_weight}; every weight has to be > 0, so that there is "
            "one best action"
        )
    if isinstance(lower, Tracer) or isinstance(upper, Tracer):
        return
    if not np.all(np.asarray(lower) <= np.asarray(upper)):
        raise ValueError(
            f"the limits are {lower} and {upper}; every lower one has to be at most the upper one"
        )
