"""Runs that were stopped continue exactly; what does not belong together is refused."""

import copy
import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from small_runs import (
    CONFIG,
    NETWORK_CONFIG,
    copy_run,
    cut_metrics,
    edit_config,
    read_lines,
    train,
    train_network,
    without_seconds,
)

import jgps
from jgps.algorithms import FixedStartsConfig, MlpConfig
from jgps.policies import DistilConfig
from jgps.tasks import Task
from jgps.training import TrainingError, TrainingResult, UsageError, checkpoint
from jgps.training.metrics_file import MetricsLog

pytestmark = pytest.mark.usefixtures("made_once")


def test_ctrl_c_saves(interrupted: Path):
    assert checkpoint.iterations(interrupted)[-1] == 2
    assert len(read_lines(interrupted)) == 2
    assert not (interrupted / "summary.json").exists()


def test_resume_continues_exactly(
    task: Task, result: TrainingResult, interrupted: Path, tmp_path: Path
):
    out = copy_run(interrupted, tmp_path / "run")
    started, misses = [], []

    def listen(event: str, **_: object) -> None:
        if event == "/jax/compilation_cache/cache_misses":
            misses.append(event)

    def start(done: int) -> None:
        started.append(done)
        jax.monitoring.register_event_listener(listen)

    resumed = train(
        task, iterations=4, seed=1, out=out, resume=True, on_start=start,
        on_iteration=lambda record: record["iteration"] == 3
        and jax.monitoring.unregister_event_listener(listen),
    )  # fmt: skip
    assert started == [2]
    assert misses == []  # it runs the very programs of a run that was never interrupted
    assert without_seconds(read_lines(out)) == without_seconds(result.metrics)
    for a, b in zip(jax.tree.leaves(resumed.state), jax.tree.leaves(result.state), strict=True):
        assert a.dtype == b.dtype
        assert bool(jnp.all(a == b))
    wall = [record["wall_seconds"] for record in resumed.metrics]
    assert wall == sorted(wall)


def test_resuming_a_complete_run_changes_nothing(
    task: Task, result: TrainingResult, tmp_path: Path
):
    assert result.directory is not None
    out = copy_run(result.directory, tmp_path / "run")
    seen = []
    again = train(task, iterations=4, seed=1, out=out, resume=True, on_iteration=seen.append)
    assert seen == []
    assert again.metrics == result.metrics
    assert again.summary["distance_last"] == result.summary["distance_last"]
    with pytest.raises(UsageError, match="already has 4 iterations"):
        train(task, iterations=3, seed=1, out=out, resume=True)


