"""How far the next iteration may move, from how well the last one was predicted."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


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
    memory: StepMemory,
    actual: jax.Array,
    usable: jax.Array,
    limits: tuple[float, float],
    *,
    enough: float = 0.5,
    shared: bool = False,
) -> jax.Array:
    """The multiplier [C] of the next bound, given what the last step came to.

    Args:
      memory: of the last step.
      actual: expected cost [C] of what was made then, on the models fitted since.
      usable: whether those models are, [C]; without them the multiplier stays.
      limits: least and greatest result.
      enough: see `adapt`.
      shared: one for all conditions, from what those with usable models came to on average.
    """
    counted = memory.stepped & usable & jnp.isfinite(actual)
    promised = memory.cost_before - memory.cost_predicted
    kept = memory.cost_before - actual
    multiplier = memory.multiplier
    if shared:
        multiplier = jnp.full_like(multiplier, jnp.exp(jnp.mean(jnp.log(multiplier))))
        promised, kept = (_mean(gain, counted) for gain in (promised, kept))
        counted = jnp.any(counted)
    return jnp.where(counted, adapt(multiplier, promised, kept, limits, enough), multiplier)


def _mean(values: jax.Array, counted: jax.Array) -> jax.Array:
    """Over the conditions that are counted; 0 without any."""
    return jnp.sum(jnp.where(counted, values, 0)) / jnp.maximum(jnp.sum(counted), 1)


def adapt(
    multiplier: jax.Array,
    predicted: jax.Array,
    actual: jax.Array,
    limits: tuple[float, float],
    enough: float = 0.5,
) -> jax.Array:
    """The next multiplier from the predicted and the actual improvement of the expected cost.

    Assumes that the model's error grows with the square of the step, and takes the step that
    minimises the resulting bound:

      multiplier * clip(predicted / (2 max(1e-4, predicted - actual)), 0.1, 5)

    That shrinks the bound where less than half of what was predicted came. Models of few samples
    promise too much by a share that a smaller step does not lower: the bound would go on
    shrinking while every step improves the cost. So from `enough` of it on, the bound stays.

    Args:
      multiplier: the last one.
      predicted, actual: decrease of the expected cost, on the models that the step was made with
        and on the models fitted to the rollouts after it.
      limits: least and greatest result.
      enough: share of the predicted improvement; 0.5 is the published rule, without the exception.

    Source: Levine et al. (2016), code release.
    """
    factor = predicted / (2 * jnp.maximum(1e-4, predicted - actual))
    factor = jnp.clip(factor, 0.1, 5.0)
    if enough < 0.5:
        improved = (actual > 0) & (actual >= enough * predicted)
        factor = jnp.where(improved, jnp.maximum(factor, 1.0), factor)
    return jnp.clip(multiplier * factor, *limits)
