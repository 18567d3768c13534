"""Saving and pruning of checkpoints."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import copy_run, read_lines, train, without_seconds

from jgps.tasks import Task
from jgps.training import CheckpointConfig, TrainingResult, UsageError, checkpoint
from jgps.training.checkpoint import Checkpoints

pytestmark = pytest.mark.usefixtures("made_once")


def test_pruning_spares_what_was_just_saved(tmp_path: Path):
    for iteration in (6, 7, 8, 1):
        checkpoint.save(tmp_path, iteration, [np.zeros(2)])
    assert checkpoint.iterations(tmp_path) == [1, 7, 8]
    assert checkpoint.problem(tmp_path, 1) is None
    checkpoint.save(tmp_path, 2, [np.zeros(2)], keep=1)
    assert checkpoint.iterations(tmp_path) == [2]


def test_what_an_interrupted_save_left_is_replaced(tmp_path: Path):
    left = tmp_path / "checkpoints" / "000002.orbax-checkpoint-tmp"
    left.mkdir(parents=True)
    (left / "half").write_text("")
    checkpoint.save(tmp_path, 2, [np.zeros(2)])
    assert checkpoint.problem(tmp_path, 2) is None
    assert not left.exists()


@pytest.mark.parametrize(
    ("config", "seconds", "saved"),
    [
        (CheckpointConfig(), 0.1, []),
        (CheckpointConfig(), 4.0, [3, 6, 9]),  # a fast iteration is not saved, ten seconds are
        (CheckpointConfig(), 11.0, [1, 2, 3, 4, 5, 6, 7, 8, 9]),  # slow ones all are
        (CheckpointConfig(every_iterations=1), 0.1, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (CheckpointConfig(every_iterations=4), 0.1, [4, 8]),
        (CheckpointConfig(every_iterations=4), 6.0, [2, 4, 6, 8]),
        (CheckpointConfig(every_iterations=4, every_seconds=None), 60.0, [4, 8]),
        (CheckpointConfig(every_seconds=None), 60.0, []),
    ],
)
def test_when_the_state_is_saved(
    config: CheckpointConfig,
    seconds: float,
    saved: list[int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    now = 100.0
    monkeypatch.setattr("jgps.training.checkpoint.time.monotonic", lambda: now)
    saving, seen = Checkpoints(tmp_path, config, 0), []
    monkeypatch.setattr(checkpoint, "save", lambda directory, at, state, keep: seen.append(at))
    for iteration in range(1, 10):
        now += seconds
        if saving.due(iteration):
            saving.save(iteration, None)
    assert seen == saved


def test_the_same_state_is_not_saved_twice_but_one_that_begins_a_run_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seen = []
    monkeypatch.setattr(checkpoint, "save", lambda directory, at, state, keep: seen.append(at))
    for done in (0, 3):
        saving = Checkpoints(tmp_path, CheckpointConfig(), done)
        for iteration in (done, done, done + 1, done + 1):
            saving.save(iteration, None)
    assert seen == [0, 1, 4]
    Checkpoints(None, CheckpointConfig(), 0).save(1, None)
    assert seen == [0, 1, 4]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"every_iterations": 0}, "CheckpointConfig.every_iterations is 0; .* >= 1 or None"),
        ({"every_seconds": -1.0}, "CheckpointConfig.every_seconds is -1.0; .* >= 0"),
    ],
)
def test_a_bad_cadence_is_refused(settings: dict, sentence: str):
    with pytest.raises(ValueError, match=sentence):
        CheckpointConfig(**settings)


def test_a_number_is_no_cadence(task: Task):
    wrong: Any = 5
    with pytest.raises(UsageError, match=r"checkpoint is 5; pass a jgps.training.Chec"):
        train(task, checkpoint=wrong)


def test_a_killed_run_goes_on_exactly_from_its_last_checkpoint(
    task: Task, result: TrainingResult, tmp_path: Path
):
    """Metrics that no checkpoint leads to are dropped and written again."""
    config = CheckpointConfig(every_iterations=2, every_seconds=None)
    killed, written, started = tmp_path / "killed", [], []

    def look(record: dict) -> None:
        written.append(checkpoint.iterations(tmp_path / "run"))
        if record["iteration"] == 2:
            copy_run(tmp_path / "run", killed)

    train(task, iterations=4, seed=1, out=tmp_path / "run", checkpoint=config, on_iteration=look)
    assert written == [[], [2], [2], [2, 4]]
    assert len(read_lines(killed)) == 3
    again = train(
        task, iterations=4, seed=1, out=killed, checkpoint=config, resume=True,
        on_start=started.append,
    )  # fmt: skip
    assert started == [2]
    assert without_seconds(again.metrics) == without_seconds(result.metrics)
    assert without_seconds(read_lines(killed)) == without_seconds(result.metrics)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, ZeroDivisionError])
def test_whatever_stops_a_run_leaves_a_checkpoint(
    stop: type[BaseException], task: Task, tmp_path: Path
):
    def fail(record: dict) -> None:
        if record["iteration"] == 1:
            raise stop

    config = CheckpointConfig(every_seconds=None)
    with pytest.raises(stop):
        train(
            task, iterations=4, seed=1, out=tmp_path, overwrite=True, checkpoint=config,
            on_iteration=fail,
        )  # fmt: skip
    assert checkpoint.iterations(tmp_path) == [2]
    assert checkpoint.problem(tmp_path, 2) is None