@pytest.mark.parametrize("damage", ["truncated", "no manifest", "missing file"])
def test_a_damaged_checkpoint_is_named_and_the_previous_one_used(
    task: Task, result: TrainingResult, tmp_path: Path, damage: str
):
    assert result.directory is not None
    out = copy_run(result.directory, tmp_path / "run")
    newest = out / "checkpoints" / "000004"
    biggest = max((p for p in newest.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    if damage == "truncated":
        biggest.write_bytes(biggest.read_bytes()[:-7])
    elif damage == "missing file":
        biggest.unlink()
    else:
        newest.with_suffix(".json").unlink()
    with pytest.warns(UserWarning, match=r"000004 .*the one before, after 3 iterations, is used"):
        again = train(task, iterations=4, seed=1, out=out, resume=True)
    assert without_seconds(again.metrics) == without_seconds(result.metrics)
    assert without_seconds(read_lines(out)) == without_seconds(result.metrics)
    assert checkpoint.problem(out, 4) is None


def test_a_half_written_metrics_line_is_dropped(
    task: Task, result: TrainingResult, interrupted: Path, tmp_path: Path
):
    out = copy_run(interrupted, tmp_path / "run")
    with (out / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 2, "cost": [1.0, ')
    train(task, iterations=4, seed=1, out=out, resume=True)
    assert without_seconds(read_lines(out)) == without_seconds(result.metrics)


@pytest.mark.parametrize("lines", [0, 3])
def test_lost_metrics_cost_no_iteration(
    task: Task, result: TrainingResult, tmp_path: Path, lines: int
):
    """What is whole, the newest checkpoint, is used; metrics say which iterations they lack."""
    assert result.directory is not None
    out, started = copy_run(result.directory, tmp_path / "run"), []
    cut_metrics(out, lines)
    with pytest.warns(UserWarning, match=f"has {lines} whole lines and .* 4 iterations; .* goes"):
        again = train(task, iterations=5, seed=1, out=out, resume=True, on_start=started.append)
    assert started == [4]
    lost = [{"iteration": i} for i in range(lines, 4)]
    assert without_seconds(again.metrics[:4]) == [*without_seconds(result.metrics[:lines]), *lost]
    assert read_lines(out) == again.metrics
    assert (again.summary["cost_first"] is None) == (lines == 0)
    assert checkpoint.iterations(out) == [3, 4, 5]


def test_without_a_whole_checkpoint_a_run_starts_anew(
    task: Task, result: TrainingResult, tmp_path: Path
):
    assert result.directory is not None
    out, seen = copy_run(result.directory, tmp_path / "run"), []
    for iteration in checkpoint.iterations(out):
        for file in (out / "checkpoints" / f"{iteration:06d}").rglob("*"):
            if file.is_file():
                file.write_bytes(file.read_bytes()[:-1])
    with pytest.warns(UserWarning), pytest.raises(UsageError, match=r"put a copy .* back"):
        jgps.training.load(out, task)
    assert len(read_lines(out)) == 4
    with pytest.warns(UserWarning) as warned:
        again = train(
            task, iterations=4, seed=1, out=out, resume=True,
            on_iteration=lambda record: seen.append(checkpoint.iterations(out)),
        )  # fmt: skip
    assert "starts from its beginning" in str(warned[-1].message)
    assert "metrics.before-1.jsonl" in str(warned[-1].message)
    assert "checkpoints.before-1" in str(warned[-1].message)
    assert checkpoint.iterations(result.directory) == sorted(
        int(path.name) for path in (out / "checkpoints.before-1").iterdir() if path.is_dir()
    )
    aside = (out / "metrics.before-1.jsonl").read_bytes()
    assert aside == (result.directory / "metrics.jsonl").read_bytes()
    assert seen == [[1], [1, 2], [1, 2, 3], [2, 3, 4]]
    assert without_seconds(again.metrics) == without_seconds(result.metrics)


def test_ctrl_c_between_metrics_and_checkpoint(
    task: Task, result: TrainingResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    append = MetricsLog.append

    def stop(self, record: dict) -> None:
        if record["iteration"] == 2:
            raise KeyboardInterrupt
        append(self, record)

    out = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(MetricsLog, "append", stop)
        train(task, iterations=4, seed=1, out=out)
    assert len(read_lines(out)) == checkpoint.iterations(out)[-1] == 2
    train(task, iterations=4, seed=1, out=out, resume=True)
    assert without_seconds(read_lines(out)) == without_seconds(result.metrics)


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"seed": 2}, "seed: saved 1, given 2"),
        (
            {"config": dataclasses.replace(CONFIG, rollouts=FixedStartsConfig(num_samples=4))},
            "rollouts.num_samples: saved 3, given 4",
        ),
        ({"backend": "mjx"}, 'backend: saved "native", given "mjx"'),
        ({"horizon": 11}, "model.horizon: saved 10, given 11"),
        ({"task": "reacher"}, 'task: saved "point_mass", given "reacher"'),
        ({"mass": 2.0}, "model.hash: saved"),
        ({"cost": 0.5}, "functions.cost: saved"),
    ],
)
def test_resume_of_another_run_is_refused(
    task: Task, interrupted: Path, changes: dict, difference: str
):
    arguments = {"config": CONFIG, "iterations": 4, "seed": 1, **changes}
    if "horizon" in changes:
        task = dataclasses.replace(task, horizon=arguments.pop("horizon"))
    if "mass" in changes:
        model = copy.copy(task.model)
        model.body_mass[-1] = arguments.pop("mass")
        task = dataclasses.replace(task, model=model)
    if "cost" in changes:
        factor, cost = arguments.pop("cost"), task.cost
        task = dataclasses.replace(task, cost=lambda x, u, t: factor * cost(x, u, t))
    before = (interrupted / "config.json").read_text()
    with pytest.raises(UsageError) as error:
        train(arguments.pop("task", task), out=interrupted, resume=True, **arguments)
    assert difference in str(error.value)
    assert (interrupted / "config.json").read_text() == before


def test_a_run_from_before_a_setting_is_refused_by_its_name(
    task: Task, interrupted: Path, tmp_path: Path
):
    old = copy_run(interrupted, tmp_path / "old")
    edit_config(old, lambda saved: saved["config"]["rollouts"].pop("noise_smoothing"))
    sentence = "was made by a jgps without config.rollouts.noise_smoothing, so it cannot be resumed"
    with pytest.raises(UsageError, match=sentence):
        train(task, out=old, resume=True, config=CONFIG, iterations=4, seed=1)


def test_a_run_that_stopped_on_divergence_may_go_on(task: Task, tmp_path: Path):
    """What the message proposes can be done."""
    distil = DistilConfig(steps=10, checks=5, learning_rate=1e15, on_divergence="stop")
    stop = dataclasses.replace(NETWORK_CONFIG, policy=MlpConfig(hidden=(8,), distil=distil))
    with pytest.raises(TrainingError, match="or resume with the parameters"):
        train_network(task, config=stop, iterations=2, seed=1, out=tmp_path / "run")
    distil = dataclasses.replace(distil, on_divergence="continue")
    go_on = dataclasses.replace(stop, policy=MlpConfig(hidden=(8,), distil=distil))
    with pytest.warns(UserWarning, match="kept its parameters"):
        resumed = train_network(
            task, config=go_on, iterations=2, seed=1, out=tmp_path / "run", resume=True
        )
    assert len(resumed.metrics) == 2


def test_a_state_of_other_settings_is_refused_in_one_sentence(interrupted: Path, tmp_path: Path):
    """Whoever edits config.json, or updates jgps across a change of the state, is told so."""
    edited = copy_run(interrupted, tmp_path / "edited")
    mixture = {"prior": {"type": "MixturePriorConfig"}}
    edit_config(edited, lambda saved: saved["config"]["models"].update(mixture))
    with pytest.raises(UsageError, match="holds another state than these settings make"):
        jgps.training.load(edited)


def test_resume_without_a_run(task: Task, tmp_path: Path):
    with pytest.raises(UsageError, match="is no directory; leave out resume=True"):
        train(task, out=tmp_path / "none", resume=True)
