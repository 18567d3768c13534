"""The outer loop: initialise, step, record, save, evaluate."""

import contextlib
import functools
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jgps.tasks import Task
from jgps.training import checkpoint as checkpoints
from jgps.training import directory, metrics_file
from jgps.training.checkpoint import CheckpointConfig, Checkpoints
from jgps.training.description import describe_changes
from jgps.training.errors import TrainingError, UsageError, WriteError
from jgps.training.evaluate import EvaluationResult, make_evaluator, params_for
from jgps.training.failure import describe_policy, explain_failure
from jgps.training.files import write_json
from jgps.training.interrupts import Interrupts
from jgps.training.metrics import CompileClock, Record, plain
from jgps.training.metrics_file import MetricsLog, pad, read_metrics
from jgps.training.results import save_trajectories, summarise, trajectories
from jgps.training.setup import Options, Setup, set_up


class TrainingResult(NamedTuple):
    """What `train` returns."""

    state: Any  # of the algorithm, after the last iteration
    metrics: list[Record]  # one per iteration, also of sessions before a resume
    evaluation: EvaluationResult  # of `state.policy`, without exploration noise
    summary: dict[str, Any]  # what `summary.json` holds
    directory: Path | None


def train(
    task: Task | str,
    algorithm: str = "mdgps",
    *,
    policy: str | None = None,
    prior: str | None = None,
    random_starts: bool = False,
    iterations: int | None = None,
    config: Any = None,
    seed: int = 0,
    backend: str = "auto",
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    evaluate_every: int = 1,
    checkpoint: CheckpointConfig | None = None,
    on_start: Callable[[int], None] | None = None,
    on_iteration: Callable[[Record], None] | None = None,
) -> TrainingResult:
    """Trains a policy, then evaluates it without exploration noise.

    Args:
      task: a task or the name of one.
      algorithm: name of an algorithm.
      policy, prior, random_starts: choose the settings and the number of iterations, see
        `jgps.recipes.recipe`; not together with `config`.
      iterations: how many in all, those before a resume included; None takes as many as go with the
        settings.
      config: the algorithm's settings, in place of those that the three above choose.
      seed: of everything random; the same seed gives the same metrics.
      backend: "native", "mjx" or "auto".
      out: run directory for metrics, checkpoints and results; None writes nothing.
      resume: goes on from the newest whole checkpoint in `out`, exactly as if never interrupted
        (on another number of processor cores results differ in their last digits, which is said).
        Everything but `iterations`, `evaluate_every` and `checkpoint` has to be as before; the
        task's functions are compared as JAX traces them, unless JAX has another version.
      overwrite: replaces the run in `out`.
      evaluate_every: after how many iterations the newest policy is evaluated without noise on the
        training and the test conditions, for the metrics (`EvaluationResult.metrics`); 0 evaluates
        only the result. Nothing is learned from these rollouts, and `rollouts_total` of the
        summary leaves them out.
      checkpoint: when the state is saved; None is as often as `CheckpointConfig()` says.
      on_start: called before the first iteration, with the number of those done earlier.
      on_iteration: called with the metrics of every iteration.

    Raises:
      UsageError: (a ValueError) if the arguments don't fit together, or `out` cannot be used, for
        instance because another process trains in it.
      TrainingError: if the simulation diverges in all conditions, none took a step in several
        iterations, or the network's training diverges and the config says to stop then; the last
        good state is saved. Also if the disk is full; what was saved before is whole.
      KeyboardInterrupt: on Ctrl-C, after saving.
      SystemExit: on SIGTERM, after saving, with code 143; where the process handles it otherwise,
        that is left as it is.
    """
    began = time.perf_counter()
    options = Options(
        task=task,
        algorithm=algorithm,
        policy=policy,
        prior=prior,
        random_starts=random_starts,
        iterations=iterations,
        config=config,
        seed=seed,
        backend=backend,
        out=out,
        resume=resume,
        overwrite=overwrite,
        evaluate_every=evaluate_every,
        checkpoint=checkpoint,
    )
    with _one_kind_of_error():
        setup = set_up(options)
    with contextlib.ExitStack() as stack:
        if setup.out is not None:
            stack.enter_context(directory.claim(setup.out, resume=setup.resume))
        interrupts = stack.enter_context(Interrupts())
        template, evaluate = _prepare(setup)
        clock = stack.enter_context(CompileClock())
        state, records = _start(setup, template)
        compile_seconds = clock.take()  # of what comes before the first iteration
        began -= max((record.get("wall_seconds", 0.0) for record in records), default=0.0)
        if on_start is not None:
            on_start(len(records))
        advance = functools.partial(_advance, setup, began, clock, evaluate)
        state = _loop(setup, state, records, advance, on_iteration, interrupts)
        return _finish(setup, state, records, began, compile_seconds, evaluate)


