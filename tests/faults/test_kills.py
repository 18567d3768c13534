"""Processes that are killed at any moment: what they began goes on with the same bits."""

import random
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from faults import TORTURE, same_state, sample, start_child, train
from small_runs import without_seconds

from jgps.reports.run_data import read_run
from jgps.training import (
    TrainingResult,
    UsageError,
    checkpoint,
    files,
    load,
    lock,
    metrics_file,
    tensorboard,
)
from jgps.training.metrics_file import read_metrics

pytestmark = pytest.mark.usefixtures("made_once")

_EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")
_listeners: list[Callable[[str], None]] = []


def _audit(event: str, arguments: tuple) -> None:
    if _listeners and event in _EVENTS and threading.current_thread() is threading.main_thread():
        path = next((str(a) for a in arguments if isinstance(a, str | Path)), "")
        _listeners[0](path)


sys.addaudithook(_audit)  # for good


@contextmanager
def snapshots(run: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """Copies a directory before every change of it, and in the middle of every write.

    That is what a process leaves there that is killed at this moment.
    """
    taken: list[Path] = []

    def take(path: str) -> None:
        if not path.startswith(str(run)) or not run.is_dir():
            return
        listener = _listeners.pop()
        target = folder / f"{len(taken):04d}"
        shutil.copytree(run, target, symlinks=True)
        taken.append(target)
        _listeners.append(listener)

    def write_in_halves(file, content: bytes) -> None:
        half = len(content) // 2
        file.write(content[:half])
        take(str(run))
        file.write(content[half:])

    for module in (files, metrics_file, tensorboard):
        monkeypatch.setattr(module, "write_all", write_in_halves)
    _listeners.append(take)
    try:
        yield taken
    finally:
        _listeners.clear()
        monkeypatch.undo()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("begun", ["anew", "resumed", "overwritten"])
def test_wherever_a_process_dies_its_run_goes_on_exactly(
    whole: TrainingResult, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: str
):
    options = {}
    if begun == "anew":
        run = tmp_path / "new"
    elif begun == "overwritten":
        options["overwrite"] = True
    else:
        for iteration in (3, 4):
            files.remove(run / "checkpoints" / f"{iteration:06d}.json")
        options["resume"] = True
    with snapshots(run, tmp_path / "snapshots", monkeypatch) as taken:
        train(run, **options)
    assert len(taken) > 50
    for snapshot in sample(taken, 5, seed=len(begun)):
        try:
            found = train(snapshot, resume=True)
        except UsageError as error:
            # It died before it began, and begins now.
            assert "holds no run" in str(error)
            found = train(snapshot)
        assert same_state(found, whole), snapshot
        assert without_seconds(found.metrics) == without_seconds(whole.metrics), snapshot
        assert read_metrics(snapshot) == (found.metrics, "")
        assert read_run(snapshot).summary == found.summary
        assert [checkpoint.problem(snapshot, i) for i in (2, 3, 4)] == [None] * 3
        assert not [path for path in snapshot.rglob("*") if ".tmp" in path.name], snapshot


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("seed", range(40 if TORTURE else 1))
def test_a_killed_process_lets_go_and_its_run_goes_on_exactly(tmp_path: Path, seed: int):
    """Meanwhile another process may read, and may not write."""
    iterations, out, draw = 12, tmp_path / "run", random.Random(seed)
    process = start_child(out, iterations)
    assert process.stdout is not None and process.stderr is not None
    try:
        if draw.random() < 0.2 and TORTURE:  # while it starts
            time.sleep(draw.uniform(0, 10))
        else:
            last = draw.randrange(iterations)
            for line in process.stdout:
                if line.split() == ["done", str(last)]:
                    break
            time.sleep(draw.uniform(0, 0.1))
            if process.poll() is None and last < iterations - 2:
                _look_at_a_run_in_progress(out, process.pid)
    finally:
        process.kill()
        _, errors = process.communicate()
    assert "Traceback" not in errors
    try:
        found = train(out, iterations, resume=True)
    except UsageError as error:
        assert "no run" in str(error) or "no directory" in str(error)
        found = train(out, iterations)
    expected = train(None, iterations)
    assert same_state(found, expected)
    assert without_seconds(found.metrics) == without_seconds(expected.metrics)
    assert not (out / lock.NAME).exists()


def _look_at_a_run_in_progress(out: Path, pid: int) -> None:
    before = read_metrics(out).records
    for options in ({"resume": True}, {"overwrite": True}, {}):
        with pytest.raises(UsageError, match=f"is in use by process {pid} on .*, since 20"):
            train(out, **options)
    after = read_metrics(out).records
    assert after[: len(before)] == before
    assert read_run(out).metrics["cost"].shape[0] >= len(before)
    if checkpoint.iterations(out):
        assert load(out).iterations >= 1
