"""Small quadratic programs with limits on every variable, by projected Newton steps.

    minimise 1/2 x'Hx + g'x    such that    lower <= x <= upper

Source: Bertsekas (1982), "Projected Newton methods for optimization problems with simple
constraints"; Tassa, Mansard & Todorov (2014), "Control-limited differential dynamic programming".
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jgps.core import linalg
from jgps.core.types import NON_FINITE, NOT_CONVERGED, NOT_PD, OK

# Each Newton step finds the minimum of a face; how often the face changes grows slowly with the
# number of variables.
_MAX_STEPS = 100
_SIZES = 12  # step sizes that are tried at once, each half of the one before
_ARMIJO = 0.1  # share of the promised decrease that a step has to bring


class BoxSolution(NamedTuple):
    """The minimum of one problem, and how it moves with g."""

    x: jax.Array  # [n]
    free: jax.Array  # [n] bool, which variables are at no limit
    # [n, n], of H's free rows and columns, zero elsewhere: dx = -inverse dg
    inverse: jax.Array
    code: jax.Array  # [] int32: OK, NOT_PD, NON_FINITE or NOT_CONVERGED


class _Search(NamedTuple):
    x: jax.Array
    free: jax.Array
    inverse: jax.Array
    done: jax.Array
    ok: jax.Array
    steps: jax.Array


@linalg.full_precision
def solve(
    H: jax.Array, g: jax.Array, lower: jax.Array, upper: jax.Array, start: jax.Array
) -> BoxSolution:
    """Minimises one quadratic within its limits.

    Args:
      H: [n, n], symmetric positive definite on the variables that end up free.
      g: [n].
      lower, upper: [n], which may be infinite; lower <= upper.
      start: [n], where to begin; it is moved within the limits.

    Returns:
      The minimum. Where the code is not OK, x lies within the limits, `free` is false and `inverse`
      zero.
    """
    n = g.shape[0]
    if n == 1:
        return _of_one(H, g, lower, upper)
    eps = float(jnp.finfo(H.dtype).eps)
    start = jnp.clip(jnp.where(jnp.isfinite(start), start, 0), lower, upper)
    scale = jnp.max(jnp.abs(g)) + jnp.max(jnp.abs(H)) * jnp.max(jnp.abs(start))
    tolerance = 10 * n * eps * scale
    halves = 0.5 ** jnp.arange(_SIZES, dtype=H.dtype)

    def step(search: _Search) -> _Search:
        slope = g + linalg.product(H, search.x[:, None])[:, 0]
        held = ((search.x <= lower) & (slope > 0)) | ((search.x >= upper) & (slope < 0))
        free = ~held
        both = free[:, None] & free[None, :]
        inverse, _, ok = linalg.inverse_psd(jnp.where(both, H, jnp.diag(held.astype(H.dtype))))
        inverse = jnp.where(both, inverse, 0)
        move = -linalg.product(inverse, slope[:, None])[:, 0]
        tried = jnp.clip(search.x + halves[:, None] * move, lower, upper)
        # How much lower, by differences, which don't cancel near the minimum.
        change = tried - search.x
        along = jnp.sum(change * slope, axis=1)
        lower_by = -along - 0.5 * jnp.sum(linalg.product(change, H) * change, axis=1)
        enough = lower_by >= _ARMIJO * -along
        first = jnp.argmax(enough)
        arrived = jnp.max(jnp.where(free, jnp.abs(slope), 0)) <= tolerance
        # On a face whose minimum lies inside the limits one Newton step is exact.
        moved = jnp.where(enough[first], tried[first], search.x)
        stuck = ~enough[first] | jnp.all(moved == search.x)
        done = arrived | stuck | ~ok
        return _Search(
            x=jnp.where(done, search.x, moved),
            free=free & ok,
            inverse=jnp.where(ok, inverse, 0),
            done=done,
            ok=ok,
            steps=search.steps + 1,
        )

    first = _Search(
        x=start,
        free=jnp.zeros(n, bool),
        inverse=jnp.zeros_like(H),
        done=jnp.asarray(False),
        ok=jnp.asarray(True),
        steps=jnp.asarray(0, jnp.int32),
    )
    found = jax.lax.while_loop(lambda s: ~s.done & (s.steps < _MAX_STEPS), step, first)
    finite = jnp.all(jnp.isfinite(H)) & jnp.all(jnp.isfinite(g))
    code = jnp.where(found.ok, OK, NOT_PD)
    code = jnp.where(found.ok & ~found.done, NOT_CONVERGED, code)
    code = jnp.where(finite, code, NON_FINITE).astype(jnp.int32)
    sound = code == OK
    return BoxSolution(
        x=found.x,
        free=found.free & sound,
        inverse=jnp.where(sound, found.inverse, 0),
        code=code,
    )


def _of_one(H: jax.Array, g: jax.Array, lower: jax.Array, upper: jax.Array) -> BoxSolution:
    """The same of one variable, which needs no search."""
    finite = jnp.all(jnp.isfinite(H)) & jnp.all(jnp.isfinite(g))
    code = jnp.where(H[0, 0] > 0, OK, NOT_PD)
    code = jnp.where(finite, code, NON_FINITE).astype(jnp.int32)
    sound = code == OK
    inverse = jnp.where(sound, 1 / jnp.where(sound, H, 1), 0)
    wanted = -inverse[0] * g
    x = jnp.clip(wanted, lower, upper)
    free = sound & (wanted >= lower) & (wanted <= upper)
    return BoxSolution(x=x, free=free, inverse=jnp.where(free, inverse, 0), code=code)
