"""The command `jgps train`."""

import dataclasses
import functools
import time
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from jgps import tasks, training
from jgps.algorithms import ALGORITHMS, RandomStartsConfig, seeing_settings
from jgps.cli.arguments import check_choice, flagged, given, parse
from jgps.cli.commands import report_one
from jgps.cli.machine import check_backend, enable_compilation_cache, where
from jgps.dynamics import ConstantPriorConfig, MixturePriorConfig, NoPriorConfig
from jgps.optimise.guided.state import GuidedConfig
from jgps.training import TrainingError, UsageError
from jgps.vision.config import POLICIES, sees

DEFAULT_ALGORITHM = "mdgps"
ITERATIONS = 12
# Of a policy that sees, after those of controllers alone: dense layers, then all of the network.
SEEING_ITERATIONS = 7
# In which controllers improve alone, where that is not the default: the hammer's many grasps and
# places each find a way of their own in longer, and a network imitates them less well.
TRAJECTORY_ITERATIONS = {"hammer": 5}
PRIORS = {"mixture": MixturePriorConfig, "constant": ConstantPriorConfig, "none": NoPriorConfig}


@dataclasses.dataclass(frozen=True, kw_only=True)
class _TrainOptions:
    """Trains on a task with live progress, then evaluates, draws and films the result.

    Attributes:
      task: name of the task; `jgps list` shows them.
      algorithm: name of the algorithm.
      iterations: how many in all; by default more of a policy that looks through a camera.
      seed: of everything random.
      backend: native, mjx or auto.
      out: run directory; runs/TASK-ALGORITHM-seedS if not given.
      resume: go on with the run in the directory.
      overwrite: replace the run in the directory.
      evaluate_every: after how many iterations the newest policy is tried without noise, on
        training and on unseen conditions; 0 is only at the end.
      policy: what the network reads: mlp (the observation), visuomotor (the task's camera and the
        robot's configuration), or a baseline: pose_features, pose_prediction.
      prior: of the fitted dynamics: mixture, constant or none.
      random_starts: learn from rollouts that start at random, in groups, not in fixed conditions.
      config: settings of the algorithm.
    """

    task: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TASK")]
    algorithm: str = DEFAULT_ALGORITHM
    iterations: int = ITERATIONS
    seed: int = 0
    backend: str = "auto"
    out: Path | None = None
    resume: bool = False
    overwrite: bool = False
    evaluate_every: int = 1


def seeing(config: GuidedConfig, policy: str, task: str | None) -> dict[str, Any]:
    """What goes well with a policy that sees on a task, by name, for `dataclasses.replace`."""
    usual = config.vision.trajectory_iterations
    alone = usual if task is None else TRAJECTORY_ITERATIONS.get(task, usual)
    vision = dataclasses.replace(config.vision, trajectory_iterations=alone)
    return {**seeing_settings(config, policy), "vision": vision}


def usual_iterations(config: Any) -> int:
    """How many, where none are asked for."""
    if not sees(getattr(config, "policy", POLICIES[0])):
        return ITERATIONS
    return config.vision.trajectory_iterations + SEEING_ITERATIONS


