"""k-means against NumPy's Lloyd iterations and SciPy, and where it has too little to group."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.cluster.vq import kmeans2

from jgps.core import types
from jgps.core.estimation import kmeans

fit = jax.jit(kmeans.fit, static_argnames="num_iterations")
initialise = jax.jit(kmeans.initialise, static_argnames="num_groups")


def _blobs(seed, num_points=120, num_groups=4, dim=3, spacing=8.0):
    """Points around well-separated centres, and the number of each one's centre."""
    rng = np.random.default_rng(seed)
    corners = np.concatenate([np.eye(dim), -np.eye(dim)])[:num_groups]
    centre = spacing * rng.permutation(corners)
    label = np.arange(num_points) % num_groups
    return centre[label] + rng.normal(size=(num_points, dim)), label


def _lloyd(data, weights, centroid, num_iterations):
    """By explicit loops, on standardised data; no group may run empty."""
    mean = np.average(data, 0, weights)
    scale = np.sqrt(np.average((data - mean) ** 2, 0, weights))
    points, centroid = (data - mean) / scale, (centroid - mean) / scale
    for _ in range(num_iterations):
        label = np.array([np.argmin([np.sum((p - c) ** 2) for c in centroid]) for p in points])
        centroid = np.stack(
            [np.average(points[label == k], 0, weights[label == k]) for k in range(len(centroid))]
        )
    inertia = weights @ np.sum((points - centroid[label]) ** 2, axis=1)
    return label, centroid * scale + mean, inertia


@pytest.mark.parametrize("num_iterations", [1, 3, 15])
def test_matches_lloyd_in_numpy(num_iterations):
    rng = np.random.default_rng(1)
    data = rng.normal(size=(80, 3)) * [1e-2, 1.0, 1e2] + [0.3, -2.0, 50.0]
    weights, start = rng.uniform(0.1, 2.0, size=80), data[[3, 20, 41, 77]]
    label, centroid, inertia = _lloyd(data, weights, start, num_iterations)
    with jax.enable_x64(True):
        groups = fit(jnp.asarray(data), jnp.asarray(weights), jnp.asarray(start), num_iterations)
        groups = jax.tree.map(np.asarray, groups)
    assert groups.status.code == types.OK
    np.testing.assert_array_equal(groups.label, label)
    np.testing.assert_allclose(groups.centroid, centroid, rtol=1e-9)
    np.testing.assert_allclose(groups.inertia, inertia, rtol=1e-9)
    expected = [weights[label == k].sum() for k in range(4)]
    np.testing.assert_allclose(groups.count, expected, rtol=1e-12)


