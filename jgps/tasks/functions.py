"""The task's cost, success and distance on rollouts, each in its condition.

Where conditions have `params` (see `jgps.simulation.Conditions`), each of these functions takes
one more argument, the last: the params of the condition at hand, without the axis of conditions.
Terms of `jgps.costs` take numbers of it:

    lambda s: lambda x, u, t, params: costs.distance(s["site_pos:tip"], params["goal"])(x, u, t)
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jgps import costs
from jgps.simulation import Conditions


def with_params(function: Callable[..., Any], params: Any) -> Callable[..., Any]:
    """The function with the params of one condition as its last argument; itself for None."""
    if params is None:
        return function
    return lambda *arguments: function(*arguments, params)


def params_of(conditions: Conditions) -> Any:
    """The params of all conditions, leaves [C, ...], in the precision in which JAX computes."""

    def canonical(leaf: np.ndarray) -> np.ndarray:
        return leaf.astype(jax.dtypes.canonicalize_dtype(leaf.dtype))

    return jax.tree.map(canonical, conditions.params)


def params_like(conditions: Conditions) -> tuple[Any, ...]:
    """What the task's functions take beside x, u and t, as shapes and dtypes: no or one pytree."""
    params = params_of(conditions)
    if params is None:
        return ()
    return (jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape[1:], p.dtype), params),)


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