def _prepare(setup: Setup) -> tuple[Any, Callable[[Any], EvaluationResult]]:
    """The structure of the state, and an evaluator; begins the run in its directory.

    Raises:
      UsageError: if the directory cannot be used, or the task's functions cannot.
    """
    out, overwrite = setup.out, setup.overwrite
    with _one_kind_of_error():
        if out is not None:
            directory.check(out, setup.description, resume=setup.resume, overwrite=overwrite)
        template = jax.eval_shape(setup.algorithm.init, jax.random.key(setup.seed))
        evaluate = _make_evaluate(setup, template)
        if out is not None and setup.resume:
            _check_resume(setup, out)
        if out is not None:  # the last of all: nothing is lost to a mistake
            directory.begin(out, setup.description, overwrite=overwrite)
    return template, evaluate


@contextlib.contextmanager
def _one_kind_of_error() -> Iterator[None]:
    """Whatever is wrong with the arguments is a UsageError."""
    try:
        yield
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(str(error)) from error


def _check_resume(setup: Setup, out: Path) -> None:
    """Refuses a run that is longer than asked for, and warns of a machine that is another."""
    done = max(checkpoints.iterations(out), default=0)
    if done > setup.iterations and checkpoints.problem(out, done) is None:
        raise UsageError(f"{out} already has {done} iterations; ask for at least as many")
    changes = describe_changes(directory.read_config(out))
    if changes and done:
        warnings.warn(f"{out}: {changes}", stacklevel=5)


def _make_evaluate(setup: Setup, template: Any) -> Callable[[Any], EvaluationResult]:
    """Makes what evaluates a policy without noise; the first call compiles for all of the run."""
    evaluator = make_evaluator(setup.task, template.policy.act, setup.backend)
    key = jax.random.key(setup.seed)  # nothing is drawn from it
    return lambda policy: evaluator(functools.partial(params_for, policy), key)


def _start(setup: Setup, template: Any) -> tuple[Any, list[Record]]:
    """The state to begin with, and the records of the iterations before it."""
    if setup.out is None or not setup.resume:
        return _init(setup), []
    restored = checkpoints.restore_newest(setup.out, template)
    records, problem = read_metrics(setup.out)
    if problem:
        warnings.warn(problem, stacklevel=3)
    # What is newer is no part of the run from here on; a broken one would outlive what follows.
    discarded = checkpoints.discard_after(setup.out, -1 if restored is None else restored[0])
    if restored is not None:
        done = restored[0]
        if done > len(records):
            warnings.warn(
                f"{setup.out / metrics_file.NAME} has {len(records)} whole lines and the newest "
                f"checkpoint {done} iterations; the run goes on from there, and the metrics of "
                "those between are lost",
                stacklevel=3,
            )
        return restored[1], pad(records, done)
    if discarded:
        aside = f"; its metrics are kept in {directory.set_metrics_aside(setup.out)}"
        warnings.warn(
            f"{setup.out} has no whole checkpoint; the run starts from its beginning"
            f"{aside if records else ''}",
            stacklevel=3,
        )
    elif records:  # it ended before its first checkpoint
        warnings.warn(
            f"{setup.out} has no checkpoint yet; the run starts from its beginning", stacklevel=3
        )
    return _init(setup), []


