"""Runs that several files look at."""

import dataclasses

import pytest
from small_runs import algorithms_made_once, train

import jgps
from jgps.tasks import Task
from jgps.training import TrainingResult


@pytest.fixture(scope="module")
def made_once():
    """Runs of a module on one task share the algorithm."""
    with algorithms_made_once():
        yield


@pytest.fixture(scope="session")
def task() -> Task:
    return dataclasses.replace(jgps.tasks.make("point_mass"), horizon=10)


@pytest.fixture(scope="session")
def result(task: Task, tmp_path_factory: pytest.TempPathFactory) -> TrainingResult:
    """Four iterations, never interrupted."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    return train(task, iterations=4, seed=1, out=out)


@pytest.fixture(scope="session")
def interrupted(task: Task, result: TrainingResult, tmp_path_factory: pytest.TempPathFactory):
    """The same, stopped by Ctrl-C while the metrics of the second iteration are shown."""
    out = tmp_path_factory.mktemp("runs") / "interrupted"

    def stop(record: dict) -> None:
        if record["iteration"] == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(task, iterations=4, seed=1, out=out, on_iteration=stop)
    return out
