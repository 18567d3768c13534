"""The run directory: the files of a run, and who may write into it."""

import contextlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from jgps.training import lock, metrics_file
from jgps.training.codec import decode
from jgps.training.errors import DamagedError, UsageError
from jgps.training.files import cannot_write, exists, read_json, remove, write_json

_FILES = ("metrics.jsonl", "summary.json", "trajectories.npz")
_OURS = (
    *_FILES,
    "metrics.before-*.jsonl",
    "checkpoints",
    "checkpoints.before-*",
    "samples",
    "figures",
    "videos",
    "tensorboard",
    "config.json.tmp",  # of a process that was killed, as are these
    "metrics.jsonl.tmp",
    "summary.json.tmp",
    "trajectories.npz.tmp",
    "trajectories.tmp.npz",  # as versions before named it
    # and config.json, by which a directory is recognised: it is replaced at once
)
_NOTHING = (lock.NAME, "config.json.tmp")  # all that a process left that was killed at its start
# What a resumed run may have otherwise, and what follows from it.
_FREE = (
    "iterations",
    "versions",
    "cores",
    "config.policy.distil.on_divergence",
    "config.policy.dense.on_divergence",
    "config.policy.end_to_end.on_divergence",
)


_REMEDY = (
    "put a copy of it back, or take the one that a run of the same settings writes into another "
    "directory"
)


class Settings(TypedDict, total=False):
    """What reports read of an algorithm's settings."""

    rollouts: dict[str, Any]
    policy: dict[str, Any]
    trajectory_iterations: int
    teacher_iterations: int


class Config(TypedDict):
    """What has to be in every `config.json`; `Description` says what else there is."""

    task: str
    algorithm: str
    config: Settings
    seed: NotRequired[int]
    backend: NotRequired[str]
    iterations: NotRequired[int]


def read_config(directory: Path, schema: Any = Config) -> dict[str, Any]:
    """What `config.json` of a run says.

    Args:
      directory: of the run.
      schema: a TypedDict of what has to be in it.

    Raises:
      UsageError: if the directory holds no run, or the file is damaged.
    """
    path = directory / "config.json"
    if not directory.is_dir():
        raise UsageError(f"{directory} is no directory; name one that `jgps train` wrote")
    if not exists(path):
        raise UsageError(
            f"{directory} holds no run (it has no config.json); name a directory that `jgps train` "
            "wrote"
        )
    config = read_json(path, _REMEDY)
    if not {"task", "algorithm"} & set(config):
        raise UsageError(f"{path} was not written by jgps; choose another directory")
    try:
        return decode(schema, config, "what it says")
    except ValueError as error:
        raise DamagedError(f"{path} is damaged ({error}); {_REMEDY}") from None


@contextlib.contextmanager
def claim(directory: Path, *, resume: bool) -> Iterator[None]:
    """Keeps other processes out of a run's directory, which is made where there is none.

    Raises:
      UsageError: another process holds it, it cannot be written, or there is nothing to resume.
    """
    if resume and not directory.is_dir():
        raise UsageError(f"{directory} is no directory; leave out resume=True to start a run in it")
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(lock.held(directory))
        except OSError as error:
            raise _cannot_write(directory, error) from None
        yield


def check(directory: Path, description: dict[str, Any], *, resume: bool, overwrite: bool) -> None:
    """Refuses a directory that such a run must not write into; writes nothing.

    Raises:
      UsageError: if it belongs to something else or to another run.
    """
    if resume:
        _check_same(directory, description)
        for path in (directory / name for name in _FILES):
            if path.is_dir():
                raise UsageError(f"{path} is a directory, where a file belongs; move it away")
    elif any(path.name not in _NOTHING for path in directory.iterdir()):
        if not overwrite:
            raise UsageError(
                f"{directory} is not empty; pass resume=True to go on with the run in it, "
                "overwrite=True to replace it, or choose another out"
            )
        _check_overwrite(directory)


def begin(directory: Path, description: dict[str, Any], *, overwrite: bool) -> None:
    """Deletes the run that is to be overwritten, and writes `config.json`.

    Raises:
      UsageError: the directory cannot be written.
    """
    try:
        if overwrite:
            for name in _OURS:
                for path in directory.glob(name):
                    remove(path)
        write_json(directory / "config.json", description)
    except OSError as error:
        raise _cannot_write(directory, error) from None


def set_metrics_aside(directory: Path) -> Path:
    """Keeps the metrics of a run that starts anew under another name, which is returned."""
    path = directory / metrics_file.NAME
    for number in itertools.count(1):
        aside = directory / f"metrics.before-{number}.jsonl"
        if not exists(aside):
            try:
                path.replace(aside)
            except OSError as error:
                raise cannot_write(aside, 0, error) from None
            return aside
    raise AssertionError("itertools.count ends")


def set_checkpoints_aside(directory: Path) -> Path:
    """Keeps checkpoints of which none is whole under another name, which is returned."""
    path = directory / "checkpoints"
    numbers = itertools.count(1)
    aside = next(each for i in numbers if not exists(each := directory / f"checkpoints.before-{i}"))
    try:
        path.replace(aside)
    except OSError as error:
        raise cannot_write(aside, 0, error) from None
    return aside


def _cannot_write(directory: Path, error: OSError) -> UsageError:
    reason = error.strerror or type(error).__name__
    return UsageError(f"cannot write into {directory} ({reason}); choose another out")


def _check_same(directory: Path, description: dict[str, Any]) -> None:
    saved = _flat(read_config(directory))
    given = _flat(json.loads(json.dumps(description)))
    other_jax = saved.get("versions.jax") != given.get("versions.jax")
    free = (*_FREE, "functions") if other_jax else _FREE  # each version traces in its own way
    different = [
        key
        for key in {**saved, **given}
        if not {key, key.split(".")[0]} & set(free)
        and saved.get(key, _MISSING) != given.get(key, _MISSING)
    ]
    new = [key for key in different if key not in saved]
    # With parts of other kinds some settings are gone, too; defaults may have changed meanwhile.
    older = all(key.startswith("config.") and key in given for key in different)
    if new and older:
        raise UsageError(
            f"{directory} was made by a jgps without {' or '.join(new)}, so it cannot be "
            "resumed; choose another out"
        )
    differences = [
        f"{key}: saved {_show(saved, key)}, given {_show(given, key)}" for key in different
    ]
    if differences:
        raise UsageError(
            f"{directory} holds another run, so it cannot be resumed ({'; '.join(differences)}); "
            "pass what the run was started with, or choose another out"
        )


_MISSING = object()


def _show(values: dict[str, Any], key: str) -> str:
    return json.dumps(values[key]) if key in values else "nothing"


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, each in value.items():
        if isinstance(each, dict):
            flat.update(_flat(each, f"{prefix}{key}."))
        else:
            flat[prefix + key] = each
    return flat


def _check_overwrite(directory: Path) -> None:
    """Refuses to overwrite what was no run."""
    try:
        read_config(directory)
    except UsageError as error:
        reason = str(error).partition("; ")[0]
        raise UsageError(f"{reason}, so it is not overwritten; choose another out") from None
