"""Between the network and the controllers: what each looks like to the other."""

import jax
import jax.numpy as jnp

from jgps import dynamics, policies
from jgps.core import gaussian, linalg
from jgps.core.types import Controller, Marginals, Status
from jgps.dynamics.fit import ridge_metrics
from jgps.optimise.algorithm import Metrics
from jgps.optimise.guided.config import (
    GuidedConfig,
    MirrorDescentConfig,
    OffsetConfig,
    RegressionConfig,
)
from jgps.optimise.guided.history import History, recent
from jgps.optimise.guided.outliers import sample_weights
from jgps.optimise.guided.state import GuidedState, trained
from jgps.optimise.models import default_dtype
from jgps.optimise.rollouts.conditions import RolloutSource
from jgps.policies import Supervision
from jgps.policies.learner import PolicyLearner
from jgps.simulation import SimulationRollouts
from jgps.tasks import Task


def regression_prior(
    task: Task, config: RegressionConfig, source: RolloutSource
) -> dynamics.PointsPrior:
    """Over [x; mu_pi(o)], of the network's regression in every condition."""
    num, num_samples = source.shape
    return dynamics.make_points_prior(
        config.prior, task.state_dim + task.action_dim, num, config.window * num_samples,
        task.horizon, default_dtype(),
    )  # fmt: skip


def linearise(
    task: Task,
    config: GuidedConfig,
    source: RolloutSource,
    learner: PolicyLearner,
    state: GuidedState,
    sampled: SimulationRollouts,
) -> tuple[GuidedState, Controller, Status, Metrics]:
    """The learner as a controller in every condition, near this iteration's samples.

    What the controllers are held to is not always it: see `trust_region_centre`. A prior sees what
    the learner does now wherever recent iterations have been. Metrics are those of a regression.
    """
    valid, own = sampled.valid, state.controllers
    used = valid[..., None, None]
    known = trained(config, state)
    mean = learner.mean(state.newest, jnp.where(used, sampled.o, 0), known)
    cov, settings = own.C, config.linearisation
    if settings.covariance == "network":
        cov = jnp.broadcast_to(state.newest.cov, cov.shape)
    if isinstance(settings, OffsetConfig):
        weights = sample_weights(own, sampled, config.outlier_bound)
        moved = own._replace(C=cov)
        linearised, status = jax.vmap(policies.offset)(moved, sampled.x, mean, weights)
        return state, _unless_first(config, state, linearised), status, {}

    prior, prior_state = regression_prior(task, settings, source), state.linearisation_prior
    if settings.history_length:
        assert state.history is not None
        newest = None if config.history_length == settings.window else settings.window
        seen = recent(state.history, state.iteration, newest)
        points = jnp.concatenate([seen.x, learner.mean(state.newest, seen.o, known)], axis=-1)
        prior_state, _ = prior.update(prior_state, points, seen.valid)
    niw = prior.evaluate(prior_state, jnp.concatenate([sampled.x, mean], axis=-1), valid)

    def one(x, mean, valid, cov, niw):
        return policies.linearise(x, mean, valid, cov, niw, config.models.fit)

    linearised, info = jax.vmap(one, in_axes=(0, 0, 0, 0, None if niw is None else 0))(
        sampled.x, mean, valid, cov, niw
    )
    state = state._replace(linearisation_prior=prior_state)
    metrics = ridge_metrics(info.ridge_added, "linearisation_")
    return state, _unless_first(config, state, linearised), info.status, metrics


def _unless_first(config: GuidedConfig, state: GuidedState, linearised: Controller) -> Controller:
    """The controllers instead, before the first training: the network is nothing to stay near."""
    known = trained(config, state)
    return jax.tree.map(
        lambda fitted, own: jnp.where(known, fitted, own), linearised, state.controllers
    )


def trust_region_centre(
    config: GuidedConfig, state: GuidedState, linearised: Controller
) -> Controller:
    """What the next controllers stay near to: an offset lies between the last ones and the network.

    Both have the same gains there, so that the geometric mean of the two distributions, normalised,
    is a weighted mean of their offsets.
    """
    if not isinstance(config.linearisation, OffsetConfig):
        return linearised
    own = state.controllers.k
    return linearised._replace(k=own + config.linearisation.agreement * (linearised.k - own))


def targets(state: GuidedState, sampled: SimulationRollouts | History) -> Supervision:
    """What the controllers do at the states that were visited."""
    controllers, observed = state.controllers, state.observation_model
    with jax.default_matmul_precision("highest"):
        mean = jnp.einsum("ctij,cntj->cnti", controllers.K, sampled.x) + controllers.k[:, None]
        gain = controllers.K if observed is None else controllers.K @ observed.slope
    precision, _, _ = linalg.inverse_psd(controllers.C)
    valid = sampled.valid[..., None]
    return Supervision(
        o=sampled.o,
        target=mean,
        precision=precision,
        weight=jnp.broadcast_to(valid, sampled.x.shape[:3]).astype(mean.dtype),
        gain=gain,
    )


def pooled(supervision: Supervision, cov: jax.Array) -> Supervision:
    """The same with one precision for all: the inverse of the mean of `cov` [C, T, dU, dU]."""
    precision, _, _ = linalg.inverse_psd(jnp.mean(cov, axis=(0, 1)))
    precision = jnp.broadcast_to(precision, supervision.precision.shape)
    return supervision._replace(precision=precision)


def penalised_cov(cov: jax.Array, cost: float | jax.Array) -> jax.Array:
    """S [dU, dU] that minimises E[KL(pi || p)] + cost tr(S), of S [dU, dU] that does without cost.

    Args:
      cov: the inverse of the mean precision of the controllers.
      cost: nats per squared action, >= 0.

    Source: Levine et al. (2016), code release, the entropy regularisation of the policy.
    """
    precision, _, _ = linalg.inverse_psd(cov)
    eye = jnp.eye(cov.shape[-1], dtype=cov.dtype)
    return linalg.inverse_psd(precision + 2 * cost * eye)[0]


def divergence(controllers: Controller, policy: Controller, marginals: Marginals) -> jax.Array:
    """KL of the controllers, which lead to `marginals`, from the linearised policy.

    Summed over time, nats [C].
    """
    return jnp.sum(jax.vmap(gaussian.controller_kl)(controllers, policy, marginals), axis=-1)


def sampled_with(
    config: MirrorDescentConfig, state: GuidedState, linearised: Controller
) -> Controller:
    """What this iteration's rollouts were sampled with: the controllers, or the learner.

    The learner as it was linearised, but with the exploration that it acts with. Before the first
    training the controllers act in any case.
    """
    if not config.on_policy:
        return state.controllers
    cov = jnp.where(trained(config, state), state.newest.cov, state.controllers.C)
    return linearised._replace(C=cov)
