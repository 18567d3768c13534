"""What is shown of 100 conditions is a summary; `metrics.jsonl` holds all of them."""

import io
import struct
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from tensorboardX.proto import event_pb2
from tensorboardX.record_writer import masked_crc32c

from jgps.cli.progress import Progress, evaluation_table
from jgps.core.types import NON_FINITE, NOT_CONVERGED, OK
from jgps.training import ConditionsResult, EvaluationResult
from jgps.training.failure import describe_failures, describe_ridges
from jgps.training.metrics import highest, quantiles
from jgps.training.metrics_file import MetricsLog, read_metrics
from jgps.training.tensorboard import EventFile

C = 100
QUANTILES = ("min", "p10", "p50", "p90", "max")


def _record(num=C, **changes):
    record = {
        "iteration": 0,
        "cost": [float(c) for c in range(num)],
        "status": [OK] * num,
        "status_step": [-1] * num,
        "samples_valid": [5] * num,
        "iteration_seconds": 1.0,
        "compile_seconds": 0.0,
    }
    return {**record, **changes}


NO_ROLLOUTS: Any = None  # tables show none


def _result(num, success=None, cost=None):
    return ConditionsResult(
        cost=np.arange(num, dtype=float) if cost is None else cost,
        distance=None,
        success=success,
        valid=np.ones(num),
        rollouts=NO_ROLLOUTS,
    )


def _text(table):
    console = Console(width=120)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_quantiles_leave_out_what_is_not_finite():
    values = [None, float("nan"), *range(101)]
    assert quantiles(values) == dict(zip(QUANTILES, (0, 10, 50, 90, 100), strict=True))
    assert quantiles([None]) == {}
    assert highest([1, None, 3, 3, 2], 4) == [1, 2, 3, 4]


def read_events(directory):
    """The events in a directory of one event file, whose checksums have to be right."""
    (path,) = directory.iterdir()
    content, events = path.read_bytes(), []
    while content:
        (size,) = struct.unpack("<Q", content[:8])
        data = content[12 : 12 + size]
        sums = struct.unpack("<I", content[8:12]) + struct.unpack("<I", content[12 + size :][:4])
        assert sums == (masked_crc32c(content[:8]), masked_crc32c(data))
        events.append(event_pb2.Event.FromString(data))
        content = content[16 + size :]
    return events


def test_events_begin_with_their_version_and_hide_those_of_before(tmp_path):
    file = EventFile(tmp_path, 7)
    file.append({"cost": 2.0}, 7)
    file.close()
    version, start, scalars = read_events(tmp_path)
    assert version.file_version == "brain.Event:2"
    assert (start.step, start.session_log.status) == (7, event_pb2.SessionLog.START)
    assert (scalars.step, scalars.summary.value[0].tag) == (7, "cost")
    EventFile(tmp_path, 0).close()  # in the same second
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("num", [1, 32, 33, C])
def test_tensorboard_shows_each_of_few_conditions_and_quantiles_of_many(tmp_path, num):
    log = MetricsLog(tmp_path, [])
    record = {"iteration": 0, "cost": [*map(float, range(num - 1)), None if num > 1 else 1.0]}
    log.append(record)
    log.close()
    assert read_metrics(tmp_path) == ([record], "")
    values = read_events(tmp_path / "tensorboard")[-1].summary.value
    scalars = {value.tag: value.simple_value for value in values}
    parts = {name.split("/")[1]: value for name, value in scalars.items() if "/" in name}
    if num > 32:
        expected = dict(
            zip(QUANTILES, np.quantile(range(num - 1), [0, 0.1, 0.5, 0.9, 1]), strict=True)
        )
        assert parts == pytest.approx(expected)
        assert scalars["cost"] == pytest.approx(np.mean(range(num - 1)))
    else:
        assert parts == {str(c): float(c) for c in range(num - 1)}


