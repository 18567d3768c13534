"""Linear-Gaussian regression against least squares and a float64 transcription of the formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jgps.core import types
from jgps.core.estimation.regression import NormalInverseWishart, spread
from jgps.core.estimation.regression import fit_linear_gaussian as fit_eagerly

fit_linear_gaussian = jax.jit(fit_eagerly)


def _samples(seed, num_samples, num_inputs=4, num_outputs=3, noise=0.1):
    """Inputs of very different scales and offsets, and noisy linear outputs."""
    rng = np.random.default_rng(seed)
    scale = np.geomspace(1e-3, 1e2, num_inputs)
    inputs = scale * (rng.normal(size=(num_samples, num_inputs)) + rng.normal(size=num_inputs))
    F = rng.normal(size=(num_outputs, num_inputs)) / scale
    outputs = inputs @ F.T + 1 + noise * rng.normal(size=(num_samples, num_outputs))
    return inputs, outputs


def _prior(seed, dim, strength=1.0, dof=0.7):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(dim, dim))
    return rng.normal(size=dim), strength * (root @ root.T / dim + 0.1 * np.eye(dim)), dof, strength


def _posterior_reference(inputs, outputs, prior, weights, ridge, scale):
    """Section A.3 of Levine et al. (2016), term by term in float64; NumPy only."""
    mu0, Phi, n0, s = prior
    y = np.concatenate([inputs, outputs], axis=1)
    num_inputs = inputs.shape[1]
    N = weights.sum()
    m = np.average(y, axis=0, weights=weights)
    S = np.cov(y.T, aweights=weights, ddof=0)
    Sigma = (N * S + Phi + N * s / (N + s) * np.outer(m - mu0, m - mu0)) / (N + n0)
    zz, xz = Sigma[:num_inputs, :num_inputs], Sigma[num_inputs:, :num_inputs]
    zz = zz + ridge * np.diag(scale[:num_inputs] ** 2)
    F = xz @ np.linalg.inv(zz)
    f = m[num_inputs:] - F @ m[:num_inputs]
    W = Sigma[num_inputs:, num_inputs:] - F @ zz @ F.T
    return F, f, W


def _to_prior(prior, dtype):
    return NormalInverseWishart(*(jnp.asarray(leaf, dtype) for leaf in prior))


@pytest.mark.parametrize("seed", range(3))
def test_is_least_squares_without_prior_and_ridge(seed):
    inputs, outputs = _samples(seed, num_samples=40)
    design = np.concatenate([inputs, np.ones((40, 1))], axis=1)
    solution = np.linalg.lstsq(design, outputs, rcond=None)[0]
    residual = outputs - design @ solution
    with jax.enable_x64(True):
        F, f, W, (status, _) = fit_linear_gaussian(jnp.asarray(inputs), jnp.asarray(outputs))
    assert status.code == types.OK and status.step == -1
    np.testing.assert_allclose(F, solution[:-1].T, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(f, solution[-1], rtol=1e-8)
    np.testing.assert_allclose(W, residual.T @ residual / 40, rtol=1e-8)


@pytest.mark.parametrize("num_samples", [3, 5, 30])
@pytest.mark.parametrize("ridge", [0.0, 1e-2])
def test_posterior_matches_the_published_formulas(num_samples, ridge):
    inputs, outputs = _samples(7, num_samples)
    prior = _prior(8, 7, strength=2.5)
    weights = np.random.default_rng(9).uniform(0.1, 2.0, num_samples)
    scale = np.random.default_rng(10).uniform(0.5, 2.0, 7)
    expected = _posterior_reference(inputs, outputs, prior, weights, ridge, scale)
    with jax.enable_x64(True):
        *fitted, (status, _) = fit_linear_gaussian(
            jnp.asarray(inputs),
            jnp.asarray(outputs),
            _to_prior(prior, jnp.float64),
            jnp.asarray(weights),
            ridge,
            jnp.asarray(scale),
        )
    assert status.code == types.OK
    for value, reference in zip(fitted, expected, strict=True):
        np.testing.assert_allclose(value, reference, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("with_prior", [False, True])
def test_float32_matches_float64_across_scales(with_prior):
    inputs, outputs = _samples(3, num_samples=60, noise=1e-2)
    scale = np.concatenate([inputs, outputs], axis=1).std(axis=0)
    prior = None
    if with_prior:
        mean, scatter, dof, strength = _prior(4, 7)
        prior = mean * scale, scatter * np.outer(scale, scale), dof, strength
    results = []
    with jax.enable_x64(True):
        for dtype in (jnp.float32, jnp.float64):
            *fitted, (status, _) = fit_linear_gaussian(
                jnp.asarray(inputs, dtype),
                jnp.asarray(outputs, dtype),
                None if prior is None else _to_prior(prior, dtype),
            )
            assert status.code == types.OK
            assert all(leaf.dtype == dtype for leaf in fitted)
            results.append([np.asarray(leaf) for leaf in fitted])
    (F, f, W), (F64, f64, W64) = results
    # In units of the data: 1e-4 of an output's spread per spread of an input.
    unit = scale[4:, None] / scale[:4]
    np.testing.assert_allclose(F / unit, F64 / unit, atol=1e-4)
    np.testing.assert_allclose(f / scale[4:], f64 / scale[4:], atol=1e-4)
    np.testing.assert_allclose(W, W64, rtol=1e-2, atol=1e-7)


def test_small_noise_survives_float32():
    """A covariance difference would lose noise of 1e-4 of the spread: 1e-8 in variance."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(200, 3)) + 5.0
    noise = 1e-4 * rng.normal(size=(200, 2))
    outputs = inputs @ rng.normal(size=(3, 2)) + noise
    _, _, W, (status, _) = fit_linear_gaussian(
        jnp.asarray(inputs, jnp.float32), jnp.asarray(outputs, jnp.float32)
    )
    assert status.code == types.OK
    np.testing.assert_allclose(np.diag(W), noise.var(axis=0), rtol=0.1)


