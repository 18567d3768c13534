"""The command `jgps train`."""

import dataclasses
import functools
import time
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from jgps import tasks, training
from jgps.algorithms import ALGORITHMS, RandomStartsConfig
from jgps.cli.arguments import check_choice, flagged, given, parse
from jgps.cli.commands import report_one
from jgps.cli.machine import check_backend, enable_compilation_cache, where
from jgps.core.names import unknown
from jgps.recipes import POLICIES, recipe
from jgps.recipes.recipe import (
    fits_models,
    has_setting,
    policy_kind,
    prior_name,
    takes_random_starts,
    trains_network,
    usual_iterations,
)
from jgps.training import CheckpointConfig, StartFrom, UsageError
from jgps.training.errors import Terminated

DEFAULT_ALGORITHM = "mdgps"
# Options that are arguments of `jgps.train` of the same name.
_PASSED_ON = (
    "config",
    "iterations",
    "seed",
    "backend",
    "resume",
    "overwrite",
    "evaluate_every",
    "checkpoint",
    "keep_samples",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _TrainOptions:
    """Trains on a task with live progress, then evaluates, draws figures and a video of the result.

    Attributes:
      task: name of the task; `jgps list` shows them.
      algorithm: name of the algorithm; `jgps list` shows them.
      iterations: number of iterations, those before --resume included; 12 by default, and with a
        policy that looks through a camera 7 more than those in which controllers improve alone.
      seed: seed of all random numbers; not with --start-from, whose state has its own.
      backend: native, mjx, analytic (of tasks with known dynamics) or auto.
      out: run directory; runs/TASK-ALGORITHM-seedS if not given, or runs/TASK-ALGORITHM-from-RUN
        with --start-from.
      resume: whether to go on with the run in the directory.
      overwrite: whether to replace the run in the directory.
      evaluate_every: after how many iterations the newest policy is evaluated without noise, on
        training and on unseen conditions; 0 evaluates only at the end.
      checkpoint: when the state is saved, for --resume, and how many of them are kept.
      start_from: another run's directory: this run begins with its state, and may have other
        settings.
      start_iteration: after how many iterations of that run; the newest checkpoint if not given.
      keep_samples: whether every iteration's rollouts with noise are written to samples/.
      policy: what the network reads: mlp (the observation), visuomotor (the task's camera and the
        robot's configuration), or a baseline: pose_features, pose_prediction.
      prior: prior of the fitted dynamics: mixture, constant or none.
      random_starts: whether to learn from rollouts that start at random, in groups, instead of
        from fixed conditions.
      config: settings of the algorithm. With --config.sampling on_policy the others that go well
        with it are the defaults.
    """

    task: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TASK")]
    algorithm: str = DEFAULT_ALGORITHM
    iterations: int
    seed: int = 0
    backend: str = "auto"
    out: Path | None = None
    resume: bool = False
    overwrite: bool = False
    evaluate_every: int = 1
    checkpoint: CheckpointConfig = CheckpointConfig()
    start_from: Path | None = None
    start_iteration: int | None = None
    keep_samples: bool = False


def _spell(argument: str) -> str:
    """Returns the command line's option for an argument of `jgps.train`."""
    return "--config.sampling" if argument == "sampling" else f"--{argument.replace('_', '-')}"


def _options(
    algorithm: str,
    prior: str | None,
    random_starts: bool = False,
    policy: str | None = None,
    sampling: str | None = None,
    task: str | None = None,
) -> type:
    """Makes the class of the options of `jgps train`, whose defaults are the recipe's settings."""
    try:
        if not has_setting(algorithm, "sampling"):
            sampling = None  # which is then no option
        chosen = recipe(task or "", algorithm, policy, prior, random_starts, sampling, _spell)
    except ValueError as error:
        raise UsageError(str(error)) from error
    fields: list[Any] = []
    if fits_models(algorithm):
        fields.append(("prior", str, dataclasses.field(default=prior_name(algorithm))))
    if trains_network(algorithm):
        fields.append(("policy", str, dataclasses.field(default=POLICIES[0])))
    if takes_random_starts(algorithm):
        fields.append(("random_starts", bool, dataclasses.field(default=False)))
    fields.append(("iterations", int, dataclasses.field(default=chosen.iterations)))
    _, config_type = ALGORITHMS[algorithm]
    config = dataclasses.field(default_factory=lambda: chosen.config)
    fields.append(("config", config_type, config))
    options = dataclasses.make_dataclass(
        "TrainOptions", fields, bases=(_TrainOptions,), frozen=True, kw_only=True
    )
    options.__doc__ = _TrainOptions.__doc__
    return options


def _start_from(options: Any) -> StartFrom | None:
    """Which state the run begins with.

    Raises:
      UsageError: if an iteration is given, but no run.
    """
    if options.start_from is not None:
        return StartFrom(options.start_from, options.start_iteration)
    if options.start_iteration is not None:
        raise UsageError(
            "--start-iteration is of another run; name its directory with --start-from"
        )
    return None


def _origin(options: Any) -> str:
    """What a run's random numbers come from: the name that its directory has by default."""
    if options.start_from is None:
        return f"seed{options.seed}"
    at = "" if options.start_iteration is None else f"-{options.start_iteration}"
    return f"from-{options.start_from.resolve().name}{at}"


def _check(options: Any) -> str:
    """Checks that options go together, and returns the kind of policy.

    Raises:
      UsageError: if they do not go together.
    """
    if options.task not in tasks.names():
        raise UsageError(unknown("task", options.task, tasks.names()))
    policy = policy_kind(options.config) or POLICIES[0]
    if policy != getattr(options, "policy", policy):
        raise UsageError(
            f"--policy is {options.policy} and --config.policy.kind {policy}; use "
            "--policy alone, which brings what goes well with it"
        )
    return policy


def read(arguments: list[str]) -> tuple[str, Any]:
    """Reads the algorithm's name and the options, whose defaults are those of the task.

    Raises:
      UsageError: for arguments that cannot be read.
    """
    chosen = given("algorithm", arguments)
    algorithm = check_choice(
        "algorithm", DEFAULT_ALGORITHM if chosen is None else chosen, ALGORITHMS
    )
    if given("out", arguments) == "":
        raise UsageError("--out is empty; name a directory, or leave the option out")
    if given("seed", arguments) is not None and given("start-from", arguments) is not None:
        raise UsageError(
            "--seed decides nothing with --start-from: the other run's state has its random key in "
            "it, with which this run goes on; leave out --seed"
        )
    kind = functools.partial(
        _options,
        algorithm,
        given("prior", arguments),
        flagged("random-starts", arguments),
        given("policy", arguments),
        given("config.sampling", arguments),
    )
    # Help is shown while it is read, before the task is known.
    named = next((each for each in arguments if each in tasks.names()), None)
    options: Any = parse(kind(task=named), "train", arguments)
    if options.task != named:
        options = parse(kind(task=options.task), "train", arguments)
    if given("iterations", arguments) is None:
        options = dataclasses.replace(options, iterations=usual_iterations(options.config))
    return algorithm, options


def _stopped(error: KeyboardInterrupt | Terminated, out: Path) -> KeyboardInterrupt | Terminated:
    """The same, with a sentence on how the run that it stopped goes on."""
    saved = (
        f"what is done is saved in {out}, and the same command with --resume (without "
        "--overwrite) goes on"
    )
    if isinstance(error, Terminated):
        return Terminated(error.code, f"terminated; {saved}")
    return KeyboardInterrupt(f"interrupted; {saved}")


def train(arguments: list[str]) -> None:
    """Trains with live progress, then evaluates, draws figures and a video of the result."""
    algorithm, options = read(arguments)
    policy = _check(options)
    enable_compilation_cache()
    task = tasks.make(options.task)
    check_backend(options.backend, task.system)
    from jgps.cli.progress import Progress, evaluation_table

    suffix = "" if policy == POLICIES[0] else f"-{policy}"
    origin = _origin(options)
    out = options.out or Path("runs") / f"{options.task}-{algorithm}{suffix}-{origin}"
    console = Console()
    rollouts = getattr(options.config, "rollouts", None)  # what plans draws none
    grouped = rollouts.num_rollouts if isinstance(rollouts, RandomStartsConfig) else None
    progress = Progress(console, options.iterations, grouped)

    started = []

    def announce(done: int) -> None:
        started.append(done)
        again = f", going on with iteration {done}" if done else ""
        device = where(options.backend, task.system)
        numbers = f"seed {options.seed}" if options.start_from is None else origin
        print(f"{options.task}, {algorithm}, {numbers}, {device} -> {out}{again}")

    try:
        with progress.running():
            result = training.train(
                task,
                algorithm,
                out=out,
                start_from=_start_from(options),
                **{name: getattr(options, name) for name in _PASSED_ON},
                on_start=announce,
                on_iteration=progress,
            )
    except (KeyboardInterrupt, Terminated) as error:
        raise (_stopped(error, out) if started else error) from None
    if progress.seen == 0:
        print(f"{out} already has all {options.iterations} iterations")
    console.print(evaluation_table(result.evaluation))
    summary = result.summary
    print(
        f"{summary['wall_seconds']:.1f} s for training and evaluation: "
        f"{summary['compile_seconds']:.1f} s to compile training, then "
        f"{summary['seconds_per_iteration']:.3f} s per iteration; "
        f"{summary['evaluation_seconds']:.1f} s to evaluate policies"
    )
    began = time.perf_counter()
    report_one(out)
    seconds = time.perf_counter() - began
    print(f"{summary['wall_seconds'] + seconds:.1f} s in all, {seconds:.1f} s of it for the report")
