"""The terms of the constraint that a network's divergence from controllers is zero."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jgps.core import gaussian, kl_constraint
from jgps.core.types import Gaussian

T, DU, WEIGHT = 3, 2, 0.4


def _matrices(rng, num=T):
    root = rng.normal(size=(num, DU, DU))
    return jnp.asarray(root @ root.swapaxes(-1, -2) + 0.2 * np.eye(DU), jnp.float32)


@pytest.mark.parametrize("multiplier", [0.0, 0.3, 2.0, 1e3])
def test_the_covariance_solves_the_published_equation(multiplier, rng):
    """A Q A + w (lambda - 1) A = w lambda M, where the pull is that of A itself."""
    Q, M, lam = _matrices(rng), _matrices(rng), jnp.full(T, multiplier)
    A = WEIGHT * jnp.linalg.inv(Q)
    for _ in range(60):
        pulled = Q + kl_constraint.pull(lam, A, WEIGHT)
        A = kl_constraint.constrained_cov(pulled, lam, M, WEIGHT)
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
    gap = jnp.asarray(rng.normal(size=(5, T, DU)), jnp.float32)
    moment = S + jnp.einsum("nti,ntj->tij", gap, gap) / 5
    found = kl_constraint.divergence(A, moment, S)
    zero = jnp.zeros(DU)
    each = [
        [gaussian.kl(Gaussian(gap[n, t], S), Gaussian(zero, A[t])) for t in range(T)]
        for n in range(5)
    ]
    np.testing.assert_allclose(found, np.mean(each, axis=0), rtol=1e-4)
    np.testing.assert_allclose(kl_constraint.divergence(A, A, A[0])[0], 0, atol=1e-6)


def test_what_is_no_covariance_is_nan_in_its_step_alone(rng):
    Q, M = _matrices(rng), _matrices(rng)
    lam = jnp.ones(T)
    found = jax.jit(kl_constraint.constrained_cov)(Q.at[1].set(-Q[1]), lam, M, WEIGHT)
    np.testing.assert_array_equal(jnp.isnan(found).any(axis=(1, 2)), [False, True, False])
    found = kl_constraint.constrained_cov(Q, lam, M.at[2, 0, 0].set(jnp.nan), WEIGHT)
    np.testing.assert_array_equal(jnp.isnan(found).any(axis=(1, 2)), [False, False, True])
    pulled = kl_constraint.pull(lam, Q.at[0].set(0), WEIGHT)
    np.testing.assert_array_equal(jnp.isnan(pulled).any(axis=(1, 2)), [True, False, False])
