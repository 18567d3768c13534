"""Rollouts until success: how they are counted, and what the comparison claims."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
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


class _Scripted(NamedTuple):
    """An algorithm on two conditions whose trials are written down."""

    successes: tuple[tuple[bool, bool], ...]
    costs: tuple[tuple[float, float], ...]
    rollouts_per_step: int = 2 * 20

    def init(self, key: jax.Array) -> int:
        del key
        return 0

    def step(self, state: int):
        now = min(state, len(self.costs) - 1)
        metrics = {
            "trial_cost": jnp.asarray(self.costs[now]),
            "trial_success": jnp.asarray(self.successes[now]),
        }
        return state + 1, metrics


def test_a_condition_counts_as_solved_with_its_cheapest_policy():
    scripted = _Scripted(
        successes=((False, True), (True, False), (True, True), (True, True)),
        costs=((9.0, 5.0), (4.0, 6.0), (4.0, 7.0), (3.0, 8.0)),
    )
    found = rollouts_to_success(lambda: scripted, 2, 1000, 0)
    # The second condition succeeds with its first policy, which stays the cheapest.
    assert found["rollouts"] == 40
    assert found["curve"][1] == [40, 1.0, 4.5]
    # It goes on until there is something to say of the first hundred.
    assert len(found["curve"]) == FEW // 20
    assert (found["success_few"], found["cost_few"]) == (1.0, 4.0)


def test_a_cheaper_failure_takes_the_place_of_a_success():
    scripted = _Scripted(successes=((True, True), (False, True)), costs=((9.0, 5.0), (4.0, 5.0)))
    found = rollouts_to_success(lambda: scripted, 2, 200, 0)
    assert found["rollouts"] == 20 and found["success_few"] == 0.5


def test_without_success_the_whole_budget_is_used():
    scripted = _Scripted(successes=((True, False),), costs=((1.0, float("inf")),))
    found = rollouts_to_success(lambda: scripted, 2, 200, 0)
    assert found["rollouts"] is None and found["success"] == 0.5
    assert found["curve"][-1][0] == 200


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
