"""What cost terms are made of: their type, ramps over time, entries of the state, checks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from numpy.typing import ArrayLike

from jgps.core.checks import as_numbers

Cost = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
Entries = slice | Sequence[int]
Numbers = np.ndarray | jax.Array


@dataclass(frozen=True, eq=False)
class Term:
    """A cost built by this module; call it like any other cost.

    `horizon` is the number of steps it is defined for, None where it does not depend on time.
    """

    name: str
    function: Cost
    horizon: int | None = None

    def __call__(self, x: jax.Array, u: jax.Array, t: jax.Array) -> jax.Array:
        """Cost of one step."""
        return self.function(x, u, t)


def ramped(name: str, cost: Cost, ramp: ArrayLike | None, horizon: int | None = None) -> Term:
    """`cost` times the ramp's value at t."""
    if ramp is None:
        return Term(name, cost, horizon)
    weights = nonnegative(f"{name}.ramp", ramp, max_ndim=1)
    if weights.ndim != 1 or weights.size == 0:
        raise ValueError(f"{name}.ramp has shape {weights.shape}; it has to be [T].")
    if horizon is not None and weights.size != horizon:
        raise ValueError(
            f"{name}.ramp has {weights.size} steps but {name}.horizon is {horizon}; "
            "make them equal."
        )
    return Term(name, lambda x, u, t: at(weights, t, x.dtype) * cost(x, u, t), weights.size)


def at(table: Numbers, t: jax.Array, dtype) -> jax.Array:
    """A table's row of step t, NaN past its end."""
    # Plain indexing would silently repeat the last step there.
    return jnp.asarray(table, dtype).at[t].get(mode="fill", fill_value=jnp.nan)


def take(x: jax.Array, entries: Entries, field: str) -> jax.Array:
    """Chosen entries of the state, refusing those it does not have."""
    size = x.shape[0]
    if isinstance(entries, slice):
        bounds = [b for b in (entries.start, entries.stop) if b is not None]
        outside = any(b > size or b < -size for b in bounds)
        empty = len(range(*entries.indices(size))) == 0
        indices = entries
    else:
        indices = np.asarray(entries)
        if indices.ndim != 1 or not np.issubdtype(indices.dtype, np.integer):
            raise ValueError(f"{field} is {entries!r}; it has to be a slice or a list of indices.")
        outside = bool(np.any((indices >= size) | (indices < -size)))
        empty = indices.size == 0
    if outside or empty:
        raise ValueError(
            f"{field} is {entries!r}, which does not fit a state of {size} entries; take it from "
            "the layout of this task."
        )
    return x[indices]


def fits(field: str, values: Numbers, size: int) -> None:
    """Refuses an array that is neither a scalar nor has one number for each of `size` entries."""
    if values.ndim and values.size != size:
        raise ValueError(
            f"{field} has {values.size} numbers but {size} entries of the state were chosen; pass "
            "one per entry or a scalar."
        )


def numbers(field: str, values: ArrayLike) -> Numbers:
    """An array of numbers; traced ones, such as those of a condition's params, as they are."""
    return values if isinstance(values, Tracer) else as_numbers(field, values)


def scalar(number: float | Numbers) -> float | jax.Array:
    """A checked number as Python has it, or a traced one."""
    return number if isinstance(number, Tracer) else float(number)


def finite(field: str, values: ArrayLike, max_ndim: int) -> Numbers:
    """An array of finite numbers with few enough axes; anything else is refused.

    Of traced numbers nothing is known but their shape.
    """
    array = numbers(field, values)
    if isinstance(array, Tracer):
        if array.ndim > max_ndim:
            raise ValueError(
                f"{field} has shape {array.shape}; it has to have at most {max_ndim} axes."
            )
        return array
    if array.ndim > max_ndim or not np.all(np.isfinite(array)):
        raise ValueError(
            f"{field} is {array.tolist()}; it has to be finite, with at most {max_ndim} axes."
        )
    return array


def nonnegative(field: str, values: ArrayLike, max_ndim: int) -> Numbers:
    """The same of numbers that are all >= 0."""
    array = finite(field, values, max_ndim)
    if isinstance(array, Tracer):
        return array
    if np.any(array < 0):
        raise ValueError(
            f"{field} is {array.tolist()}; it has to be >= 0. Use 0 to leave a part out."
        )
    return array
