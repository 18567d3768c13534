"""Mixture by EM against a NumPy float64 reference, and the prior it gives."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jgps.core import linalg, types
from jgps.core.estimation import mixture as gmm

fit = jax.jit(gmm.fit, static_argnames="config")
initialise = jax.jit(gmm.initialise, static_argnames="max_clusters")
to_prior = jax.jit(gmm.to_prior)
ONE_STEP = gmm.MixtureConfig(max_iterations=1, ridge=1e-3, starved_fraction=0.0)


def _clusters(seed, num_points=300, num_clusters=3, dim=4, spacing=10.0, scale=None):
    """Points of well-separated clusters, their labels and the true means."""
    rng = np.random.default_rng(seed)
    mean = spacing * rng.permutation(np.eye(max(num_clusters, dim)))[:num_clusters, :dim]
    label = rng.integers(num_clusters, size=num_points)
    points = mean[label] + rng.normal(size=(num_points, dim))
    scale = np.ones(dim) if scale is None else scale
    return points * scale, label, mean * scale


def _random_mixture(seed, num_clusters, dim, num_active):
    """In units of standardised data."""
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(num_clusters, dim, dim)) / np.sqrt(dim)
    weights = rng.dirichlet(np.ones(num_active))
    return (
        np.concatenate([weights, np.zeros(num_clusters - num_active)]),
        rng.normal(size=(num_clusters, dim)),
        root @ np.swapaxes(root, 1, 2) + 0.3 * np.eye(dim),
    )


def _mixture(weights, mean, cov, num_active, count, dtype=jnp.float32):
    return gmm.Mixture(
        weights=jnp.asarray(weights, dtype),
        mean=jnp.asarray(mean, dtype),
        cov=jnp.asarray(cov, dtype),
        active=jnp.arange(len(weights)) < num_active,
        count=jnp.asarray(count, dtype),
    )


def _reference_em_step(data, data_weights, weights, mean, cov, ridge):
    """One EM step by explicit loops over SciPy densities; also the log-likelihood before it."""
    density = np.stack(
        [
            w * stats.multivariate_normal(m, S).pdf(data)
            for w, m, S in zip(weights, mean, cov, strict=True)
        ]
    )
    share = data_weights * density / density.sum(axis=0)
    count = share.sum(axis=1)
    new_mean = share @ data / count[:, None]
    new_cov = [
        (share[k, :, None] * (data - new_mean[k])).T @ (data - new_mean[k]) / count[k]
        + ridge
        * np.diag(np.average((data - np.average(data, 0, data_weights)) ** 2, 0, data_weights))
        for k in range(len(weights))
    ]
    log_likelihood = np.average(np.log(density.sum(axis=0)), weights=data_weights)
    return count / count.sum(), new_mean, np.stack(new_cov), log_likelihood


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-8), (np.float32, 2e-4)])
def test_one_step_matches_a_numpy_reference(dtype, rtol):
    rng = np.random.default_rng(0)
    dim, num_active = 5, 3
    scale = np.geomspace(1e-2, 1e2, dim)
    standard = rng.normal(size=(300, dim)) @ rng.normal(size=(dim, dim))
    data = (standard + 2) * scale
    spread = data.std(axis=0)
    weights, mean, cov = _random_mixture(1, 4, dim, num_active)
    mean, cov = data.mean(axis=0) + mean * spread, cov * np.outer(spread, spread)
    data_weights = rng.uniform(0.2, 1.5, size=300)
    expected = _reference_em_step(
        data, data_weights, weights[:3], mean[:3], cov[:3], ONE_STEP.ridge
    )
    with jax.enable_x64(True):
        init = _mixture(weights, mean, cov, num_active, 300, dtype)
        fitted, info = fit(
            jnp.asarray(data, dtype), jnp.asarray(data_weights, dtype), init, num_active, ONE_STEP
        )
        fitted, info = jax.tree.map(np.asarray, (fitted, info))
    assert fitted.cov.dtype == dtype
    assert info.status.code == types.OK and info.iterations == 1 and not info.converged
    np.testing.assert_allclose(fitted.weights[:3], expected[0], rtol=rtol)
    np.testing.assert_allclose((fitted.mean[:3] - expected[1]) / spread, 0, atol=rtol)
    np.testing.assert_allclose(
        (fitted.cov[:3] - expected[2]) / np.outer(spread, spread), 0, atol=rtol
    )
    std = np.sqrt(np.average((data - np.average(data, 0, data_weights)) ** 2, 0, data_weights))
    assert info.log_likelihood == pytest.approx(expected[3] + np.log(std).sum(), rel=rtol)
    assert fitted.weights[3] == 0
    assert fitted.count == pytest.approx(data_weights.sum(), rel=1e-5)


def test_log_likelihood_rises():
    data, _, _ = _clusters(3, spacing=2.0)
    data, ones = jnp.asarray(data, jnp.float32), jnp.ones(300)
    mixture = initialise(jax.random.key(0), data, ones, 4, max_clusters=4)
    config = gmm.MixtureConfig(max_iterations=1, ridge=1e-4, starved_fraction=0.0)
    values = []
    for _ in range(25):
        mixture, info = fit(data, ones, mixture, 4, config)
        values.append(float(info.log_likelihood))
    assert min(np.diff(values)) > -1e-4
    assert values[-1] > values[0] + 0.05


@pytest.mark.parametrize("seed", range(4))
def test_recovers_separated_clusters_of_different_scales(seed):
    scale = np.array([1e-3, 1.0, 1e2, 1e-1])
    data, label, mean = _clusters(seed, scale=scale)
    data, ones = jnp.asarray(data, jnp.float32), jnp.ones(len(data))
    init = initialise(jax.random.key(seed), data, ones, 3, max_clusters=4)
    mixture, info = fit(data, ones, init, 3)
    assert info.status.code == types.OK and info.converged
    assert mixture.active.tolist() == [True, True, True, False]
    found = np.asarray(mixture.mean)[:3] / scale
    distance = np.linalg.norm(found[:, None] - mean / scale, axis=-1)
    match = distance.argmin(axis=0)
    assert sorted(match) == [0, 1, 2]
    for true, k in enumerate(match):
        own = np.asarray(data)[label == true]
        np.testing.assert_allclose(found[k], own.mean(axis=0) / scale, atol=1e-2)
        cov = np.asarray(mixture.cov)[k] / np.outer(scale, scale)
        np.testing.assert_allclose(cov, np.cov((own / scale).T, ddof=0), atol=3e-2)
        assert mixture.weights[k] == pytest.approx((label == true).mean(), abs=1e-3)


def test_convergence_is_noticed_at_negative_log_likelihood():
    """Structureless data has a log-likelihood below zero once standardised."""
    data = jnp.asarray(np.random.default_rng(0).normal(size=(300, 4)), jnp.float32)
    ones = jnp.ones(300)
    init = initialise(jax.random.key(0), data, ones, 2, max_clusters=4)
    _, info = fit(data, ones, init, 2, gmm.MixtureConfig(max_iterations=200, tolerance=1e-4))
    assert info.log_likelihood < 0
    assert info.converged and 1 < info.iterations < 200
    _, unbounded = fit(data, ones, init, 2, gmm.MixtureConfig(max_iterations=7, tolerance=0.0))
    assert not unbounded.converged and unbounded.iterations == 7


def test_starved_cluster_is_moved_to_the_unexplained_points():
    data, label, mean = _clusters(5)
    # The third cluster lies far from everything, so the third group of points has none.
    centre = np.stack([data[label == 0].mean(axis=0), data[label == 1].mean(axis=0), mean[0] + 1e3])
    centre = np.concatenate([centre, np.zeros((1, 4))])
    weights = np.array([1, 1, 1, 0]) / 3
    init = _mixture(weights, centre, np.tile(np.eye(4), (4, 1, 1)), 3, 300)
    data = jnp.asarray(data, jnp.float32)
    mixture, info = fit(data, jnp.ones(300), init, 3)
    assert info.reseeded >= 1 and info.converged
    np.testing.assert_allclose(mixture.mean[2], data[label == 2].mean(axis=0), atol=0.05)
    assert mixture.weights[2] == pytest.approx((label == 2).mean(), abs=1e-2)


def test_an_outlier_keeps_its_cluster_and_em_converges():
    """A cluster at a lone point is starved for good: it is moved there once, not for ever."""
    data, _, _ = _clusters(9, num_clusters=2)
    data[0] = 1e3
    data, ones = jnp.asarray(data, jnp.float32), jnp.ones(300)
    warm, _ = fit(
        data[1:], ones[1:], initialise(jax.random.key(0), data[1:], ones[1:], 2, max_clusters=3), 2
    )
    mixture, info = fit(data, ones, warm, 3)
    assert info.converged and info.reseeded == 1 and info.status.code == types.OK
    np.testing.assert_allclose(mixture.mean[2], data[0], rtol=1e-3)
    assert mixture.weights[2] == pytest.approx(1 / 300, rel=1e-2)


def test_every_returned_cluster_is_an_m_step_on_the_points():
    """In the last iteration nothing is moved: all weights are shares of the points."""
    data, _, _ = _clusters(6)
    data, ones = jnp.asarray(data, jnp.float32), jnp.ones(300)
    two, _ = fit(data, ones, initialise(jax.random.key(1), data, ones, 2, max_clusters=4), 2)
    once, info = fit(data, ones, two, 3, gmm.MixtureConfig(max_iterations=1))
    assert info.reseeded == 0 and once.weights[2] == 0
    chex.assert_tree_all_finite(once)
    twice, info = fit(data, ones, once, 3, gmm.MixtureConfig(max_iterations=2))
    assert info.reseeded == 1 and twice.weights[2] > 0.05
    np.testing.assert_allclose(twice.weights @ twice.mean, data.mean(axis=0), atol=1e-4)


def test_a_newly_active_cluster_joins_a_warm_start():
    data, label, _ = _clusters(6)
    data, ones = jnp.asarray(data, jnp.float32), jnp.ones(300)
    two, _ = fit(data, ones, initialise(jax.random.key(1), data, ones, 2, max_clusters=4), 2)
    three, info = fit(data, ones, two, 3)
    assert two.active.sum() == 2 and three.active.sum() == 3
    assert info.reseeded >= 1
    shares = sorted(np.bincount(label) / 300)
    np.testing.assert_allclose(sorted(np.asarray(three.weights)[:3]), shares, atol=1e-2)


def test_rows_of_weight_zero_do_not_matter():
    data, _, _ = _clusters(7)
    weights = jnp.asarray(np.arange(300) < 280, jnp.float32)
    clean = jnp.asarray(data, jnp.float32)
    data[280:290], data[290:] = np.nan, 1e30
    dirty = jnp.asarray(data, jnp.float32)
    results = []
    for points in (clean, dirty):
        init = initialise(jax.random.key(2), points, weights, 3, max_clusters=4)
        mixture, info = fit(points, weights, init, 3)
        assert info.status.code == types.OK and mixture.count == 280
        results.append(mixture)
    chex.assert_tree_all_finite(results[1])
    chex.assert_trees_all_close(results[0], results[1], rtol=1e-5, atol=1e-5)


def test_bad_data_and_no_data_are_reported():
    data, _, _ = _clusters(8)
    data, ones = jnp.asarray(data, jnp.float32), jnp.ones(300)
    init = initialise(jax.random.key(3), data, ones, 3, max_clusters=4)
    _, info = fit(data.at[4, 1].set(jnp.inf), ones, init, 3)
    assert info.status.code == types.NON_FINITE
    nothing, info = fit(data, jnp.zeros(300), init, 3)
    assert info.status.code == types.OK and info.iterations == 1
    assert nothing.count == 0
    chex.assert_tree_all_finite(nothing)
    _, info = fit(data, ones, init._replace(cov=-init.cov), 3)
    assert info.status.code == types.NOT_PD


def test_singular_clusters_of_many_dimensions_have_a_density():
    data = jnp.asarray(np.random.default_rng(2).normal(size=(12, 1000)), jnp.float32)
    ones = jnp.ones(12)
    init = initialise(jax.random.key(0), data, ones, 1, max_clusters=1)
    assert bool(linalg.cholesky(init.cov[0])[1])


def test_a_ridge_that_rounding_would_hide_is_raised_and_said():
    data = jnp.asarray(np.random.default_rng(2).normal(size=(6, 300)), jnp.float32)
    ones = jnp.ones(6)
    start = gmm.empty(1, 300, jnp.float32)._replace(weights=ones[:1], active=ones[:1] > 0)
    _, info = fit(data, ones, start, 1, gmm.MixtureConfig(max_iterations=1))
    assert info.status.code == types.OK
    assert float(info.ridge_added) == pytest.approx(4 * 300 * 2.0**-23 - 1e-4, rel=1e-5)
    few, ones = jnp.asarray(_clusters(8)[0], jnp.float32), jnp.ones(300)
    _, info = fit(few, ones, gmm.empty(1, few.shape[1], jnp.float32), 1, ONE_STEP)
    assert float(info.ridge_added) == 0.0


def test_prior_matches_a_numpy_reference():
    """Law of total covariance over the mean responsibilities of the query points."""
    dim, num_active, strength = 4, 3, 1.5
    weights, mean, cov = _random_mixture(4, 5, dim, num_active)
    points = np.random.default_rng(5).normal(size=(6, dim))
    valid = np.array([1.0, 1, 0, 1, 1, 1])
    density = np.stack(
        [weights[k] * stats.multivariate_normal(mean[k], cov[k]).pdf(points) for k in range(3)]
    )
    w = (density / density.sum(axis=0)) @ valid / valid.sum()
    mu0 = w @ mean[:3]
    Phi = sum(w[k] * (cov[k] + np.outer(mean[k], mean[k])) for k in range(3)) - np.outer(mu0, mu0)
    points[2] = np.nan
    with jax.enable_x64(True):
        mixture = _mixture(weights, mean, cov, num_active, 50, jnp.float64)
        prior = to_prior(mixture, jnp.asarray(points), jnp.asarray(valid), strength)
        prior = jax.tree.map(np.asarray, prior)
    np.testing.assert_allclose(prior.mean, mu0, rtol=1e-10)
    np.testing.assert_allclose(prior.scatter, strength * Phi, rtol=1e-10)
    assert prior.dof == pytest.approx(strength * (50 - 2 - dim) / 50)
    assert prior.strength == strength


def test_prior_keeps_small_covariances_far_from_the_origin():
    """E[yy'] - mu mu' would leave nothing of 1e-4 at 1e3 in float32."""
    weights, _, _ = _random_mixture(4, 2, 3, 2)
    mean = np.full((2, 3), 1e3)
    cov = np.tile(1e-4 * np.eye(3), (2, 1, 1))
    mixture = _mixture(weights, mean, cov, 2, 100)
    prior = to_prior(mixture, jnp.full((4, 3), 1e3), jnp.ones(4), 1.0)
    np.testing.assert_allclose(prior.scatter, 1e-4 * np.eye(3), atol=1e-7)


def test_an_empty_mixture_is_no_prior():
    empty = gmm.empty(4, 3, jnp.float32)
    prior = to_prior(empty, jnp.ones((5, 3)), jnp.ones(5), 2.0)
    chex.assert_trees_all_close(prior, jax.tree.map(jnp.zeros_like, prior))
    filled = _mixture(*_random_mixture(0, 4, 3, 4), 4, 100)
    unasked = to_prior(filled, jnp.full((5, 3), jnp.nan), jnp.zeros(5), 2.0)
    chex.assert_trees_all_close(unasked, jax.tree.map(jnp.zeros_like, prior))


def test_vmap_equals_a_loop_over_different_problems():
    problems = [_clusters(seed, num_points=90, spacing=4.0)[0] for seed in range(3)]
    data = jnp.asarray(problems, jnp.float32)
    weights = jnp.ones((3, 90)).at[1, 50:].set(0)
    keys = jax.random.split(jax.random.key(0), 3)
    num_active = jnp.asarray([2, 3, 4])
    seed_one = functools.partial(initialise, max_clusters=4)
    init = jax.vmap(seed_one)(keys, data, weights, num_active)
    batched, info = jax.jit(jax.vmap(gmm.fit))(data, weights, init, num_active)
    assert len(set(info.iterations.tolist())) > 1
    for i in range(3):
        own = jax.tree.map(lambda leaf, i=i: leaf[i], init)
        single, single_info = fit(data[i], weights[i], own, num_active[i])
        assert single_info.iterations == info.iterations[i]
        chex.assert_trees_all_close(
            jax.tree.map(lambda leaf, i=i: leaf[i], batched), single, rtol=2e-3, atol=2e-3
        )


def test_wrong_shapes_and_config():
    init = gmm.empty(3, 2, jnp.float32)
    with pytest.raises(ValueError, match=r"data must be \[M, D\] with D = 2"):
        gmm.fit(jnp.ones((5, 3)), jnp.ones(5), init, 2)
    with pytest.raises(ValueError, match=r"weights must be \[5\]"):
        gmm.fit(jnp.ones((5, 2)), jnp.ones(4), init, 2)
    with pytest.raises(ValueError, match=r"init.cov must be \[3, 2, 2\]"):
        gmm.fit(jnp.ones((5, 2)), jnp.ones(5), init._replace(cov=init.cov[:2]), 2)
    for num_active in (0, 4):
        with pytest.raises(ValueError, match=rf"num_active is {num_active}; .*in 1\.\.3"):
            gmm.fit(jnp.ones((5, 2)), jnp.ones(5), init, num_active)
        with pytest.raises(ValueError, match=rf"num_active is {num_active}; .*in 1\.\.3"):
            gmm.initialise(jax.random.key(0), jnp.ones((5, 2)), jnp.ones(5), num_active, 3)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_iterations", 0),
        ("max_iterations", 2.5),
        ("tolerance", -1.0),
        ("tolerance", np.inf),
        ("ridge", 0.0),
        ("ridge", np.inf),
        ("starved_fraction", 1.0),
        ("starved_fraction", np.nan),
    ],
)
def test_invalid_settings_name_class_field_and_value(field, value):
    with pytest.raises(ValueError, match=rf"^MixtureConfig\.{field} is {value}; it has to be"):
        gmm.MixtureConfig(**{field: value})
