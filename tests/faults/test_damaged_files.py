"""Damaged files: no exception but ours, which names the file, and what is whole is kept."""

import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults import CASES, ITERATIONS, damage, flips, same_state, sample, train
from small_runs import without_seconds

from jgps.cli import main as cli
from jgps.reports.run_data import read_run
from jgps.training import TrainingResult, UsageError, checkpoint, load
from jgps.training.description import Description
from jgps.training.directory import read_config
from jgps.training.errors import DamagedError
from jgps.training.files import parse_json, read_arrays, read_json
from jgps.training.metrics_file import lost_record, read_metrics

pytestmark = pytest.mark.usefixtures("made_once")


def attempt(read: Callable[[], Any], named: Path) -> Any:
    """What a reader returns; None where it says in one sentence what is wrong with which file."""
    try:
        return read()
    except DamagedError as error:
        assert str(named) in str(error), error
        assert "; " in str(error), "it has to say what to do"
        return None


@pytest.mark.parametrize("name", ["config.json", "summary.json"])
def test_a_flipped_bit_in_a_json_file_is_found(run: Path, name: str):
    path = run / name
    expected, damaged = read_json(path, ""), 0
    for flip in flips(path, 10_000):
        found = attempt(lambda: read_json(path, "mend it"), path)
        assert found is None or {**expected, **found} == found, flip
        damaged += found is None
    assert damaged > 100
    assert read_config(run, Description)["task"] == "point_mass"


def test_a_flipped_bit_in_the_metrics_loses_its_line_alone(run: Path):
    expected, lost = read_metrics(run).records, 0
    for flip in flips(run / "metrics.jsonl", 10_000):
        found, problem = read_metrics(run)
        whole = [record for record in found if record in expected]
        assert len(whole) >= ITERATIONS - 2, flip  # two where they became one line
        assert all(r == expected[i] or r == lost_record(i) for i, r in enumerate(found)), flip
        assert len(whole) == ITERATIONS or "metrics.jsonl" in problem, flip
        lost += len(whole) < ITERATIONS
    assert lost > 500


def test_a_flipped_bit_in_the_trajectories_is_found(run: Path):
    path = run / "trajectories.npz"
    expected, damaged = read_arrays(path, ""), 0
    for flip in flips(path, 400):
        found = attempt(lambda: read_arrays(path, "mend it"), path)
        if found is not None:
            np.testing.assert_equal(found, expected, flip)
        damaged += found is None
    assert damaged > 300


def test_a_flipped_bit_in_a_checkpoint_is_found_and_in_no_other(run: Path):
    path = run / "checkpoints" / "000004"
    manifest = read_json(path.with_suffix(".json"), "")
    for flip in flips(path.with_suffix(".json"), 10_000):
        problem = checkpoint.problem(run, 4)
        kept = attempt(lambda: read_json(path.with_suffix(".json"), "mend it"), path)
        assert (problem or "").startswith("is broken: ") or {**manifest, **kept} == kept, flip
    files = [file for file in sorted(path.rglob("*")) if file.is_file()]
    for file in files:
        for flip in flips(file, 400 // len(files)):
            assert (checkpoint.problem(run, 4) or "").startswith("is broken: "), flip
    assert [checkpoint.problem(run, i) for i in (2, 3, 4)] == [None] * 3


def resume(run: Path, name: str, kind: str, whole: TrainingResult) -> None:
    """Goes on, or is refused without a change; ends with the same bits."""
    damage(run, name, kind)
    before = {path: path.lstat().st_mtime_ns for path in run.rglob("*")}
    started = []
    try:
        found = train(run, resume=True, on_start=started.append)
    except UsageError as error:
        assert str(run) in str(error) and "; " in str(error)
        assert name in ("config.json", "checkpoints") or kind == "a directory"
        assert before == {path: path.lstat().st_mtime_ns for path in run.rglob("*")}
        return
    assert same_state(found, whole)
    if name.startswith("checkpoints/"):  # the one before, or the same where it is no damage
        assert started in ([ITERATIONS - 1], [ITERATIONS])
        assert without_seconds(found.metrics) == without_seconds(whole.metrics)
    elif name != "checkpoints":
        assert started == [ITERATIONS]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = read_run(run) if kind not in LOST_METRICS or name != "metrics.jsonl" else None
    assert again is None or (again.summary and again.trajectories is not None)


# The line of an iteration is lost, of which the next readers say so again.
LOST_METRICS = {kind for name, kind in CASES if name == "metrics.jsonl"}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("name", "kind"), sample(CASES, 20))
def test_a_damaged_run_goes_on_with_what_is_whole(
    run: Path, whole: TrainingResult, name: str, kind: str
):
    resume(run, name, kind, whole)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_a_damaged_run_is_read_as_far_as_it_is_whole(
    run: Path, whole: TrainingResult, name: str, kind: str
):
    damage(run, name, kind)
    for read in (load, read_run):
        try:
            found = read(run)
        except ValueError as error:  # UsageError, or of a report
            assert str(run) in str(error) and "; " in str(error), error
            assert name in ("config.json", "checkpoints", "metrics.jsonl"), error
        else:
            assert read is read_run or found.iterations >= ITERATIONS - 1


