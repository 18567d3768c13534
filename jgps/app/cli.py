"""The command line: `jgps list | train | evaluate | report | bench`.

Exit codes: 0 done; 2 a usage mistake, said in one line with the remedy; 1 anything else.
"""

import contextlib
import dataclasses
import functools
import importlib.metadata
import importlib.util
import io
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import jax
import tyro
from rich.console import Console

from jgps import tasks, training
from jgps.algorithms import ALGORITHMS
from jgps.dynamics import ConstantPriorConfig, MixturePriorConfig, NoPriorConfig
from jgps.simulation import num_threads, resolve_backend
from jgps.training import TrainingError, UsageError
from jgps.training.directory import read_config

HELP = """usage: jgps COMMAND ...

  list                 tasks, algorithms, and the backends that work on this machine
  train TASK           trains with live progress, then evaluates, draws and films the result
  evaluate DIR         success on training and on unseen test conditions
  report DIR [DIR ...] learning curves and tables, one run or several side by side
  bench [SUITE]        speed on this machine

  -h, --help           this text; `jgps COMMAND --help` has every option
  --version            the version of jgps
"""
Options = TypeVar("Options")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Rolls a trained policy out on training and unseen test conditions.

    Attributes:
      directory: of the run.
      backend: native, mjx or auto.
      samples: rollouts with exploration noise per condition; without it, one without noise.
      seed: of the noise.
    """

    directory: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    backend: str = "auto"
    samples: int | None = None
    seed: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Draws learning curves and tables, of one run or of several side by side.

    Attributes:
      directories: run directories.
      out: where a comparison of several runs goes.
    """

    directories: Annotated[
        tyro.conf.Positional[tuple[Path, ...]],
        tyro.conf.arg(metavar="DIR", help_behavior_hint="(one or more)"),
    ]
    out: Path = Path("runs/comparison")


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """Measures speed on this machine, compile time apart.

    Attributes:
      suite: physics, fit, lqr, iteration or all.
      out: JSON file for the results.
    """

    suite: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SUITE")] = "all"
    out: Path | None = None


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(HELP, end="")
        return 0 if arguments else 2
    if arguments == ["--version"]:
        print(f"jgps {importlib.metadata.version('jgps')}")
        return 0
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            if arguments[0] not in COMMANDS:
                raise UsageError(
                    f"unknown command {arguments[0]!r}; commands: {', '.join(COMMANDS)}"
                )
            return COMMANDS[arguments[0]](arguments[1:]) or 0
    except UsageError as error:
        return _say(error, 2)
    except (TrainingError, OSError) as error:
        return _say(error, 1)
    except KeyboardInterrupt:
        return _say("interrupted", 1)


def _say(message: object, code: int) -> int:
    print(f"jgps: {' '.join(str(message).split())}", file=sys.stderr)
    return code


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"jgps: warning: {' '.join(str(message).split())}", file=sys.stderr)


def _parse(options: type[Options], command: str, arguments: list[str]) -> Options:
    """Reads arguments; a mistake becomes one sentence instead of tyro's boxes."""
    config = (tyro.conf.AvoidSubcommands, tyro.conf.FlagCreatePairsOff)
    prog = f"jgps {command}"
    if {"-h", "--help"} & set(arguments):
        return tyro.cli(options, args=arguments, prog=prog, config=config)
    output = io.StringIO()
    try:
        with contextlib.redirect_stderr(output), contextlib.redirect_stdout(output):
            return tyro.cli(options, args=arguments, prog=prog, config=config)
    except SystemExit:
        raise UsageError(f"{_sentence(output.getvalue())}; see {prog} --help") from None


def _sentence(box: str) -> str:
    """What tyro's box says below its title and above its hints."""
    paragraphs: list[list[str]] = [[]]
    for line in box.splitlines():
        text = line.strip(" │")
        if text and not text.strip("─-"):
            paragraphs.append([])
        elif not text.startswith(("╭", "╰")):
            paragraphs[-1] += text.split()
    # Without the box drawing characters of a terminal the title is a paragraph of its own.
    return " ".join(paragraphs[0 if "╭" in box else 1]).rstrip(".")


