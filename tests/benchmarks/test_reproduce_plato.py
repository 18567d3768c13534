"""PLATO beside DAgger on the parking lot: the geometry, and what is claimed."""

import jax.numpy as jnp
import numpy as np
from parking_lot import OBSTACLES, WIDTH, clearance, parked, starts, violates
from reproduce import Results
from reproduce_plato import DAGGER, PLATO, claims, main


def test_clearance_is_the_distance_of_points_to_capsules():
    x = np.array([-1.0, 0.4, 0.3, 0.0])
    found = np.asarray(clearance(jnp.asarray(x)))
    for i, along in enumerate((0.0, 1.0, 2.0)):
        point = x[:2] + along * np.array([np.cos(0.3), np.sin(0.3)])
        for j, (begin, end, radius) in enumerate(OBSTACLES):
            share = np.linspace(0, 1, 20001)[:, None]
            line = np.asarray(begin) + share * (np.asarray(end) - np.asarray(begin))
            away = np.linalg.norm(point - line, axis=1).min()
            np.testing.assert_allclose(found[i, j], away - radius - WIDTH, atol=1e-4)


def test_starts_and_the_place_are_free_and_obstacles_are_not():
    assert not np.any(violates(jnp.asarray(starts(50, 0))))
    rows = jnp.array([[0.0, 0, 0, 0], [-3.5, 0.2, 0, 0], [0.0, 1.0, 0, 0]])
    assert violates(rows).tolist() == [False, True, True]
    way = jnp.zeros((3, 4))
    assert bool(parked(way, None))
    assert not bool(parked(way.at[1].set(rows[1]), None))  # through the pillar


def test_claims():
    for ours, theirs, success, holds in (
        (10, 100, 0.9, (True, True, True)), (11, 100, 0.8, (True, False, False)),
        (0, 0, 0.9, (False, True, True)),
    ):  # fmt: skip
        measured = Results({
            PLATO: [{"violations": ours, "test": success}],
            DAGGER: [{"violations": theirs, "test": 0.9}],
        })  # fmt: skip
        assert tuple(bool(claim.holds(measured)) for claim in claims()) == holds


def test_too_few_iterations_are_refused(capsys):
    assert main(iterations=1) == 2
    assert "--iterations is 1" in capsys.readouterr().err
