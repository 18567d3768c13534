"""What functions of a task have to know of each condition that is not in the state."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jgps.simulation.conditions import Conditions


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
