"""The outer loop: initialise, step, record, save, judge."""

import contextlib
import functools
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jgps import tasks
from jgps.algorithms import ALGORITHMS, Algorithm
from jgps.core.types import OK
from jgps.simulation import resolve_backend
from jgps.tasks import Task
from jgps.training import checkpoint, directory
from jgps.training.errors import TrainingError, UsageError
from jgps.training.evaluate import EvaluationResult, make_evaluator
from jgps.training.failure import describe_policy, explain_failure
from jgps.training.metrics import CompileClock, MetricsLog, Record, plain, read_metrics
from jgps.training.results import save_trajectories, summarise, trajectories


class TrainingResult(NamedTuple):
    """What `train` returns."""

    state: Any  # of the algorithm, after the last iteration
    metrics: list[Record]  # one per iteration, also of sessions before a resume
    evaluation: EvaluationResult  # of `state.policy`, without exploration noise
    summary: dict[str, Any]  # what `summary.json` holds
    directory: Path | None


class _Setup(NamedTuple):
    task: Task
    algorithm: Algorithm
    config: Any  # of the algorithm
    stop_on_divergence: bool  # of the network's training
    evaluate_every: int
    description: dict[str, Any]
    seed: int
    iterations: int
    out: Path | None

    @property
    def backend(self) -> str:
        return self.description["backend"]


def train(
    task: Task | str,
    algorithm: str = "mdgps",
    *,
    config: Any = None,
    iterations: int = 12,
    seed: int = 0,
    backend: str = "auto",
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    evaluate_every: int = 1,
    on_start: Callable[[int], None] | None = None,
    on_iteration: Callable[[Record], None] | None = None,
) -> TrainingResult:
    """Trains a policy, then evaluates it without exploration noise.

    Args:
      task: a task or the name of one.
      algorithm: name of an algorithm.
      config: the algorithm's settings; None takes its defaults.
      iterations: how many in all, those before a resume included.
      seed: of everything random; the same seed gives the same metrics.
      backend: "native", "mjx" or "auto".
      out: run directory for metrics, checkpoints and results; None writes nothing.
      resume: goes on from the newest whole checkpoint in `out`, exactly as if never interrupted.
        Everything but `iterations` and `evaluate_every` has to be as before; the task's functions
        are compared as JAX traces them, unless JAX has another version.
      overwrite: replaces the run in `out`.
      evaluate_every: after how many iterations the newest policy is tried without noise on the
        training and the test conditions, for the metrics (`EvaluationResult.metrics`); 0 tries
        none but the result. Nothing is learned from these rollouts, and `rollouts_total` of the
        summary leaves them out.
      on_start: called before the first iteration, with the number of those done earlier.
      on_iteration: called with the metrics of every iteration.

    Raises:
      UsageError: (a ValueError) if the arguments don't fit together or `out` cannot be used.
      TrainingError: if the simulation diverges in all conditions, none took a step in several
        iterations, or the network's training diverges and the config says to stop then; the last
        good state is saved.
      KeyboardInterrupt: on Ctrl-C, after saving.
    """
    began = time.perf_counter()
    try:
        setup = _set_up(task, algorithm, config, iterations, seed, backend, out, evaluate_every)
        if out is None and (resume or overwrite):
            raise UsageError("resume and overwrite need a run directory; pass out")
        if setup.out is not None:
            done = min(
                max(checkpoint.iterations(setup.out), default=0), len(read_metrics(setup.out))
            )
            if resume and done > iterations:
                raise UsageError(
                    f"{setup.out} already has {done} iterations; ask for at least as many"
                )
            directory.prepare(setup.out, setup.description, resume=resume, overwrite=overwrite)
        template = jax.eval_shape(setup.algorithm.init, jax.random.key(seed))
        evaluate = _make_evaluate(setup, template)
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(str(error)) from error
    with CompileClock() as clock:
        state, records = _start(setup, template, resume)
        compile_seconds = clock.take()  # of what comes before the first iteration
        seconds_before = records[-1]["wall_seconds"] if records else 0.0
        began -= seconds_before
        if on_start is not None:
            on_start(len(records))
        state = _loop(setup, state, records, began, clock, evaluate, on_iteration)
        return _finish(setup, state, records, began, compile_seconds, evaluate)


