"""What makes controllers and one network agree in Bregman ADMM: duals, their weights, their use.

See `jgps.core.bregman` for the terms.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jgps.core import bregman
from jgps.core.types import Controller
from jgps.optimise.guided import projection
from jgps.optimise.guided.state import GuidedState
from jgps.optimise.models import LocalModels, choose
from jgps.policies import Supervision
from jgps.simulation import SimulationRollouts


class Agreement(NamedTuple):
    """How controllers and the network are pulled together; leaves [C, ...]."""

    duals: jax.Array  # [C, T, dU], lambda
    weights: jax.Array  # [C, T], nu


def gap_at_samples(
    controllers: Controller, network: Controller, sampled: SimulationRollouts
) -> jax.Array:
    """E[mu_pi] - E[u] [C, T, dU], both at the states that the valid rollouts went through.

    Where the fitted model would lead is not asked: it diverges now and then. Without a valid
    rollout the gap is NaN.
    """
    valid = sampled.valid[..., None, None]
    count = jnp.sum(sampled.valid, axis=1)[:, None, None]
    x = jnp.sum(jnp.where(valid, sampled.x, 0), axis=1) / count
    with jax.default_matmul_precision("highest"):
        by_gains = jnp.einsum("ctij,ctj->cti", network.K - controllers.K, x)
    return by_gains + network.k - controllers.k


def step_duals(
    agreement: Agreement, controllers: Controller, gap: jax.Array, rate: float, bound: float
) -> Agreement:
    """The duals after a step by the gap [C, T, dU], within the bound; see `bregman.bounded`.

    A condition whose gap is not finite keeps its duals.
    """
    duals, weights = agreement
    stepped = bregman.dual_step(duals, weights, gap, controllers.C, rate)
    finite = jnp.all(jnp.isfinite(stepped), axis=(-2, -1))
    duals = bregman.bounded(choose(finite, stepped, duals), weights, controllers.C, bound)
    return Agreement(duals, weights)


def penalised(models: LocalModels, agreement: Agreement, network: Controller) -> LocalModels:
    """The models, with -u'lambda - nu log pi(u|x) on top of the cost."""
    penalty = bregman.agreement_penalty(agreement.duals, agreement.weights, network)
    return models._replace(cost=jax.tree.map(jnp.add, models.cost, penalty))


def supervise(
    agreement: Agreement, state: GuidedState, sampled: SimulationRollouts, bound: float
) -> Supervision:
    """What the network imitates: the controllers' actions, moved by the duals within the bound."""
    C, weights = state.controllers.C, agreement.weights
    duals = bregman.bounded(agreement.duals, weights, C, bound)
    plain = projection.targets(state, sampled)
    return plain._replace(
        target=bregman.policy_targets(plain.target, C, duals, weights),
        weight=plain.weight * weights[:, None],
    )


def adapt(
    agreement: Agreement, kl: jax.Array, usable: jax.Array, limits: tuple[float, float]
) -> Agreement:
    """The same duals with nu for the next iteration; see `bregman.adapt_weights`.

    Args:
      kl: divergence of the controllers from the network, [C, T]. A condition in which it is not
        finite keeps its weights.
      usable: [C]; so does one in which this is False.
      limits: of nu.
    """
    weights = bregman.adapt_weights(agreement.weights, kl, *limits)
    usable = usable & jnp.all(jnp.isfinite(kl), axis=-1)
    return agreement._replace(weights=choose(usable, weights, agreement.weights))


def mean_shift(agreement: Agreement, controllers: Controller) -> jax.Array:
    """How far the duals move what the network imitates, standard deviations, mean over time [C]."""
    size = bregman.shift_size(agreement.duals, agreement.weights, controllers.C)
    return jnp.mean(size, axis=-1)
