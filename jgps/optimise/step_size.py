"""How far the next iteration may move, from how well the last one was predicted."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepSizeConfig:
    """The KL bound of an iteration is `horizon * kl_step * multiplier`.

    Attributes:
      kl_step: KL divergence per time step, nats, > 0.
      min_multiplier: lower bound of the adapted multiplier, > 0 and at most 1.
      max_multiplier: upper bound of the adapted multiplier, at least 1.
    """

    kl_step: float = 1.0
    min_multiplier: float = 0.01
    max_multiplier: float = 10.0

    def __post_init__(self) -> None:
        if not 0 < self.kl_step < float("inf"):
            raise ValueError(
                f"StepSizeConfig.kl_step is {self.kl_step}; it has to be finite and > 0, "
                "usually 0.1 to 2"
            )
        if not 0 < self.min_multiplier <= 1 <= self.max_multiplier < float("inf"):
            raise ValueError(
                f"StepSizeConfig has min_multiplier {self.min_multiplier} and max_multiplier "
                f"{self.max_multiplier}; they have to satisfy 0 < min <= 1 <= max"
            )


class StepMemory(NamedTuple):
    """What the last step promised, to be compared with what it kept; leaves [C]."""

    eta: jax.Array  # multiplier of the divergence, the warm start of the next search
    multiplier: jax.Array  # of the KL bound
    cost_before: jax.Array  # expected before the last step, on the models it was made with
    cost_predicted: jax.Array  # expected after it, on the same models
    stepped: jax.Array  # bool: the last step was taken


def first_memory(num: int, dtype: Any) -> StepMemory:
    """Before any step, for `num` conditions."""
    zeros, ones = jnp.zeros(num, dtype), jnp.ones(num, dtype)
    return StepMemory(
        eta=ones,
        multiplier=ones,
        cost_before=zeros,
        cost_predicted=zeros,
        stepped=jnp.zeros(num, bool),
    )


def next_multiplier(
    memory: StepMemory, actual: jax.Array, usable: jax.Array, config: StepSizeConfig
) -> jax.Array:
    """The multiplier [C] of the next bound, given what the last step came to.

    Args:
      memory: of the last step.
      actual: expected cost [C] of what was made then, on the models fitted since.
      usable: whether those models are, [C]; without them the multiplier stays.
      config: bounds of the result.
    """
    adapted = adapt(
        memory.multiplier,
        memory.cost_before - memory.cost_predicted,
        memory.cost_before - actual,
        config,
    )
    return jnp.where(memory.stepped & usable & jnp.isfinite(actual), adapted, memory.multiplier)


def adapt(
    multiplier: jax.Array, predicted: jax.Array, actual: jax.Array, config: StepSizeConfig
) -> jax.Array:
    """The next multiplier from the predicted and the actual improvement of the expected cost.

    Assumes that the model's error grows with the square of the step, and takes the step that
    minimises the resulting bound:

      multiplier * clip(predicted / (2 max(1e-4, predicted - actual)), 0.1, 5)

    Args:
      multiplier: the last one.
      predicted, actual: decrease of the expected cost, on the models that the step was made with
        and on the models fitted to the rollouts after it.
      config: bounds of the result.

    Source: Levine et al. (2016), code release.
    """
    factor = predicted / (2 * jnp.maximum(1e-4, predicted - actual))
    return jnp.clip(
        multiplier * jnp.clip(factor, 0.1, 5.0), config.min_multiplier, config.max_multiplier
    )
