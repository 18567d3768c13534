"""How a run begins: anew, where an earlier session stopped, or with another run's state."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jgps.core.warn import warn
from jgps.training import checkpoint as checkpoints
from jgps.training import directory, metrics_file
from jgps.training.description import Description, describe_changes
from jgps.training.errors import TrainingError, UsageError
from jgps.training.evaluate import EvaluationResult, make_evaluator, params_for
from jgps.training.metrics import Record
from jgps.training.metrics_file import pad, read_metrics
from jgps.training.setup import Setup


class Prepared(NamedTuple):
    """What is known before a run begins."""

    template: Any  # the structure of the algorithm's state
    evaluate: Callable[[Any], EvaluationResult]
    start: Any | None  # another run's state to begin with


def prepare(setup: Setup) -> tuple[Setup, Prepared]:
    """What a run needs before its first iteration; begins it in its directory.

    Raises:
      UsageError: if the directory, the task's functions or another run's state cannot be used.
    """
    out, overwrite = setup.out, setup.overwrite
    with one_kind_of_error():
        if out is not None:
            directory.check(out, setup.description, resume=setup.resume, overwrite=overwrite)
        template = jax.eval_shape(setup.algorithm.init, jax.random.key(setup.seed))
        evaluate = _make_evaluate(setup, template)
        setup, start = _other_runs_state(setup, template)
        if out is not None and setup.resume:
            _check_resume(setup, out)
        if out is not None:  # the last of all: nothing is lost to a mistake
            directory.begin(out, setup.description, overwrite=overwrite)
    return setup, Prepared(template, evaluate, start)


@contextlib.contextmanager
def one_kind_of_error() -> Iterator[None]:
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
        warn(f"{out}: {changes}")


def _make_evaluate(setup: Setup, template: Any) -> Callable[[Any], EvaluationResult]:
    """Makes what evaluates a policy without noise; the first call compiles for all of the run."""
    evaluator = make_evaluator(setup.task, template.policy.act, setup.backend)
    key = jax.random.key(setup.seed)  # nothing is drawn from it
    return lambda policy: evaluator(functools.partial(params_for, policy), key)


def first_state(setup: Setup, prepared: Prepared) -> tuple[Any, list[Record]]:
    """The state to begin with, and the records of the iterations before it."""
    if setup.out is None or not setup.resume:
        return _init(setup, prepared.start), []
    restored = checkpoints.restore_newest(setup.out, prepared.template)
    records, problem = read_metrics(setup.out)
    if problem:
        warn(problem)
    if restored is not None:
        done = restored[0]
        # What is newer is no part of the run from here on; a broken one would outlive what follows.
        checkpoints.discard_after(setup.out, done)
        if done > len(records):
            warn(
                f"{setup.out / metrics_file.NAME} has {len(records)} whole lines and the newest "
                f"checkpoint {done} iterations; the run goes on from there, and the metrics of "
                "those between are lost"
            )
        return restored[1], pad(records, done)
    if checkpoints.iterations(setup.out):
        if checkpoints.any_written(setup.out):
            kept = [directory.set_checkpoints_aside(setup.out)]
        else:  # none was ever whole
            kept = []
            checkpoints.discard_after(setup.out, -1)
        kept += [directory.set_metrics_aside(setup.out)] if records else []
        aside = f", and what there was is kept in {' and '.join(map(str, kept))}" if kept else ""
        warn(f"{setup.out} has no whole checkpoint; the run starts from its beginning{aside}")
    elif records:  # it ended before its first checkpoint
        warn(f"{setup.out} has no checkpoint yet; the run starts from its beginning")
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
        warn(problem.text)
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