def _set_up(
    task: Task | str,
    algorithm: str,
    config: Any,
    iterations: int,
    seed: int,
    backend: str,
    out: str | Path | None,
    evaluate_every: int,
) -> _Setup:
    task = tasks.make(task) if isinstance(task, str) else task
    if algorithm not in ALGORITHMS:
        raise UsageError(f"unknown algorithm {algorithm!r}; algorithms: {', '.join(ALGORITHMS)}")
    iterations = _integer("iterations", iterations, 1)
    seed = _integer("seed", seed, 0, 2**32 - 1)
    make, config_type = ALGORITHMS[algorithm]
    config = config_type() if config is None else config
    if not isinstance(config, config_type):
        raise UsageError(
            f"config is a {type(config).__name__}; {algorithm} takes a {config_type.__name__}"
        )
    # Until its teacher has learned, dataset aggregation has no network to show.
    taught = getattr(config, "teacher_iterations", 0)
    if iterations <= taught:
        raise UsageError(
            f"iterations is {iterations}, of which {algorithm} gives its teacher {taught}, so that "
            f"no network would be trained; ask for at least {taught + 1}, or lower "
            "config.teacher_iterations"
        )
    name = resolve_backend(backend)
    made = make(task, config, name)
    if iterations <= made.first_training:
        raise UsageError(
            f"iterations is {iterations}, in the first {made.first_training} of which controllers "
            f"improve alone, so that no network would be trained; ask for at least "
            f"{made.first_training + 1}, or lower config.vision.trajectory_iterations"
        )
    return _Setup(
        task=task,
        algorithm=made,
        config=config,
        stop_on_divergence=any(each.on_divergence == "stop" for each in _trainings(config)),
        evaluate_every=_integer("evaluate_every", evaluate_every, 0),
        description=directory.describe(task, algorithm, config, iterations, seed, name),
        seed=seed,
        iterations=iterations,
        out=None if out is None else Path(out),
    )


def _trainings(config: Any) -> tuple[Any, ...]:
    """How the network is trained; empty where there is none."""
    own = (config.distil,) if hasattr(config, "distil") else ()
    return getattr(config, "trainings", own)


def _integer(name: str, value: Any, low: int, high: int | None = None) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise UsageError(f"{name} is {value!r}; it has to be an integer")
    if value < low or (high is not None and value > high):
        limits = f"at least {low}" if high is None else f"from {low} to {high}"
        raise UsageError(f"{name} is {value}; it has to be {limits}")
    return int(value)


def _make_evaluate(setup: _Setup, template: Any) -> Callable[[Any], EvaluationResult]:
    """Tries a policy without noise; the first one compiles for all of the run."""
    evaluator = make_evaluator(setup.task, template.policy.act, setup.backend)
    params_for = jax.jit(lambda policy, x0: policy.params_for(x0))
    key = jax.random.fold_in(jax.random.key(setup.seed), 1)
    return lambda policy: evaluator(functools.partial(params_for, policy), key)


def _start(setup: _Setup, template: Any, resume: bool) -> tuple[Any, list[Record]]:
    """The state to begin with, and the records of the iterations before it."""
    if setup.out is None or not resume:
        return _init(setup), []
    records = read_metrics(setup.out)
    restored = checkpoint.restore_newest(setup.out, template, at_most=len(records))
    # What is newer is no part of the run from here on; a broken one would outlive what follows.
    discarded = checkpoint.discard_after(setup.out, -1 if restored is None else restored[0])
    if restored is None:
        if records or discarded:
            warnings.warn(
                f"{setup.out} has no whole checkpoint that its {len(records)} whole lines of "
                "metrics lead to; the run starts from its beginning",
                stacklevel=3,
            )
        return _init(setup), []
    if discarded and discarded[-1] > len(records):
        warnings.warn(
            f"{setup.out / 'metrics.jsonl'} has {len(records)} whole lines; the checkpoint after "
            f"{discarded[-1]} iterations is discarded",
            stacklevel=3,
        )
    return restored[1], records[: restored[0]]