def _enable_compilation_cache() -> None:
    """Keeps compiled programs between runs, unless the user's environment says where or how."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    for name, value in (
        ("jax_compilation_cache_dir", str(base / "jgps")),
        ("jax_persistent_cache_min_compile_time_secs", 0.0),
        ("jax_persistent_cache_min_entry_size_bytes", -1),
    ):
        if name.upper() not in os.environ:
            jax.config.update(name, value)


def _import_backend(name: str) -> None:
    """Imports MJX without what it says about parts that are not installed."""
    if resolve_backend(name) == "mjx":
        with contextlib.redirect_stdout(io.StringIO()):
            importlib.import_module("mujoco.mjx")


def _check_backend(name: str) -> None:
    try:
        _import_backend(name)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _list(arguments: list[str]) -> None:
    if arguments in (["-h"], ["--help"]):
        print("usage: jgps list\n\nLists tasks, algorithms and backends.")
        return
    if arguments:
        raise UsageError(f"jgps list takes no arguments; got {' '.join(arguments)}")
    print("tasks")
    for name in tasks.names():
        print(f"  {name:<16} {tasks.describe(name)}")
    print("algorithms")
    for name, (make, _) in ALGORITHMS.items():
        module = sys.modules[make.__module__].__doc__ or ""
        print(f"  {name:<16} {module.strip().splitlines()[0]}")
    print("backends")
    devices = jax.devices()
    auto = resolve_backend("auto")
    lines = [("native", f"C MuJoCo on {num_threads()} threads")]
    if importlib.util.find_spec("mujoco.mjx") is not None:
        lines.append(("mjx", f"MJX on {len(devices)} x {devices[0].device_kind}"))
    for name, text in lines:
        print(f"  {name:<16} {text}{' (auto)' if name == auto else ''}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _TrainOptions:
    """Trains on a task with live progress, then evaluates, draws and films the result.

    Attributes:
      task: name of the task; `jgps list` shows them.
      algorithm: name of the algorithm.
      iterations: how many in all.
      seed: of everything random.
      backend: native, mjx or auto.
      out: run directory; runs/TASK-ALGORITHM-seedS if not given.
      resume: go on with the run in the directory.
      overwrite: replace the run in the directory.
      prior: of the fitted dynamics: mixture, constant or none.
      config: settings of the algorithm.
    """

    task: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TASK")]
    algorithm: str = "trajopt"
    iterations: int = 12
    seed: int = 0
    backend: str = "auto"
    out: Path | None = None
    resume: bool = False
    overwrite: bool = False
    prior: str = "mixture"


PRIORS = {"mixture": MixturePriorConfig, "constant": ConstantPriorConfig, "none": NoPriorConfig}


def _train_options(config_type: type, prior: str) -> type:
    """The options of `jgps train` for an algorithm with settings of this type."""
    default = functools.partial(config_type, prior=PRIORS[prior]())
    config = ("config", config_type, dataclasses.field(default_factory=default))
    options = dataclasses.make_dataclass(
        "TrainOptions", [config], bases=(_TrainOptions,), frozen=True, kw_only=True
    )
    options.__doc__ = _TrainOptions.__doc__
    return options


def _choice(option: str, default: str, choices: Iterable[str], arguments: list[str]) -> str:
    """An option that decides which settings there are, and so is read before the rest."""
    value = default
    for index, argument in enumerate(arguments):
        if argument == f"--{option}" and index + 1 < len(arguments):
            value = arguments[index + 1]
        elif argument.startswith(f"--{option}="):
            value = argument.partition("=")[2]
    if value not in choices:
        raise UsageError(f"unknown {option} {value!r}; {option}s: {', '.join(choices)}")
    return value


def _train(arguments: list[str]) -> None:
    algorithm = _choice("algorithm", "trajopt", ALGORITHMS, arguments)
    prior = _choice("prior", "mixture", PRIORS, arguments)
    options: Any = _parse(_train_options(ALGORITHMS[algorithm][1], prior), "train", arguments)
    if options.task not in tasks.names():
        raise UsageError(f"unknown task {options.task!r}; tasks: {', '.join(tasks.names())}")
    _check_backend(options.backend)
    _enable_compilation_cache()
    from jgps.app.progress import Progress, evaluation_table

    out = options.out or Path("runs") / f"{options.task}-{algorithm}-seed{options.seed}"
    console = Console()
    progress = Progress(console, options.iterations)

    started = []

    def announce(done: int) -> None:
        started.append(done)
        again = f", going on with iteration {done}" if done else ""
        where = _where(options.backend)
        print(f"{options.task}, {algorithm}, seed {options.seed}, {where} -> {out}{again}")

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
        f"{summary['seconds_per_iteration']:.3f} s per iteration"
    )
    began = time.perf_counter()
    _report_one(out)
    seconds = time.perf_counter() - began
    print(f"{summary['wall_seconds'] + seconds:.1f} s in all, {seconds:.1f} s of it for the report")


def _where(backend: str) -> str:
    name = resolve_backend(backend)
    device = f"{num_threads()} threads" if name == "native" else jax.devices()[0].device_kind
    return f"{name} on {device}"


def _evaluate(arguments: list[str]) -> None:
    options = _parse(EvaluateOptions, "evaluate", arguments)
    _check_backend(options.backend)
    _enable_compilation_cache()
    from jgps.app.progress import evaluation_table

    if options.samples is not None and options.samples < 1:
        raise UsageError(
            f"--samples is {options.samples}; it has to be at least 1; leave the option out for "
            "one rollout without noise"
        )
    run = training.load(options.directory)
    try:
        result = training.evaluate(
            run.task,
            run.state.policy,
            key=jax.random.key(options.seed),
            backend=options.backend,
            num_samples=options.samples,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    table = evaluation_table(result)
    noise = "without exploration noise"
    if options.samples is not None:
        noise = f"mean of {options.samples} rollouts with exploration noise"
    table.title = f"{options.directory}, {run.iterations} iterations, {noise}"
    Console().print(table)


def _report(arguments: list[str]) -> None:
    options = _parse(ReportOptions, "report", arguments)
    if not options.directories:
        raise UsageError("name at least one run directory; see jgps report --help")
    for path in options.directories:
        read_config(path)
    _enable_compilation_cache()
    if len(options.directories) == 1:
        _report_one(options.directories[0])
        return
    from jgps.app import report

    try:
        written = report.compare(list(options.directories), options.out)
    except ValueError as error:
        raise UsageError(str(error)) from error
    _print_paths(written)


def _report_one(path: Path) -> None:
    from jgps.app import report

    try:
        written = report.write_report(path)
    except ValueError as error:
        raise UsageError(str(error)) from error
    _print_paths(written)


def _print_paths(paths: Sequence[Path]) -> None:
    for path in paths:
        print(path)


def _bench(arguments: list[str]) -> int:
    options = _parse(BenchOptions, "bench", arguments)
    from jgps.app import bench

    try:
        return bench.main(options.suite, options.out)
    except ValueError as error:
        raise UsageError(str(error)) from error


COMMANDS: dict[str, Callable[[list[str]], int | None]] = {
    "list": _list,
    "train": _train,
    "evaluate": _evaluate,
    "report": _report,
    "bench": _bench,
}

if __name__ == "__main__":
    sys.exit(main())
