"""A network near its samples as a controller, against NumPy's least squares."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jgps.core.types import NON_FINITE, OK, TOO_FEW_SAMPLES, Controller
from jgps.dynamics import FitConfig
from jgps.policies import linearise, offset

N, T, DX, DU = 12, 4, 3, 2
_linearize = jax.jit(functools.partial(linearise, config=FitConfig(ridge=0.0)))


@pytest.fixture
def samples(rng):
    """States, a policy's mean actions there, not quite linear, and the covariance."""
    x = rng.normal(size=(N, T, DX)) + np.array([0.0, 5.0, -1.0])
    gains = rng.normal(size=(T, DU, DX))
    mean = np.einsum("tij,ntj->nti", gains, x) + 0.3 * np.sin(2 * x[..., :DU])
    cov = np.array([[0.5, 0.1], [0.1, 0.2]])
    return tuple(jnp.asarray(a, jnp.float32) for a in (x, mean, cov))


def _least_squares(x, mean):
    """K, k and the residual's covariance of one step."""
    inputs = np.concatenate([x, np.ones((len(x), 1))], axis=1).astype(np.float64)
    solution = np.linalg.lstsq(inputs, np.asarray(mean, np.float64), rcond=None)[0]
    residual = mean - inputs @ solution
    return solution[:-1].T, solution[-1], residual.T @ residual / len(x)


def test_linearize_is_least_squares(samples):
    x, mean, cov = samples
    controller, (status, ridge_added) = _linearize(x, mean, jnp.ones(N, bool), cov)
    assert int(status.code) == OK
    assert not ridge_added.any()
    for t in range(T):
        K, k, residual = _least_squares(np.asarray(x[:, t]), np.asarray(mean[:, t]))
        np.testing.assert_allclose(controller.K[t], K, atol=2e-3)
        np.testing.assert_allclose(controller.k[t], k, atol=1e-2)
        np.testing.assert_allclose(controller.C[t], residual + cov, atol=1e-3)


def test_linearize_takes_a_covariance_per_step(samples):
    x, mean, cov = samples
    per_step = cov * jnp.arange(1.0, T + 1)[:, None, None]
    one, _ = _linearize(x, mean, jnp.ones(N, bool), cov)
    other, _ = _linearize(x, mean, jnp.ones(N, bool), per_step)
    np.testing.assert_allclose(other.C - per_step, one.C - cov, atol=1e-5)


def _alike(valid):
    """Weights [N, T] with which all valid samples count the same."""
    return jnp.broadcast_to(valid[:, None], (N, T)).astype(jnp.float32)


def test_invalid_samples_do_not_matter(samples):
    x, mean, cov = samples
    valid = jnp.arange(N) != 3
    results = []
    for junk in (0.0, jnp.nan, jnp.inf, 1e30):
        bad_x, bad_mean = x.at[3].set(junk), mean.at[3].set(junk)
        results.append(_linearize(bad_x, bad_mean, valid, cov))
        results.append(offset(results[0][0], bad_x, bad_mean, _alike(valid)))
    assert int(results[0][1].status.code) == int(results[1][1].code) == OK
    for one in (0, 1):
        for other in results[one::2]:
            for a, b in zip(jax.tree.leaves(results[one]), jax.tree.leaves(other), strict=True):
                np.testing.assert_array_equal(a, b)
    keep = np.asarray(valid)
    K, _, _ = _least_squares(np.asarray(x)[keep, 1], np.asarray(mean)[keep, 1])
    np.testing.assert_allclose(results[0][0].K[1], K, atol=2e-3)


def test_offset_moves_the_mean_to_the_policys(samples, rng):
    x, mean, cov = samples
    K = jnp.asarray(rng.normal(size=(T, DU, DX)), jnp.float32)
    own = Controller(K=K, k=jnp.ones((T, DU)), C=jnp.broadcast_to(cov, (T, DU, DU)))
    valid = jnp.arange(N) % 3 != 0
    moved, status = offset(own, x, mean, _alike(valid))
    assert int(status.code) == OK
    np.testing.assert_array_equal(moved.K, own.K)
    np.testing.assert_array_equal(moved.C, own.C)
    keep = np.asarray(valid)
    there = np.einsum("tij,ntj->nti", moved.K, x) + moved.k
    np.testing.assert_allclose(there[keep].mean(0), np.asarray(mean)[keep].mean(0), atol=1e-5)
    # What counts twice pulls twice.
    weight = _alike(valid).at[4].set(2.0)
    moved, _ = offset(own, x, mean, weight)
    there = np.einsum("tij,ntj->nti", moved.K, x) + moved.k
    for found, expected in zip(np.swapaxes(there, 0, 1), np.swapaxes(mean, 0, 1), strict=True):
        at = np.asarray(weight[:, 0])
        np.testing.assert_allclose(at @ found / at.sum(), at @ expected / at.sum(), atol=1e-5)
    # One sample is enough, and then the controller does there what the policy does.
    moved, status = offset(own, x, mean, _alike(jnp.arange(N) == 2))
    assert int(status.code) == OK
    there = np.einsum("tij,tj->ti", moved.K, x[2]) + moved.k
    np.testing.assert_allclose(there, mean[2], atol=1e-5)


def test_what_went_wrong_is_said(samples):
    x, mean, cov = samples
    valid = jnp.ones(N, bool)
    own, _ = _linearize(x, mean, valid, cov)
    none, broken = jnp.zeros(N, bool), mean.at[4, 2].set(jnp.nan)
    status = _linearize(x, broken, valid, cov)[1].status
    assert (int(status.code), int(status.step)) == (NON_FINITE, 2)
    assert int(_linearize(x, mean, none, cov)[1].status.code) == TOO_FEW_SAMPLES
    moved, status = offset(own, x, broken, _alike(valid))
    assert (int(status.code), int(status.step)) == (NON_FINITE, 2)
    np.testing.assert_array_equal(moved.k[2], own.k[2])
    moved, status = offset(own, x, mean, _alike(none))
    assert int(status.code) == TOO_FEW_SAMPLES
    np.testing.assert_array_equal(moved.k, own.k)


def test_float64_agrees(samples, x64):
    x, mean, cov = samples
    valid = jnp.ones(N, bool)
    wide = [jnp.asarray(a, jnp.float64) for a in samples]
    narrow, _ = _linearize(x, mean, valid, cov)
    exact, _ = _linearize(*wide[:2], valid, wide[2])
    assert exact.K.dtype == jnp.float64 and narrow.K.dtype == jnp.float32
    for a, b in zip(narrow, exact, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3)
    K, k, _ = _least_squares(np.asarray(wide[0][:, 0]), np.asarray(wide[1][:, 0]))
    np.testing.assert_allclose(exact.K[0], K, atol=1e-10)
    np.testing.assert_allclose(exact.k[0], k, atol=1e-9)
