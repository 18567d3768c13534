"""What a run leaves in its directory, and which directories it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
from small_runs import (
    CONFIG,
    broken_in,
    copy_run,
    read_lines,
    train,
    without_seconds,
)

import jgps
from jgps.algorithms import TrajoptConfig
from jgps.tasks import Task
from jgps.training import TrainingResult, UsageError, checkpoint
from jgps.training.codec import decode, encode
from jgps.training.files import read_json

pytestmark = pytest.mark.usefixtures("made_once")

SUMMARY = {
    "task", "algorithm", "seed", "backend", "device", "iterations", "rollouts_total",
    "success_train", "success_test", "cost_first", "cost_last", "distance_last", "wall_seconds",
    "compile_seconds", "seconds_per_iteration", "versions",
}  # fmt: skip


def test_a_run_directory_holds_everything(task: Task, result: TrainingResult):
    out = result.directory
    assert out is not None
    names = {path.name for path in out.iterdir()}
    assert {"config.json", "metrics.jsonl", "summary.json", "trajectories.npz"} <= names
    assert list((out / "tensorboard").glob("events.out.tfevents.*"))
    assert checkpoint.iterations(out) == [2, 3, 4]  # the newest three
    config = json.loads((out / "config.json").read_text())
    assert (config["task"], config["algorithm"], config["seed"]) == ("point_mass", "trajopt", 1)
    assert decode(TrajoptConfig, config["config"]) == CONFIG
    assert not list(out.rglob("*.tmp*"))


def test_metrics_have_one_line_per_iteration(result: TrainingResult):
    assert result.directory is not None
    lines = read_lines(result.directory)
    assert lines == result.metrics
    assert [line["iteration"] for line in lines] == [0, 1, 2, 3]
    assert all(len(line["cost"]) == 4 for line in lines)


def test_summary(task: Task, result: TrainingResult):
    assert result.directory is not None
    summary = read_json(result.directory / "summary.json", "")
    assert set(summary) >= SUMMARY
    assert summary == result.summary
    assert summary["iterations"] == 4
    assert summary["rollouts_total"] == 4 * 4 * (3 + 1)  # one of them without noise
    assert len(summary["distance_last"]) == task.train.num
    assert summary["cost_last"] < summary["cost_first"]
    assert 0 < summary["seconds_per_iteration"] < summary["wall_seconds"]
    assert 0 < summary["compile_seconds"] < summary["wall_seconds"]


def test_distances_are_those_of_the_noise_free_trajectories(result: TrainingResult):
    assert result.directory is not None
    with np.load(result.directory / "trajectories.npz") as file:
        arrays = dict(file)
    distance = np.linalg.norm(arrays["x"][:, -1, :2], axis=-1)
    np.testing.assert_allclose(distance, result.summary["distance_last"], rtol=1e-5)
    # Without noise and away from the limits the controller's own action is what was done.
    action = np.einsum("ctux,ctx->ctu", arrays["K"], arrays["x"]) + arrays["k"]
    np.testing.assert_allclose(arrays["u"], np.clip(action, -5, 5), atol=1e-4)


def test_trajectories_have_the_promised_shapes(task: Task, result: TrainingResult):
    assert result.directory is not None
    C, N, T, dX, dU, tests = task.train.num, 3, task.horizon, 4, 2, task.test.num
    with np.load(result.directory / "trajectories.npz") as file:
        shapes = {name: file[name].shape for name in file.files}
    assert shapes == {
        "x": (C, T, dX), "u": (C, T, dU), "qpos": (C, T, 2), "valid": (C,),
        "test_x": (tests, T, dX), "test_u": (tests, T, dU), "test_qpos": (tests, T, 2),
        "test_valid": (tests,),
        "sample_x": (C, N, T, dX), "sample_u": (C, N, T, dU), "sample_valid": (C, N),
        "mean": (C, T, dX + dU), "cov": (C, T, dX + dU, dX + dU),
        "K": (C, T, dU, dX), "k": (C, T, dU), "C": (C, T, dU, dU),
    }  # fmt: skip


def test_only_the_first_iteration_compiles(result: TrainingResult):
    seconds = [record["compile_seconds"] for record in result.metrics]
    assert seconds[0] > 0
    assert seconds[1:] == [0, 0, 0]


def test_seconds_of_an_iteration_contain_those_of_compiling(task: Task):
    """Also of the only one: what is compiled before it is not booked on it."""
    only = train(task, iterations=1, seed=1)
    (record,) = only.metrics
    assert 0 < record["compile_seconds"] < record["iteration_seconds"]
    assert only.summary["seconds_per_iteration"] > 0
    assert only.summary["compile_seconds"] > record["compile_seconds"]


def test_the_same_seed_gives_the_same_metrics(task: Task, result: TrainingResult):
    again = train(task, iterations=2, seed=1)
    assert again.directory is None
    assert without_seconds(again.metrics) == without_seconds(result.metrics[:2])


def test_a_directory_in_use_is_refused(task: Task, interrupted: Path):
    before = sorted(interrupted.rglob("*"))
    with pytest.raises(UsageError, match="not empty; pass resume=True"):
        train(task, out=interrupted)
    assert sorted(interrupted.rglob("*")) == before


def test_overwrite_replaces_a_run_and_spares_other_files(
    task: Task, interrupted: Path, tmp_path: Path
):
    out = copy_run(interrupted, tmp_path / "run")
    (out / "notes.txt").write_text("mine")
    for name in ("config.json.tmp", "metrics.jsonl.tmp", "trajectories.npz.tmp"):
        (out / name).write_text("of a process that was killed")
    result = train(task, iterations=1, seed=5, out=out, overwrite=True)
    assert read_lines(out) == result.metrics
    assert checkpoint.iterations(out) == [1]
    assert (out / "notes.txt").read_text() == "mine"
    assert not [path for path in out.iterdir() if ".tmp" in path.name]


def test_overwrite_never_touches_what_no_run_wrote(task: Task, tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("years of work")
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UsageError, match=r"holds no run .*choose another out"):
        train(task, out=tmp_path, overwrite=True)
    (tmp_path / "config.json").write_text('{"model": "of something else"}')
    with pytest.raises(UsageError, match="was not written by jgps"):
        train(task, out=tmp_path, overwrite=True)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"thesis.tex", "checkpoints", "config.json"}


def test_a_directory_that_cannot_be_written(task: Task, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot write into .*choose another out"):
        train(task, out=tmp_path / "file" / "run")


def test_load_gives_the_trained_policy(task: Task, result: TrainingResult):
    assert result.directory is not None
    with pytest.raises(UsageError, match="another model"):
        jgps.training.load(result.directory, broken_in(task, [0]))
    run = jgps.training.load(result.directory, task)
    assert run.iterations == 4
    np.testing.assert_array_equal(run.state.policy.controllers.K, result.state.policy.controllers.K)


def test_configs_survive_json():
    for config in (CONFIG, TrajoptConfig()):
        assert decode(TrajoptConfig, json.loads(json.dumps(encode(config)))) == config
    with pytest.raises(ValueError, match="'Other'"):
        decode(TrajoptConfig, {"type": "Other"})
