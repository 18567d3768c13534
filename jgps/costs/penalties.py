"""Penalties: how a residual becomes a cost."""

import math
from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp

from jgps.core.checks import Config, Range

COEFFICIENT = "usually from 0.1 to 10; 0 leaves this part out"


@dataclass(frozen=True, kw_only=True)
class Penalty(Config):
    """Sum of three penalties on a residual d: l2, smoothed l1 and log.

    All go through its weighted square s = weight sum_i w_i d_i^2, of which a term says the sum:

      penalty = l2 s + l1 (sqrt(s + alpha) - sqrt(alpha)) + log log(s + alpha)

    The l2 part has no factor 1/2. The l1 part is |d| away from zero, rounded off within
    sqrt(alpha). The log part rewards precision near the target: it grows by `log` every time s
    grows e-fold, has curvature 2 log / alpha at d = 0, and is not convex for |d| > sqrt(alpha).

    Attributes:
      l2, l1, log: coefficients, finite, >= 0, not all zero.
      weight: multiplies the square inside all three parts, and so inside the logarithm, > 0.
      alpha: smoothing, in squared units of the residual, >= 0. At 0 the l1 part is |d| itself,
        whose gradient at d = 0 is taken to be 0, and the log part is minus infinity at d = 0: it
        is for residuals that cannot vanish.

    Source of the shape: Levine et al. (2016), "End-to-end training of deep visuomotor policies",
    appendix B.
    """

    l2: Annotated[float, Range(">= 0", COEFFICIENT)] = 0.0
    l1: Annotated[float, Range(">= 0", COEFFICIENT)] = 0.0
    log: Annotated[float, Range(">= 0", COEFFICIENT)] = 0.0
    weight: Annotated[float, Range("> 0")] = 1.0
    alpha: Annotated[float, Range(">= 0", "usually 1e-5 for residuals in metres")] = 1e-5

    def __post_init__(self):
        if self.l2 == self.l1 == self.log == 0:
            raise ValueError(
                "Penalty has l2 = l1 = log = 0, which costs nothing; at least one has to be > 0, "
                "for example Penalty(l2=1.0)."
            )

    def __call__(self, s: jax.Array) -> jax.Array:
        """Cost of a term's square s >= 0, elementwise, in the dtype of `s`."""
        if self.weight != 1:
            s = self.weight * s
        total = self.l2 * s
        if self.l1 and self.alpha == 0:
            # The root's slope at 0 is infinite; chosen so that it is never looked at.
            positive = s > 0
            total = total + self.l1 * jnp.where(positive, jnp.sqrt(jnp.where(positive, s, 1)), s)
        elif self.l1:
            # s / (sqrt(s + alpha) + sqrt(alpha)) is the same difference without cancellation.
            total = total + self.l1 * s / (jnp.sqrt(s + self.alpha) + math.sqrt(self.alpha))
        if self.log:
            total = total + self.log * jnp.log(s + self.alpha)
        return total


SQUARED = Penalty(l2=1.0)
