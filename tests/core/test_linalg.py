"""Factorisations against NumPy, and their failures as flags."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jgps.core import linalg


def positive(rng, *shape):
    root = rng.normal(size=(*shape, shape[-1]))
    return root @ np.swapaxes(root, -1, -2) + 0.1 * np.eye(shape[-1])


@pytest.mark.parametrize("n", [1, 7, 20])
def test_factors_solves_and_inverts(n):
    with jax.enable_x64(True):
        rng = np.random.default_rng(n)
        a = positive(rng, 5, n)
        b = jnp.asarray(rng.normal(size=(5, n, 3)))
        chol, ok = linalg.cholesky(jnp.asarray(a))
        assert np.all(ok)
        np.testing.assert_allclose(chol, np.linalg.cholesky(a), atol=1e-10)
        np.testing.assert_allclose(linalg.solve_psd(chol, b), np.linalg.solve(a, b), rtol=1e-7)
        np.testing.assert_allclose(linalg.log_det(chol), np.linalg.slogdet(a)[1], atol=1e-10)
        np.testing.assert_allclose(
            linalg.inverse_triangular(chol), np.linalg.inv(np.linalg.cholesky(a)), atol=1e-8
        )
        inverse, log_det, ok = linalg.inverse_psd(jnp.asarray(a))
        assert np.all(ok)
        np.testing.assert_allclose(inverse, np.linalg.inv(a), rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(log_det, np.linalg.slogdet(a)[1], atol=1e-10)


@pytest.mark.parametrize("n", [3, 20])
def test_failure_is_a_flag_and_the_result_finite(n):
    """In order: indefinite, singular, NaN, infinite, fine."""
    rng = np.random.default_rng(1)
    a = np.tile(positive(rng, n), (5, 1, 1)).astype(np.float32)
    a[0, n - 1, n - 1] = -1
    a[1, :, n - 1] = a[1, :, 0]
    a[1, n - 1, :] = a[1, 0, :]
    a[1, n - 1, n - 1] = a[1, 0, 0]
    a[2, 0, 0] = np.nan
    a[3, 1, 1] = np.inf
    chol, chol_ok = linalg.cholesky(jnp.asarray(a))
    inverse, log_det, inverse_ok = linalg.inverse_psd(jnp.asarray(a))
    np.testing.assert_array_equal(chol_ok, [False] * 4 + [True])
    np.testing.assert_array_equal(inverse_ok, [False] * 4 + [True])
    np.testing.assert_array_equal(chol[:4], np.tile(np.eye(n), (4, 1, 1)))
    np.testing.assert_array_equal(inverse[:4], np.tile(np.eye(n), (4, 1, 1)))
    np.testing.assert_array_equal(log_det[:4], 0)


def test_scale_does_not_decide_what_is_positive():
    a = jnp.diag(jnp.asarray([1e12, 1.0, 1e-12], jnp.float32))
    assert linalg.cholesky(a)[1]
    assert linalg.inverse_psd(a)[2]


def test_products_inside_full_precision_ask_for_it():
    text = str(jax.make_jaxpr(linalg.full_precision(jnp.matmul))(jnp.eye(2), jnp.eye(2)))
    assert "HIGHEST" in text
    assert "HIGHEST" not in str(jax.make_jaxpr(jnp.matmul)(jnp.eye(2), jnp.eye(2)))
