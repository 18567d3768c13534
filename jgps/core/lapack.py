"""LAPACK on many matrices, in a way that cannot block XLA's CPU thread pool.

XLA's CPU runtime splits a batched LAPACK call into tasks for its own thread pool and waits for
them in that pool. Where as many such calls run at once as there are threads (two, on two cores),
each waits for tasks that only the waiting threads could run, and the program hangs (seen with
jaxlib 0.10). A call on a single matrix makes no tasks, so on CPU matrices go one by one; elsewhere
the batched call is used.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def _one_by_one(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` of arrays [..., n, m] with equal leading axes; `vmap` adds a leading axis."""

    @jax.custom_batching.custom_vmap
    def call(*arrays: jax.Array) -> Any:
        return jax.lax.platform_dependent(
            *arrays, cpu=functools.partial(_mapped, function), default=function
        )

    @call.def_vmap
    def _(axis_size: int, in_batched: list[bool], *arrays: jax.Array) -> Any:
        full = [
            array if batched else jnp.broadcast_to(array, (axis_size, *array.shape))
            for array, batched in zip(arrays, in_batched, strict=True)
        ]
        result = call(*full)
        return result, jax.tree.map(lambda _: True, result)

    return call


def _mapped(function: Callable[..., Any], *arrays: jax.Array) -> Any:
    lead = arrays[0].shape[:-2]
    if math.prod(lead) == 1:
        return function(*arrays)
    flat = tuple(array.reshape(-1, *array.shape[-2:]) for array in arrays)
    result = jax.lax.map(lambda matrices: function(*matrices), flat)
    return jax.tree.map(lambda leaf: leaf.reshape(*lead, *leaf.shape[1:]), result)


@_one_by_one
def cholesky(a: jax.Array) -> jax.Array:
    """Lower Cholesky factor of symmetric `a` [..., n, n]; NaN where there is none."""
    return jnp.linalg.cholesky(a, symmetrize_input=False)


@_one_by_one
def eigh(a: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Eigenvalues [..., n], ascending, and eigenvectors [..., n, n] of symmetric `a`."""
    eigenvalues, vectors = jnp.linalg.eigh(a, symmetrize_input=False)
    return eigenvalues, vectors


@_one_by_one
def solve_lower(lower: jax.Array, b: jax.Array) -> jax.Array:
    """Solves `lower x = b`; lower [..., n, n], b [..., n, m]."""
    return jax.lax.linalg.triangular_solve(lower, b, left_side=True, lower=True)


@_one_by_one
def solve_lower_transposed(lower: jax.Array, b: jax.Array) -> jax.Array:
    """Solves `lower' x = b`; lower [..., n, n], b [..., n, m]."""
    return jax.lax.linalg.triangular_solve(lower, b, left_side=True, lower=True, transpose_a=True)
