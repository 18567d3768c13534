"""Episodic relative entropy policy search: candidates weighted by exp(-cost / eta).

Source: Peters, Mülling & Altün (2010); the episodic form and the refit of Deisenroth, Neumann &
Peters (2013), "A survey on policy search for robotics", section 2.4.3.
"""

import dataclasses
from typing import Annotated

import jax
import jax.numpy as jnp

from baselines import search
from baselines.search import DiagonalGaussian, Search
from jgps.core.checks import Config, Range

_HALVINGS = 60  # of a bracket in log eta: beyond the resolution of float32


@dataclasses.dataclass(frozen=True, kw_only=True)
class RepsConfig(Config):
    """Settings of `reps`.

    Attributes:
      num_samples: candidates per iteration.
      epsilon: bound of the KL divergence of the weighted candidates to the drawn ones, nats.
      min_std: least deviation of the Gaussian; the first one is 1.
    """

    num_samples: Annotated[int, Range(">= 2")] = 19
    epsilon: Annotated[float, Range("> 0", "usually 1 nat")] = 1.0
    min_std: Annotated[float, Range("> 0")] = 1e-3


def reps(config: RepsConfig = RepsConfig()) -> Search:
    """The method as a search."""

    def tell(state: DiagonalGaussian, candidates: jax.Array, costs: jax.Array) -> DiagonalGaussian:
        return search.refit(
            state, candidates, weights(costs, temperature(costs, config.epsilon)),
            smoothing=0.0, min_std=config.min_std,
        )  # fmt: skip

    return Search(
        num_samples=config.num_samples,
        init=search.start,
        ask=lambda state, key: (search.draw(state, key, config.num_samples), state),
        tell=tell,
        mean=lambda state: state.mean,
    )


def weights(costs: jax.Array, eta: jax.Array) -> jax.Array:
    """exp(-cost / eta), summing to one over the finite costs [N]; zero where there is none."""
    valid = jnp.isfinite(costs)
    least = jnp.min(jnp.where(valid, costs, jnp.inf))
    scaled = jnp.exp(jnp.where(valid, -(costs - least) / eta, -jnp.inf))
    return scaled / jnp.maximum(jnp.sum(scaled), 1)


def temperature(costs: jax.Array, epsilon: float) -> jax.Array:
    """The eta that minimises the dual g(eta) = eta epsilon + eta log mean exp(-cost / eta).

    The derivative of g is epsilon minus the KL divergence of the weights to uniform ones, which
    falls with eta: its root is bisected. The upper end is returned, at which the bound holds.
    Where even all weight on one candidate stays within the bound, eta is next to zero.
    """
    valid = jnp.isfinite(costs)
    num = jnp.sum(valid)
    greatest = jnp.max(jnp.where(valid, costs, -jnp.inf))
    least = jnp.min(jnp.where(valid, costs, jnp.inf))
    spread = jnp.where(num > 0, greatest - least, 0)
    spread = jnp.where(spread > 0, spread, 1)

    def divergence(log_eta: jax.Array) -> jax.Array:
        w = weights(costs, spread * jnp.exp(log_eta))
        return jnp.sum(jnp.where(w > 0, w * jnp.log(jnp.where(w > 0, w, 1) * num), 0))

    def halve(_, bracket: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bracket
        middle = (low + high) / 2
        met = divergence(middle) <= epsilon
        return jnp.where(met, low, middle), jnp.where(met, middle, high)

    reach = jnp.asarray(12.0, costs.dtype)  # eta from 6e-6 to 2e5 spreads
    _, high = jax.lax.fori_loop(0, _HALVINGS, halve, (-reach, reach))
    return spread * jnp.exp(high)
