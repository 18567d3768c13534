"""Rollouts of the last iterations, which the state keeps for regressions and for training."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jgps.optimise.models import default_dtype
from jgps.simulation import SimulationRollouts
from jgps.tasks import Task


class History(NamedTuple):
    """Rollouts of the last iterations, a ring of `length` slots."""

    x: jax.Array  # [length, C, N, T, dX], or [length, 1, M, T, dX] of rollouts in groups
    o: jax.Array  # [length, C, N, T, dO]
    valid: jax.Array  # [length, C, N]
    u: jax.Array  # [length, C, N, T, dU]
    # [length, C, N, T], log density of the actions before each step under what drew them
    log_prob: jax.Array


def empty_history(task: Task, length: int, shape: tuple[int, int]) -> History | None:
    """What is remembered before the first iteration, of rollouts [*shape, T, ...].

    None where `length` is 0, and so nothing is remembered.
    """
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


def remember(
    history: History, iteration: jax.Array, sampled: SimulationRollouts, log_prob: jax.Array
) -> History:
    """The history with the rollouts of an iteration, and `log_prob` [C, N, T] of them."""
    slot = iteration % history.valid.shape[0]
    valid = sampled.valid
    used = valid[..., None, None]
    new = History(
        x=jnp.where(used, sampled.x, 0),
        o=jnp.where(used, sampled.o, 0),
        valid=valid,
        u=jnp.where(used, sampled.u, 0),
        log_prob=jnp.where(valid[..., None], log_prob, 0),
    )
    return jax.tree.map(lambda old, leaf: old.at[slot].set(leaf), history, new)


def recent(history: History, iteration: jax.Array, iterations: int | None = None) -> History:
    """The history with the samples of all iterations in one axis: [C, length N, T, ...].

    Args:
      history: rollouts of some iterations.
      iteration: number of the newest one.
      iterations: only of so many of the newest ones, those first; None is all.
    """
    slots = jnp.arange(history.valid.shape[0])
    if iterations is not None:
        slots = (iteration - jnp.arange(iterations)) % len(slots)

    def join(leaf: jax.Array) -> jax.Array:
        leaf = leaf[slots]
        return jnp.moveaxis(leaf, 0, 1).reshape(leaf.shape[1], -1, *leaf.shape[3:])

    return jax.tree.map(join, history)