def test_matches_scipy_where_both_converge():
    data = np.random.default_rng(2).normal(size=(150, 2))
    data = ((data - data.mean(0)) / data.std(0)).astype(np.float32)  # SciPy does not standardise
    start = data[:5]
    centroid, label = kmeans2(data, start, iter=100, minit="matrix")
    groups = fit(jnp.asarray(data), jnp.ones(150), jnp.asarray(start), 100)
    np.testing.assert_array_equal(groups.label, label)
    np.testing.assert_allclose(groups.centroid, centroid, atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_finds_separated_groups_whatever_their_units(seed):
    data, true = _blobs(seed)
    data = jnp.asarray(data * [1e-3, 1.0, 1e3], jnp.float32)
    start = initialise(jax.random.key(seed), data, jnp.ones(120), num_groups=4)
    label = np.asarray(fit(data, jnp.ones(120), start).label)
    pairs = {(int(a), int(b)) for a, b in zip(label, true, strict=True)}
    assert len(pairs) == 4


def test_warm_start_keeps_the_groups_numbers():
    """New draws around the same centres, in another order, get the numbers of the old ones."""
    data, true = _blobs(7)
    new, _ = _blobs(7, num_points=60)
    data, new = (jnp.asarray(a, jnp.float32) for a in (data, new[::-1]))
    start = initialise(jax.random.key(0), data, jnp.ones(120), num_groups=4)
    first = fit(data, jnp.ones(120), start)
    second = fit(new, jnp.ones(60), first.centroid)
    number_of = np.asarray(first.label[:4])[np.argsort(true[:4])]
    np.testing.assert_array_equal(second.label, number_of[true[:60][::-1]])


def test_a_group_without_points_takes_the_farthest_one():
    data = jnp.array([[0.0], [0.1], [0.2], [1.0], [10.0]])
    far = jnp.array([[0.1], [1e3], [-1e3]])
    once = fit(data, jnp.ones(5), far, 1)
    np.testing.assert_array_equal(once.label, [0, 0, 0, 2, 1])
    again = fit(data, jnp.ones(5), far, 1)
    np.testing.assert_array_equal(once.centroid, again.centroid)
    np.testing.assert_allclose(once.centroid[:, 0], [0.1, 10.0, 1.0], rtol=1e-5)


def test_no_group_is_empty_even_among_equal_points():
    groups = fit(jnp.ones((6, 2)), jnp.ones(6), jnp.zeros((4, 2)))
    assert sorted(np.unique(groups.label)) == [0, 1, 2, 3]
    assert groups.status.code == types.OK and float(groups.inertia) == 0


def test_points_of_weight_zero_may_hold_anything():
    data, _ = _blobs(3)
    data = jnp.asarray(data, jnp.float32)
    weights = jnp.ones(120).at[5].set(0).at[17].set(0)
    outcomes = []
    for anything in (jnp.nan, jnp.inf, 0.0):
        spoilt = data.at[5].set(anything).at[17, 1].set(anything)
        start = initialise(jax.random.key(2), spoilt, weights, num_groups=4)
        groups = fit(spoilt, weights, start)
        assert groups.status.code == types.OK
        assert bool(jnp.isfinite(groups.centroid).all())
        assert float(groups.count.sum()) == 118
        outcomes.append(groups.centroid)
    np.testing.assert_array_equal(outcomes[0], outcomes[1])
    np.testing.assert_array_equal(outcomes[0], outcomes[2])


def test_failures_are_data():
    data = jnp.arange(8.0).reshape(4, 2)
    few = fit(data, jnp.array([1.0, 1, 0, 0]), data[:3])
    assert few.status.code == types.TOO_FEW_SAMPLES
    assert sorted(few.count.tolist()) == [0, 1, 1]
    bad = fit(data.at[1, 0].set(jnp.nan), jnp.ones(4), data[:2])
    assert bad.status.code == types.NON_FINITE
    none = fit(jnp.full((4, 2), jnp.nan), jnp.zeros(4), data[:2])
    assert none.status.code == types.TOO_FEW_SAMPLES
    np.testing.assert_allclose(none.centroid, data[:2])


def test_bad_shapes_are_refused():
    data, ones = jnp.zeros((4, 2)), jnp.ones(4)
    with pytest.raises(ValueError, match="5 groups for 4 points"):
        kmeans.initialise(jax.random.key(0), data, ones, 5)
    with pytest.raises(ValueError, match=r"weights \[M\]"):
        kmeans.fit(data, jnp.ones(3), data)
    with pytest.raises(ValueError, match=r"centroid must be \[K, 2\]"):
        kmeans.fit(data, ones, jnp.zeros((2, 3)))
    with pytest.raises(ValueError, match="num_iterations is 0"):
        kmeans.fit(data, ones, data, 0)


def test_vmap_equals_a_loop_over_different_problems():
    batch = jnp.stack([jnp.asarray(_blobs(s)[0], jnp.float32) for s in range(3)])
    keys = jax.random.split(jax.random.key(1), 3)
    ones = jnp.ones(120)

    def solve(key, data):
        return kmeans.fit(data, ones, kmeans.initialise(key, data, ones, 4))

    batched = jax.jit(jax.vmap(solve))(keys, batch)
    one_by_one = [jax.jit(solve)(key, data) for key, data in zip(keys, batch, strict=True)]
    for i, expected in enumerate(one_by_one):
        np.testing.assert_array_equal(batched.label[i], expected.label)
        np.testing.assert_allclose(batched.centroid[i], expected.centroid, atol=1e-5)