def _options(
    algorithm: str,
    prior: str | None,
    random_starts: bool = False,
    policy: str | None = None,
    task: str | None = None,
) -> type:
    """The options of `jgps train`, those of the algorithm's own settings among them."""
    _, config_type = ALGORITHMS[algorithm]
    names = {field.name for field in dataclasses.fields(config_type)}
    fields: list[Any] = []
    changed: dict[str, Any] = {}
    if "models" in names:
        models = config_type().models
        name = next(name for name, kind in PRIORS.items() if type(models.prior) is kind)
        chosen = name if prior is None else check_choice("prior", prior, PRIORS)
        fields.append(("prior", str, dataclasses.field(default=name)))
        if chosen != name:
            changed["models"] = dataclasses.replace(models, prior=PRIORS[chosen]())
    elif prior is not None:
        raise UsageError(f"{algorithm} fits no dynamics; leave out --prior")
    if "policy" in names:
        fields.append(("policy", str, dataclasses.field(default=POLICIES[0])))
        if policy is not None:
            changed["policy"] = check_choice("policy", policy, POLICIES)
            if sees(policy):
                changed |= seeing(config_type(), policy, task)
    elif policy is not None and policy != POLICIES[0]:
        raise UsageError(f"{algorithm} trains no network that sees; leave out --policy")
    if "random_starts" in names:
        fields.append(("random_starts", bool, dataclasses.field(default=False)))
        if random_starts:
            # A random start belongs to no controller before its rollout: only networks can act.
            changed |= {
                "random_starts": RandomStartsConfig(),
                "sampling": "on_policy",
                "linearisation": "fitted",
            }
    elif random_starts:
        raise UsageError(f"{algorithm} starts in fixed conditions; leave out --random-starts")
    try:
        config = config_type(**changed)
    except ValueError as error:  # options that don't go together
        raise UsageError(str(error)) from error
    fields.append(("iterations", int, dataclasses.field(default=usual_iterations(config))))
    default = functools.partial(config_type, **changed)
    fields.append(("config", config_type, dataclasses.field(default_factory=default)))
    options = dataclasses.make_dataclass(
        "TrainOptions", fields, bases=(_TrainOptions,), frozen=True, kw_only=True
    )
    options.__doc__ = _TrainOptions.__doc__
    return options


def _check(options: Any) -> str:
    """The kind of policy, of options that go together on this machine.

    Raises:
      UsageError: if they don't.
    """
    if options.task not in tasks.names():
        raise UsageError(f"unknown task {options.task!r}; tasks: {', '.join(tasks.names())}")
    policy = getattr(options.config, "policy", POLICIES[0])
    if policy != getattr(options, "policy", policy):
        raise UsageError(
            f"--policy is {options.policy} and --config.policy {policy}; use --policy alone, which "
            "brings what goes well with it"
        )
    check_backend(options.backend)
    return policy


def read(arguments: list[str]) -> tuple[str, Any]:
    """The algorithm, and the options as they are on the task.

    Raises:
      UsageError: for arguments that cannot be read.
    """
    algorithm = check_choice(
        "algorithm", given("algorithm", arguments) or DEFAULT_ALGORITHM, ALGORITHMS
    )
    kind = functools.partial(
        _options,
        algorithm,
        given("prior", arguments),
        flagged("random-starts", arguments),
        given("policy", arguments),
    )
    # Help is shown while it is read, before the task is known.
    named = next((each for each in arguments if each in TRAJECTORY_ITERATIONS), None)
    options: Any = parse(kind(task=named), "train", arguments)
    if {options.task, named} & set(TRAJECTORY_ITERATIONS) and options.task != named:
        options = parse(kind(task=options.task), "train", arguments)
    if given("iterations", arguments) is None:
        options = dataclasses.replace(options, iterations=usual_iterations(options.config))
    return algorithm, options


def train(arguments: list[str]) -> None:
    """Trains with live progress, then evaluates, draws and films the result."""
    algorithm, options = read(arguments)
    policy = _check(options)
    enable_compilation_cache()
    from jgps.cli.progress import Progress, evaluation_table

    sight = "" if policy == POLICIES[0] else f"-{policy}"
    out = options.out or Path("runs") / f"{options.task}-{algorithm}{sight}-seed{options.seed}"
    console = Console()
    random_starts = getattr(options.config, "random_starts", None)
    grouped = None if random_starts is None else random_starts.num_rollouts
    progress = Progress(console, options.iterations, grouped)

    started = []

    def announce(done: int) -> None:
        started.append(done)
        again = f", going on with iteration {done}" if done else ""
        device = where(options.backend)
        print(f"{options.task}, {algorithm}, seed {options.seed}, {device} -> {out}{again}")

    try:
        with progress.running():
            result = training.train(
                options.task,
                algorithm,
                config=options.config,
                iterations=options.iterations,
                seed=options.seed,
                backend=options.backend,
                out=out,
                resume=options.resume,
                overwrite=options.overwrite,
                evaluate_every=options.evaluate_every,
                on_start=announce,
                on_iteration=progress,
            )
    except KeyboardInterrupt:
        if not started:
            raise
        raise TrainingError(
            f"interrupted; what is done is saved in {out}, and the same command with --resume "
            "(without --overwrite) goes on"
        ) from None
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
