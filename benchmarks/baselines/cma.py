"""Separable CMA-ES, as a stronger search than the published comparisons had. Needs evosax."""

import dataclasses
from typing import Annotated, Any

import jax
import jax.numpy as jnp

from baselines.search import Search
from jgps.core.checks import Config, Range


@dataclasses.dataclass(frozen=True, kw_only=True)
class CmaConfig(Config):
    """Settings of `cma`.

    Attributes:
      num_samples: candidates per iteration.
    """

    num_samples: Annotated[int, Range(">= 2")] = 19


def cma(config: CmaConfig, size: int) -> Search:
    """Evosax's Sep-CMA-ES on `size` parameters.

    Its learning rates of the covariance are those of the full method; Ros & Hansen (2008) multiply
    them by (size + 2) / 3, which is done here.
    """
    from evosax.algorithms import Sep_CMA_ES  # of the extra `bench`

    strategy = Sep_CMA_ES(population_size=config.num_samples, solution=jnp.zeros(size))
    params: Any = strategy.default_params
    faster = (size + 2) / 3
    c_1 = jnp.minimum(1, faster * params.c_1)
    params = params.replace(c_1=c_1, c_mu=jnp.minimum(1 - c_1, faster * params.c_mu))
    unused = jax.random.key(0)  # neither `init` nor `tell` of this strategy draws

    def tell(state: Any, candidates: jax.Array, costs: jax.Array) -> Any:
        costs = jnp.where(jnp.isfinite(costs), costs, jnp.nan)  # how evosax marks a failure
        return strategy.tell(unused, candidates, costs, state, params)[0]

    return Search(
        num_samples=config.num_samples,
        init=lambda mean: strategy.init(unused, mean, params),
        ask=lambda state, key: strategy.ask(key, state, params),
        tell=tell,
        mean=strategy.get_mean,
    )
