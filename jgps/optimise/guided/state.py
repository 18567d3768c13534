"""Everything that guided algorithms keep from one iteration to the next."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jgps.core.types import Controller
from jgps.optimise.guided.config import GuidedConfig
from jgps.optimise.models import default_dtype
from jgps.policies import NetworkPolicy
from jgps.simulation import SimulationRollouts
from jgps.tasks import Task
from jgps.vision.pretraining import Pretraining


class History(NamedTuple):
    """Rollouts of the last iterations, a ring of `length` slots."""

    x: jax.Array  # [length, C, N, T, dX], or [length, 1, M, T, dX] of rollouts in groups
    o: jax.Array  # [length, C, N, T, dO]
    valid: jax.Array  # [length, C, N]
    u: jax.Array  # [length, C, N, T, dU]
    # [length, C, N, T], log density of the actions before each step under what drew them
    log_prob: jax.Array


class ObservationModel(NamedTuple):
    """How the state goes with what the network observes, near the controllers' samples."""

    prior: Any  # of [o; x]
    slope: jax.Array  # [C, T, dX, dq], E[dx] per change of the vector that the network reads


class GuidedState(NamedTuple):
    """Everything that the next iteration needs."""

    key: jax.Array
    iteration: jax.Array  # [] int32
    controllers: Controller  # [C, ...], local
    learner: NetworkPolicy  # as last trained
    policy: NetworkPolicy  # the best that was tried without noise so far
    policy_valid: jax.Array  # [], share of the training conditions that it got through then
    policy_success: jax.Array  # [], share of those that it succeeded in then; 0 if undefined
    policy_cost: jax.Array  # [], its mean cost over those that it got through then
    models: Any  # what the models' slot remembers
    linearisation_prior: Any  # of the learner's regression; None where it is an offset
    history: History | None  # None where nothing looks at it
    memory: Any  # what the algorithm's own step keeps, leaves [C, ...]
    groups: Any  # what the source of rollouts keeps
    observation_model: ObservationModel | None  # None where the network observes the state itself
    pretraining: Pretraining | None  # None where the network sees no images


def trained(config: GuidedConfig, state: GuidedState) -> jax.Array:
    """Whether the network has been trained before this iteration."""
    return state.iteration > config.trajectory_iterations


def empty_history(task: Task, length: int, shape: tuple[int, int]) -> History | None:
    """What is remembered before the first iteration, of rollouts [*shape, T, ...]."""
    if length == 0:
        return None
    lead, dtype = (length, *shape), default_dtype()
    return History(
        x=jnp.zeros((*lead, task.horizon, task.state_dim), dtype),
        o=jnp.zeros((*lead, task.horizon, task.observation_dim), dtype),
        valid=jnp.zeros(lead, bool),
        u=jnp.zeros((*lead, task.horizon, task.action_dim), dtype),
        log_prob=jnp.zeros((*lead, task.horizon), dtype),
    )


def remember(state: GuidedState, sampled: SimulationRollouts, log_prob: jax.Array) -> GuidedState:
    """The state with this iteration's rollouts in its history, and `log_prob` [C, N, T] of them."""
    if state.history is None:
        return state
    slot = state.iteration % state.history.valid.shape[0]
    valid = sampled.valid
    used = valid[..., None, None]
    new = History(
        x=jnp.where(used, sampled.x, 0),
        o=jnp.where(used, sampled.o, 0),
        valid=valid,
        u=jnp.where(used, sampled.u, 0),
        log_prob=jnp.where(valid[..., None], log_prob, 0),
    )
    history = jax.tree.map(lambda old, leaf: old.at[slot].set(leaf), state.history, new)
    return state._replace(history=history)


def recent(state: GuidedState, iterations: int | None = None) -> History:
    """The history with the samples of all iterations in one axis: [C, length N, T, ...].

    Args:
      iterations: only of so many of the newest ones, those first; None is all.
    """
    assert state.history is not None
    slots = jnp.arange(state.history.valid.shape[0])
    if iterations is not None:
        slots = (state.iteration - jnp.arange(iterations)) % len(slots)

    def join(leaf: jax.Array) -> jax.Array:
        leaf = leaf[slots]
        return jnp.moveaxis(leaf, 0, 1).reshape(leaf.shape[1], -1, *leaf.shape[3:])

    return jax.tree.map(join, state.history)
