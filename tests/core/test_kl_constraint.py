"""The terms of the constraint that a network's divergence from controllers is zero."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jgps.core import gaussian, kl_constraint
from jgps.core.types import Gaussian

T, DU, WEIGHT = 3, 2, 0.4


constrained_cov = jax.jit(kl_constraint.constrained_cov)
pull = jax.jit(kl_constraint.pull)
divergence = jax.jit(kl_constraint.divergence)


def _matrices(rng, num=T):
    root = rng.normal(size=(num, DU, DU))
    return np.asarray(root @ root.swapaxes(-1, -2) + 0.2 * np.eye(DU), np.float32)


@pytest.mark.parametrize("multiplier", [0.0, 0.3, 2.0, 1e3])
def test_the_covariance_solves_the_published_equation(multiplier, rng):
    """A Q A + w (lambda - 1) A = w lambda M, where the pull is that of A itself."""
    Q, M, lam = _matrices(rng), _matrices(rng), np.full(T, multiplier, np.float32)
    A = np.float32(WEIGHT) * np.linalg.inv(Q)
    for _ in range(60):
        pulled = Q + np.asarray(pull(lam, A, WEIGHT))
        A = np.asarray(constrained_cov(pulled, lam, M, WEIGHT))
    left = A @ Q @ A + WEIGHT * (multiplier - 1) * A
    scale = WEIGHT * max(multiplier, 1)
    np.testing.assert_allclose(left / scale, WEIGHT * multiplier * M / scale, atol=2e-5)
    assert (np.linalg.eigvalsh(A) > 0).all()
    if multiplier == 0:
        np.testing.assert_allclose(A, WEIGHT * np.linalg.inv(Q), rtol=1e-4)
    if multiplier == 1e3:
        np.testing.assert_allclose(A, M, atol=0.05)


def test_the_divergence_is_the_mean_over_states(rng):
    A, S = _matrices(rng), _matrices(rng, 1)[0]
    gap = rng.normal(size=(5, T, DU)).astype(np.float32)
    moment = S + np.einsum("nti,ntj->tij", gap, gap) / 5
    found = divergence(A, moment, S)

    def kl(mean, cov):
        return gaussian.kl(Gaussian(mean, S), Gaussian(jnp.zeros(DU), cov))

    over_states = jax.vmap(jax.vmap(kl), in_axes=(0, None))
    each = jax.jit(over_states)(gap, A)
    np.testing.assert_allclose(found, np.mean(each, axis=0), rtol=1e-4)
    np.testing.assert_allclose(divergence(A, A, A[0])[0], 0, atol=1e-6)


def test_what_is_no_covariance_is_nan_in_its_step_alone(rng):
    Q, M = _matrices(rng), _matrices(rng)
    lam, sign = np.ones(T, np.float32), np.array([1, -1, 1], np.float32)[:, None, None]
    found = constrained_cov(sign * Q, lam, M, WEIGHT)
    np.testing.assert_array_equal(np.isnan(found).any(axis=(1, 2)), [False, True, False])
    M[2, 0, 0] = np.nan
    found = constrained_cov(Q, lam, M, WEIGHT)
    np.testing.assert_array_equal(np.isnan(found).any(axis=(1, 2)), [False, False, True])
    Q[0] = 0
    np.testing.assert_array_equal(
        np.isnan(pull(lam, Q, WEIGHT)).any(axis=(1, 2)), [True, False, False]
    )
