"""LAPACK calls, one by one on CPU: same results, any leading axes, nobody goes around them."""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

import jgps
from jgps.core import lapack


def _matrices(shape, n, seed):
    a = np.random.default_rng(seed).normal(size=(*shape, n, n))
    return a @ np.swapaxes(a, -1, -2) + n * np.eye(n)


def test_results_for_any_leading_axes(x64):
    for shape in ((), (1,), (3,), (2, 3)):
        a = _matrices(shape, 20, seed=len(shape))
        chol = np.asarray(lapack.cholesky(jnp.asarray(a)))
        np.testing.assert_allclose(chol, np.linalg.cholesky(a), atol=1e-12)
        values, vectors = lapack.eigh(jnp.asarray(a))
        assert values.shape == (*shape, 20)
        np.testing.assert_allclose(
            (vectors * values[..., None, :]) @ jnp.swapaxes(vectors, -1, -2), a, atol=1e-10
        )
        b = np.random.default_rng(9).normal(size=(*shape, 20, 2))
        np.testing.assert_allclose(chol @ lapack.solve_lower(chol, b), b, atol=1e-12)
        transposed = np.swapaxes(chol, -1, -2)
        np.testing.assert_allclose(
            transposed @ lapack.solve_lower_transposed(chol, b), b, atol=1e-12
        )


def test_vmap_equals_a_loop_also_where_one_argument_is_shared(x64):
    a = _matrices((4,), 18, seed=3)
    b = np.random.default_rng(4).normal(size=(18, 2))
    chol = jax.jit(jax.vmap(lapack.cholesky))(a)
    solved = jax.vmap(lapack.solve_lower, in_axes=(0, None))(chol, jnp.asarray(b))
    for i in range(4):
        expected = scipy.linalg.solve_triangular(np.linalg.cholesky(a[i]), b, lower=True)
        np.testing.assert_allclose(solved[i], expected, atol=1e-12)
    nested = jax.vmap(jax.vmap(lapack.cholesky))(a.reshape(2, 2, 18, 18))
    np.testing.assert_allclose(nested.reshape(4, 18, 18), chol, atol=1e-14)


def test_a_batch_is_not_one_call_on_cpu():
    """Two batched calls at once can hang XLA's CPU runtime; single matrices can't."""
    a = jnp.asarray(_matrices((8,), 20, seed=5), jnp.float32)
    text = jax.jit(jax.vmap(lapack.cholesky)).lower(a).as_text()
    assert "potrf" in text and "8x20x20xf32" in text
    calls = [line for line in text.splitlines() if "potrf" in line]
    assert calls and all("8x20x20" not in line for line in calls)


def test_nothing_else_in_jgps_calls_lapack():
    root = pathlib.Path(jgps.__file__).parent
    pattern = re.compile(
        r"jnp\.linalg\.(?!norm)|jax\.scipy\.linalg|jsp\.linalg|lax\.linalg|jax\.numpy\.linalg"
    )
    found = {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        if pattern.search(path.read_text())
    }
    assert found == {"core/lapack.py"}
