"""The outer loop: initialise, step, record, save, evaluate."""

import contextlib
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jgps.core.names import explain_unknown
from jgps.core.warn import warn
from jgps.tasks import Task
from jgps.training import directory
from jgps.training.begin import first_state, one_kind_of_error, prepare
from jgps.training.checkpoint import CheckpointConfig, Checkpoints
from jgps.training.errors import TrainingError, WriteError
from jgps.training.evaluate import EvaluationResult
from jgps.training.failure import describe_policy, explain_failure
from jgps.training.files import write_json
from jgps.training.interrupts import Interrupts
from jgps.training.metrics import CompileClock, Record, plain
from jgps.training.metrics_file import MetricsLog
from jgps.training.results import save_samples, save_trajectories, summarise, trajectories
from jgps.training.setup import Options, Setup, StartFrom, set_up


class TrainingResult(NamedTuple):
    """What `train` returns."""

    state: Any  # of the algorithm, after the last iteration
    metrics: list[Record]  # one per iteration, also of sessions before a resume
    evaluation: EvaluationResult  # of `state.policy`, without exploration noise
    summary: dict[str, Any]  # what `summary.json` holds
    directory: Path | None


@explain_unknown
def train(
    task: Task | str,
    algorithm: str = "mdgps",
    *,
    policy: str | None = None,
    prior: str | None = None,
    random_starts: bool = False,
    sampling: str | None = None,
    iterations: int | None = None,
    config: Any = None,
    seed: int = 0,
    backend: str = "auto",
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    evaluate_every: int = 1,
    checkpoint: CheckpointConfig | None = None,
    start_from: str | Path | StartFrom | None = None,
    keep_samples: bool = False,
    on_start: Callable[[int], None] | None = None,
    on_iteration: Callable[[Record], None] | None = None,
) -> TrainingResult:
    """Trains a policy, then evaluates it without exploration noise.

    Args:
      task: a task or the name of one.
      algorithm: name of an algorithm.
      policy, prior, random_starts, sampling: choose the settings and the number of iterations, see
        `jgps.recipes.recipe`; not together with `config`.
      iterations: how many in all, those before a resume included; None takes as many as go with the
        settings.
      config: the algorithm's settings, in place of those that the four above choose.
      seed: of everything random; the same seed gives the same metrics.
      backend: "native", "mjx", "analytic" or "auto".
      out: run directory for metrics, checkpoints and results; None writes nothing.
      resume: goes on from the newest whole checkpoint in `out`, exactly as if never interrupted
        (on another number of processor cores results differ by rounding, which grows: it is said).
        Everything but `iterations`, `evaluate_every` and `checkpoint` has to be as before; the
        task's functions are compared as JAX traces them, unless JAX has another version.
      overwrite: replaces the run in `out`.
      evaluate_every: after how many iterations the newest policy is evaluated without noise on the
        training and the test conditions, for the metrics (`EvaluationResult.metrics`); 0 evaluates
        only the result. Nothing is learned from these rollouts, and `rollouts_total` of the
        summary leaves them out.
      checkpoint: when the state is saved; None is as often as `CheckpointConfig()` says.
      start_from: a run directory, or `StartFrom(directory, iteration)`: the run begins with the
        state of that run, its random key included (so that the seed decides nothing), and may
        have other settings and another task as long as the state's arrays are of the same shapes.
        With the same settings and task it goes on exactly as that run did; on another task the
        best policy is looked for anew.
      keep_samples: whether every iteration's rollouts with noise are written, as
        `samples/000000.npz` with x, u, qpos [C, N, T, .] and valid [C, N]; they are drawn once
        more for that.
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
        sampling=sampling,
        iterations=iterations,
        config=config,
        seed=seed,
        backend=backend,
        out=out,
        resume=resume,
        overwrite=overwrite,
        evaluate_every=evaluate_every,
        checkpoint=checkpoint,
        start_from=start_from,
        keep_samples=keep_samples,
        on_start=on_start,
        on_iteration=on_iteration,
    )
    with one_kind_of_error():
        setup = set_up(options)
    with contextlib.ExitStack() as stack:
        if setup.out is not None:
            stack.enter_context(directory.claim(setup.out, resume=setup.resume))
        interrupts = stack.enter_context(Interrupts())
        setup, prepared = prepare(setup)
        evaluate = prepared.evaluate
        clock = stack.enter_context(CompileClock())
        state, records = first_state(setup, prepared)
        compile_seconds = clock.take()  # of what comes before the first iteration
        began -= max((record.get("wall_seconds", 0.0) for record in records), default=0.0)
        if on_start is not None:
            on_start(len(records))
        advance = functools.partial(_advance, setup, began, clock, evaluate)
        state = _loop(setup, state, records, advance, on_iteration, interrupts)
        return _finish(setup, state, records, began, compile_seconds, evaluate)


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
            if setup.keep_samples and setup.out is not None:
                _keep_samples(setup, setup.out, interrupts, saving, latest)
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
                warn(f"iteration {len(records) - 1}: {describe_policy(record)}")
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


def _keep_samples(
    setup: Setup, out: Path, interrupts: Interrupts, saving: Checkpoints, latest: tuple[int, Any]
) -> None:
    """Writes the rollouts of the next iteration; saves the state first where they do not fit.

    Raises:
      WriteError: they cannot be written.
    """
    try:
        save_samples(out, latest[0], setup.algorithm.samples(latest[1]))
    except WriteError:
        with contextlib.suppress(WriteError), interrupts.held():
            saving.save(*latest)
        raise


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
    if evaluation.advice:
        warn(evaluation.advice)
    return TrainingResult(state, records, evaluation, summary, setup.out)
