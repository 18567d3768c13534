"""Cost terms. A cost is any JAX-traceable function `cost(x [dX], u [dU], t int) -> scalar`.

The terms below are such functions that also know the horizon they were built for, so that a ramp
of the wrong length is refused. They know no simulator: they read entries of the state by
position (`layout["site_pos:tip"]`), and compute in the dtype of the state.

Their targets, weights and ramps may be traced, as the params of a condition are (see
`jgps.tasks.functions`); then only shapes are checked.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from numpy.typing import ArrayLike

from jgps.costs.parts import (
    Cost,
    Entries,
    Term,
    finite,
    fits,
    nonnegative,
    numbers,
    ramped,
    scalar,
    take,
)
from jgps.costs.penalties import SQUARED, Penalty


def action(weights: ArrayLike, ramp: ArrayLike | None = None) -> Term:
    """Effort, 1/2 sum_i weights_i u_i^2.

    Args:
      weights: scalar or [dU], >= 0, cost per squared actuator unit.
      ramp: weight of every step [T], from `costs.ramp`; None is 1 throughout.
    """
    weights = nonnegative("action.weights", weights, max_ndim=1)

    def cost(x, u, t):
        del x, t
        if weights.ndim and weights.shape != u.shape:
            raise ValueError(
                f"action.weights has {weights.size} entries but the action has {u.size}; "
                "pass one weight per actuator or a scalar."
            )
        return 0.5 * jnp.sum(jnp.asarray(weights, u.dtype) * jnp.square(u))

    return ramped("action", cost, ramp)


def state_target(
    entries: Entries,
    target: ArrayLike,
    weights: ArrayLike = 1.0,
    penalty: Penalty = SQUARED,
    ramp: ArrayLike | None = None,
) -> Term:
    """Penalty of s = sum_i weights_i (x_i - target_i)^2 over chosen entries of the state.

    Args:
      entries: slice or indices of the state, D of them.
      target: scalar or [D], in the units of those entries.
      weights: scalar or [D], >= 0.
      penalty: what s costs.
      ramp: weight of every step [T]; None is 1 throughout.

    Raises:
      ValueError: at once on values out of range; while tracing where entries do not fit the state.
    """
    target = finite("state_target.target", target, max_ndim=1)
    weights = nonnegative("state_target.weights", weights, max_ndim=1)

    def cost(x, u, t):
        del u, t
        values = take(x, entries, "state_target.entries")
        fits("state_target.target", target, values.size)
        fits("state_target.weights", weights, values.size)
        residual = values - jnp.asarray(target, x.dtype)
        return penalty(jnp.sum(jnp.asarray(weights, x.dtype) * jnp.square(residual)))

    return ramped("state_target", cost, ramp)


def distance(
    entries: Entries,
    target: ArrayLike | slice,
    weight: float | jax.Array = 1.0,
    penalty: Penalty = SQUARED,
    ramp: ArrayLike | None = None,
    *,
    point_dim: int = 3,
    joint: bool = True,
) -> Term:
    """Penalty of the distance between points in the state and their targets.

    Args:
      entries: slice or indices of the coordinates of P points, P * point_dim of them.
      target: where the points should be, [P * point_dim], [P, point_dim], or [point_dim] for all of
        them; or a slice of the state that holds other points to meet.
      weight: multiplies the whole term, >= 0.
      penalty: what a squared distance costs.
      ramp: weight of every step [T]; None is 1 throughout.
      point_dim: coordinates per point: 3, or 2 in a plane.
      joint: True penalises s = sum of all squared distances once (one logarithm for the set of
        points, as in Levine et al. 2016); False penalises every point on its own and adds.

    Raises:
      ValueError: at once on values out of range; while tracing where entries do not fit the state.
    """
    if not isinstance(target, slice):
        target = finite("distance.target", target, max_ndim=2)
    weight = scalar(nonnegative("distance.weight", weight, max_ndim=0))
    if point_dim < 1:
        raise ValueError(f"distance.point_dim is {point_dim}; it has to be >= 1, usually 3.")

    def cost(x, u, t):
        del u, t
        points = _points(take(x, entries, "distance.entries"), point_dim, "distance.entries")
        if isinstance(target, slice):
            goals = _points(take(x, target, "distance.target"), point_dim, "distance.target")
        else:
            goals = _points(jnp.asarray(target, x.dtype).ravel(), point_dim, "distance.target")
        if goals.shape[0] not in (1, points.shape[0]):
            raise ValueError(
                f"distance.target has {goals.shape[0]} points but distance.entries has "
                f"{points.shape[0]}; pass one target per point, or one for all."
            )
        squares = jnp.square(points - goals)
        return weight * (penalty(jnp.sum(squares)) if joint else _sum(penalty, squares))

    return ramped("distance", cost, ramp)


def region(
    entries: Entries,
    lower: ArrayLike,
    upper: ArrayLike,
    weight: float | jax.Array = 1.0,
    ramp: ArrayLike | None = None,
    *,
    edge: float = 0.0,
) -> Term:
    """Costs nothing inside the box lower <= x <= upper and `weight` outside it.

    With `edge = 0` this is binary: 0 or `weight`. Its gradient is zero everywhere, so it scores
    trajectories (and serves sampling methods) but tells a gradient-based optimiser nothing. With
    `edge > 0` the cost at distance r outside the box is weight * r^2 / (r^2 + edge^2): still 0
    inside and towards `weight` far away, half of it at r = edge, with a gradient that pulls back
    in from everywhere, weakly from afar.

    Args:
      entries: slice or indices of the state, D of them.
      lower, upper: scalar or [D], lower < upper; infinite bounds leave a side open.
      weight: cost outside, >= 0.
      ramp: weight of every step [T]; None is 1 throughout.
      edge: width of the soft edge in the units of the entries, >= 0.
    """
    lower, upper = numbers("region.lower", lower), numbers("region.upper", upper)
    known = not isinstance(lower, Tracer) and not isinstance(upper, Tracer)
    if max(lower.ndim, upper.ndim) > 1 or (known and not np.all(lower < upper)):
        what = (lower.tolist(), upper.tolist()) if known else (lower.shape, upper.shape)
        raise ValueError(
            f"region.lower is {what[0]} and region.upper is {what[1]}; each has to "
            "be a scalar or one number per entry, with lower < upper. Check their order."
        )
    weight = scalar(nonnegative("region.weight", weight, max_ndim=0))
    edge = float(nonnegative("region.edge", edge, max_ndim=0))

    def cost(x, u, t):
        del u, t
        values = take(x, entries, "region.entries")
        fits("region.lower", lower, values.size)
        fits("region.upper", upper, values.size)
        outside = values - jnp.clip(
            values, jnp.asarray(lower, x.dtype), jnp.asarray(upper, x.dtype)
        )
        if edge == 0:
            # Not comparing `values` itself: NaN has to stay NaN rather than count as inside.
            share = jnp.max(jnp.abs(jnp.sign(outside)))
            return weight * share
        square = jnp.sum(jnp.square(outside / edge))
        return weight * square / (1 + square)

    return ramped("region", cost, ramp)


def weighted_sum(*parts: tuple[float | jax.Array, Cost]) -> Term:
    """Sum of weight * cost over `(weight, cost)` pairs; the costs may be the user's own.

    Raises:
      ValueError: where there is no part, a weight is not finite, or two parts were built for
        different horizons.
    """
    if not parts:
        raise ValueError("weighted_sum has no parts; pass (weight, cost) pairs.")
    for index, part in enumerate(parts):
        if not (isinstance(part, tuple) and len(part) == 2 and callable(part[1])):
            raise ValueError(f"weighted_sum part {index} is {part!r}; pass (weight, cost) pairs.")
        finite(f"weighted_sum weight {index}", part[0], max_ndim=0)
    horizons = sorted({h for _, cost in parts if (h := horizon_of(cost)) is not None})
    if len(horizons) > 1:
        raise ValueError(
            f"weighted_sum mixes costs built for {' and '.join(map(str, horizons))} steps; build "
            "their ramps and waypoints for one horizon."
        )

    def total(x, u, t):
        return sum((scalar(w) * cost(x, u, t) for w, cost in parts), jnp.zeros((), x.dtype))

    return Term("weighted_sum", total, horizons[0] if horizons else None)


def horizon_of(cost: Cost) -> int | None:
    """The number of steps a cost was built for; None for a user's function or where it is free."""
    return cost.horizon if isinstance(cost, Term) else None


def _points(values: jax.Array, point_dim: int, field: str) -> jax.Array:
    if values.size == 0 or values.size % point_dim:
        raise ValueError(
            f"{field} has {values.size} coordinates, not a multiple of point_dim = {point_dim}; "
            "choose whole points, or set point_dim=2 for points in a plane."
        )
    return values.reshape(-1, point_dim)


def _sum(penalty: Penalty, squares: jax.Array) -> jax.Array:
    return jnp.sum(penalty(jnp.sum(squares, axis=-1)))
