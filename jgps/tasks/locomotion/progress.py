"""How far and how fast a robot went along the x axis, beside the commanded `params["speed"]`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

TOLERANCE = 0.1  # of the mean speed, as a share of the command


def at_speed(place: int, control_dt: float) -> Callable[..., jax.Array]:
    """`at_speed(x [T, dX], params) -> bool`: whether the mean speed was within 10% of the command.

    That of the second half counts, as the first begins at rest.

    Args:
      place: entry of the state that is the place along the x axis, m.
      control_dt: duration of a control step, s.
    """

    def reached(x: jax.Array, params: Any) -> jax.Array:
        steps = (len(x) - 1) // 2
        speed = (x[-1, place] - x[-1 - steps, place]) / (steps * control_dt)
        return jnp.abs(speed - params["speed"]) <= TOLERANCE * jnp.abs(params["speed"])

    return reached


def way_missed(place: int, control_dt: float) -> Callable[..., jax.Array]:
    """`way_missed(x [T, dX], params) -> m`: from where the commanded speed would have led to."""

    def distance(x: jax.Array, params: Any) -> jax.Array:
        way = params["speed"] * control_dt * (len(x) - 1)
        return jnp.abs(x[-1, place] - x[0, place] - way)

    return distance