def test_few_samples_and_a_still_dimension():
    """3 samples, 5 inputs of which one never moves: the ridge and the prior carry the fit."""
    inputs, outputs = _samples(1, num_samples=3, num_inputs=5)
    inputs[:, 2] = 0.3
    x, y = jnp.asarray(inputs, jnp.float32), jnp.asarray(outputs, jnp.float32)
    for prior in (None, _to_prior(_prior(2, 8), jnp.float32)):
        F, f, W, (status, _) = fit_linear_gaussian(x, y, prior, ridge=1e-4)
        assert status.code == types.OK
        assert np.isfinite(F).all() and np.isfinite(f).all()
        np.testing.assert_allclose(W, W.T, rtol=1e-6, atol=1e-9)
        eigenvalues = np.linalg.eigvalsh(np.asarray(W, np.float64))
        assert eigenvalues.min() >= -1e-6 * eigenvalues.max()
        if prior is None:
            np.testing.assert_array_equal(F[:, 2], 0.0)


def test_rows_of_weight_zero_do_not_matter():
    inputs, outputs = _samples(5, num_samples=12)
    prior = _to_prior(_prior(6, 7), jnp.float32)
    kept = fit_linear_gaussian(
        jnp.asarray(inputs[2:], jnp.float32), jnp.asarray(outputs[2:], jnp.float32), prior
    )
    inputs[0], outputs[1] = np.nan, np.inf
    weights = jnp.ones(12).at[:2].set(0)
    masked = fit_linear_gaussian(
        jnp.asarray(inputs, jnp.float32), jnp.asarray(outputs, jnp.float32), prior, weights
    )
    assert masked[3].status.code == types.OK
    for value, reference in zip(masked[:3], kept[:3], strict=True):
        np.testing.assert_allclose(value, reference, rtol=2e-3, atol=1e-4)


def test_failures_are_reported_and_finite():
    inputs, outputs = (jnp.asarray(a, jnp.float32) for a in _samples(5, num_samples=6))
    one = jnp.zeros(6).at[3].set(1.0)
    cases = {
        types.TOO_FEW_SAMPLES: fit_linear_gaussian(inputs, outputs, weights=one, ridge=1e-3),
        types.NON_FINITE: fit_linear_gaussian(inputs.at[0, 1].set(jnp.nan), outputs, ridge=1e-3),
        types.NOT_PD: fit_linear_gaussian(inputs[:3], outputs[:3]),
    }
    for code, (F, f, W, (status, _)) in cases.items():
        assert status.code == code
        assert status.step == 0
        assert np.isfinite(F).all() and np.isfinite(f).all() and np.isfinite(W).all()


def test_jit_and_vmap_equal_a_loop_over_different_problems():
    problems = [_samples(seed, num_samples=8) for seed in range(4)]
    inputs = jnp.asarray([p[0] for p in problems], jnp.float32)
    outputs = jnp.asarray([p[1] for p in problems], jnp.float32).at[1, 0, 0].set(jnp.nan)
    batched = jax.jit(jax.vmap(lambda a, b: fit_linear_gaussian(a, b, ridge=1e-3)))(inputs, outputs)
    assert batched[3].status.code.tolist() == [types.OK, types.NON_FINITE, types.OK, types.OK]
    for i in range(4):
        single = fit_eagerly(inputs[i], outputs[i], ridge=1e-3)
        for value, reference in zip(batched[:3], single[:3], strict=True):
            np.testing.assert_allclose(value[i], reference, rtol=2e-3, atol=1e-4)


def test_spread_of_a_still_dimension_is_one():
    points = jnp.asarray([[1e4, 0.0, 1.0], [1e4, 0.0, 3.0], [np.pi, 7.0, 9.0]], jnp.float32)
    mean, scale = spread(points, jnp.asarray([1.0, 1.0, 0.0]))
    np.testing.assert_allclose(mean, [1e4, 0.0, 2.0])
    np.testing.assert_allclose(scale, [1.0, 1.0, 1.0])
    np.testing.assert_array_equal(spread(points, jnp.zeros(3))[1], 1.0)


def test_shapes_are_checked():
    a, b = jnp.ones((5, 3)), jnp.ones((5, 2))
    with pytest.raises(ValueError, match=r"inputs must be \[N, dI\]"):
        fit_linear_gaussian(a[:4], b)
    with pytest.raises(ValueError, match=r"weights must be \[5\]"):
        fit_linear_gaussian(a, b, weights=jnp.ones(4))
    with pytest.raises(ValueError, match=r"scale must be \[dI \+ dO\] = \[5\]"):
        fit_linear_gaussian(a, b, scale=jnp.ones(3))
    with pytest.raises(ValueError, match=r"prior must have mean \[5\]"):
        fit_linear_gaussian(a, b, _to_prior(_prior(0, 4), jnp.float32))
