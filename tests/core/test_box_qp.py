"""Small quadratic programs with limits, against SciPy and by their optimality conditions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import lsq_linear

from jgps.core import box_qp
from jgps.core.types import NON_FINITE, NOT_PD, OK


def _problems(num, n, seed):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(num, n, n))
    H = root @ root.swapaxes(1, 2) + 0.1 * np.eye(n)
    g = 3 * rng.normal(size=(num, n))
    lower, upper = -rng.uniform(0, 1, (num, n)), rng.uniform(0, 1, (num, n))
    lower[rng.uniform(size=lower.shape) < 0.1] = -np.inf
    return H, g, lower, upper


@pytest.mark.parametrize("n", [1, 3, 8, 20])
def test_the_minimum_is_scipys(n, x64):
    H, g, lower, upper = _problems(50, n, seed=n)
    start = np.zeros_like(g)
    found = jax.jit(jax.vmap(box_qp.solve))(H, g, lower, upper, start)
    assert (found.code == OK).all()
    for i in range(len(g)):
        chol = np.linalg.cholesky(H[i])
        expected = lsq_linear(
            chol.T, -np.linalg.solve(chol, g[i]), (lower[i], upper[i]), method="bvls", tol=1e-14
        )
        np.testing.assert_allclose(found.x[i], expected.x, atol=1e-8)


def test_the_minimum_moves_with_g_as_its_inverse_says(x64):
    H, g, lower, upper = _problems(20, 5, seed=0)
    solve = jax.jit(jax.vmap(box_qp.solve))
    found = solve(H, g, lower, upper, np.zeros_like(g))
    shift = 1e-6 * np.random.default_rng(1).normal(size=g.shape)
    moved = solve(H, g + shift, lower, upper, np.zeros_like(g))
    promised = -np.einsum("bij,bj->bi", found.inverse, shift)
    np.testing.assert_allclose(moved.x - found.x, promised, atol=1e-10)


def test_float32_ends_at_the_optimum():
    H, g, lower, upper = _problems(200, 6, seed=3)
    args = [np.asarray(a, np.float32) for a in (H, g, lower, upper, np.zeros_like(g))]
    found = jax.jit(jax.vmap(box_qp.solve))(*args)
    assert (found.code == OK).all()
    slope = g + np.einsum("bij,bj->bi", H, np.asarray(found.x, np.float64))
    scale = np.abs(g).max(1) + np.abs(H).max((1, 2))
    assert (np.abs(np.where(found.free, slope, 0)).max(1) < 1e-4 * scale).all()
    assert ((found.x >= args[2]) & (found.x <= args[3])).all()


def test_what_has_no_minimum_is_said():
    n = 2
    bounds = jnp.full(n, -1.0), jnp.full(n, 1.0)
    indefinite = box_qp.solve(jnp.diag(jnp.array([1.0, -1.0])), jnp.zeros(n), *bounds, jnp.zeros(n))
    assert indefinite.code == NOT_PD
    broken = box_qp.solve(jnp.full((n, n), jnp.nan), jnp.zeros(n), *bounds, jnp.zeros(n))
    assert broken.code == NON_FINITE
    assert jnp.isfinite(broken.x).all() and jnp.isfinite(broken.inverse).all()
