"""What `train` was asked for, checked and made into what a run needs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jgps import tasks
from jgps.algorithms import ALGORITHMS, Algorithm
from jgps.core.checks import check_argument
from jgps.core.names import shown, unknown
from jgps.optimise.factory import check_task
from jgps.recipes import Recipe, recipe
from jgps.recipes.recipe import usual_iterations
from jgps.simulation import resolve_backend
from jgps.tasks import Task
from jgps.training.checkpoint import CheckpointConfig
from jgps.training.description import describe
from jgps.training.errors import UsageError
from jgps.training.files import as_path
from jgps.training.metrics import Record
from jgps.training.metrics_file import MAX_ITERATIONS


class StartFrom(NamedTuple):
    """Another run, with whose state a run begins."""

    directory: str | Path
    iteration: int | None = None  # after how many; None is the newest whole checkpoint


class Options(NamedTuple):
    """The arguments of `train` as they were given; see there."""

    task: Task | str
    algorithm: str
    policy: str | None
    prior: str | None
    random_starts: bool
    sampling: str | None
    iterations: int | None
    config: Any
    seed: int
    backend: str
    out: str | Path | None
    resume: bool
    overwrite: bool
    evaluate_every: int
    checkpoint: CheckpointConfig | None
    start_from: str | Path | StartFrom | None
    keep_samples: bool
    on_start: Callable[[int], None] | None
    on_iteration: Callable[[Record], None] | None


class Setup(NamedTuple):
    """What a run needs."""

    task: Task
    algorithm: Algorithm
    config: Any  # of the algorithm
    stop_on_divergence: bool  # of the network's training
    evaluate_every: int  # iterations; 0 is never
    checkpoint: CheckpointConfig
    description: dict[str, Any]  # what `config.json` holds
    seed: int
    iterations: int
    out: Path | None
    resume: bool
    overwrite: bool
    start_from: StartFrom | None
    keep_samples: bool

    @property
    def backend(self) -> str:
        """Name of the backend; "auto" is resolved."""
        return self.description["backend"]


def set_up(options: Options) -> Setup:
    """What a run with these options needs; nothing is written.

    Raises:
      ValueError: if the options don't fit together.
    """
    _check_kinds(options)
    task = tasks.make(options.task) if isinstance(options.task, str) else options.task
    config, iterations = _choose(task, options)
    if not isinstance(options.checkpoint, CheckpointConfig | None):
        raise UsageError(
            f"checkpoint is {options.checkpoint!r}; pass a jgps.training.CheckpointConfig"
        )
    if options.resume and options.overwrite:
        raise UsageError("a run is either resumed or overwritten: leave out one of the two")
    seed = _integer("seed", options.seed, 0, 2**32 - 1)
    backend = resolve_backend(options.backend, task.system)
    make, _ = ALGORITHMS[options.algorithm]
    algorithm = make(task, config, backend)
    if options.start_from is None:  # another run may have come further
        _check_training(algorithm, config, iterations)
    setup = Setup(
        task=task,
        algorithm=algorithm,
        config=config,
        stop_on_divergence=any(each.on_divergence == "stop" for each in _trainings(config)),
        evaluate_every=_integer("evaluate_every", options.evaluate_every, 0),
        checkpoint=options.checkpoint or CheckpointConfig(),
        description=_describe(task, options, config, iterations, seed, backend),
        seed=seed,
        iterations=iterations,
        out=None if options.out is None else as_path("out", options.out),
        resume=options.resume,
        overwrite=options.overwrite,
        start_from=_start_from(options.start_from),
        keep_samples=options.keep_samples,
    )
    needs = (options.resume, options.overwrite, options.checkpoint, options.keep_samples)
    if setup.out is None and any(needs):
        raise UsageError(
            "resume, overwrite, checkpoint and keep_samples need a run directory; pass out"
        )
    return setup


def _start_from(given: str | Path | StartFrom | None) -> StartFrom | None:
    if given is None:
        return None
    start = given if isinstance(given, StartFrom) else StartFrom(given)
    if not isinstance(start.directory, str | Path):
        raise UsageError(
            f"start_from is {given!r}; pass a run directory or jgps.training.StartFrom(directory, "
            "iteration)"
        )
    directory = as_path("start_from", start.directory)
    iteration = start.iteration
    if iteration is not None:
        iteration = _integer("start_from.iteration", iteration, 0)
    return StartFrom(directory.resolve(), iteration)


def _describe(
    task: Task, options: Options, config: Any, iterations: int, seed: int, backend: str
) -> dict[str, Any]:
    """What `config.json` holds; `start_from` where the run begins with another's state."""
    description = describe(task, options.algorithm, config, iterations, seed, backend)
    start = _start_from(options.start_from)
    if start is not None:
        where = {"directory": str(start.directory), "iteration": start.iteration}
        description["start_from"] = where
    return description


def _check_kinds(options: Options) -> None:
    """Refuses arguments of another kind than they have to be.

    Raises:
      ValueError: "resume is 1; it has to be True or False".
    """
    if not isinstance(options.task, str):
        check_task("jgps.train", options.task)
    for name in ("resume", "overwrite", "random_starts", "keep_samples"):
        check_argument(name, getattr(options, name), bool)
    for name in ("on_start", "on_iteration"):
        value = getattr(options, name)
        if not (value is None or callable(value)):
            raise UsageError(f"{name} is {shown(value)}; it has to be a function, or None")


def _choose(task: Task, options: Options) -> Recipe:
    """The settings and the number of iterations: those that were given, or the recipe's."""
    algorithm = options.algorithm
    chosen_by = (options.policy, options.prior, options.random_starts, options.sampling)
    if options.config is None:
        chosen = recipe(task.name, algorithm, *chosen_by)
    elif chosen_by == (None, None, False, None):
        chosen = _checked(algorithm, options.config)
    else:
        raise UsageError(
            "config is given beside policy, prior, random_starts or sampling, which choose a "
            "config; pass one or the other"
        )
    if options.iterations is None:
        return chosen
    return chosen._replace(iterations=_integer("iterations", options.iterations, 1, MAX_ITERATIONS))


def _checked(algorithm: str, config: Any) -> Recipe:
    """Settings that are given, and the iterations that training with them takes."""
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise UsageError(unknown("algorithm", algorithm, ALGORITHMS))
    _, config_type = ALGORITHMS[algorithm]
    if not isinstance(config, config_type):
        raise UsageError(
            f"config is a {type(config).__name__}; {algorithm} takes a {config_type.__name__}"
        )
    return Recipe(config, usual_iterations(config))


def _check_training(algorithm: Algorithm, config: Any, iterations: int) -> None:
    setting = "teacher_iterations" if hasattr(config, "teacher_iterations") else ""
    setting = setting or "trajectory_iterations"
    if iterations <= algorithm.first_training:
        raise UsageError(
            f"iterations is {iterations}, in the first {algorithm.first_training} of which "
            "controllers improve alone, so that no network would be trained; ask for at least "
            f"{algorithm.first_training + 1}, or lower config.{setting}"
        )


def _trainings(config: Any) -> tuple[Any, ...]:
    """How the network is trained, in all phases; empty where there is none."""
    return config.policy.trainings if hasattr(config, "policy") else ()


def _integer(name: str, value: Any, low: int, high: int | None = None) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise UsageError(f"{name} is {value!r}; it has to be an integer")
    if value < low or (high is not None and value > high):
        limits = f"at least {low}" if high is None else f"from {low} to {high}"
        raise UsageError(f"{name} is {value}; it has to be {limits}")
    return int(value)
