"""A run directory as objects again."""

from pathlib import Path
from typing import Any, NamedTuple

import jax

from jgps import tasks
from jgps.algorithms import ALGORITHMS
from jgps.tasks import Task
from jgps.training import checkpoint, directory
from jgps.training.codec import decode
from jgps.training.description import Description, describe
from jgps.training.errors import UsageError
from jgps.training.files import as_path


class Run(NamedTuple):
    """What a run directory holds."""

    task: Task
    state: Any  # of the algorithm, from a checkpoint
    iterations: int  # done
    description: dict[str, Any]  # its config.json


def load(path: str | Path, task: Task | None = None, iteration: int | None = None) -> Run:
    """Reads a checkpoint of a run.

    Args:
      path: the run directory.
      task: the run's task, where it is not one that jgps ships.
      iteration: after how many iterations; None is the newest whole checkpoint.

    Raises:
      UsageError: if there is no run, no such whole checkpoint, or another task.
    """
    path = as_path("path", path)
    saved = directory.read_config(path, Description)
    if task is None:
        if saved["task"] not in tasks.names():
            raise UsageError(
                f"{path} was trained on {saved['task']!r}, which jgps does not ship; use "
                "jgps.training.load(directory, task) from Python"
            )
        task = tasks.make(saved["task"])
    if saved["algorithm"] not in ALGORITHMS:
        raise UsageError(f"{path} was made by {saved['algorithm']!r}, which this jgps lacks")
    make, config_type = ALGORITHMS[saved["algorithm"]]
    try:
        config = decode(config_type, saved["config"], "config")
        algorithm = make(task, config, saved["backend"])
    except ValueError as error:
        raise UsageError(f"{path / 'config.json'}: {error}") from error
    now = describe(task, saved["algorithm"], config, 1, 0, saved["backend"])
    if now["model"]["hash"] != saved["model"]["hash"]:
        raise UsageError(f"{path} was trained on another model of {task.name!r}")
    if now["float64"] != saved["float64"]:
        raise UsageError(
            f"{path} was trained with float64 {'on' if saved['float64'] else 'off'}; set "
            f"JAX_ENABLE_X64={int(saved['float64'])}"
        )
    template = jax.eval_shape(algorithm.init, jax.random.key(0))
    if iteration is not None:
        return Run(task, checkpoint.restore(path, template, iteration), iteration, saved)
    restored = checkpoint.restore_newest(path, template)
    if restored is None:
        raise UsageError(
            f"{path} has no whole checkpoint; put a copy of its checkpoints back, or train in "
            "another directory (to resume it would begin anew)"
        )
    return Run(task, restored[1], restored[0], saved)
