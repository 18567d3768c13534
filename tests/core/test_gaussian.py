"""Normal distributions against Monte Carlo and block formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lq_problems import problem

from jgps.core import gaussian, lqr
from jgps.core.types import Gaussian


def log_density(x, mean, cov):
    """Log density of a normal, an independent form of it: via the eigenvalues of the covariance."""
    values, vectors = np.linalg.eigh(cov)
    whitened = (np.asarray(x) - mean) @ vectors / np.sqrt(values)
    return -0.5 * (np.sum(whitened**2, axis=-1) + np.sum(np.log(2 * np.pi * values)))


def covariance(rng, d):
    root = rng.normal(size=(d, d))
    return root @ root.T + 0.3 * np.eye(d)


def test_conditioning_agrees_with_the_joint_density():
    """log p(y, z) - log p(z) is the conditional's log density, at random points."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        mean, cov = rng.normal(size=5), covariance(rng, 5)
        F, f, W = gaussian.condition(jnp.asarray(mean), jnp.asarray(cov), 3)
        for point in rng.normal(size=(10, 5)):
            z, y = point[:3], point[3:]
            expected = log_density(point, mean, cov) - log_density(z, mean[:3], cov[:3, :3])
            np.testing.assert_allclose(log_density(y, F @ z + f, W), expected, rtol=1e-9)


def test_entropy_and_kl_agree_with_monte_carlo():
    with jax.enable_x64(True):
        rng = np.random.default_rng(1)
        p = Gaussian(mean=jnp.asarray(rng.normal(size=4)), cov=jnp.asarray(covariance(rng, 4)))
        q = Gaussian(mean=jnp.asarray(rng.normal(size=4)), cov=jnp.asarray(covariance(rng, 4)))
        x = rng.multivariate_normal(p.mean, p.cov, size=200_000)
        log_p = log_density(x, p.mean, p.cov)
        log_q = log_density(x, q.mean, q.cov)
        for found, sample in (
            (gaussian.entropy(p.cov), -log_p),
            (gaussian.kl(p, q), log_p - log_q),
        ):
            assert abs(found - np.mean(sample)) < 5 * np.std(sample) / np.sqrt(len(sample))


def test_kl_is_never_negative_and_zero_only_at_equality():
    rng = np.random.default_rng(2)
    means = jnp.asarray(rng.normal(size=(20, 3)), jnp.float32)
    covs = jnp.asarray(np.stack([covariance(rng, 3) for _ in range(20)]), jnp.float32)
    p = Gaussian(mean=means, cov=covs)
    q = Gaussian(mean=means[::-1], cov=covs[::-1])
    assert np.all(gaussian.kl(p, q) > 0.01)
    np.testing.assert_allclose(gaussian.kl(p, p), 0, atol=2e-6)


def test_controller_kl_is_the_expectation_over_the_new_states():
    with jax.enable_x64(True):
        T, dX, dU = 4, 3, 2
        dynamics, _, old, initial = problem(3, T, dX, dU)
        new = problem(4, T, dX, dU)[2]
        marginals = lqr.forward(new, dynamics, initial)
        found = gaussian.controller_kl(new, old, marginals)
        rng = np.random.default_rng(3)
        for t in range(T):
            x_mean, x_cov = marginals.mean[t, :dX], marginals.cov[t, :dX, :dX]
            x = rng.multivariate_normal(x_mean, x_cov, size=20_000)
            # Every sample's KL by SciPy-free algebra: trace, distance, log-determinants.
            difference = x @ (new.K[t] - old.K[t]).T + new.k[t] - old.k[t]
            precision = np.linalg.inv(old.C[t])
            distance = np.einsum("ni,ij,nj->n", difference, precision, difference)
            log_ratio = np.linalg.slogdet(old.C[t])[1] - np.linalg.slogdet(new.C[t])[1]
            sample = 0.5 * (np.trace(precision @ new.C[t]) + distance - dU + log_ratio)
            assert abs(found[t] - np.mean(sample)) < 5 * np.std(sample) / np.sqrt(len(sample))
        np.testing.assert_allclose(gaussian.controller_kl(new, new, marginals), 0, atol=1e-12)


def test_singular_covariances_give_nan():
    singular = jnp.diag(jnp.asarray([1.0, 0.0]))
    good = Gaussian(mean=jnp.zeros(2), cov=jnp.eye(2))
    assert np.isnan(gaussian.entropy(singular))
    assert np.isnan(gaussian.kl(good, good._replace(cov=singular)))
    assert np.isnan(gaussian.kl(good._replace(cov=singular), good))
    joint = jnp.diag(jnp.asarray([1.0, 0.0, 1.0]))
    assert np.all(np.isnan(gaussian.condition(jnp.zeros(3), joint, 2)[0]))


@pytest.mark.parametrize("num_given", [0, 3])
def test_conditioning_on_nothing_or_everything_is_refused(num_given):
    with pytest.raises(ValueError, match="num_given must be between 1 and 2"):
        gaussian.condition(jnp.zeros(3), jnp.eye(3), num_given)
