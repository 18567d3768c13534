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
    gain_duals: jax.Array | None = None  # [C, T, dU, dX], Lambda; None where gains may differ


class Seen(NamedTuple):
    """Where the samples went at every step, by what each counts; leaves [C, ...].

    NaN at a step at which none counts.
    """

    mean: jax.Array  # [C, T, dX]
    cov: jax.Array  # [C, T, dX, dX]


def seen(x: jax.Array, weight: jax.Array) -> Seen:
    """Mean and covariance of states [C, N, T, dX], of which each counts `weight` [C, N, T].

    Where the fitted model would lead is not asked: it diverges now and then. What has no weight may
    hold anything.
    """
    total = jnp.sum(weight, axis=1)[..., None]
    used = (weight > 0)[..., None]
    x = jnp.where(used, x, 0)
    mean = jnp.sum(weight[..., None] * x, axis=1) / total
    away = jnp.where(used, x - mean[:, None], 0)
    with jax.default_matmul_precision("highest"):
        cov = jnp.einsum("cnt,cnti,cntj->ctij", weight, away, away) / total[..., None]
    return Seen(mean, cov)


def gap_at(controllers: Controller, network: Controller, x: jax.Array) -> jax.Array:
    """E[mu_pi] - E[u] [C, T, dU], both at the mean state x [C, T, dX]."""
    with jax.default_matmul_precision("highest"):
        by_gains = jnp.einsum("ctij,ctj->cti", network.K - controllers.K, x)
    return by_gains + network.k - controllers.k


def step_duals(
    agreement: Agreement,
    controllers: Controller,
    gap: jax.Array,
    rate: float | jax.Array,
    bound: float,
) -> Agreement:
    """The duals after a step by the gap [C, T, dU], within the bound; see `bregman.bounded`.

    A condition whose gap is not finite keeps its duals.
    """
    duals, weights, _ = agreement
    stepped = bregman.dual_step(duals, weights, gap, controllers.C, rate)
    finite = jnp.all(jnp.isfinite(stepped), axis=(-2, -1))
    duals = bregman.bounded(choose(finite, stepped, duals), weights, controllers.C, bound)
    return agreement._replace(duals=duals)


def step_gain_duals(
    agreement: Agreement,
    controllers: Controller,
    network: Controller,
    cov: jax.Array,
    rate: float,
    bound: float,
) -> Agreement:
    """Lambda after a step by the gap of the gains, within the bound; see `bregman.gain_bounded`.

    A condition whose gap is not finite keeps it.

    Args:
      cov: of the samples' states, [C, T, dX, dX].
    """
    gains, weights = agreement.gain_duals, agreement.weights
    assert gains is not None
    gap = network.K - controllers.K
    stepped = bregman.gain_dual_step(gains, weights, gap, controllers.C, rate)
    finite = jnp.all(jnp.isfinite(stepped), axis=(-3, -2, -1))
    kept = choose(finite, stepped, gains)
    return agreement._replace(
        gain_duals=bregman.gain_bounded(kept, weights, controllers.C, cov, bound)
    )


def penalised(
    models: LocalModels, agreement: Agreement, network: Controller, centre: jax.Array
) -> LocalModels:
    """The models, with -u'(lambda + Lambda (x - centre)) - nu log pi(u|x) on top of the cost."""
    penalty = bregman.agreement_penalty(agreement.duals, agreement.weights, network)
    if agreement.gain_duals is not None:
        more = bregman.gain_penalty(agreement.gain_duals, centre)
        penalty = jax.tree.map(jnp.add, penalty, more)
    return models._replace(cost=jax.tree.map(jnp.add, models.cost, penalty))


def supervise(
    agreement: Agreement,
    state: GuidedState,
    sampled: SimulationRollouts,
    weight: jax.Array,
    bound: float,
) -> Supervision:
    """What the network imitates: the controllers' actions, moved by the duals within the bound.

    Args:
      weight: what every sample counts, [C, N, T]; on top of it each step counts by its nu.
    """
    C, weights = state.controllers.C, agreement.weights
    duals = bregman.bounded(agreement.duals, weights, C, bound)
    plain = projection.targets(state, sampled)
    found = plain._replace(
        target=bregman.policy_targets(plain.target, C, duals, weights),
        weight=weight * weights[:, None],
    )
    if agreement.gain_duals is None:
        return found
    used = (weight > 0)[..., None]
    states = seen(sampled.x, weight)
    away = jnp.where(used, sampled.x - states.mean[:, None], 0)
    gain_duals = bregman.gain_bounded(agreement.gain_duals, weights, C, states.cov, bound)
    with jax.default_matmul_precision("highest"):
        gain = C @ gain_duals / weights[..., None, None]
        target = found.target - jnp.einsum("ctij,cntj->cnti", gain, away)
        observed = state.observation_model
        gain = gain if observed is None else gain @ observed.slope
    assert plain.gain is not None
    return found._replace(target=target, gain=plain.gain - gain)


def adapt(
    agreement: Agreement,
    kl: jax.Array,
    stepped: jax.Array,
    usable: jax.Array,
    limits: tuple[float, float],
) -> Agreement:
    """The same duals with nu for the next iteration; see `guided.weight_rules`.

    Args:
      kl: divergence of the controllers from the network, [C, T]. A condition in which it is not
        finite keeps its weights.
      stepped: nu as the divergence asks for it, [C, T].
      usable: [C]; a condition in which this is False keeps its weights, too.
      limits: of nu.
    """
    weights = jnp.clip(stepped, *limits).astype(agreement.weights.dtype)
    usable = usable & jnp.all(jnp.isfinite(kl), axis=-1)
    return agreement._replace(weights=choose(usable, weights, agreement.weights))


def mean_shift(agreement: Agreement, controllers: Controller) -> jax.Array:
    """How far the duals move what the network imitates, standard deviations, mean over time [C]."""
    size = bregman.shift_size(agreement.duals, agreement.weights, controllers.C)
    return jnp.mean(size, axis=-1)
