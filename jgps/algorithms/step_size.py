"""How far the next iteration may move, from how well the last one was predicted."""

import dataclasses

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