def _init(setup: Setup) -> Any:
    """The state of a new run.

    Raises:
      TrainingError: the algorithm has a fatal problem with its first state.
    """
    state = setup.algorithm.init(jax.random.key(setup.seed))
    problem = setup.algorithm.problem(state)
    if problem is not None:
        if problem.fatal:
            raise TrainingError(problem.text)
        warnings.warn(problem.text, stacklevel=4)
    return state


def _loop(
    setup: Setup,
    state: Any,
    records: list[Record],
    advance: Callable[[Any, list[Record]], tuple[Any, Record]],
    on_iteration: Callable[[Record], None] | None,
    interrupts: Interrupts,
) -> Any:
    """Iterates until there are enough records; appends to them and returns the state."""
    latest = len(records), state  # in one assignment: Ctrl-C may come between any two
    log = None if setup.out is None else MetricsLog(setup.out, records)
    saving = Checkpoints(setup.out, setup.checkpoint, len(records))
    try:
        while len(records) < setup.iterations:
            interrupts.check()
            new_state, record = advance(latest[1], records)
            with interrupts.held():
                if log is not None:
                    log.append(record)  # before the checkpoint, which is of no use without it
                records.append(record)
                latest = len(records), new_state
                if len(records) == setup.iterations or saving.due(len(records)):
                    if log is not None:
                        log.sync()
                    saving.save(*latest)
            if on_iteration is not None:
                on_iteration(record)
            elif describe_policy(record) and not any(map(describe_policy, records[:-1])):
                warnings.warn(
                    f"iteration {len(records) - 1}: {describe_policy(record)}", stacklevel=3
                )
    except WriteError:  # what is saved has to do
        raise
    except BaseException:  # Ctrl-C, a TrainingError, or a mistake in what the user passed
        with interrupts.held():
            saving.save(*latest)
        raise
    finally:
        if log is not None:
            log.close()
    return latest[1]


def _advance(
    setup: Setup,
    began: float,
    clock: CompileClock,
    evaluate: Callable[[Any], EvaluationResult],
    state: Any,
    records: list[Record],
) -> tuple[Any, Record]:
    """The state after one more iteration than there are records of, and the record of it.

    Raises:
      TrainingError: if training cannot go on.
    """
    started = time.perf_counter()
    state, metrics = jax.block_until_ready(setup.algorithm.step(state))
    now = time.perf_counter()
    done = len(records)
    record = {
        "iteration": done,
        **plain(jax.device_get(metrics)),
        "iteration_seconds": now - started,
        "compile_seconds": clock.take(),
    }
    reason = explain_failure([*records, record], setup.config, setup.stop_on_divergence)
    if reason is not None:
        raise TrainingError(f"iteration {done}: {reason}")
    trained = done >= setup.algorithm.first_training
    if trained and setup.evaluate_every and (done + 1) % setup.evaluate_every == 0:
        record |= _evaluation_record(evaluate, setup.algorithm.newest(state))
        clock.take()  # the summary's seconds to compile are those of training
    record["wall_seconds"] = time.perf_counter() - began
    return state, record


def _evaluation_record(evaluate: Callable[[Any], EvaluationResult], policy: Any) -> Record:
    """How well a policy does, and how many seconds it took to find out."""
    started = time.perf_counter()
    evaluation = evaluate(policy)
    return {
        **plain(evaluation.metrics()),
        "evaluation_seconds": time.perf_counter() - started,
    }


def _finish(
    setup: Setup,
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
        write_json(setup.out / "summary.json", summary)
    return TrainingResult(state, records, evaluation, summary, setup.out)
