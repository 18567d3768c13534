"""Rollouts until success: how they are counted, and what the comparison claims."""

import numpy as np
import pytest
from reproduce import Results
from reproduce_samples import (
    CLAIMED,
    FEW,
    MIXTURE,
    claims,
    main,
    rollouts_to_success,
    row_name,
    rows,
)


class Scripted:
    """An algorithm of two conditions that always does the same; 10 rollouts each per step."""

    rollouts_per_step = 20

    def __init__(self, costs, successes):
        self.steps = list(zip(costs, successes, strict=True))

    def init(self, key):
        return 0

    def step(self, state):
        cost, success = self.steps[min(state, len(self.steps) - 1)]
        return state + 1, {
            "noise_free_cost": np.array(cost),
            "noise_free_success": np.array(success),
        }


def test_counts_rollouts_until_the_best_so_far_succeed():
    # The first condition's success costs more than what it had; the second's fails later.
    scripted = Scripted(
        costs=[[5, np.inf], [9, 3], [np.nan, 2], [1, 4]],
        successes=[[0, 0], [1, 1], [1, 1], [1, 0]],
    )
    result = rollouts_to_success(lambda: scripted, 2, 200, seed=0)
    assert result["rollouts"] == 40
    assert [line[:2] for line in result["curve"][:4]] == [[10, 0], [20, 0.5], [30, 0.5], [40, 1]]
    assert result["curve"][-1][0] == 100  # all are compared there
    assert (result["success_few"], result["cost_few"]) == (1.0, 1.5)


def test_gives_up_at_the_budget():
    never = Scripted(costs=[[1, 1]], successes=[[1, 0]])
    result = rollouts_to_success(lambda: never, 2, 135, seed=0)
    assert result["rollouts"] is None
    assert result["curve"][-1] == [130, 0.5, 1.0]


def test_all_methods_have_a_row():
    pytest.importorskip("evosax")
    names = [row.name for row in rows("point_mass", 200, "native")]
    assert len(set(names)) == len(names) == 9
    assert all(name.startswith("point_mass: ") for name in names)
    for method in (MIXTURE, "CEM, 10", "CEM, 20", "REPS, 10", "REPS, 20", "Sep-CMA-ES, 10"):
        assert any(method in name for name in names)


def test_claims_are_on_every_population_and_seed():
    def measured(mixture, cem, reps):
        used = {MIXTURE: mixture, "CEM, 10 rollouts a time": cem, "REPS, 20 rollouts a time": reps}
        rows = {
            row_name(CLAIMED, name): [{"rollouts": each} for each in values]
            for name, values in used.items()
        }
        other = {row_name("pusher", "CEM, 10 rollouts a time"): [{"rollouts": 20}]}
        return [claim.holds(Results({**rows, **other})) for claim in claims()]

    assert measured([54, 100], [None, 400], [None, None]) == [True, True]
    assert measured([54, 106], [None, 400], [None, None]) == [False, True]
    assert measured([54, None], [None, 400], [None, None]) == [False, True]
    assert measured([54, 100], [None, 100], [None, None]) == [True, False]
    assert measured([54, 100], [None, 400], [None, 80]) == [True, False]


def test_a_budget_below_the_claim_is_refused(capsys):
    assert main(budget=FEW - 1) == 2
    assert "at least 100 rollouts per condition" in capsys.readouterr().err
