"""Rollouts of the last iterations, which the state keeps for regressions and for training."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jgps.simulation import SimulationRollouts


class History(NamedTuple):
    """Rollouts of the last iterations, a ring of `window` slots."""

    x: jax.Array  # [window, C, N, T, dX], or [window, 1, M, T, dX] of rollouts in groups
    o: jax.Array  # [window, C, N, T, dO]
    valid: jax.Array  # [window, C, N]
    u: jax.Array  # [window, C, N, T, dU]
    # [window, C, N, T], log density of the actions before each step under what drew them
    log_prob: jax.Array


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
    """The history with the samples of all iterations in one axis: [C, window N, T, ...].

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
