"""Controls over time as splines of a few knots.

The knots are evenly spaced, the first at step 0 and the last at the plan's last step.
"""

import jax
import jax.numpy as jnp

SPLINES = ("zero", "linear", "cubic")


def values(kind: str, knots: jax.Array, times: jax.Array, horizon: int) -> jax.Array:
    """The spline [M, d] through knots [P, d] at times [M], in steps; constant beyond its ends.

    Args:
      kind: "zero" holds each knot until the next one; "linear" joins them by lines; "cubic" by
        third-order polynomials whose slopes at the knots are the mean of those on both sides.
      knots: P >= 2 of them.
      times: of which those before 0 and behind the last knot are moved there.
      horizon: H, the number of steps.
    """
    P = knots.shape[0]
    spacing = (horizon - 1) / (P - 1)
    place = jnp.clip(times / spacing, 0, P - 1)
    # A time that is a knot's but for rounding is that knot's.
    nearest = jnp.round(place)
    place = jnp.where(jnp.abs(place - nearest) < 1e-4, nearest, place)
    left = jnp.clip(jnp.floor(place).astype(jnp.int32), 0, P - 2 if kind != "zero" else P - 1)
    if kind == "zero":
        return knots[left]
    s = (place - left)[:, None].astype(knots.dtype)
    a, b = knots[left], knots[left + 1]
    if kind == "linear":
        return a + s * (b - a)
    step = jnp.diff(knots, axis=0)
    slope = jnp.concatenate([step[:1], 0.5 * (step[1:] + step[:-1]), step[-1:]])
    da, db = slope[left], slope[left + 1]
    c = b - a
    return a + s * (da + s * ((3 * c - 2 * da - db) + s * (da + db - 2 * c)))


def times_of(num: int, horizon: int) -> jax.Array:
    """When the knots are, [P], in steps."""
    return jnp.linspace(0.0, horizon - 1.0, num)
