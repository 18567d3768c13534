"""Samples that went elsewhere count less, and the others as much as ever."""

import jax.numpy as jnp
import numpy as np
import pytest

from jgps.core.types import Controller
from jgps.optimise.guided.outliers import sample_weights
from jgps.simulation import SimulationRollouts

C, N, T, DX, DU = 2, 5, 4, 3, 2


@pytest.fixture
def controllers(rng):
    root = rng.normal(size=(C, T, DU, DU))
    cov = root @ root.transpose(0, 1, 3, 2) + 0.1 * np.eye(DU)
    K = rng.normal(size=(C, T, DU, DX))
    return Controller(*(jnp.asarray(each, jnp.float32) for each in (K, K[..., 0], cov)))


def _sampled(x, valid):
    return SimulationRollouts(
        x=jnp.asarray(x, jnp.float32), u=None, valid=jnp.asarray(valid), qpos=None, o=None
    )


def _distances(controllers, x, c, t):
    """Of the mean actions at states [n, dX] from their median, standard deviations, by NumPy."""
    action = x @ np.asarray(controllers.K[c, t], float).T
    root = np.linalg.cholesky(np.asarray(controllers.C[c, t], float))
    return np.linalg.norm(np.linalg.solve(root, (action - np.median(action, axis=0)).T), axis=0)


def test_weights_fall_with_the_distance_beyond_the_bound(rng, controllers):
    x = rng.normal(size=(C, N, T, DX))
    x[0, 3, 1:] *= 100  # it leaves the others after a step
    valid = np.ones((C, N), bool)
    valid[1, 2] = False
    x[1, 2] = np.nan
    found = sample_weights(controllers, _sampled(x, valid), 3.0)
    for c in range(C):
        for t in range(T):
            away = _distances(controllers, x[c, valid[c], t], c, t)
            expected = np.minimum(1, (3.0 / np.maximum(away, 1e-9)) ** 2)
            np.testing.assert_allclose(found[c, valid[c], t], expected, rtol=1e-3)
    assert (np.asarray(found[1, 2]) == 0).all()
    assert (np.asarray(found[0, 3, 1:]) < 0.1).all() and (np.asarray(found) == 1).any()


def test_far_away_a_sample_pulls_less_the_further_it_is(controllers):
    x = np.zeros((C, N, T, DX))
    pulls = []
    for size in (1e2, 1e3, 1e6, 1e18):
        x[:, 0] = size
        weight = np.asarray(sample_weights(controllers, _sampled(x, np.ones((C, N), bool)), 10.0))
        assert np.isfinite(weight).all() and (weight[:, 1:] == 1).all()
        pulls.append((weight[:, 0] * size).max())
    assert pulls == sorted(pulls, reverse=True)


@pytest.mark.parametrize("bound", [1e6, 1e30])
def test_a_large_bound_counts_all_valid_samples_alike(rng, controllers, bound):
    valid = rng.uniform(size=(C, N)) < 0.7
    found = sample_weights(controllers, _sampled(rng.normal(size=(C, N, T, DX)), valid), bound)
    np.testing.assert_array_equal(found, np.broadcast_to(valid[..., None], (C, N, T)))