@pytest.mark.filterwarnings("default::UserWarning")  # the command line shows them
@pytest.mark.parametrize(("name", "kind"), sample(CASES, 4, seed=1))
@pytest.mark.parametrize("command", ["evaluate", "report"])
def test_the_command_line_says_it_in_lines(
    run: Path, name: str, kind: str, command: str, capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    # A video takes seconds, and reads what the figures read.
    monkeypatch.setattr("jgps.reports.report.write_task_video", lambda *_, **__: [])
    damage(run, name, kind)
    code = cli.main([command, str(run)])
    errors = capsys.readouterr().err
    assert code in (0, 2), errors
    assert code == 0 or errors, "it has to say why"
    assert all(line.startswith("jgps: ") and len(line) < 1000 for line in errors.splitlines())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": 1}'.encode("utf-16"), "is in UTF-16 and has to be in UTF-8"),
        ('{"a": 1}'.encode("utf-16")[:-1], "is in UTF-16 and has to be in UTF-8"),
        (' {"a": 1}'.encode("utf-16-be"), "is in UTF-16 and has to be in UTF-8"),
        ("[1]".encode("utf-32-le"), "is in UTF-32 and has to be in UTF-8"),
        (bytes(64), "holds NUL bytes, as a crash of the machine leaves them"),
        (b'{"a": 1}' + bytes(9), "holds NUL bytes, as a crash"),
        (b'{"a":\0 1}', "holds NUL bytes, as a crash"),
        (b'\xff{"a": 1}', "is not UTF-8 \\(byte 0\\)"),
        (b"", "is not JSON"),
    ],
)
def test_another_encoding_is_named(tmp_path: Path, content: bytes, message: str):
    with pytest.raises(ValueError, match=f"^{message}"):
        parse_json(content)
    (tmp_path / "metrics.jsonl").write_bytes(content * 2 + b"\n")
    records, problem = read_metrics(tmp_path)
    assert records == [] and "the others" not in problem
    assert ("NUL" in message or "in UTF-" in message) == (problem.endswith("is left out"))


def test_files_of_before_there_were_checksums_are_read(run: Path, whole: TrainingResult):
    for path in (*run.glob("*.json"), *run.glob("checkpoints/*.json"), run / "metrics.jsonl"):
        text = path.read_text()
        assert "checksum" in text
        path.write_text(re.sub(r',\s*"checksum": "[0-9a-f]{16}"', "", text))
        assert "checksum" not in path.read_text()
    config = run / "config.json"
    config.write_text(re.sub(r',\s*"cores": [0-9]+', "", config.read_text()))
    assert read_metrics(run) == (whole.metrics, "")
    assert read_run(run).summary == whole.summary
    assert load(run).iterations == ITERATIONS
    found = train(run, resume=True)
    assert same_state(found, whole) and found.metrics == whole.metrics
    for path in (config, run / "metrics.jsonl"):
        assert "checksum" in path.read_text()


def test_a_last_line_is_whole_whatever_became_of_its_end(run: Path, whole: TrainingResult):
    path = run / "metrics.jsonl"
    content = path.read_bytes()
    for end in (b"", b"\0", b"\x08", b"\x8a", b"\n\n", b"\r\n"):
        path.write_bytes(content[:-1] + end)
        assert read_metrics(run).records == whole.metrics, end
    path.write_bytes(content[:-2])
    assert read_metrics(run) == (whole.metrics[:-1], "")


def test_lines_without_checksums_are_told_by_their_place(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"iteration": i, "cost": [float(i)]}) for i in range(6)]
    cases = {
        "whole": (lines, list(range(6))),
        "grown": ([*lines[:3], lines[3].replace("3,", "5,"), *lines[4:]], [0, 1, 2, 4, 5]),
        "joined": ([lines[0], lines[1] + " " + lines[2], *lines[3:]], [0, 3, 4, 5]),
        "divided": ([lines[0], lines[1][:9], lines[1][9:], *lines[2:]], [0, 2, 3, 4, 5]),
        "twice": ([*lines[:2], *lines], list(range(6))),
    }  # fmt: skip
    for name, (written, kept) in cases.items():
        path.write_text("".join(f"{line}\n" for line in written))
        found, problem = read_metrics(tmp_path)
        assert [r["iteration"] for r in found if len(r) > 1] == kept, name
        assert bool(problem) == (name != "whole"), name