def _init(setup: _Setup) -> Any:
    """The state of a new run.

    Raises:
      TrainingError: where convolutions were to learn where objects are, and that diverged.
    """
    state = setup.algorithm.init(jax.random.key(setup.seed))
    pretraining = getattr(state, "pretraining", None)
    if pretraining is None:
        return state
    if int(pretraining.status) != OK:
        raise TrainingError(
            "the convolutions did not learn where objects are, their training diverged; lower "
            "config.vision.pretraining.learning_rate"
        )
    if not pretraining.error < pretraining.error_constant:
        warnings.warn(
            f"the convolutions tell where objects are with an error of {pretraining.error:.2g} m, "
            f"no better than a guess ({pretraining.error_constant:.2g} m); raise "
            "config.vision.pretraining.steps or pretraining_images",
            stacklevel=4,
        )
    return state


def _loop(
    setup: _Setup,
    state: Any,
    records: list[Record],
    began: float,
    clock: CompileClock,
    evaluate: Callable[[Any], EvaluationResult],
    on_iteration: Callable[[Record], None] | None,
) -> Any:
    """Iterates until there are enough records; appends to them and returns the state."""
    latest = len(records), state  # in one assignment: Ctrl-C may come between any two
    saved = len(records) if records else -1
    log = None if setup.out is None else MetricsLog(setup.out, records)

    def save() -> None:
        nonlocal saved
        if setup.out is not None and saved != latest[0]:
            with _interrupts_held():
                checkpoint.save(setup.out, *latest)
                saved = latest[0]

    try:
        while len(records) < setup.iterations:
            started = time.perf_counter()
            new_state, metrics = jax.block_until_ready(setup.algorithm.step(latest[1]))
            now = time.perf_counter()
            record = {
                "iteration": len(records),
                **plain(jax.device_get(metrics)),
                "iteration_seconds": now - started,
                "compile_seconds": clock.take(),
            }
            reason = explain_failure([*records, record], setup.config, setup.stop_on_divergence)
            if reason is not None:
                raise TrainingError(f"iteration {len(records)}: {reason}")
            trained = len(records) >= setup.algorithm.first_training
            if trained and setup.evaluate_every and (len(records) + 1) % setup.evaluate_every == 0:
                record |= _try_out(evaluate, new_state)
                clock.take()  # the summary's seconds to compile are those of training
            record["wall_seconds"] = time.perf_counter() - began
            with _interrupts_held():
                if log is not None:
                    log.append(record)  # before the checkpoint, which is of no use without it
                records.append(record)
                latest = len(records), new_state
                save()
            if on_iteration is not None:
                on_iteration(record)
            elif describe_policy(record) and not any(map(describe_policy, records[:-1])):
                warnings.warn(
                    f"iteration {len(records) - 1}: {describe_policy(record)}", stacklevel=3
                )
    except (KeyboardInterrupt, TrainingError):
        save()
        raise
    finally:
        if log is not None:
            log.close()
    return latest[1]


def _try_out(evaluate: Callable[[Any], EvaluationResult], state: Any) -> Record:
    """How the newest policy does, and how long it took to find out."""
    started = time.perf_counter()
    # `policy` is the best one so far; how the network itself gets on is `learner`.
    evaluation = evaluate(getattr(state, "learner", state.policy))
    return {
        **plain(evaluation.metrics()),
        "evaluation_seconds": time.perf_counter() - started,
    }


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C waits until the block is done: orbax writes from threads that it would cut off."""
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    caught = []
    signal.signal(signal.SIGINT, lambda *arguments: caught.append(arguments))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if caught:
        handler(*caught[0])


def _finish(
    setup: _Setup,
    state: Any,
    records: list[Record],
    began: float,
    compile_seconds: float,
    evaluate: Callable[[Any], EvaluationResult],
) -> TrainingResult:
    """Evaluates the final policy and writes the results."""
    started = time.perf_counter()
    evaluation = evaluate(state.policy)
    evaluation_seconds = time.perf_counter() - started
    if setup.out is not None:
        inspection = setup.algorithm.inspect(state)
        arrays = trajectories(evaluation, inspection)
        save_trajectories(setup.out / "trajectories.npz", arrays)
    summary = summarise(
        setup.description,
        records,
        evaluation,
        rollouts_per_step=setup.algorithm.rollouts_per_step,
        compile_seconds=compile_seconds,
        evaluation_seconds=evaluation_seconds,
        wall_seconds=time.perf_counter() - began,
    )
    if setup.out is not None:
        directory.write_json(setup.out / "summary.json", summary)
    return TrainingResult(state, records, evaluation, summary, setup.out)
