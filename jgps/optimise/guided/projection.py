"""Between the network and the controllers: what each looks like to the other."""

import jax
import jax.numpy as jnp

from jgps import dynamics, policies
from jgps.core import gaussian, linalg
from jgps.core.types import OK, Controller, Marginals, Status
from jgps.optimise.guided.state import (
    GuidedConfig,
    GuidedState,
    History,
    ObservationModel,
    recent,
    trained,
)
from jgps.optimise.models import choose, default_dtype
from jgps.optimise.rollouts.conditions import Grouping
from jgps.policies import Supervision
from jgps.policies.learner import PolicyLearner
from jgps.simulation import SimulationRollouts
from jgps.tasks import Task


def policy_prior(task: Task, config: GuidedConfig, grouping: Grouping) -> dynamics.PointsPrior:
    """Over [x; mu_pi(o)], of the network's regression in every condition."""
    num, num_samples = grouping.shape
    return dynamics.make_points_prior(
        config.policy_prior, task.state_dim + task.action_dim, num, config.window * num_samples,
        task.horizon, default_dtype(),
    )  # fmt: skip


def observation_model_prior(
    task: Task, config: GuidedConfig, grouping: Grouping
) -> dynamics.PointsPrior:
    """Over [o; x], of what the vector that the network reads tells of the state."""
    return dynamics.make_points_prior(
        config.policy_prior, task.configuration_dim + task.state_dim, *grouping.shape,
        task.horizon, default_dtype(),
    )  # fmt: skip


def see(
    task: Task,
    config: GuidedConfig,
    grouping: Grouping,
    state: GuidedState,
    sampled: SimulationRollouts,
) -> GuidedState:
    """How the state goes with the observation now; a failing condition keeps what it knew."""
    if state.observation_model is None:
        return state
    # What an image tells is left out.
    sampled = sampled._replace(o=sampled.o[..., task.configuration])
    prior, seen = observation_model_prior(task, config, grouping), grouping.pool(sampled)
    points = jnp.concatenate([seen.o, seen.x], axis=-1)
    prior_state, _ = prior.update(state.observation_model.prior, points, seen.valid)
    own = jnp.concatenate([sampled.o, sampled.x], axis=-1)
    niw = prior.evaluate(prior_state, own, sampled.valid)

    def one(o, x, valid, niw):
        return policies.linearise(o, x, valid, jnp.zeros(()), niw, config.models.fit)

    fitted, status = jax.vmap(one, in_axes=(0, 0, 0, None if niw is None else 0))(
        sampled.o, sampled.x, sampled.valid, niw
    )
    slope = choose(status.code == OK, fitted.K, state.observation_model.slope)
    return state._replace(observation_model=ObservationModel(prior=prior_state, slope=slope))


def linearise(
    task: Task,
    config: GuidedConfig,
    grouping: Grouping,
    learner: PolicyLearner,
    state: GuidedState,
    sampled: SimulationRollouts,
) -> tuple[GuidedState, Controller, Status]:
    """The learner as a controller in every condition, near this iteration's samples.

    What the controllers are held to is not always it: see `trust_region_centre`. A prior sees what
    the learner does now wherever recent iterations have been.
    """
    valid, own = sampled.valid, state.controllers
    used = valid[..., None, None]
    known = trained(config, state)
    mean = learner.mean(state.learner, jnp.where(used, sampled.o, 0), known)
    cov = own.C
    if config.policy_covariance == "network":
        cov = jnp.broadcast_to(state.learner.cov, cov.shape)
    if config.linearisation == "offset":
        linearised, status = jax.vmap(policies.offset)(own._replace(C=cov), sampled.x, mean, valid)
        return state, _unless_first(config, state, linearised), status

    prior, history = policy_prior(task, config, grouping), recent(state)
    points = jnp.concatenate([history.x, learner.mean(state.learner, history.o, known)], axis=-1)
    prior_state, _ = prior.update(state.policy_prior, points, history.valid)
    niw = prior.evaluate(prior_state, jnp.concatenate([sampled.x, mean], axis=-1), valid)

    def one(x, mean, valid, cov, niw):
        return policies.linearise(x, mean, valid, cov, niw, config.models.fit)

    linearised, status = jax.vmap(one, in_axes=(0, 0, 0, 0, None if niw is None else 0))(
        sampled.x, mean, valid, cov, niw
    )
    state = state._replace(policy_prior=prior_state)
    return state, _unless_first(config, state, linearised), status


def _unless_first(config: GuidedConfig, state: GuidedState, linearised: Controller) -> Controller:
    """The controllers instead, before the first training: the network is nothing to stay near."""
    known = trained(config, state)
    return jax.tree.map(
        lambda fitted, own: jnp.where(known, fitted, own), linearised, state.controllers
    )


def trust_region_centre(
    config: GuidedConfig, state: GuidedState, linearised: Controller
) -> Controller:
    """What the next controllers stay near to: with "offset", between the last ones and the network.

    Both have the same gains there, so that the geometric mean of the two distributions, normalised,
    is a weighted mean of their offsets.
    """
    if config.linearisation != "offset":
        return linearised
    own = state.controllers.k
    return linearised._replace(k=own + config.agreement * (linearised.k - own))


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


def divergence(controllers: Controller, policy: Controller, marginals: Marginals) -> jax.Array:
    """KL of the controllers, which lead to `marginals`, from the linearised policy.

    Summed over time, nats [C].
    """
    return jnp.sum(jax.vmap(gaussian.controller_kl)(controllers, policy, marginals), axis=-1)


def sampled_with(config: GuidedConfig, state: GuidedState, linearised: Controller) -> Controller:
    """What this iteration's rollouts were sampled with: the controllers, or the learner.

    The learner as it was linearised, but with the exploration that it acts with. Before the first
    training the controllers act in any case.
    """
    if config.sampling == "off_policy":
        return state.controllers
    cov = jnp.where(trained(config, state), state.learner.cov, state.controllers.C)
    return linearised._replace(C=cov)
