"""Cost terms that follow a path: points that are due at certain times."""

from collections.abc import Sequence
from typing import Annotated

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from numpy.typing import ArrayLike

from jgps.core.checks import Range, as_numbers, check_argument
from jgps.costs.parts import Entries, Term, at, finite, fits, nonnegative, ramped, take
from jgps.costs.penalties import SQUARED, Penalty


def waypoints(
    entries: Entries,
    points: ArrayLike,
    horizon: int,
    weights: ArrayLike = 1.0,
    penalty: Penalty = SQUARED,
    ramp: ArrayLike | None = None,
    *,
    times: Sequence[float] | None = None,
) -> Term:
    """Penalty of the deviation from a piecewise linear path through K points.

    Args:
      entries: slice or indices of the state, D of them.
      points: [K, D], K >= 2, in the units of those entries.
      horizon: T, >= 2. The path starts at step 0 and ends at step T - 1.
      weights: scalar or [D], >= 0, inside the square: s = sum_i weights_i d_i^2.
      penalty: what s costs.
      ramp: weight of every step [T]; None is 1 throughout.
      times: the step at which each point is due, [K], increasing from >= 0 to <= T - 1; the first
        and last point hold outside. None spaces them evenly over the horizon.
    """
    points = finite("waypoints.points", points, max_ndim=2)
    if points.ndim != 2 or points.shape[0] < 2:
        raise ValueError(
            f"waypoints.points has shape {points.shape}; it has to be [K, D] with K >= 2. "
            "For a single point use state_target or distance."
        )
    horizon = check_argument("waypoints.horizon", horizon, Annotated[int, Range(">= 2")])
    num_points = points.shape[0]
    due = (
        np.linspace(0, horizon - 1, num_points)
        if times is None
        else as_numbers("waypoints.times", times)
    )
    increasing = due.shape == (num_points,) and bool(np.all(np.diff(due) > 0))
    if not increasing or due[0] < 0 or due[-1] > horizon - 1:
        raise ValueError(
            f"waypoints.times is {times}; it has to be {num_points} increasing steps within "
            f"0..{horizon - 1}, one per point. Leave it out to space them evenly."
        )
    weights = nonnegative("waypoints.weights", weights, max_ndim=1)
    xp = jnp if isinstance(points, Tracer) else np
    path = xp.stack([xp.interp(np.arange(horizon), due, column) for column in points.T], axis=1)

    def cost(x, u, t):
        del u
        values = take(x, entries, "waypoints.entries")
        if path.shape[1] != values.size:
            raise ValueError(
                f"waypoints.points has {path.shape[1]} columns but {values.size} entries of the "
                "state were chosen; pass one column per entry."
            )
        fits("waypoints.weights", weights, values.size)
        residual = values - at(path, t, x.dtype)
        return penalty(jnp.sum(jnp.asarray(weights, x.dtype) * jnp.square(residual)))

    return ramped("waypoints", cost, ramp, horizon=horizon)


def linear_waypoints(
    entries: Entries,
    A: ArrayLike,
    b: ArrayLike,
    horizon: int,
    penalty: Penalty = SQUARED,
    ramp: ArrayLike | None = None,
    *,
    times: Sequence[float] | None = None,
) -> Term:
    """Penalty of linear combinations of the state that are due to vanish one after another.

    Until step times_k, and after that of the waypoint before, the residual is d = A_k x + b_k.

    Args:
      entries: slice or indices of the state, n of them.
      A, b: [K, D, n] and [K, D], K >= 1.
      horizon: T, >= 1.
      penalty: what s = sum_i d_i^2 costs.
      ramp: weight of every step [T]; None is 1 throughout.
      times: the step until which each holds, [K], increasing from >= 0; the last has to be
        T - 1. None shares the horizon out evenly.

    Raises:
      ValueError: at once on values out of range; while tracing where entries do not fit the state.
    """
    A, b = finite("linear_waypoints.A", A, max_ndim=3), finite("linear_waypoints.b", b, max_ndim=2)
    if A.ndim != 3 or b.shape != A.shape[:2] or A.shape[0] < 1:
        raise ValueError(
            f"linear_waypoints.A has shape {A.shape} and linear_waypoints.b {b.shape}; they have "
            "to be [K, D, n] and [K, D] with K >= 1."
        )
    horizon = check_argument("linear_waypoints.horizon", horizon, Annotated[int, Range(">= 1")])
    num, steps = A.shape[0], np.arange(horizon)
    if num > horizon:
        raise ValueError(
            f"linear_waypoints.A has {num} waypoints and linear_waypoints.horizon is {horizon}; "
            "there has to be a step for each."
        )
    due = (
        (np.arange(num) + 1) * horizon / num - 1
        if times is None
        else as_numbers("linear_waypoints.times", times)
    )
    increasing = due.shape == (num,) and bool(np.all(np.diff(due) > 0))
    if not increasing or due[0] < 0 or due[-1] != horizon - 1:
        raise ValueError(
            f"linear_waypoints.times is {due.tolist()}; it has to be {num} increasing steps from "
            f"0, one per waypoint, the last of them {horizon - 1}."
        )
    index = np.searchsorted(due, steps - 1e-9)

    def cost(x, u, t):
        del u
        values = take(x, entries, "linear_waypoints.entries")
        if values.size != A.shape[2]:
            raise ValueError(
                f"linear_waypoints.A has {A.shape[2]} columns but {values.size} entries of the "
                "state were chosen; pass one column per entry."
            )
        residual = at(A[index], t, x.dtype) @ values + at(b[index], t, x.dtype)
        return penalty(jnp.sum(jnp.square(residual)))

    return ramped("linear_waypoints", cost, ramp, horizon=horizon)
