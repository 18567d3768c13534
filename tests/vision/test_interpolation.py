"""Scenes between training conditions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jgps.policies import Supervision
from jgps.tasks.policy_camera import Vision, orthonormal
from jgps.vision import interpolation

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


def interpolate(key, rows, vision, *settings):
    """As one program."""
    return jax.jit(lambda k, r: interpolation.interpolate(k, r, vision, *settings))(key, rows)


def test_means_keep_to_what_is_linear(rows, vision, key):
    found = interpolate(key, rows, vision, 1.0)
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


def _moved(found, still):
    """By how much configurations and targets were moved off the means."""
    return np.asarray(found.o - still.o)[..., :2], np.asarray(found.target - still.target)


def test_rows_off_the_way_are_what_the_controllers_of_its_conditions_do(rng, vision, key):
    """Condition 0 differs along the first coordinate alone, condition 1 along the second."""
    conditions, samples, spread, deviation = 2, 400, 1.5, 0.1
    way = rng.normal(size=(conditions, 1, T, 2))
    off = deviation * rng.normal(size=(conditions, samples, T, 2)) * np.eye(2)[:, None, None]
    gain = rng.normal(size=(conditions, DU, 2))
    target = np.einsum("cij,cntj->cnti", gain, way + off) + rng.normal(size=(conditions, 1, 1, DU))
    body = np.broadcast_to([0, 0, 0, 1, 0, 0, 0, 1, 0], (conditions, samples, T, 9))
    rows = Supervision(
        o=jnp.asarray(np.concatenate([way + off, body], -1), jnp.float32),
        target=jnp.asarray(target, jnp.float32),
        precision=jnp.ones((conditions, T, DU, DU)),
        weight=jnp.ones((conditions, samples, T)),
    )
    still = interpolate(key, rows, vision, 1.0)
    moved, answer = _moved(interpolate(key, rows, vision, 1.0, spread), still)
    # Each coordinate belongs to one condition, and so does what is done about it.
    for condition in range(conditions):
        moved_along = moved[..., condition, None] * gain[condition, :, condition]
        answer = answer - moved_along
    np.testing.assert_allclose(answer, 0, atol=1e-4)
    assert (np.abs(moved).max(-1) > 0).mean() > 0.99 and (np.abs(moved).min(-1) > 0).mean() > 0.4
    # As far as asked for, in a condition alone too, and with no tails but those of rollouts.
    first = jax.tree.map(lambda leaf: leaf[:1], rows)
    alone, _ = _moved(
        interpolate(key, first, vision, 1.0, spread), interpolate(key, first, vision, 1.0)
    )
    for size in (np.linalg.norm(moved, axis=-1), np.abs(alone[..., 0])):
        np.testing.assert_allclose(np.sqrt(np.mean(size**2)), spread * deviation, rtol=0.1)
        assert size.max() < 6 * spread * deviation


def test_rollouts_without_weight_move_no_other(rng, vision, key):
    """In every condition one rollout has none."""
    o = rng.normal(size=(C, 3, T, DO))
    target = rng.normal(size=(C, 3, T, DU))
    weight = np.ones((C, 3, T))
    o[:, 1], target[:, 1], weight[:, 1] = np.nan, np.nan, 0
    rows = Supervision(
        *(jnp.asarray(each, jnp.float32) for each in (o, target)),
        precision=jnp.ones((C, T, DU, DU)),
        weight=jnp.asarray(weight, jnp.float32),
    )
    found = interpolate(key, rows, vision, 1.0, 2.0)
    used = np.asarray(found.weight) > 0
    assert (used == (weight > 0)).all()
    assert np.isfinite(found.o[used]).all() and np.isfinite(found.target[used]).all()
    moved, _ = _moved(found, interpolate(key, rows, vision, 1.0))
    assert (moved[used] != 0).any() and (moved[used] == 0).any()


def test_a_share_of_the_rows(rows, vision, key):
    assert interpolation.interpolate(key, rows, vision, 0.0) is rows
    many = jax.tree.map(lambda leaf: jnp.tile(leaf, (1, 200, *[1] * (leaf.ndim - 2))), rows)
    many = many._replace(precision=rows.precision)
    found = interpolate(key, many, vision, 0.25)
    changed = np.mean((found.o != many.o).any(-1))
    assert 0.2 < changed < 0.3


def test_rows_without_weight_reach_no_other(rows, vision, key):
    bad = rows._replace(
        o=rows.o.at[0].set(jnp.nan), target=rows.target.at[0].set(jnp.nan),
        weight=rows.weight.at[0].set(0).at[1].set(0.5),
    )  # fmt: skip
    found = interpolate(key, bad, vision, 1.0)
    assert (found.weight[0] == 0).all() and (found.weight[1:] > 0).all()
    assert np.isfinite(found.o[1:]).all() and np.isfinite(found.target[1:]).all()
    mixed = (found.o[2] != rows.o[2]).any(-1)
    assert set(np.unique(found.weight[2])) <= {0.5, 1.0} and mixed.any()
