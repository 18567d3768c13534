"""Runs of the smallest task: what they leave, how they stop, and that they continue exactly."""

import ast
import copy
import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jgps
from jgps.algorithms import TrajoptConfig
from jgps.core.types import NOT_CONVERGED
from jgps.dynamics import NoPriorConfig
from jgps.tasks import Task
from jgps.training import TrainingError, TrainingResult, UsageError, checkpoint
from jgps.training.directory import decode, encode
from jgps.training.metrics import MetricsLog

# Without the mixture a program compiles in a fraction of the time.
CONFIG = TrajoptConfig(num_samples=3, prior=NoPriorConfig())
SUMMARY = {
    "task", "algorithm", "seed", "backend", "device", "iterations", "rollouts_total",
    "success_train", "success_test", "cost_first", "cost_last", "distance_last", "wall_seconds",
    "compile_seconds", "seconds_per_iteration", "versions",
}  # fmt: skip


def without_seconds(records: list[dict]) -> list[dict]:
    return [{k: v for k, v in record.items() if "seconds" not in k} for record in records]


def read_lines(directory: Path) -> list[dict]:
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def task() -> Task:
    return dataclasses.replace(jgps.tasks.make("point_mass"), horizon=10)


@pytest.fixture(scope="module")
def result(task: Task, tmp_path_factory: pytest.TempPathFactory) -> TrainingResult:
    """Four iterations, never interrupted."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    return jgps.train(task, config=CONFIG, iterations=4, seed=1, out=out)


@pytest.fixture(scope="module")
def interrupted(task: Task, result: TrainingResult, tmp_path_factory: pytest.TempPathFactory):
    """The same, stopped by Ctrl-C while the metrics of the second iteration are shown."""
    out = tmp_path_factory.mktemp("runs") / "interrupted"

    def stop(record: dict) -> None:
        if record["iteration"] == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        jgps.train(task, config=CONFIG, iterations=4, seed=1, out=out, on_iteration=stop)
    return out


def copy_run(source: Path, target: Path) -> Path:
    shutil.copytree(source, target)
    return target


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
    summary = json.loads((result.directory / "summary.json").read_text())
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


def test_the_same_seed_gives_the_same_metrics(task: Task, result: TrainingResult):
    again = jgps.train(task, config=CONFIG, iterations=2, seed=1)
    assert again.directory is None
    assert without_seconds(again.metrics) == without_seconds(result.metrics[:2])


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

    resumed = jgps.train(
        task, config=CONFIG, iterations=4, seed=1, out=out, resume=True, on_start=start,
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
    again = jgps.train(
        task, config=CONFIG, iterations=4, seed=1, out=out, resume=True, on_iteration=seen.append
    )
    assert seen == []
    assert again.metrics == result.metrics
    assert again.summary["distance_last"] == result.summary["distance_last"]
    with pytest.raises(UsageError, match="already has 4 iterations"):
        jgps.train(task, config=CONFIG, iterations=3, seed=1, out=out, resume=True)


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
    with pytest.warns(UserWarning, match=r"000004 .*the one after 3 iterations is tried"):
        again = jgps.train(task, config=CONFIG, iterations=4, seed=1, out=out, resume=True)
    assert without_seconds(again.metrics) == without_seconds(result.metrics)
    assert without_seconds(read_lines(out)) == without_seconds(result.metrics)
    assert checkpoint.problem(out, 4) is None


def test_a_half_written_metrics_line_is_dropped(
    task: Task, result: TrainingResult, interrupted: Path, tmp_path: Path
):
    out = copy_run(interrupted, tmp_path / "run")
    with (out / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 2, "cost": [1.0, ')
    jgps.train(task, config=CONFIG, iterations=4, seed=1, out=out, resume=True)
    assert without_seconds(read_lines(out)) == without_seconds(result.metrics)


def cut_metrics(out: Path, lines: int) -> None:
    path = out / "metrics.jsonl"
    path.write_text("".join(line + "\n" for line in path.read_text().splitlines()[:lines]))


def test_a_missing_metrics_line_costs_one_iteration(
    task: Task, result: TrainingResult, tmp_path: Path
):
    """As a crash leaves it between the metrics and the checkpoint."""
    assert result.directory is not None
    out, started = copy_run(result.directory, tmp_path / "run"), []
    cut_metrics(out, 3)
    with pytest.warns(UserWarning, match=r"has 3 whole lines; .*after 4 .*discarded"):
        again = jgps.train(
            task, config=CONFIG, iterations=4, seed=1, out=out, resume=True, on_start=started.append
        )
    assert started == [3]
    assert without_seconds(again.metrics) == without_seconds(result.metrics)
    assert without_seconds(read_lines(out)) == without_seconds(result.metrics)
    assert checkpoint.iterations(out) == [2, 3, 4]
    assert checkpoint.problem(out, 4) is None


def test_no_metrics_start_anew_and_every_new_checkpoint_stays(
    task: Task, result: TrainingResult, tmp_path: Path
):
    assert result.directory is not None
    out, seen = copy_run(result.directory, tmp_path / "run"), []
    cut_metrics(out, 0)

    def look(record: dict) -> None:
        seen.append(checkpoint.iterations(out))
        assert checkpoint.problem(out, record["iteration"] + 1) is None
        if record["iteration"] == 1:
            raise KeyboardInterrupt

    with (
        pytest.warns(UserWarning, match="starts from its beginning"),
        pytest.raises(KeyboardInterrupt),
    ):
        jgps.train(
            task, config=CONFIG, iterations=4, seed=1, out=out, resume=True, on_iteration=look
        )
    assert seen == [[1], [1, 2]]
    again = jgps.train(task, config=CONFIG, iterations=4, seed=1, out=out, resume=True)
    assert without_seconds(again.metrics) == without_seconds(result.metrics)


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
        again = jgps.train(
            task, config=CONFIG, iterations=4, seed=1, out=out, resume=True,
            on_iteration=lambda record: seen.append(checkpoint.iterations(out)),
        )  # fmt: skip
    assert "starts from its beginning" in str(warned[-1].message)
    assert seen == [[1], [1, 2], [1, 2, 3], [2, 3, 4]]
    assert without_seconds(again.metrics) == without_seconds(result.metrics)


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
        jgps.train(task, config=CONFIG, iterations=4, seed=1, out=out)
    assert len(read_lines(out)) == checkpoint.iterations(out)[-1] == 2
    jgps.train(task, config=CONFIG, iterations=4, seed=1, out=out, resume=True)
    assert without_seconds(read_lines(out)) == without_seconds(result.metrics)


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"seed": 2}, "seed: saved 1, given 2"),
        ({"config": dataclasses.replace(CONFIG, num_samples=4)}, "num_samples: saved 3, given 4"),
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
        jgps.train(arguments.pop("task", task), out=interrupted, resume=True, **arguments)
    assert difference in str(error.value)
    assert (interrupted / "config.json").read_text() == before


def test_a_directory_in_use_is_refused(task: Task, interrupted: Path):
    before = sorted(interrupted.rglob("*"))
    with pytest.raises(UsageError, match="not empty; pass --resume"):
        jgps.train(task, config=CONFIG, out=interrupted)
    assert sorted(interrupted.rglob("*")) == before


def test_overwrite_replaces_a_run_and_spares_other_files(
    task: Task, interrupted: Path, tmp_path: Path
):
    out = copy_run(interrupted, tmp_path / "run")
    (out / "notes.txt").write_text("mine")
    for name in ("config.json.tmp", "metrics.jsonl.tmp", "trajectories.tmp.npz"):
        (out / name).write_text("of a process that was killed")
    result = jgps.train(task, config=CONFIG, iterations=1, seed=5, out=out, overwrite=True)
    assert read_lines(out) == result.metrics
    assert checkpoint.iterations(out) == [1]
    assert (out / "notes.txt").read_text() == "mine"
    assert not [path for path in out.iterdir() if ".tmp" in path.name]


def test_overwrite_never_touches_what_no_run_wrote(task: Task, tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("years of work")
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UsageError, match=r"holds no run .*choose another --out"):
        jgps.train(task, config=CONFIG, out=tmp_path, overwrite=True)
    (tmp_path / "config.json").write_text('{"model": "of something else"}')
    with pytest.raises(UsageError, match="was not written by jgps"):
        jgps.train(task, config=CONFIG, out=tmp_path, overwrite=True)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"thesis.tex", "checkpoints", "config.json"}


def test_a_directory_that_cannot_be_written(task: Task, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot write into .*choose another --out"):
        jgps.train(task, config=CONFIG, out=tmp_path / "file" / "run")


def test_resume_without_a_run(task: Task, tmp_path: Path):
    with pytest.raises(UsageError, match="is no directory; leave out --resume"):
        jgps.train(task, config=CONFIG, out=tmp_path / "none", resume=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "pointmass"}, "unknown task 'pointmass'; tasks: point_mass, "),
        ({"algorithm": "sac"}, "unknown algorithm 'sac'; algorithms: trajopt"),
        ({"backend": "bullet"}, "unknown backend 'bullet'; backends: auto, native, mjx"),
        ({"iterations": 0}, "iterations is 0; it has to be at least 1"),
        ({"iterations": 2.5}, "iterations is 2.5; it has to be an integer"),
        ({"iterations": True}, "iterations is True; it has to be an integer"),
        ({"seed": -1}, "seed is -1; it has to be from 0"),
        ({"seed": 1.5}, "seed is 1.5; it has to be an integer"),
        ({"config": {"num_samples": 3}}, "config is a dict; trajopt takes a TrajoptConfig"),
        ({"resume": True}, "need a run directory"),
    ],
)
def test_mistakes_in_arguments(task: Task, arguments: dict, message: str):
    with pytest.raises(UsageError) as error:
        jgps.train(**{"task": task, "config": CONFIG, **arguments})
    assert message in str(error.value)


def broken_in(task: Task, conditions: list[int]) -> Task:
    """The task with masses so small in some conditions that the simulation diverges there."""
    masses = np.ones(task.train.num)
    masses[conditions] = 1e-14
    inertia = np.asarray(task.model.body_inertia[-1]) * masses[:, None]
    changes = {"body_mass:mass": masses[:, None], "body_inertia:mass": inertia}
    return dataclasses.replace(task, train=task.train._replace(changes=changes))


def test_a_condition_whose_rollouts_are_not_finite_is_contained(task: Task, result: TrainingResult):
    broken = jgps.train(broken_in(task, [2]), config=CONFIG, iterations=3, seed=1)
    assert [record["samples_valid"] for record in broken.metrics] == [[3, 3, 0, 3]] * 3
    assert all(record["status"][2] != 0 for record in broken.metrics)
    others = [0, 1, 3]
    assert all(record["status"][c] == 0 for record in broken.metrics for c in others)
    cost = np.asarray([record["cost"] for record in broken.metrics], float)[:, others]
    assert np.all(cost[-1] < cost[0])
    # It kept the controller that it began with, and the others are no worse for it.
    start = jgps.algorithms.trajopt(task, CONFIG).init(jax.random.key(1)).policy.controllers
    kept = broken.state.policy.controllers
    assert all(bool(jnp.all(a[2] == b[2])) for a, b in zip(kept, start, strict=True))
    np.testing.assert_allclose(
        cost, np.asarray([r["cost"] for r in result.metrics[:3]], float)[:, others], rtol=1e-3
    )


def test_nothing_finite_stops_the_run_and_saves_it(task: Task, tmp_path: Path):
    out = tmp_path / "run"
    with pytest.raises(TrainingError) as error:
        jgps.train(broken_in(task, [0, 1, 2, 3]), config=CONFIG, seed=1, out=out)
    assert "iteration 0: every rollout" in str(error.value)
    assert "explore less" in str(error.value)
    assert checkpoint.iterations(out) == [0]
    assert checkpoint.problem(out, 0) is None


def test_a_cost_that_is_not_finite_anywhere_names_it(task: Task):
    broken = dataclasses.replace(task, cost=lambda x, u, t: jnp.log(-1 - x[0] ** 2) + u @ u)
    with pytest.raises(TrainingError, match=r"every condition failed .*not finite.*task's cost"):
        jgps.train(broken, config=CONFIG, iterations=1)


def test_every_condition_failing_once_is_no_end_but_three_times_in_a_row(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def make(task, config, backend):
        algorithm = jgps.algorithms.trajopt(task, config, backend)

        def step(state):
            new, metrics = algorithm.step(state)
            if int(state.iteration) in (0, 1, 3, 4, 5):
                metrics = {**metrics, "status": jnp.full(4, NOT_CONVERGED)}
            return new, metrics

        return algorithm._replace(step=step)

    monkeypatch.setitem(jgps.algorithms.ALGORITHMS, "trajopt", (make, TrajoptConfig))
    out = tmp_path / "run"
    jgps.train(task, config=CONFIG, iterations=5, seed=1, out=out)
    for resume in (True, True):  # the failures of before count, and the error is the same again
        with pytest.raises(TrainingError) as error:
            jgps.train(task, config=CONFIG, iterations=9, seed=1, out=out, resume=resume)
        message = str(error.value)
        assert "iteration 5: for 3 iterations in a row every condition failed" in message
        assert "did not converge" in message and "config.step_size.kl_step" in message
        assert checkpoint.iterations(out)[-1] == len(read_lines(out)) == 5


TRACE = """
import jax, jax.numpy as jnp, numpy as np, dataclasses, jgps
from jgps.training.directory import _function_hashes
table = np.arange(4.0)
@jax.jit
def inner(x):
    return jnp.sum(table * x)
