"""The run that things happen to."""

import shutil
from pathlib import Path

import faults
import pytest

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
