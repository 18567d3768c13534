"""Rollouts of the last iterations, which the state keeps for regressions and for training."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

from jgps.simulation import SimulationRollouts

if TYPE_CHECKING:
    from jgps.optimise.guided.state import GuidedState


class History(NamedTuple):
    """Rollouts of the last iterations, a ring of `window` slots."""

    x: jax.Array  # [window, C, N, T, dX], or [window, 1, M, T, dX] of rollouts in groups
    o: jax.Array  # [window, C, N, T, dO]
    valid: jax.Array  # [window, C, N]
    u: jax.Array  # [window, C, N, T, dU]
    # [window, C, N, T], log density of the actions before each step under what drew them
    log_prob: jax.Array


def remember(state: GuidedState, sampled: SimulationRollouts, log_prob: jax.Array) -> GuidedState:
    """The state with this iteration's rollouts in its history, and `log_prob` [C, N, T] of them."""
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
    """The history with the samples of all iterations in one axis: [C, window N, T, ...].

    Args:
      iterations: only of so many of the newest ones, those first; None is all.
    """
    slots = jnp.arange(state.history.valid.shape[0])
    if iterations is not None:
        slots = (state.iteration - jnp.arange(iterations)) % len(slots)

    def join(leaf: jax.Array) -> jax.Array:
        leaf = leaf[slots]
        return jnp.moveaxis(leaf, 0, 1).reshape(leaf.shape[1], -1, *leaf.shape[3:])

    return jax.tree.map(join, state.history)
