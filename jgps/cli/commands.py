"""The commands `jgps list | evaluate | report | bench`."""

import dataclasses
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import jax
import tyro
from rich.console import Console

from jgps import tasks, training
from jgps.algorithms import ALGORITHMS
from jgps.cli.arguments import given, parse
from jgps.cli.machine import check_backend, enable_compilation_cache
from jgps.core.warn import warn
from jgps.simulation import num_threads, resolve_backend
from jgps.training import UsageError
from jgps.training.directory import read_config
from jgps.training.files import as_path


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Rolls a trained policy out on training, unseen test and (if any) distracted conditions.

    Attributes:
      directory: the run directory.
      backend: native, mjx, analytic (of tasks with known dynamics) or auto.
      samples: rollouts per condition, with exploration noise; if not given, there is one rollout
        without noise.
      seed: seed of the noise, which --samples asks for.
      iteration: of the policy after how many iterations; of the newest checkpoint if not given.
    """

    directory: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    backend: str = "auto"
    samples: int | None = None
    seed: int = 0
    iteration: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Draws figures and a video of one run, or curves and tables of several side by side.

    Attributes:
      directories: run directories.
      out: directory for the comparison of several runs.
      opengl: whether MuJoCo's renderer draws the video instead of the ray caster; it needs OpenGL.
    """

    directories: Annotated[
        tyro.conf.Positional[tuple[Path, ...]],
        tyro.conf.arg(metavar="DIR", help_behavior_hint="(one or more)"),
    ]
    out: Path = Path("runs/comparison")
    opengl: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """Measures speed on this machine, with compile time stated separately.

    Attributes:
      suite: physics, fit, lqr, iteration, network, policy, render or all.
      out: JSON file for the results.
    """

    suite: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SUITE")] = "all"
    out: Path | None = None


def list_all(arguments: list[str]) -> None:
    """Lists tasks, algorithms and backends."""
    if arguments in (["-h"], ["--help"]):
        print("usage: jgps list\n\nLists tasks, algorithms and backends.")
        return
    if arguments:
        raise UsageError(f"jgps list takes no arguments; got {' '.join(arguments)}")
    print("tasks")
    for name in tasks.names():
        print(f"  {name:<20} {tasks.describe(name)}")
    print("algorithms")
    for name, (make, _) in ALGORITHMS.items():
        head, _, _ = (sys.modules[make.__module__].__doc__ or "").strip().partition("\n")
        print(f"  {name:<20} {head}")
    print("backends")
    devices = jax.devices()
    device = f"{len(devices)} x {devices[0].device_kind}"
    auto = resolve_backend("auto")
    lines = [("native", f"C MuJoCo on {num_threads()} threads")]
    if importlib.util.find_spec("mujoco.mjx") is not None:
        lines.append(("mjx", f"MJX on {device}"))
    lines.append(("analytic", f"a task's known dynamics on {device} (auto where it has some)"))
    for name, text in lines:
        print(f"  {name:<20} {text}{' (auto)' if name == auto else ''}")


def evaluate(arguments: list[str]) -> None:
    """Prints the success of a trained policy on training and on unseen test conditions."""
    options = parse(EvaluateOptions, "evaluate", arguments)
    check_backend(options.backend)
    enable_compilation_cache()
    from jgps.cli.progress import evaluation_table

    if options.samples is not None and options.samples < 1:
        raise UsageError(
            f"--samples is {options.samples}; it has to be at least 1; leave the option out for "
            "one rollout without noise"
        )
    if options.samples is None and given("seed", arguments) is not None:
        raise UsageError(
            "--seed is of the noise that rollouts with --samples have; without it there is none. "
            "Add --samples, or leave out --seed"
        )
    if not 0 <= options.seed < 2**32:
        raise UsageError(f"--seed is {options.seed}; it has to be from 0 to {2**32 - 1}")
    run = training.load(options.directory, iteration=options.iteration)
    try:
        result = training.evaluate(
            run.task,
            run.state.policy,
            key=jax.random.key(options.seed),
            backend=options.backend,
            num_samples=options.samples,
        )
    except ValueError as error:
        raise UsageError(str(error).replace("num_samples", "--samples")) from error
    table = evaluation_table(result)
    noise = "without exploration noise"
    if options.samples is not None:
        noise = f"mean of {options.samples} rollouts with exploration noise"
    table.title = f"{options.directory}, {run.iterations} iterations, {noise}"
    Console().print(table)
    if result.advice:
        warn(result.advice)


def report(arguments: list[str]) -> None:
    """Draws the figures of one run, or of several runs side by side."""
    options = parse(ReportOptions, "report", arguments)
    if not options.directories:
        raise UsageError("name at least one run directory; see jgps report --help")
    resolved = {as_path("DIR", path).resolve(): path for path in options.directories}
    directories = list(resolved.values())
    for path in directories:
        read_config(path)
    enable_compilation_cache()
    if len(directories) == 1:
        report_one(directories[0], options.opengl)
        return
    if options.opengl:
        raise UsageError("--opengl is for the video of one run; several have none")
    if options.out.exists() and not options.out.is_dir():
        raise UsageError(f"--out {options.out} is a file; name a directory for the comparison")
    from jgps.reports.report import compare

    try:
        written = compare(directories, options.out)
    except ValueError as error:
        raise UsageError(str(error)) from error
    _print_paths(written)


def report_one(path: Path, opengl: bool = False) -> None:
    """Draws the figures and the video of one run, and prints the paths of all files."""
    from jgps.reports.report import write_report

    try:
        written = write_report(path, opengl=opengl)
    except ValueError as error:
        raise UsageError(str(error)) from error
    _print_paths(written)


def _print_paths(paths: Sequence[Path]) -> None:
    for path in paths:
        print(path)


def bench(arguments: list[str]) -> int:
    """Measures speed on this machine."""
    options = parse(BenchOptions, "bench", arguments)
    from jgps.bench import main

    try:
        return main(options.suite, options.out)
    except ValueError as error:
        raise UsageError(str(error)) from error
