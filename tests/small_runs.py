"""Runs of the smallest task, small and quick to compile."""

import dataclasses
import functools
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import jgps
from jgps.algorithms import ALGORITHMS, FixedStartsConfig, MdgpsConfig, MlpConfig, TrajoptConfig
from jgps.dynamics import NoPriorConfig
from jgps.optimise.models import FittedModelsConfig
from jgps.policies import DistilConfig
from jgps.tasks import Task
from jgps.training import CheckpointConfig

# Without the mixture a program compiles in a fraction of the time.
CONFIG = TrajoptConfig(
    rollouts=FixedStartsConfig(num_samples=3), models=FittedModelsConfig(prior=NoPriorConfig())
)
# A checkpoint after every iteration, so that there is something to damage.
ALWAYS = CheckpointConfig(every_iterations=1)


def train(task, algorithm="trajopt", *, out=None, **options):
    """A run, with a checkpoint after every iteration where it has a directory."""
    saving = {} if out is None else {"checkpoint": ALWAYS}
    return jgps.train(task, algorithm, out=out, **{"config": CONFIG, **saving, **options})


NETWORK_CONFIG = MdgpsConfig(
    rollouts=FixedStartsConfig(num_samples=3),
    models=FittedModelsConfig(prior=NoPriorConfig()),
    observation_prior=NoPriorConfig(),
    policy=MlpConfig(hidden=(8,), distil=DistilConfig(steps=100)),
)
train_network = functools.partial(jgps.train, algorithm="mdgps", config=NETWORK_CONFIG)


@contextmanager
def algorithms_made_once() -> Iterator[None]:
    """Equal tasks and settings share an algorithm: one that is made anew is traced anew."""
    made = {}

    def once(make: Callable) -> Callable:
        def of(task, config, backend):
            key = (make, id(task), config, backend)
            if key not in made:
                made[key] = task, make(task, config, backend)  # with the task, so that its id stays
            return made[key][1]

        return of

    with pytest.MonkeyPatch.context() as patch:
        for name, (make, config_type) in ALGORITHMS.items():
            patch.setitem(ALGORITHMS, name, (once(make), config_type))
        yield


def without_seconds(records: list[dict]) -> list[dict]:
    return [{k: v for k, v in record.items() if "seconds" not in k} for record in records]


def read_lines(directory: Path) -> list[dict]:
    """The lines of metrics.jsonl, without their checksums."""
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "checksum"} for line in lines]


def edit_config(directory: Path, edit: Callable[[dict], None]) -> None:
    """Changes config.json as users may: without the checksum, which would be wrong."""
    config = json.loads((directory / "config.json").read_text())
    del config["checksum"]
    edit(config)
    (directory / "config.json").write_text(json.dumps(config))


def copy_run(source: Path, target: Path) -> Path:
    shutil.copytree(source, target)
    return target


def cut_metrics(out: Path, lines: int) -> None:
    path = out / "metrics.jsonl"
    path.write_text("".join(line + "\n" for line in path.read_text().splitlines()[:lines]))


def broken_in(task: Task, conditions: list[int]) -> Task:
    """The task with masses so small in some conditions that the simulation diverges there."""
    masses = np.ones(task.train.num)
    masses[conditions] = 1e-14
    inertia = np.asarray(task.model.body_inertia[-1]) * masses[:, None]
    changes = {"body_mass:mass": masses[:, None], "body_inertia:mass": inertia}
    return dataclasses.replace(task, train=task.train._replace(changes=changes))
