"""The cross-entropy method: refit a Gaussian to the best candidates.

Source: Rubinstein & Kroese (2004); smoothing as in de Boer et al. (2005), "A tutorial on the
cross-entropy method".
"""

import dataclasses
from typing import Annotated

import jax
import jax.numpy as jnp

from baselines import search
from baselines.search import DiagonalGaussian, Search
from jgps.core.checks import Config, Range


@dataclasses.dataclass(frozen=True, kw_only=True)
class CemConfig(Config):
    """Settings of `cem`.

    Attributes:
      num_samples: candidates per iteration.
      elite_fraction: of them that the Gaussian is refitted to.
      smoothing: weight of the old mean and deviation in the new ones.
      min_std: least deviation; the first one is 1.
    """

    num_samples: Annotated[int, Range(">= 2")] = 19
    elite_fraction: Annotated[float, Range("(0, 1]")] = 0.3
    smoothing: Annotated[float, Range("[0, 1)")] = 0.3
    min_std: Annotated[float, Range("> 0")] = 1e-3


def cem(config: CemConfig = CemConfig()) -> Search:
    """The method as a search."""
    num_elites = max(2, round(config.elite_fraction * config.num_samples))

    def tell(state: DiagonalGaussian, candidates: jax.Array, costs: jax.Array) -> DiagonalGaussian:
        costs = jnp.where(jnp.isfinite(costs), costs, jnp.inf)
        rank = jnp.argsort(jnp.argsort(costs))
        elite = (rank < num_elites) & jnp.isfinite(costs)
        return search.refit(
            state, candidates, elite.astype(candidates.dtype),
            smoothing=config.smoothing, min_std=config.min_std,
        )  # fmt: skip

    return Search(
        num_samples=config.num_samples,
        init=search.start,
        ask=lambda state, key: (search.draw(state, key, config.num_samples), state),
        tell=tell,
        mean=lambda state: state.mean,
    )