def test_failures_of_many_conditions_are_counted_and_the_worst_are_named():
    status = [NOT_CONVERGED] * 40 + [NON_FINITE] * 10 + [OK] * 50
    text = describe_failures(_record(status=status))
    assert text == (
        "50 of 100 conditions kept their controllers (search did not converge: 40, not finite: "
        "10), those of the highest cost 49, 48, 47, 46, 45"
    )
    cost = [None if c in (3, 7) else float(c) for c in range(C)]
    assert describe_failures(_record(status=status, cost=cost)).endswith("cost 3, 7, 49, 48, 47")
    record = _record(status=status)
    del record["cost"]
    assert describe_failures(record).endswith("the first of them 0, 1, 2, 3, 4")


def test_raised_ridges_are_never_silent():
    metrics = {
        "ridge_raised": [0, 7, 3], "ridge_added": [0.0, 2e-3, 1e-3], "mixture_ridge_added": [5e-4],
        "linearisation_ridge_raised": [0, 0, 0], "linearisation_ridge_added": [0.0, 0.0, 0.0],
    }  # fmt: skip
    text = describe_ridges(metrics)
    assert text == (
        "models.fit.ridge was raised in 2 of 3 conditions, at 10 steps and by up to 0.002; "
        "models.prior.em.ridge was raised by 0.0005: rounding would hide it"
    )
    console = Console(file=io.StringIO(), width=200)
    Progress(console, 1)(_record(3, **metrics))
    assert text in console.file.getvalue()
    none = {"ridge_raised": [0], "ridge_added": [0.0], "mixture_ridge_added": [0.0]}
    assert describe_ridges(_record(1, **none)) == describe_ridges(_record()) == ""


def test_few_failures_are_described_one_by_one():
    few = [NOT_CONVERGED] * 2 + [OK] * 98
    assert describe_failures(_record(status=few)).count("kept its controller") == 2
    assert describe_failures(_record(32, status=[NOT_CONVERGED] * 32)).count("condition") == 32
    assert describe_failures(_record()) == ""


def test_progress_says_in_one_line_how_many_rollouts_many_conditions_lost():
    console = Console(width=300)
    with console.capture() as capture:
        Progress(console, 1)(_record(samples_valid=[5] * 80 + [4] * 15 + [1, 2, 2, 3, 3]))
    lines = capture.get().splitlines()
    assert len(lines) == 3
    assert lines[-1].strip() == (
        "29 rollouts in 20 of 100 conditions were not finite and are left out, most of them in "
        "conditions 95 (4), 96 (3), 97 (3), 98 (2), 99 (2)"
    )
    with console.capture() as capture:
        Progress(console, 1)(_record(samples_valid=[5] * 98 + [4, 3]))
    assert [line.strip() for line in capture.get().splitlines()[-2:]] == [
        "condition 98: 1 rollouts were not finite and are left out",
        "condition 99: 2 rollouts were not finite and are left out",
    ]


def test_the_table_of_many_conditions_has_quantiles_and_the_worst():
    success = np.ones(C)
    success[[4, 8]] = 0
    success[[6, 9, 50]] = 0.5
    cost = np.arange(C, dtype=float)
    cost[20] = np.nan
    table = evaluation_table(EvaluationResult(_result(C, success, cost), _result(3)))
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in _text(table).splitlines()]
    rows = [row for row in rows if row]
    assert [row[1] for row in rows if row[0] == "training"] == list(QUANTILES)
    finite = np.delete(np.arange(C), 20)
    assert [float(row[4]) for row in rows if row[0] == "training"] == pytest.approx(
        np.quantile(finite, [0, 0.1, 0.5, 0.9, 1]), rel=1e-3
    )
    assert [row[2] for row in rows if row[0] == "training"] == ["0%", *["100%"] * 4]
    worst = [(row[1], row[2]) for row in rows if row[0] == "worst training"]
    assert worst == [("8", "0%"), ("4", "0%"), ("50", "50%"), ("9", "50%"), ("6", "50%")]
    assert ["not finite training", "1 of 100"] in [row[:2] for row in rows]
    assert [row[1] for row in rows if row[0] == "unseen"] == ["0", "1", "2"]
    assert len(rows) < 20
