"""Costs that are a sum of squares, 1/2 r'r of a residual r(x [dX], u [dU], t) [m].

Beside its value such a cost offers `residual`, of which optimisers that know the dynamics take the
first derivative alone: J'J is never indefinite, and costs a fraction of the second derivatives.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jgps.costs.parts import finite, scalar

Residual = Callable[..., jax.Array]  # of x [dX], u [dU], t; with params as a last argument or not


@dataclass(frozen=True, eq=False)
class SumOfSquares:
    """The cost 1/2 r'r of a residual; call it like any other cost.

    Attributes:
      residual: `residual(x [dX], u [dU], t) -> r [m]`, or with a condition's params as a last
        argument, which the cost then takes as well.
    """

    residual: Residual

    def __call__(self, x: jax.Array, u: jax.Array, t: jax.Array, *params: object) -> jax.Array:
        """Cost of one step."""
        return 0.5 * jnp.sum(jnp.square(self.residual(x, u, t, *params)))


def stacked(*parts: tuple[float | jax.Array, Residual]) -> Residual:
    """The residual that has those of all parts in a row, each times its weight.

    Args:
      parts: `(weight, residual)` pairs. A part costs weight^2 / 2 times the square of its residual,
        so that 1 / weight is the deviation, in the residual's unit, that costs 1/2.

    Raises:
      ValueError: where there is no part, one is no such pair, or a weight is not finite.
    """
    if not parts:
        raise ValueError("stacked has no parts; pass (weight, residual) pairs.")
    for index, part in enumerate(parts):
        if not (isinstance(part, tuple) and len(part) == 2 and callable(part[1])):
            raise ValueError(f"stacked part {index} is {part!r}; pass (weight, residual) pairs.")
        finite(f"stacked weight {index}", part[0], max_ndim=0)

    def residual(x, u, t):
        return jnp.concatenate(
            [scalar(weight) * jnp.atleast_1d(each(x, u, t)) for weight, each in parts]
        )

    return residual
