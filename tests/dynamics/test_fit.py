"""Fitting dynamics of one condition: accuracy, scales, bad samples and shapes."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jgps import dynamics
from jgps.core import types
from jgps.core.types import Rollouts
from jgps.dynamics.fit import ridge_metrics

DX, DU, T = 4, 2, 12
SCALE = np.array([1e-3, 1.0, 1e2, 1e-2])


def _linear_rollouts(seed, num_samples, noise=1e-2, same_start=True):
    """A time-varying linear system with entries from 1e-3 to 1e2; returns the true F and f too."""
    rng = np.random.default_rng(seed)
    F = np.concatenate(
        [
            np.eye(DX) + 0.1 * rng.normal(size=(T - 1, DX, DX)),
            0.3 * rng.normal(size=(T - 1, DX, DU)),
        ],
        axis=2,
    )
    f = 0.1 * rng.normal(size=(T - 1, DX))
    x = np.zeros((num_samples, T, DX))
    x[:, 0] = 1.0 if same_start else 1.0 + rng.normal(size=(num_samples, DX))
    u = rng.normal(size=(num_samples, T, DU))
    for t in range(T - 1):
        z = np.concatenate([x[:, t], u[:, t]], axis=1)
        x[:, t + 1] = z @ F[t].T + f[t] + noise * rng.normal(size=(num_samples, DX))
    unit = np.concatenate([SCALE, np.ones(DU)])
    return x * SCALE, u, F * SCALE[:, None] / unit, f * SCALE


def _rollouts(x, u, valid=None, dtype=jnp.float32):
    valid = np.ones(x.shape[0], bool) if valid is None else valid
    return Rollouts(x=jnp.asarray(x, dtype), u=jnp.asarray(u, dtype), valid=jnp.asarray(valid))


def test_recovers_a_linear_system():
    x, u, F, f = _linear_rollouts(0, num_samples=400, noise=1e-3, same_start=False)
    with jax.enable_x64(True):
        config = dynamics.FitConfig(ridge=0.0)
        fitted, (status, _) = dynamics.fit(_rollouts(x, u, dtype=jnp.float64), config=config)
        fitted = jax.tree.map(np.asarray, fitted)
    assert status.code == types.OK
    unit = np.concatenate([SCALE, np.ones(DU)])
    np.testing.assert_allclose(
        fitted.F * unit / SCALE[:, None], F * unit / SCALE[:, None], atol=1e-2
    )
    np.testing.assert_allclose(fitted.f / SCALE, f / SCALE, atol=1e-2)
    deviation = np.sqrt(np.diagonal(fitted.W, axis1=1, axis2=2)) / SCALE
    np.testing.assert_allclose(deviation, 1e-3, rtol=0.2)


@pytest.mark.parametrize("num_samples", [5, 60])
def test_float32_matches_float64(num_samples):
    """Stated tolerance: 2e-3 of the spreads at 60 samples; predictions alike at 5."""
    x, u, _, _ = _linear_rollouts(1, num_samples)
    single, (status, _) = dynamics.fit(_rollouts(x, u))
    with jax.enable_x64(True):
        double, (status64, _) = dynamics.fit(_rollouts(x, u, dtype=jnp.float64))
        double = jax.tree.map(np.asarray, double)
    assert status.code == types.OK and status64.code == types.OK
    chex.assert_tree_all_finite(single)
    unit = np.concatenate([SCALE, np.ones(DU)])
    if num_samples > DX + DU:
        error = (single.F - double.F) * unit / SCALE[:, None]
        assert np.abs(error[1:]).max() < 2e-3
    z = np.concatenate([x, u], axis=2)[:, :-1]
    predictions = [
        np.einsum("tij,ntj->nti", np.asarray(d.F, float), z) + d.f for d in (single, double)
    ]
    np.testing.assert_allclose(predictions[0] / SCALE, predictions[1] / SCALE, atol=5e-3)


def test_an_invalid_sample_is_left_out():
    x, u, _, _ = _linear_rollouts(2, num_samples=6)
    kept, _ = dynamics.fit(_rollouts(x[1:], u[1:]))
    x[0, 3:], u[0, 5] = np.nan, np.inf
    valid = np.arange(6) > 0
    masked, (status, _) = dynamics.fit(_rollouts(x, u, valid))
    assert status.code == types.OK
    z = np.concatenate([x, u], axis=2)[1:, :-1]
    predictions = [np.einsum("tij,ntj->nti", d.F, z) + d.f for d in (masked, kept)]
    np.testing.assert_allclose(predictions[0] / SCALE, predictions[1] / SCALE, atol=5e-3)


def test_status_names_the_failure_and_the_step():
    x, u, _, _ = _linear_rollouts(3, num_samples=5)
    _, (status, _) = dynamics.fit(_rollouts(x, u, np.arange(5) == 2))
    assert (status.code, status.step) == (types.TOO_FEW_SAMPLES, 0)
    bad = x.copy()
    bad[4, 7, 1] = np.nan
    _, (status, _) = dynamics.fit(_rollouts(bad, u))
    assert (status.code, status.step) == (types.NON_FINITE, 6)
    _, (status, _) = dynamics.fit(_rollouts(x, u), config=dynamics.FitConfig(ridge=0.0))
    assert (status.code, status.step) == (types.NOT_PD, 0)


def test_many_more_entries_than_samples_are_fitted_in_float32():
    """Above some hundred entries the default ridge is below rounding, which grows with them."""
    rng = np.random.default_rng(7)
    steps = rng.normal(size=(5, 3, 130))
    x, u = np.cumsum(steps, axis=1), rng.normal(size=(5, 3, 40))
    fitted, (status, ridge_added) = dynamics.fit(_rollouts(x, u))
    assert status.code == types.OK
    assert ridge_added.shape == (2,) and (ridge_added > 0).all() and (ridge_added < 1e-2).all()
    metrics = ridge_metrics(jnp.stack([ridge_added, 0 * ridge_added]), "own_")
    assert metrics["own_ridge_raised"].tolist() == [2, 0]
    assert metrics["own_ridge_added"].tolist() == [float(ridge_added.max()), 0.0]
    z = np.concatenate([x, u], axis=-1)[:, :-1]
    predicted = np.einsum("tij,ntj->nti", fitted.F, z) + np.asarray(fitted.f)
    np.testing.assert_allclose(predicted, x[:, 1:], atol=1e-2)


def test_still_state_at_the_first_step_is_finite():
    x, u, _, _ = _linear_rollouts(4, num_samples=5)
    fitted, (status, ridge_added) = dynamics.fit(_rollouts(x, u))
    assert status.code == types.OK
    assert not ridge_added.any()
    np.testing.assert_array_equal(fitted.F[0, :, :DX], 0.0)
    eigenvalues = np.linalg.eigvalsh(np.asarray(fitted.W, float) / np.outer(SCALE, SCALE))
    assert eigenvalues.min() > -1e-6


@pytest.mark.parametrize(("dtype", "atol"), [(jnp.float32, 5e-3), (jnp.float64, 1e-7)])
def test_vmap_over_conditions_equals_a_loop(x64, dtype, atol):
    """In float32 at rollouts that were fitted; at others 4 samples leave rounding to decide."""
    data = [_linear_rollouts(seed, num_samples=5) for seed in range(3)]
    valid = np.ones((3, 5), bool)
    valid[1, 4] = False
    x, u = (np.stack([d[i] for d in data]) for i in range(2))
    batch = _rollouts(x, u, valid, dtype)
    fitted, (status, _) = jax.jit(jax.vmap(lambda rollouts: dynamics.fit(rollouts)))(batch)
    assert status.code.tolist() == [types.OK] * 3 and fitted.F.dtype == dtype
    z = jnp.concatenate([batch.x, batch.u], axis=-1)[:, :, :-1]
    for c in range(3):
        single, _ = dynamics.fit(jax.tree.map(lambda leaf, c=c: leaf[c], batch))
        asked = z[c] if dtype == jnp.float64 else z[c, valid[c]]
        predictions = [
            jnp.einsum("tij,ntj->nti", F, asked) + f
            for F, f in ((fitted.F[c], fitted.f[c]), (single.F, single.f))
        ]
        np.testing.assert_allclose(predictions[0] / SCALE, predictions[1] / SCALE, atol=atol)


def test_prior_with_and_without_time_axis():
    x, u, _, _ = _linear_rollouts(5, num_samples=5)
    dim = 2 * DX + DU
    prior = dynamics.NormalInverseWishart(
        mean=jnp.zeros(dim), scatter=jnp.eye(dim), dof=jnp.asarray(1.0), strength=jnp.asarray(1.0)
    )
    per_step = jax.tree.map(lambda leaf: jnp.stack([leaf] * (T - 1)), prior)
    shared, (status, _) = dynamics.fit(_rollouts(x, u), prior)
    stacked, _ = dynamics.fit(_rollouts(x, u), per_step)
    without, _ = dynamics.fit(_rollouts(x, u))
    assert status.code == types.OK
    unit = np.concatenate([SCALE, np.ones(DU)]) / SCALE[:, None]
    np.testing.assert_allclose(shared.F * unit, stacked.F * unit, atol=1e-4)
    assert np.abs(shared.F - without.F).max() > 1e-3


def test_one_time_step_equals_the_published_formula():
    """The room adds scaling and a time axis around the regression, nothing else."""
    x, u, _, _ = _linear_rollouts(6, num_samples=400, same_start=False)
    with jax.enable_x64(True):
        config = dynamics.FitConfig(ridge=0.0)
        fitted, _ = dynamics.fit(_rollouts(x, u, dtype=jnp.float64), config=config)
    for t in (0, T - 2):
        design = np.concatenate([x[:, t], u[:, t], np.ones((400, 1))], axis=1)
        solution = np.linalg.lstsq(design / np.abs(design).max(0), x[:, t + 1], rcond=None)[0].T
        solution = solution / np.abs(design).max(0)
        np.testing.assert_allclose(fitted.F[t], solution[:, :-1], rtol=1e-5, atol=1e-9)
        np.testing.assert_allclose(fitted.f[t], solution[:, -1], rtol=1e-5, atol=1e-9)


def test_initial_distribution():
    x0 = jnp.asarray([[1.0, 1e3, np.nan], [3.0, 1e3, 5.0], [5.0, 1e3, 7.0]])
    weights = jnp.asarray([False, True, True])
    initial = jax.jit(dynamics.fit_initial)(x0, weights, 1e-4)
    np.testing.assert_allclose(initial.mean, [4.0, 1e3, 6.0])
    np.testing.assert_allclose(initial.cov, np.diag([1.0, 1e-4, 1.0]), rtol=1e-6)
    per_entry = dynamics.fit_initial(x0, weights, jnp.asarray([2.0, 1e-2, 1e-2]))
    np.testing.assert_allclose(np.diag(per_entry.cov), [2.0, 1e-2, 1.0], rtol=1e-6)
    empty = dynamics.fit_initial(x0, jnp.zeros(3), 1e-4)
    chex.assert_tree_all_finite(empty)


def test_wrong_shapes_and_config():
    x, u, _, _ = _linear_rollouts(0, num_samples=3)
    with pytest.raises(ValueError, match="vmap over conditions"):
        dynamics.fit(_rollouts(x[None], u[None]))
    with pytest.raises(ValueError, match="at least 2 steps"):
        dynamics.fit(_rollouts(x[:, :1], u[:, :1]))
    with pytest.raises(ValueError, match=r"x0 must be \[N, dX\]"):
        dynamics.fit_initial(jnp.ones(3), jnp.ones(3), 1.0)
    for minimum in (-1e-6, np.nan, jnp.asarray([1.0, -1.0, 1.0])):
        with pytest.raises(ValueError, match=r"minimum_variance is .*; it has to be >= 0"):
            dynamics.fit_initial(jnp.ones((2, 3)), jnp.ones(2), minimum)
    for ridge in (-1.0, np.inf, np.nan):
        with pytest.raises(ValueError, match=rf"^FitConfig\.ridge is {ridge}; .*finite and >= 0"):
            dynamics.FitConfig(ridge=ridge)
    prior = dynamics.NormalInverseWishart(
        *(jnp.ones((T, *shape)) for shape in ((10,), (10, 10), (), ()))
    )
    with pytest.raises(ValueError, match=f"has {T} steps but rollouts of {T} .* {T - 1} trans"):
        dynamics.fit(_rollouts(x, u), prior)


def test_mixed_dtypes_are_promoted_and_valid_may_be_numbers():
    x, u, _, _ = _linear_rollouts(8, num_samples=9)
    expected, _ = dynamics.fit(_rollouts(x, u, np.arange(9) > 0))
    rollouts = _rollouts(x, u, 0.5 * (np.arange(9) > 0))
    got, (status, _) = dynamics.fit(rollouts)
    assert status.code == types.OK
    chex.assert_trees_all_equal(got, expected)
    with jax.enable_x64(True):
        for mixed in (
            rollouts._replace(u=jnp.asarray(u, jnp.float64)),
            rollouts._replace(x=jnp.asarray(x, jnp.float64)),
        ):
            fitted, _ = dynamics.fit(mixed)
            assert {leaf.dtype for leaf in fitted} == {jnp.dtype("float64")}
