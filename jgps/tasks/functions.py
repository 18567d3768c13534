"""The task's functions on rollouts, each in its condition.

Where conditions have `params` (see `jgps.simulation.Conditions`), cost, success, distance and
dynamics take one more argument, the last: the params of the condition at hand, without the axis of
conditions. Terms of `jgps.costs` take numbers of it:

    lambda s: lambda x, u, t, params: costs.distance(s["site_pos:tip"], params["goal"])(x, u, t)
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jgps import costs
from jgps.simulation.condition_params import params_like, params_of, with_params

__all__ = [
    "fallen",
    "over_rollouts",
    "params_like",
    "params_of",
    "step_costs",
    "succeeded",
    "with_params",
]


def step_costs(
    params: Any, cost: Callable[..., jax.Array], x: jax.Array, u: jax.Array
) -> jax.Array:
    """Cost [C, N, T] of every step of rollouts x [C, N, T, dX], u [C, N, T, dU].

    Args:
      params: of the conditions, leaves [C, ...]; None where they have none.
      cost: the task's.
      x, u: the rollouts.
    """
    return jax.vmap(lambda p, x, u: costs.evaluate(with_params(cost, p), x, u))(params, x, u)


def over_rollouts(params: Any, function: Callable[..., jax.Array], *arrays: jax.Array) -> jax.Array:
    """What a success or distance says of every rollout [C, N, ...], as [C, N]."""
    return jax.vmap(lambda p, *each: jax.vmap(with_params(function, p))(*each))(params, *arrays)


def fallen(params: Any, fall: Callable[..., jax.Array], x: jax.Array) -> jax.Array:
    """Whether the robot has fallen by each step of rollouts x [C, N, T, dX], as [C, N, T].

    Once it has fallen it stays so, whatever comes then.
    """

    def along(x: jax.Array, *params: Any) -> jax.Array:
        return jax.lax.cummax(jax.vmap(lambda row: fall(row, *params))(x).astype(jnp.int32)) > 0

    return over_rollouts(params, along, x)


def succeeded(
    params: Any,
    success: Callable[..., jax.Array],
    fall: Callable[..., jax.Array] | None,
    x: jax.Array,
    u: jax.Array,
) -> jax.Array:
    """Which rollouts are a success, [C, N]: as the task says, and without a fall."""
    good = over_rollouts(params, success, x, u)
    return good if fall is None else good & ~fallen(params, fall, x)[..., -1]
