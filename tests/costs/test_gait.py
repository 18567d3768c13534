"""Gaits: when feet stand and swing, and where they are to be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jgps.costs.gait import (
    Gait,
    biped_walk,
    foot_height,
    foot_placement,
    footholds,
    pace,
    trot,
    walk,
)
from jgps.costs.locomotion import Base

GAIT = Gait(period=0.5, duty=0.6, offsets=(0.0, 0.5))
U = np.zeros(1)
BASE, X = Base(place=[0, 1], rotation=[2, 3], velocity=[]), np.zeros(9)


def test_feet_take_turns_however_long_it_takes():
    # Begins to stand; half of its stance; begins to swing; half of its swing; 50 periods later.
    for time, stance, swing in [
        (0.0, [0, 5 / 6], [0, 0]),
        (0.15, [0.5, 1], [0, 0.5]),
        (0.3, [1, 1 / 6], [0, 0]),
        (0.4, [1, 0.5], [0.5, 0]),
        (25.4, [1, 0.5], [0.5, 0]),
    ]:
        found = GAIT.progress(jnp.asarray(time, jnp.float32))
        np.testing.assert_allclose(found, [stance, swing], atol=2e-5)


def test_a_foot_is_lifted_in_its_swing_alone():
    height = foot_height(GAIT, [0], [1, 2, 3, 4], apex=0.1)
    at = np.array([0.4, 0.12, 0.14, 0.01, 0.03])  # two points of each foot
    np.testing.assert_allclose(height(at, U, 0), [0.13 - 0.1, 0.02], atol=1e-6)


def test_a_foot_passes_below_the_body_as_the_ground_does_and_returns_smoothly():
    residual = foot_placement(GAIT, [0], [1, 2], [3], velocity=2.0)

    def ahead(time):
        return -residual(jnp.stack([time, 5.0, 5.0, 5.0]), U, 0)

    times = jnp.linspace(0, 0.5, 201)[:-1]
    place = np.asarray(jax.vmap(ahead)(times))
    np.testing.assert_allclose(place[0, 0], 0.3, atol=1e-6)  # half of 2 m/s x 0.3 s
    np.testing.assert_allclose(place[60], [0, 0], atol=1e-6)  # middles of stance and swing
    np.testing.assert_allclose(np.roll(place[:, 0], -100), place[:, 1], atol=1e-5)
    speed = np.diff(np.append(place[:, 0], place[0, 0])) / 0.0025
    np.testing.assert_allclose(speed[:120], -2.0, atol=1e-3)
    swing = speed[120:]  # from 0 to 6 m/s and back
    np.testing.assert_allclose(swing[[0, 40, -1]], [0, 6, 0], atol=0.01)
    assert np.abs(np.diff(swing)).max() < 0.3


def test_a_foot_stands_as_high_as_its_radius():
    height = foot_height(GAIT, [0], [1, 2], apex=0.1, ground=0.02)
    np.testing.assert_allclose(height(np.array([0.4, 0.13, 0.02]), U, 0), [0.01, 0], atol=1e-6)


def test_feet_go_around_the_trunk_where_it_is_told_to_go():
    """Of a trunk that faces y, by hand: strides of 0.15 s and -0.1 s at time 0."""
    base = Base(place=[1, 2], rotation=[3, 4], velocity=[])
    rest, told = np.array([[0.2, -0.1], [-0.2, 0.1]]), [1.0, -0.5, 2.0]
    residual = footholds(GAIT, [0], slice(5, 9), base, rest, slice(9, 12))
    # The turn moves the first foot with (0.2, 0.4) m/s, the second one with the opposite.
    wanted = np.array([[0.2 + 0.15 * 1.2, -0.1 - 0.15 * 0.1], [-0.2 - 0.1 * 0.8, 0.1 + 0.1 * 0.9]])
    places = np.array([3.0, 4.0]) + wanted @ np.array([[0.0, 1.0], [-1.0, 0.0]])
    x = np.concatenate([[0.0, 3, 4, 0, 1], places.reshape(-1), told]).astype(np.float32)
    np.testing.assert_allclose(residual(x, U, 0), np.zeros(4), atol=2e-6)
    x[5:7] += [0.01, 0.02]
    np.testing.assert_allclose(residual(x, U, 0), [0.02, -0.01, 0, 0], atol=2e-6)
    x[0] = 0.15  # in the middle of stance and swing they are at rest
    x[5:9] = (np.array([3.0, 4.0]) + rest @ np.array([[0.0, 1.0], [-1.0, 0.0]])).reshape(-1)
    np.testing.assert_allclose(residual(x, U, 0), np.zeros(4), atol=2e-6)


def test_a_phase_is_as_good_as_the_time():
    rng = np.random.default_rng(0)
    for time in rng.uniform(0, 3, 8):
        angle, feet = 2 * np.pi * time / GAIT.period, rng.uniform(0, 0.1, 2)
        told = foot_height(GAIT, [0, 1], [2, 3], 0.1)
        by_time = foot_height(GAIT, [0], [1, 2], 0.1)(np.array([time, *feet]), U, 0)
        by_phase = told(np.array([np.cos(angle), np.sin(angle), *feet]), U, 0)
        np.testing.assert_allclose(by_phase, by_time, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "swinging"),
    [
        (trot, [{1, 2}, {0, 3}]),  # front right, front left, rear right, rear left
        (pace, [{1, 3}, {0, 2}]),
        (biped_walk, [{1}, {0}]),
    ],
)
def test_gaits_swing_the_legs_that_they_say(make, swinging):
    gait = make()
    times = jnp.linspace(0, gait.period, 200, endpoint=False)
    up = np.asarray(jax.vmap(lambda t: gait.progress(t)[1])(times)) > 0
    np.testing.assert_allclose(up.mean(axis=0), 1 - gait.duty, atol=0.01)
    together = up.T.astype(int) @ up.astype(int)
    for legs in swinging:
        first = min(legs)
        assert all(together[first, other] == together[first, first] for other in legs)
    assert set.union(*swinging) == set(range(len(gait.offsets)))


def test_in_a_walk_one_leg_swings_at_a_time_rear_before_front():
    gait = walk()
    times = jnp.linspace(0, gait.period, 400, endpoint=False)
    up = np.asarray(jax.vmap(lambda t: gait.progress(t)[1])(times)) > 0
    assert up.sum(axis=1).max() == 1
    begins = np.argmax(up & ~np.roll(up, 1, axis=0), axis=0) / 400  # share of the period
    assert (begins[0] - begins[2]) % 1 == pytest.approx(0.25, abs=0.01)
    assert (begins[1] - begins[3]) % 1 == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gait(0.0, 0.6, (0.0,)), "Gait.period is 0.0; it has to be > 0 seconds"),
        (lambda: Gait(1.0, 1.0, (0.0,)), "Gait.duty is 1.0; it has to be between 0 and 1"),
        (lambda: Gait(1.0, 0.5, ()), "Gait.offsets is \\(\\); it has to have a finite number"),
        (lambda: foot_height(GAIT, [0], [1, 2], -0.1), "foot_height.apex is -0.1; it has to be"),
        (
            lambda: foot_placement(GAIT, [0], [1, 2], [3], float("nan")),
            "foot_placement.velocity is nan; it has to be finite",
        ),
        (
            lambda: foot_height(GAIT, [0], [1, 2, 3], 0.1)(np.zeros(4), U, 0),
            "foot_height.heights has 3 entries but the gait has 2 feet",
        ),
        (
            lambda: foot_height(GAIT, [0, 1, 2], [1, 2], 0.1)(np.zeros(4), U, 0),
            "foot_height.clock has 3 entries; pass the one that is the time, or the two of 'pha",
        ),
        (lambda: foot_height(GAIT, [0], [1, 2], 0.1, -1.0), "foot_height.ground is -1.0; it has"),
        (
            lambda: footholds(GAIT, [0], [1, 2], BASE, np.zeros((3, 2)), [3, 4, 5]),
            r"footholds.rest has the shape \[3, 2\]; it has to be \[2, 2\], a place for each of",
        ),
        (
            lambda: footholds(GAIT, [0], [1, 2], BASE, np.full((2, 2), np.nan), [3, 4, 5]),
            "footholds.rest is .*nan.*; it has to be finite",
        ),
        (
            lambda: footholds(GAIT, [0], [1, 2], BASE, np.zeros((2, 2)), [3, 4])(X, U, 0),
            "footholds has 2 places and 2 commands; pass x and y of each of the 2 feet, and two",
        ),
    ],
)
def test_gaits_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
