"""Scenes between training conditions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jgps.algorithms.between import between
from jgps.policies import Supervision
from jgps.tasks.vision import Vision, orthonormal

C, N, T, DU = 3, 2, 4, 2
DO = 2 + 3 + 6  # a configuration and the pose of one body


@pytest.fixture
def vision():
    place = np.arange(DO)
    return Vision(
        camera="eye",
        configuration=slice(0, 2),
        bodies=np.array([1]),
        position=place[None, 2:5],
        rotation=place[None, 5:],
        xpos=np.zeros((2, 3)),
        xmat=np.tile(np.eye(3), (2, 1, 1)),
        objects=np.array([1]),
        clutter=np.array([], int),
    )


@pytest.fixture
def rows(rng):
    """All steps apart: what is done is a linear function of the configuration and of the step."""
    configuration = rng.normal(size=(C, N, T, 2))
    position = configuration @ rng.normal(size=(2, 3)) + 10 * np.arange(T)[:, None]
    turns = orthonormal(jnp.asarray(rng.normal(size=(C, N, T, 6))))
    target = configuration @ rng.normal(size=(2, DU)) + 100 * np.arange(T)[:, None]
    o = np.concatenate([configuration, position, turns], axis=-1)
    return Supervision(
        o=jnp.asarray(o, jnp.float32),
        target=jnp.asarray(target, jnp.float32),
        precision=jnp.ones((C, T, DU, DU)),
        weight=jnp.ones((C, N, T)),
    )


def test_means_keep_to_what_is_linear(rows, vision, key):
    found = between(key, rows, vision, 1.0)
    assert (found.o != rows.o).any(-1).all() and (found.weight == 1).all()
    # Target and position follow from the configuration, as in the rows, and the step is the same.
    for t in range(T):
        known = np.c_[rows.o[:, :, t, :2].reshape(-1, 2), np.ones(C * N)]
        before, after = (
            np.c_[r.o[:, :, t, 2:5], r.target[:, :, t]].reshape(C * N, -1) for r in (rows, found)
        )
        solution, *_ = np.linalg.lstsq(known, before, rcond=None)
        asked = np.c_[found.o[:, :, t, :2].reshape(-1, 2), np.ones(C * N)]
        np.testing.assert_allclose(asked @ solution, after, atol=1e-3)
        low, high = rows.o[:, :, t, :5].min((0, 1)), rows.o[:, :, t, :5].max((0, 1))
        inside = found.o[:, :, t, :5]
        assert (inside >= low - 1e-5).all() and (inside <= high + 1e-5).all()
    first, second = found.o[..., 5:8], found.o[..., 8:11]
    np.testing.assert_allclose(jnp.sum(first * second, -1), 0, atol=1e-5)
    np.testing.assert_allclose(jnp.linalg.norm(found.o[..., 5:8], axis=-1), 1, atol=1e-5)
    np.testing.assert_allclose(jnp.linalg.norm(second, axis=-1), 1, atol=1e-5)


def test_rows_off_the_way_are_what_every_condition_s_own_controller_does(rng, vision, key):
    """As far off as asked for, to all sides."""
    conditions, samples, spread = 2, 400, 3.0
    way = rng.normal(size=(conditions, 1, T, 2))
    off = 0.1 * rng.normal(size=(conditions, samples, T, 2))
    gain = rng.normal(size=(conditions, DU, 2))
    constant = 5 * rng.normal(size=(conditions, 1, 1, DU))
    configuration = way + off
    target = np.einsum("cij,cntj->cnti", gain, configuration) + constant
    body = np.broadcast_to([0, 0, 0, 1, 0, 0, 0, 1, 0], (conditions, samples, T, 9))
    one = Supervision(
        o=jnp.asarray(np.concatenate([configuration, body], -1), jnp.float32),
        target=jnp.asarray(target, jnp.float32),
        precision=jnp.ones((conditions, T, DU, DU)),
        weight=jnp.ones((conditions, samples, T)),
    )
    first = jax.tree.map(lambda leaf: leaf[:1], one)  # one condition: its controller everywhere
    found = between(key, first, vision, 1.0, spread)
    asked = found.o[..., :2]
    expected = np.einsum("ij,cntj->cnti", gain[0], asked) + constant[0]
    np.testing.assert_allclose(found.target, expected, atol=1e-4)
    # Means of three lie within; what is added is as far off as asked for, less as in means of it.
    within = np.std(between(key, first, vision, 1.0).o[..., :2] - way[:1])
    beyond = np.std(asked - way[:1])
    assert within < 0.1 < 0.8 * spread * 0.1 * np.sqrt(0.5) < beyond < 1.2 * spread * 0.1
    # Of two conditions: nowhere beyond both ways, as differences between conditions would lead to.
    both = between(key, one, vision, 1.0, spread).o[..., :2]
    along = way[1] - way[0]
    length = np.linalg.norm(along, axis=-1)
    place = np.sum((both - way[0]) * along, axis=-1) / length**2
    slack = 5 * spread * 0.1 / length
    assert (-slack < place).all() and (place < 1 + slack).all()


def test_a_share_of_the_rows(rows, vision, key):
    assert between(key, rows, vision, 0.0) is rows
    many = jax.tree.map(lambda leaf: jnp.tile(leaf, (1, 200, *[1] * (leaf.ndim - 2))), rows)
    many = many._replace(precision=rows.precision)
    found = between(key, many, vision, 0.25)
    changed = np.mean((found.o != many.o).any(-1))
    assert 0.2 < changed < 0.3


def test_rows_without_weight_reach_no_other(rows, vision, key):
    bad = rows._replace(
        o=rows.o.at[0].set(jnp.nan), target=rows.target.at[0].set(jnp.nan),
        weight=rows.weight.at[0].set(0).at[1].set(0.5),
    )  # fmt: skip
    found = between(key, bad, vision, 1.0)
    assert (found.weight[0] == 0).all() and (found.weight[1:] > 0).all()
    assert np.isfinite(found.o[1:]).all() and np.isfinite(found.target[1:]).all()
    mixed = (found.o[2] != rows.o[2]).any(-1)
    assert set(np.unique(found.weight[2])) <= {0.5, 1.0} and mixed.any()
