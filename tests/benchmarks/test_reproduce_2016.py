"""The table of the flat-ended peg: its rows and what they claim; nothing is trained."""

import numpy as np
import pytest
import reproduce_2016
from network_success import FARTHEST, RESULT_TEST, RESULT_TRAIN
from reproduce import Results
from reproduce_2016 import ENTRIES, ITERATIONS, claims, main, row, with_intervals


def test_rows_have_the_recipes_rollouts_and_what_is_known_from_elsewhere():
    rows = {name: row(entry, ITERATIONS, "native") for name, entry in ENTRIES.items()}
    samples = {name: each.settings.rollouts.num_samples for name, each in rows.items()}
    assert samples == {name: 20 if name in ("trajopt", "badmm") else 40 for name in ENTRIES}
    assert rows["on_policy"].settings.on_policy and not rows["off_policy"].settings.on_policy
    assert rows["published"].settings.step_rule == "global"
    assert rows["trajopt"].published == {"train_12": "2016 code 75%"}
    assert rows["off_policy"].published["train_9"] == "74%, 2016 code 75%"
    assert rows["on_policy"].published["train_12"] == "85%"
    assert not row(ENTRIES["badmm"], (1, 2), "native").published


def test_runs_say_how_many_conditions_their_shares_are_of(monkeypatch):
    """From which the intervals of all success columns follow."""
    found = with_intervals(ITERATIONS)
    counted = {column.key: column.count for column in found if column.count}
    assert set(counted) == {
        *(f"{kind}_{at}" for kind in ("train", "test") for at in ITERATIONS),
        *(RESULT_TRAIN, RESULT_TEST),
    }
    plain = row(ENTRIES["trajopt"], ITERATIONS, "native")
    monkeypatch.setattr(
        reproduce_2016, "network_row", lambda *_: plain._replace(run=lambda seed: {"train_6": 0.5})
    )
    numbers = row(ENTRIES["trajopt"], ITERATIONS, "native").run(0)
    assert numbers[counted["train_6"]] == 4 and numbers[counted["test_6"]] == 20


def test_claims_are_on_every_seed():
    name = ENTRIES["off_policy"].name
    train, test = claims(("off_policy",))

    def results(**last):
        good = {"train_12": 1.0, "test_12": 0.9}
        return Results({name: [good, {**good, **last}]})

    assert train.holds(results()) and test.holds(results())
    assert not train.holds(results(train_12=0.75)) and test.holds(results(train_12=0.75))
    assert not test.holds(results(test_12=0.85))
    (near,) = claims(("trajopt",))
    name = ENTRIES["trajopt"].name
    for distance, holds in ((0.054, True), (0.056, False), (np.nan, False)):
        runs = [{FARTHEST: 0.05}, {FARTHEST: distance}]
        assert near.holds(Results({name: runs})) == holds


@pytest.mark.parametrize("rows", [(), ("pilqr",)])
def test_unknown_rows_are_refused(rows, capsys):
    assert main(rows=rows) == 2
    assert "name some of trajopt, off_policy" in capsys.readouterr().err
