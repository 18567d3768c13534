"""How the weight nu of the agreement in Bregman ADMM follows the divergence, step by step."""

import dataclasses
from typing import Annotated

import jax

from jgps.core import bregman
from jgps.core.checks import Config, OneOf, Range, Schedule
from jgps.core.schedule import at_iteration

ASCENDS_BY = ("divergence", "constant")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AverageWeightConfig(Config):
    """Nu grows where controllers and network differ more than on average, and falls far below.

    Attributes:
      increase: what nu is multiplied by at a step whose KL divergence is above the mean over time
        by more than `upper`, >= 1.
      decrease: what it is multiplied by where that is below the mean by more than `lower`, in
        (0, 1].
      upper, lower: standard deviations of the divergence over time, >= 0.
    """

    increase: Annotated[float, Range("[1, 1e6]", "usually 2")] = 2.0
    decrease: Annotated[float, Range("(0, 1]", "usually 0.5")] = 0.5
    upper: Annotated[float, Range(">= 0", "usually 0 to 0.5")] = 0.0
    lower: Annotated[float, Range(">= 0", "usually 1 to 2")] = 2.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class AscentWeightConfig(Config):
    """Nu only grows, by a step of dual ascent: as for any multiplier of a constraint KL = 0.

    Attributes:
      step: how far, > 0, units of the cost per nat: one number, or one per iteration, of which the
        last stays.
      by: "divergence" multiplies the step by the KL divergence at each time, nats; "constant" takes
        the same step at all times.
    """

    step: Annotated[float | tuple[float, ...], Schedule("> 0", "usually 0.001 to 0.1")] = 0.01
    by: Annotated[str, OneOf(*ASCENDS_BY)] = "divergence"


def next_weights(
    weights: jax.Array,
    kl: jax.Array,
    rule: AverageWeightConfig | AscentWeightConfig,
    iteration: jax.Array,
) -> jax.Array:
    """Nu [..., T] of the next iteration, without limits.

    Args:
      weights: nu now.
      kl: divergence of the controllers from the network at every step, [..., T].
      rule: how it follows.
      iteration: [] int, the first is 0.
    """
    if isinstance(rule, AverageWeightConfig):
        return bregman.adapt_weights(
            weights, kl, increase=rule.increase, decrease=rule.decrease,
            upper=rule.upper, lower=rule.lower,
        )  # fmt: skip
    step = at_iteration(rule.step, iteration)
    return weights + (step * kl if rule.by == "divergence" else step)
