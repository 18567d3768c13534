"""Runs that begin with the state of another, and what is kept of every iteration."""

import dataclasses

import jax
import numpy as np
import pytest
from small_runs import CONFIG, read_lines, train, without_seconds

from jgps import costs, training
from jgps.algorithms import LqrStepConfig
from jgps.cli.main import main
from jgps.tasks import Task
from jgps.training import CheckpointConfig, StartFrom, UsageError, checkpoint

pytestmark = pytest.mark.usefixtures("made_once")

ALL = CheckpointConfig(every_iterations=1, keep=None)


@pytest.fixture(scope="module")
def whole(task: Task, tmp_path_factory):
    """A run of which every checkpoint and every rollout is kept."""
    out = tmp_path_factory.mktemp("whole") / "run"
    return out, train(task, iterations=4, seed=3, out=out, checkpoint=ALL, keep_samples=True)


def test_a_run_goes_on_from_any_iteration_that_is_kept(task: Task, whole, tmp_path):
    source, result = whole
    assert checkpoint.iterations(source) == [0, 1, 2, 3, 4] or (
        checkpoint.iterations(source) == [1, 2, 3, 4]
    )
    again = train(task, iterations=2, seed=9, out=tmp_path / "a", start_from=StartFrom(source, 2))
    for one, other in zip(
        without_seconds(again.metrics), without_seconds(result.metrics[2:]), strict=True
    ):
        assert {**one, "iteration": 0} == {**other, "iteration": 0}
    for one, other in zip(jax.tree.leaves(again.state), jax.tree.leaves(result.state), strict=True):
        if not jax.dtypes.issubdtype(one.dtype, jax.dtypes.prng_key):
            np.testing.assert_array_equal(one, other)


def test_a_run_begins_again_with_other_settings(task: Task, whole, tmp_path):
    source, result = whole
    bold = dataclasses.replace(CONFIG, step=LqrStepConfig(kl_step=3.0))
    out = tmp_path / "bold"
    again = train(task, config=bold, iterations=1, seed=3, out=out, start_from=source)
    assert again.metrics[0]["kl_bound"] != result.metrics[3]["kl_bound"]
    first = np.mean(again.metrics[0]["noise_free_cost"])
    assert first < np.mean(result.metrics[0]["noise_free_cost"])  # it did not begin at nothing
    longer = {"config": bold, "seed": 3, "out": out, "iterations": 2}
    with pytest.raises(UsageError, match=r"start_from.directory: saved .*given nothing"):
        train(task, resume=True, **longer)
    resumed = train(task, resume=True, start_from=source, **longer)
    assert len(resumed.metrics) == 2


def test_on_another_task_the_best_is_looked_for_anew(task: Task, whole, tmp_path):
    source, _ = whole
    dear = dataclasses.replace(task, cost=lambda x, u, t: 100 * task.cost(x, u, t))
    again = train(dear, iterations=1, seed=3, start_from=source)
    np.testing.assert_allclose(
        again.state.policy_cost,
        np.minimum(again.evaluation.train.cost, again.state.policy_cost),
        rtol=1e-5,
    )
    assert np.all(np.isfinite(again.state.policy_cost))
    assert np.mean(again.state.policy_cost) > 20 * np.mean(whole[1].state.policy_cost)


def test_a_start_that_fails_takes_nothing_away(task: Task, whole, tmp_path):
    source, _ = whole
    out = tmp_path / "run"
    train(task, iterations=1, seed=1, out=out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    for start in (StartFrom(source, 77), tmp_path / "nothing"):
        with pytest.raises(UsageError):
            train(task, iterations=1, out=out, overwrite=True, start_from=start)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    again = train(task, iterations=1, out=out, overwrite=True, start_from=out)  # itself
    assert len(again.metrics) == 1


def test_rollouts_that_do_not_fit_lose_no_iteration(task: Task, tmp_path):
    out = tmp_path / "run"

    def on_iteration(record):
        if record["iteration"] == 1:
            (out / "samples").rename(out / "moved")
            (out / "samples").write_text("no directory")

    with pytest.raises(training.TrainingError):
        train(
            task, iterations=4, out=out, keep_samples=True, on_iteration=on_iteration,
            checkpoint=CheckpointConfig(every_seconds=None),
        )  # fmt: skip
    assert checkpoint.iterations(out) == [2]


def test_what_cannot_be_started_from_is_named(task: Task, whole, tmp_path):
    source, _ = whole
    with pytest.raises(UsageError, match=r"no checkpoint after 7 iterations; it has: .*4"):
        train(task, iterations=1, start_from=StartFrom(source, 7))
    with pytest.raises(UsageError, match="is no directory"):
        train(task, iterations=1, start_from=tmp_path / "nothing")
    with pytest.raises(UsageError, match="start_from is 3; pass a run directory"):
        train(task, iterations=1, start_from=3)
    shorter = dataclasses.replace(task, train=jax.tree.map(lambda leaf: leaf[:2], task.train))
    with pytest.raises(UsageError, match="holds another state"):
        train(shorter, iterations=1, start_from=source)
    with pytest.raises(UsageError, match="keep_samples need a run directory"):
        train(task, iterations=1, keep_samples=True)


def test_every_iterations_rollouts_are_kept(task: Task, whole):
    source, result = whole
    files = sorted(path.name for path in (source / "samples").iterdir())
    assert files == [f"{i:06d}.npz" for i in range(4)]
    for name, record in zip(files, result.metrics, strict=True):
        with np.load(source / "samples" / name) as kept:
            total = np.asarray(costs.evaluate(task.cost, kept["x"], kept["u"])).sum(axis=-1)
            assert kept["valid"].all() and kept["qpos"].shape[:3] == kept["x"].shape[:3]
        np.testing.assert_allclose(total.mean(axis=1), record["cost"], rtol=1e-5)


def test_policies_of_earlier_iterations_are_evaluated(task: Task, whole, capsys):
    source, result = whole
    early = training.load(source, task, 1)
    assert early.iterations == 1
    found = training.evaluate(task, early.state.policy, key=jax.random.key(0))
    assert found.train.success is not None
    expected = [record["cost_train_policy"] for record in result.metrics]
    np.testing.assert_allclose(np.mean(found.train.cost), expected[0], rtol=1e-5)
    assert main(["evaluate", str(source), "--iteration", "9"]) == 2
    assert "no checkpoint after 9" in capsys.readouterr().err
    assert main(["train", "point_mass", "--start-iteration", "1"]) == 2
    assert "--start-from" in capsys.readouterr().err
    assert len(read_lines(source)) == 4


def test_a_run_that_begins_with_another_is_named_after_it(tmp_path, monkeypatch, capsys):
    """And has no seed: the other's random key goes on."""
    asked = []

    def train(*_, out, **__):
        asked.append(str(out))
        raise UsageError("that will do")

    monkeypatch.setattr(training, "train", train)
    source = tmp_path / "first run"
    command = ["train", "point_mass", "--algorithm", "trajopt", "--start-from", str(source)]
    for more in ([], ["--start-iteration", "3"], ["--out", "there"]):
        assert main([*command, *more]) == 2
    assert main(command[:-2]) == 2
    assert main([*command, "--seed", "0"]) == 2
    assert asked == [
        "runs/point_mass-trajopt-from-first run",
        "runs/point_mass-trajopt-from-first run-3",
        "there",
        "runs/point_mass-trajopt-seed0",
    ]
    assert "--seed decides nothing with --start-from: the other" in capsys.readouterr().err
