"""Runs over seeds, and the table and files that come of them."""

import json

import pytest
import scipy.stats
from reproduce import Claim, Column, Row, run_seeds, status, wilson
from rich.console import Console

from jgps.algorithms import TrajoptConfig

COLUMNS = (Column("success", "success", ".0%"), Column("rollouts", "rollouts", ".0f", "> 50"))


def test_writes_means_beside_the_published(tmp_path):
    rows = (
        Row("ours", lambda seed: {"success": 0.8 + 0.1 * seed, "rollouts": 10, "curve": [1, 2]},
            published={"success": 0.85}, settings=TrajoptConfig()),
        Row("theirs", lambda seed: {"success": 0.5, "rollouts": (None, 40)[seed]}),
        Row("large", lambda seed: {"success": 0.25, "rollouts": seed}, first_seed_alone=True),
    )  # fmt: skip
    claims = (
        Claim("ours is better", lambda r: r.mean("ours", "success") > r.mean("theirs", "success")),
        Claim("theirs arrives", lambda r: r.mean("theirs", "rollouts") < 50),
    )
    out = tmp_path / "new" / "test.json"
    result = run_seeds(
        "test", rows, (0, 1), columns=COLUMNS, claims=claims, published="A paper.", out=out,
        console=Console(quiet=True),
    )  # fmt: skip
    written = json.loads(out.read_text())
    assert written == result
    assert written["complete"] and written["seeds"] == [0, 1]
    assert written["environment"]["versions"]["jax"] and written["environment"]["cpu"]
    assert written["rows"][0]["settings"]["type"] == "TrajoptConfig"
    assert written["rows"][0]["runs"][1]["curve"] == [1, 2]
    assert [claim["holds"] for claim in written["claims"]] == [True, False]  # one never arrived
    assert status(result) == 1
    table = out.with_suffix(".md").read_text()
    assert "|  | success | published | rollouts | seconds per run |" in table
    assert "| ours | 85% ± 5% | 85% | 10 ± 0 |" in table
    assert "| theirs | 50% ± 0% |  | > 50, 40 |" in table
    assert "| large | 25% |  | 0 |" in table
    assert "has none. large: by design with seed 0 alone.\n" in table
    assert "Published: A paper." in table
    assert "- DOES NOT HOLD: theirs arrives" in table


@pytest.mark.parametrize(("successes", "trials"), [(0, 6), (5, 9), (9, 9), (140, 144)])
def test_intervals_are_wilsons(successes, trials):
    expected = scipy.stats.binomtest(successes, trials).proportion_ci(method="wilson")
    low, high, *_ = wilson(successes, trials)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_states_intervals_of_shares_and_what_was_kept(tmp_path):
    columns = (Column("success", "success", ".0%", count="conditions"),)
    row = Row(
        "ours",
        lambda seed: {
            "success": (1.0, 0.8)[seed], "conditions": 10, "seconds": 500, "revision": "earlier",
        },
    )  # fmt: skip
    out = tmp_path / "test.json"
    result = run_seeds(
        "test", (row,), (0, 1), columns=columns, out=out, console=Console(quiet=True)
    )
    interval = result["rows"][0]["intervals"]["success"]
    assert (interval["successes"], interval["trials"]) == (18, 20)
    assert 1000 <= result["wall_seconds"] < 1060
    table = out.with_suffix(".md").read_text()
    assert "| ours | 90% ± 10% (70% to 97%) | 500 |" in table
    assert "Wilson's 95% interval" in table and "of revision earlier." in table


def test_keeps_what_was_measured_before_a_failure(tmp_path):
    def fail(seed):
        raise RuntimeError("broken")

    good = Row("good", lambda seed: {"success": 1.0, "rollouts": 5})
    with pytest.raises(RuntimeError, match="broken"):
        run_seeds(
            "test", (good, Row("bad", fail)), (0,), columns=COLUMNS, out=tmp_path / "test.json",
            console=Console(quiet=True),
        )  # fmt: skip
    written = json.loads((tmp_path / "test.json").read_text())
    assert not written["complete"] and written["rows"][0]["runs"][0]["success"] == 1.0
    assert "Not complete" in (tmp_path / "test.md").read_text()


@pytest.mark.parametrize(("rows", "seeds"), [((), ()), ((Row("a", dict), Row("a", dict)), (0,))])
def test_refuses_no_seed_and_equal_names(rows, seeds, tmp_path):
    with pytest.raises(ValueError, match="at least one seed and distinct rows"):
        run_seeds("test", rows, seeds, columns=COLUMNS, out=tmp_path / "test.json")
