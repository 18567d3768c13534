"""Everything that guided algorithms keep from one iteration to the next."""

from typing import Any, NamedTuple

import jax

from jgps.core.types import Controller
from jgps.optimise.guided.config import GuidedConfig
from jgps.optimise.guided.history import History
from jgps.optimise.guided.observation_model import ObservationModel
from jgps.policies import NetworkPolicy


class GuidedState(NamedTuple):
    """Everything that the next iteration needs."""

    key: jax.Array
    iteration: jax.Array  # [] int32
    controllers: Controller  # [C, ...], local
    newest: NetworkPolicy  # as last trained
    policy: NetworkPolicy  # the best of those that were rolled out without noise
    policy_valid: jax.Array  # [], share of the training conditions that it got through then
    policy_success: jax.Array  # [], share of those that it succeeded in then; 0 if undefined
    policy_cost: jax.Array  # [], its mean cost over those that it got through then
    models: Any  # what the models' slot remembers
    linearisation_prior: Any  # of the learner's regression; None where it is an offset
    history: History | None  # None where nothing looks at it
    memory: Any  # what the algorithm's own step keeps, leaves [C, ...]
    groups: Any  # what the source of rollouts keeps
    observation_model: ObservationModel | None  # None where the network observes the state itself
    pretraining: Any  # what the learner knows of its pretraining


def trained(config: GuidedConfig, state: GuidedState) -> jax.Array:
    """Whether the network has been trained before this iteration."""
    return state.iteration > config.trajectory_iterations
