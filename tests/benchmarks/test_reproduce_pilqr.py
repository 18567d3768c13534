"""PILQR against its parts: one short run, and what the comparison claims."""

import functools

import pytest
from reproduce import Results
from reproduce_pilqr import LQR, MDGPS_PILQR, PI2, PIGPS, PILQR, ROWS, claims, main, rows, train

from jgps import tasks
from jgps.algorithms import FixedStartsConfig, Pi2Config, pi2


def test_rows_are_all_five_methods_with_the_same_samples():
    found = rows("point_mass", 7, 3, "native")
    assert [row.name for row in found] == list(ROWS)
    assert {row.settings.rollouts.num_samples for row in found} == {7}


def test_a_run_reports_the_policy_without_noise():
    make = functools.partial(
        pi2,
        tasks.make("point_mass"),
        Pi2Config(rollouts=FixedStartsConfig(num_samples=8)),
        "native",
    )
    found = train(make, "point_mass", 3, "native", 0)
    assert [each[0] for each in found["curve"]] == [1, 2, 3]
    # The nearest controller acts where it was made: training conditions see what the trial saw.
    best = min(cost for _, _, cost in found["curve"])
    assert found["cost"] <= best * (1 + 1e-5)
    assert found["solved_at"] is None or found["train"] == 1


def _results(**cost):
    costs = {LQR: 300.0, PI2: 250.0, PILQR: 200.0, PIGPS: 210.0, MDGPS_PILQR: 205.0, **cost}
    return {name: [{"cost": value, "train": 1.0, "test": 1.0}] for name, value in costs.items()}


def test_claims_compare_costs_and_ask_networks_to_solve_the_task():
    assert all(claim.holds(Results(_results())) for claim in claims())
    for row in (LQR, PI2):
        worse = _results(**{row: 199.0})
        assert [claim.holds(Results(worse)) for claim in claims()].count(False) == 1
    for row in (PIGPS, MDGPS_PILQR):
        for key in ("train", "test"):
            failed = _results()
            failed[row][0][key] = 0.89
            assert [claim.holds(Results(failed)) for claim in claims()].count(False) == 1


@pytest.mark.parametrize("iterations", [0, -1])
def test_without_iterations_there_is_nothing_to_compare(iterations, capsys):
    assert main(iterations=iterations) == 2
    assert "it has to be at least 1" in capsys.readouterr().err
