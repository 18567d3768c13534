"""Small dense linear algebra that reports failure instead of returning NaN silently.

Every function works on the last two axes and takes any leading axes. By hand each is one program
(see `jgps.core.one_program`).
"""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax
import jax.numpy as jnp

from jgps.core import lapack
from jgps.core.one_program import one_program

# Up to this size factorisations are written in plain array operations, which XLA vectorises over
# the batch; LAPACK would be called once for every tiny matrix.
MAX_SMALL_SIZE = 16
MAX_SUMMED_SIZE = 24  # the same of `product`

_Args = ParamSpec("_Args")
_Result = TypeVar("_Result")


def full_precision(function: Callable[_Args, _Result]) -> Callable[_Args, _Result]:
    """Makes matrix products traced inside `function` use full float32 (no tf32, no bfloat16)."""

    @functools.wraps(function)
    def wrapped(*args: _Args.args, **kwargs: _Args.kwargs) -> _Result:
        with jax.default_matmul_precision("highest"):
            return function(*args, **kwargs)

    return wrapped


def transpose(a: jax.Array) -> jax.Array:
    """Swaps the last two axes."""
    return jnp.swapaxes(a, -1, -2)


def product(a: jax.Array, b: jax.Array) -> jax.Array:
    """A [..., n, m] times b [..., m, p], quickly where these are many tiny matrices on a CPU.

    XLA takes matrix products one matrix after the other there; as products and sums, which it
    fuses, those of 4 to 24 rows took a sixth to two thirds of the time.
    """
    if a.shape[-1] > MAX_SUMMED_SIZE:
        return a @ b
    return jnp.sum(a[..., :, :, None] * b[..., None, :, :], axis=-2)


@one_program()
def symmetrise(a: jax.Array) -> jax.Array:
    """(a + a') / 2."""
    return 0.5 * (a + transpose(a))


@one_program()
def cholesky(a: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Lower Cholesky factor of symmetric `a` [..., n, n] and whether it exists.

    A pivot at or below `n eps a_jj`, the rounding level of its own diagonal entry, counts as not
    positive: nothing computed from it would have a correct digit.

    Returns:
      L [..., n, n], the identity where `a` is not positive definite or not finite; ok [...] bool.
    """
    n = a.shape[-1]
    if n > MAX_SMALL_SIZE:
        chol = lapack.cholesky(a)
        pivots = jnp.square(jnp.diagonal(chol, axis1=-2, axis2=-1))
    else:
        chol, pivots = _cholesky_by_columns(a)
    ok = _all_positive(pivots, a)
    return jnp.where(ok[..., None, None], chol, jnp.eye(n, dtype=a.dtype)), ok


def _cholesky_by_columns(a: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Lower factor and pivots; each column is taken off what is left of `a`."""
    n = a.shape[-1]
    rows = jnp.arange(n)

    def take_column(
        j: jax.Array, state: tuple[jax.Array, jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        rest, chol, pivots = state
        column = jax.lax.dynamic_index_in_dim(rest, j, -1, keepdims=False)
        pivot = jax.lax.dynamic_index_in_dim(column, j, -1)
        root = jnp.sqrt(jnp.where(pivot > 0, pivot, 1))
        column = jnp.where(rows >= j, column / root, 0)
        rest = rest - column[..., :, None] * column[..., None, :]
        here = rows == j
        return rest, jnp.where(here, column[..., None], chol), jnp.where(here, pivot, pivots)

    start = (a, jnp.zeros_like(a), jnp.ones(a.shape[:-1], a.dtype))
    _, chol, pivots = jax.lax.fori_loop(0, n, take_column, start)
    return chol, pivots


@one_program()
def is_covariance(a: jax.Array) -> jax.Array:
    """Whether `a` [..., n, n] is symmetric and positive semi-definite, [...] bool.

    Up to rounding: a thousand times the dtype's resolution, of the largest entry.
    """
    largest = jnp.max(jnp.abs(a), axis=(-2, -1), keepdims=True)
    relative = a / jnp.where(largest > 0, largest, 1)
    tolerance = 1e3 * float(jnp.finfo(a.dtype).eps)
    asymmetry = jnp.max(jnp.abs(relative - transpose(relative)), axis=(-2, -1))
    lifted = symmetrise(relative) + tolerance * jnp.eye(a.shape[-1], dtype=a.dtype)
    return cholesky(lifted)[1] & (asymmetry <= tolerance)


@one_program()
def inverse_triangular(chol: jax.Array) -> jax.Array:
    """Inverse of the lower-triangular `chol` [..., n, n]."""
    eye = jnp.broadcast_to(jnp.eye(chol.shape[-1], dtype=chol.dtype), chol.shape)
    return lapack.solve_lower(chol, eye)


@one_program()
@full_precision
def solve_psd(chol: jax.Array, b: jax.Array) -> jax.Array:
    """Solves `chol chol' x = b` for b [..., n, m]."""
    return lapack.solve_lower_transposed(chol, lapack.solve_lower(chol, b))


@one_program()
def inverse_psd(a: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Inverse and log-determinant of symmetric `a` [..., n, n] and whether it is positive definite.

    For many tiny matrices; with the same pivots and tolerance as `cholesky`.

    Returns:
      The inverse [..., n, n], the identity where not ok; log|a| [...], 0 where not ok; ok [...].
    """
    n = a.shape[-1]
    if n > MAX_SMALL_SIZE:
        chol, ok = cholesky(a)
        eye = jnp.broadcast_to(jnp.eye(n, dtype=a.dtype), a.shape)
        return symmetrise(solve_psd(chol, eye)), log_det(chol), ok
    inverse, pivots = _gauss_jordan(a)
    ok = _all_positive(pivots, a)
    inverse = jnp.where(ok[..., None, None], symmetrise(inverse), jnp.eye(n, dtype=a.dtype))
    return inverse, jnp.sum(jnp.log(jnp.where(ok[..., None], pivots, 1)), axis=-1), ok


def _gauss_jordan(a: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Inverse in place without row exchanges (not needed where `a` is positive definite)."""
    n = a.shape[-1]

    def eliminate(j: jax.Array, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        a, pivots = state
        here = jnp.arange(n) == j
        row = jax.lax.dynamic_index_in_dim(a, j, -2, keepdims=False)
        column = jax.lax.dynamic_index_in_dim(a, j, -1, keepdims=False)
        pivot = jax.lax.dynamic_index_in_dim(row, j, -1)
        rest = jnp.where(here | here[:, None], 0, a)
        row, column = jnp.where(here, 1, row) / pivot, jnp.where(here, -1, column)
        return rest - column[..., :, None] * row[..., None, :], jnp.where(here, pivot, pivots)

    return jax.lax.fori_loop(0, n, eliminate, (a, jnp.ones(a.shape[:-1], a.dtype)))


def _all_positive(pivots: jax.Array, a: jax.Array) -> jax.Array:
    """Whether every pivot is above the rounding level of its own diagonal entry, and finite."""
    tolerance = a.shape[-1] * float(jnp.finfo(a.dtype).eps)
    # Comparisons with NaN are false, so that a non-finite matrix is not ok either.
    enough = pivots > tolerance * jnp.abs(jnp.diagonal(a, axis1=-2, axis2=-1))
    return jnp.all(enough & (pivots < jnp.inf), axis=-1)


@one_program()
def log_det(chol: jax.Array) -> jax.Array:
    """Log-determinant of `chol chol'`, [...]."""
    return 2 * jnp.sum(jnp.log(jnp.diagonal(chol, axis1=-2, axis2=-1)), axis=-1)