@jax.custom_jvp
def square(x):
    return x * x
square.defjvp(lambda p, t: (square(p[0]), 2 * p[0] * t[0]))
def cost(x, u, t):
    return inner(x) + jnp.sum(square(u))
task = dataclasses.replace(jgps.tasks.make("point_mass"), cost=cost)
print(_function_hashes(task))
table = table + 1e-3
jax.clear_caches()
print(_function_hashes(task))
"""


def test_hashes_of_functions_are_the_same_in_another_process_and_see_constants():
    root = str(Path(jgps.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root}
    outputs = [
        subprocess.run(
            [sys.executable, "-c", TRACE],
            env={**environment, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1]
    first, second = map(ast.literal_eval, outputs[0].splitlines())
    assert first["cost"] != second["cost"]
    assert (first["success"], first["distance"]) == (second["success"], second["distance"])


def test_evaluation_with_noise(task: Task, result: TrainingResult):
    policy = result.state.policy
    noisy = jgps.evaluate(task, policy, key=jax.random.key(3), num_samples=4)
    again = jgps.evaluate(task, policy, key=jax.random.key(3), num_samples=4)
    assert noisy.train.rollouts.x.shape[:2] == (4, 4)
    assert noisy.test.rollouts.x.shape[:2] == (6, 4)
    np.testing.assert_array_equal(noisy.train.cost, again.train.cost)
    assert np.all(noisy.train.cost != result.evaluation.train.cost)
    with pytest.raises(ValueError, match="num_samples is 0"):
        jgps.evaluate(task, policy, key=jax.random.key(3), num_samples=0)


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
