"""The cross-entropy method: refit a Gaussian to the best candidates.

Source: Rubinstein & Kroese (2004); smoothing as in de Boer et al. (2005), "A tutorial on the
cross-entropy method".
"""

import dataclasses

import jax
import jax.numpy as jnp

from baselines import search
from baselines.search import DiagonalGaussian, Search
from jgps.core.checks import check_field


@dataclasses.dataclass(frozen=True, kw_only=True)
class CemConfig:
    """Settings of `cem`.

    Attributes:
      num_samples: candidates per iteration.
      elite_fraction: of them that the Gaussian is refitted to.
      smoothing: weight of the old mean and deviation in the new ones.
      min_std: least deviation; the first one is 1.
    """

    num_samples: int = 19
    elite_fraction: float = 0.3
    smoothing: float = 0.3
    min_std: float = 1e-3

    def __post_init__(self) -> None:
        check_field(self, "num_samples", lambda v: v >= 2, ">= 2", integer=True)
        check_field(self, "elite_fraction", lambda v: 0 < v <= 1, "in (0, 1]")
        check_field(self, "smoothing", lambda v: 0 <= v < 1, "in [0, 1)")
        check_field(self, "min_std", lambda v: v > 0, "> 0")


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
