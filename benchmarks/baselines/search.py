"""What a search over the parameters of one policy is, and the Gaussian that CEM and REPS keep."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Search(NamedTuple):
    """Pure functions that look for parameters [D] of least cost, N candidates at a time.

    init(mean [D]) -> state; the distribution begins with unit deviation around `mean`
    ask(state, key) -> (candidates [N, D], state)
    tell(state, candidates [N, D], costs [N]) -> state; a cost that is not finite marks a failure
    mean(state) -> [D], the centre of the distribution
    """

    num_samples: int  # N
    init: Callable[[jax.Array], Any]
    ask: Callable[[Any, jax.Array], tuple[jax.Array, Any]]
    tell: Callable[[Any, jax.Array, jax.Array], Any]
    mean: Callable[[Any], jax.Array]


class DiagonalGaussian(NamedTuple):
    """Independent normal parameters: what few samples in many dimensions can support."""

    mean: jax.Array  # [D]
    std: jax.Array  # [D]


def start(mean: jax.Array) -> DiagonalGaussian:
    """Unit deviation around `mean`."""
    return DiagonalGaussian(mean=mean, std=jnp.ones_like(mean))


def draw(state: DiagonalGaussian, key: jax.Array, num: int) -> jax.Array:
    """Candidates [num, D]."""
    noise = jax.random.normal(key, (num, state.mean.size), state.mean.dtype)
    return state.mean + state.std * noise


def refit(
    state: DiagonalGaussian,
    candidates: jax.Array,
    weights: jax.Array,
    *,
    smoothing: float,
    min_std: float,
) -> DiagonalGaussian:
    """Weighted mean and unbiased variance; the old distribution where all weights are zero.

    Args:
      state: the distribution before.
      candidates: [N, D].
      weights: [N], >= 0; they need not sum to one.
      smoothing: weight of the old mean and deviation in the new ones, 0 <= smoothing < 1.
      min_std: least deviation.
    """
    total = jnp.sum(weights)
    weights = weights / jnp.where(total > 0, total, 1)
    mean = weights @ candidates
    variance = weights @ jnp.square(candidates - mean)
    # Unbiased; one candidate that has all the weight says nothing of a spread: min_std then.
    variance = variance / jnp.maximum(1 - jnp.sum(jnp.square(weights)), 1e-6)
    std = jnp.maximum(jnp.sqrt(variance), min_std)
    new = DiagonalGaussian(mean=mean, std=std)
    return jax.tree.map(
        lambda a, b: jnp.where(total > 0, (1 - smoothing) * a + smoothing * b, b), new, state
    )
