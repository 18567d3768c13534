"""The outer loop: initialise, step, record, save, evaluate."""

import contextlib
import functools
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jgps.core.names import explain_unknown
from jgps.tasks import Task
from jgps.training import checkpoint as checkpoints
from jgps.training import directory, metrics_file
from jgps.training.checkpoint import CheckpointConfig, Checkpoints
from jgps.training.description import Description, describe_changes
from jgps.training.errors import TrainingError, UsageError, WriteError
from jgps.training.evaluate import EvaluationResult, make_evaluator, params_for
from jgps.training.failure import describe_policy, explain_failure
from jgps.training.files import write_json
from jgps.training.interrupts import Interrupts
from jgps.training.metrics import CompileClock, Record, plain
from jgps.training.metrics_file import MetricsLog, pad, read_metrics
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
      policy, prior, random_starts: choose the settings and the number of iterations, see
        `jgps.recipes.recipe`; not together with `config`.
      iterations: how many in all, those before a resume included; None takes as many as go with the
        settings.
      config: the algorithm's settings, in place of those that the three above choose.
      seed: of everything random; the same seed gives the same metrics.
      backend: "native", "mjx" or "auto".
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
    )
    with _one_kind_of_error():
        setup = set_up(options)
    with contextlib.ExitStack() as stack:
        if setup.out is not None:
            stack.enter_context(directory.claim(setup.out, resume=setup.resume))
        interrupts = stack.enter_context(Interrupts())
        setup, prepared = _prepare(setup)
        evaluate = prepared.evaluate
        clock = stack.enter_context(CompileClock())
        state, records = _start(setup, prepared)
        compile_seconds = clock.take()  # of what comes before the first iteration
        began -= max((record.get("wall_seconds", 0.0) for record in records), default=0.0)
        if on_start is not None:
            on_start(len(records))
        advance = functools.partial(_advance, setup, began, clock, evaluate)
        state = _loop(setup, state, records, advance, on_iteration, interrupts)
        return _finish(setup, state, records, began, compile_seconds, evaluate)


class _Prepared(NamedTuple):
    """What is known before a run begins."""

    template: Any  # the structure of the algorithm's state
    evaluate: Callable[[Any], EvaluationResult]
    start: Any | None  # another run's state to begin with


def _prepare(setup: Setup) -> tuple[Setup, _Prepared]:
    """What a run needs before its first iteration; begins it in its directory.

    Raises:
      UsageError: if the directory, the task's functions or another run's state cannot be used.
    """
    out, overwrite = setup.out, setup.overwrite
    with _one_kind_of_error():
        if out is not None:
            directory.check(out, setup.description, resume=setup.resume, overwrite=overwrite)
        template = jax.eval_shape(setup.algorithm.init, jax.random.key(setup.seed))
        evaluate = _make_evaluate(setup, template)
        setup, start = _other_runs_state(setup, template)
        if out is not None and setup.resume:
            _check_resume(setup, out)
        if out is not None:  # the last of all: nothing is lost to a mistake
            directory.begin(out, setup.description, overwrite=overwrite)
    return setup, _Prepared(template, evaluate, start)


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
    changes = describe_changes(directory.read_config(out, Description))
    if changes and done:
        warnings.warn(f"{out}: {changes}", stacklevel=5)


def _make_evaluate(setup: Setup, template: Any) -> Callable[[Any], EvaluationResult]:
    """Makes what evaluates a policy without noise; the first call compiles for all of the run."""
    evaluator = make_evaluator(setup.task, template.policy.act, setup.backend)
    key = jax.random.key(setup.seed)  # nothing is drawn from it
    return lambda policy: evaluator(functools.partial(params_for, policy), key)


def _start(setup: Setup, prepared: _Prepared) -> tuple[Any, list[Record]]:
    """The state to begin with, and the records of the iterations before it."""
    if setup.out is None or not setup.resume:
        return _init(setup, prepared.start), []
    restored = checkpoints.restore_newest(setup.out, prepared.template)
    records, problem = read_metrics(setup.out)
    if problem:
        warnings.warn(problem, stacklevel=3)
    if restored is not None:
        done = restored[0]
        # What is newer is no part of the run from here on; a broken one would outlive what follows.
        checkpoints.discard_after(setup.out, done)
        if done > len(records):
            warnings.warn(
                f"{setup.out / metrics_file.NAME} has {len(records)} whole lines and the newest "
                f"checkpoint {done} iterations; the run goes on from there, and the metrics of "
                "those between are lost",
                stacklevel=3,
            )
        return restored[1], pad(records, done)
    if checkpoints.iterations(setup.out):
        kept = [directory.set_checkpoints_aside(setup.out)]
        kept += [directory.set_metrics_aside(setup.out)] if records else []
        warnings.warn(
            f"{setup.out} has no whole checkpoint; the run starts from its beginning, and what "
            f"there was is kept in {' and '.join(map(str, kept))}",
            stacklevel=3,
        )
    elif records:  # it ended before its first checkpoint
        warnings.warn(
            f"{setup.out} has no checkpoint yet; the run starts from its beginning", stacklevel=3
        )
    return _init(setup, prepared.start), []


def _init(setup: Setup, start: Any | None) -> Any:
    """The state of a new run, which is another run's where it begins with that.

    Raises:
      TrainingError: the algorithm has a fatal problem with its first state.
    """
    if start is not None:
        return start
    state = setup.algorithm.init(jax.random.key(setup.seed))
    problem = setup.algorithm.problem(state)
    if problem is not None:
        if problem.fatal:
            raise TrainingError(problem.text)
        warnings.warn(problem.text, stacklevel=4)
    return state


def _other_runs_state(setup: Setup, template: Any) -> tuple[Setup, Any | None]:
    """The state of another run, if one is to begin with, and the setup that goes with it.

    Raises:
      UsageError: it has no such checkpoint, or one of another algorithm or shape.
    """
    if setup.start_from is None:
        return setup, None
    path, done = Path(setup.start_from.directory), setup.start_from.iteration
    other, own = directory.read_config(path, Description), setup.description
    if other["algorithm"] != own["algorithm"]:
        raise UsageError(
            f"{path} was trained by {other['algorithm']}, whose state {own['algorithm']} cannot "
            "begin with"
        )
    if done is not None:
        state = checkpoints.restore(path, template, done)
    else:
        restored = checkpoints.restore_newest(path, template)
        if restored is None:
            raise UsageError(f"{path} has no whole checkpoint to start from")
        done, state = restored
    algorithm = setup.algorithm
    same_model = other["model"]["hash"] == own["model"]["hash"]
    if not same_model or other["functions"] != own["functions"]:
        state = algorithm.forget_results(state)  # what cost so much there says nothing here
    left = max(0, algorithm.first_training - done)
    return setup._replace(algorithm=algorithm._replace(first_training=left)), state


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
        warnings.warn(evaluation.advice, stacklevel=4)
    return TrainingResult(state, records, evaluation, summary, setup.out)
