"""Gaits: when feet stand and swing, and where they are to be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jgps.costs.gait import Gait, foot_height, foot_placement

GAIT = Gait(period=0.5, duty=0.6, offsets=(0.0, 0.5))
U = np.zeros(1)


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
            lambda: foot_height(GAIT, [0, 1], [1, 2], 0.1)(np.zeros(4), U, 0),
            "foot_height.clock has 2 entries; pass the one that is the time",
        ),
    ],
)
def test_gaits_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
