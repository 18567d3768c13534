"""The run that things happen to."""

import functools
import shutil
from pathlib import Path

import faults
import pytest
from small_runs import algorithms_made_once

import jgps
from jgps.training import TrainingResult


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> TrainingResult:
    """A finished run, undisturbed."""
    return faults.train(tmp_path_factory.mktemp("faults") / "run")


@pytest.fixture
def run(whole: TrainingResult, tmp_path: Path) -> Path:
    """A copy of its directory."""
    assert whole.directory is not None
    return Path(shutil.copytree(whole.directory, tmp_path / "run"))


@pytest.fixture(scope="module")
def made_once():
    """Runs of a module share what they are made of; those of other processes show that they may."""
    with algorithms_made_once(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(jgps.tasks, "make", functools.cache(jgps.tasks.make))
        yield
