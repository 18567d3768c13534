"""A regression of the state on what the network observes, near the controllers' rollouts.

Controllers have gains for the state. Where the network observes something else, training disturbs
the observation, and this regression says how the state, and with it the target, follows.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jgps import dynamics, policies
from jgps.core.types import OK
from jgps.dynamics.fit import ridge_metrics
from jgps.optimise.algorithm import Metrics
from jgps.optimise.guided.config import GuidedConfig
from jgps.optimise.models import choose, default_dtype
from jgps.optimise.rollouts.conditions import RolloutSource
from jgps.simulation import SimulationRollouts
from jgps.tasks import Task


class ObservationModel(NamedTuple):
    """How the state goes with what the network observes, near the controllers' samples."""

    prior: Any  # of [o; x]
    slope: jax.Array  # [C, T, dX, dq], E[dx] per change of the vector that the network reads


def observation_model_prior(
    task: Task, config: GuidedConfig, source: RolloutSource
) -> dynamics.PointsPrior:
    """Over [o; x], of what the vector that the network reads tells of the state."""
    return dynamics.make_points_prior(
        config.observation_prior, task.configuration_dim + task.state_dim, *source.shape,
        task.horizon, default_dtype(),
    )  # fmt: skip


def update_observation_model(
    task: Task,
    config: GuidedConfig,
    source: RolloutSource,
    model: ObservationModel,
    sampled: SimulationRollouts,
) -> tuple[ObservationModel, Metrics]:
    """How the state goes with the observation now; a failing condition keeps what it knew.

    The metrics say where it did, as `observation_status` [C], and where the ridge was raised.
    """
    # What an image tells is left out.
    sampled = sampled._replace(o=sampled.o[..., task.configuration])
    prior, seen = observation_model_prior(task, config, source), source.pool(sampled)
    points = jnp.concatenate([seen.o, seen.x], axis=-1)
    prior_state, _ = prior.update(model.prior, points, seen.valid)
    own = jnp.concatenate([sampled.o, sampled.x], axis=-1)
    niw = prior.evaluate(prior_state, own, sampled.valid)

    def one(o, x, valid, niw):
        return policies.linearise(o, x, valid, jnp.zeros(()), niw, config.models.fit)

    fitted, info = jax.vmap(one, in_axes=(0, 0, 0, None if niw is None else 0))(
        sampled.o, sampled.x, sampled.valid, niw
    )
    slope = choose(info.status.code == OK, fitted.K, model.slope)
    metrics = {
        "observation_status": info.status.code,
        **ridge_metrics(info.ridge_added, "observation_"),
    }
    return ObservationModel(prior=prior_state, slope=slope), metrics
