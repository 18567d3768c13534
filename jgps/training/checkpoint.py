"""Checkpoints of an algorithm's state, whole and verified.

`checkpoints/000012/` holds the state after 12 iterations, written by orbax.
`checkpoints/000012.json` lists the size and SHA-256 of its files; it is written last, so that a
checkpoint without it is not whole.
"""

import asyncio
import contextlib
import dataclasses
import errno
import hashlib
import logging
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TypedDict

import jax
import numpy as np

from jgps.core.checks import Config, Range
from jgps.core.warn import warn
from jgps.training.codec import decode
from jgps.training.errors import DamagedError, UsageError
from jgps.training.files import cannot_write, exists, read_json, remove, write_json

_NAME = re.compile(r"[0-9]{6}|[1-9][0-9]{6,17}")  # of a folder, as `_path` makes it


class FileEntry(TypedDict):
    """What a manifest says of one file."""

    bytes: int
    sha256: str


class Manifest(TypedDict):
    """What `checkpoints/000012.json` holds."""

    iteration: int
    files: dict[str, FileEntry]  # by their paths inside the checkpoint's folder


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointConfig(Config):
    """When training saves its state: after an iteration in which one of these limits is reached.

    The state is saved after the last iteration too, and whenever training stops early. Only what is
    killed loses work: the iteration that was running, and those since the last checkpoint, which
    took less than `every_seconds`. Where every iteration takes longer, that is none.

    Attributes:
      every_iterations: iterations since the last checkpoint, at least 1; None sets no such limit.
      every_seconds: seconds since the last checkpoint, >= 0; None sets no such limit.
      keep: how many of the newest checkpoints stay, at least 2, so that there is another where one
        is damaged; None keeps all.
    """

    every_iterations: Annotated[int | None, Range(">= 1")] = None
    every_seconds: Annotated[float | None, Range(">= 0")] = 10.0
    keep: Annotated[int | None, Range(">= 2", "usually 3")] = 3


class Checkpoints:
    """Writes those of one run, as often as its config says."""

    def __init__(self, directory: Path | None, config: CheckpointConfig, done: int):
        """Of a run that goes on after `done` iterations; without a directory nothing is written."""
        self._directory, self._config = directory, config
        self._newest, self._when = done, time.monotonic()
        self._begun = done > 0  # what a run begins with took long where convolutions are pretrained

    def due(self, iteration: int) -> bool:
        """Whether the state after this iteration is to be saved now."""
        iterations, seconds = self._config.every_iterations, self._config.every_seconds
        if iterations is not None and iteration - self._newest >= iterations:
            return True
        return seconds is not None and time.monotonic() - self._when >= seconds

    def save(self, iteration: int, state: Any) -> None:
        """Saves the state after this iteration, if it is not saved yet.

        Raises:
          WriteError: it cannot be written, for instance because the disk is full.
        """
        if self._directory is None or (self._begun and iteration == self._newest):
            return
        save(self._directory, iteration, state, self._config.keep)
        self._newest, self._when, self._begun = iteration, time.monotonic(), True


def save(
    directory: Path, iteration: int, state: Any, keep: int | None = CheckpointConfig.keep
) -> Path:
    """Saves the state after `iteration` iterations; keeps it and the `keep - 1` newest others.

    Where `keep` is None, all are kept.

    Raises:
      WriteError: it cannot be written, for instance because the disk is full.
    """
    folder = directory / "checkpoints"
    path = _path(folder, iteration)
    leaves = jax.device_get(_unwrap_keys(state))
    try:
        folder.mkdir(exist_ok=True)
        _delete(path)
        _checkpointer_save(path.absolute(), leaves)
        files = _fingerprints(path)
    except (OSError, ValueError, RuntimeError) as error:  # TensorStore has no kind of its own
        with contextlib.suppress(OSError):  # which would hide what went wrong
            _delete(path)
        raise cannot_write(path, sum(leaf.nbytes for leaf in leaves), _cause(error)) from None
    write_json(_manifest(path), {"iteration": iteration, "files": files})
    others = [each for each in iterations(directory) if each != iteration]
    for old in others[: 0 if keep is None else max(0, len(others) - keep + 1)]:
        _delete(_path(folder, old))
    return path


def discard_after(directory: Path, iteration: int) -> list[int]:
    """Deletes checkpoints of more than `iteration` iterations, and returns which."""
    discarded = [each for each in iterations(directory) if each > iteration]
    for each in discarded:
        _delete(_path(directory / "checkpoints", each))
    return discarded


def iterations(directory: Path) -> list[int]:
    """After how many iterations there are checkpoints, ascending; whole or not.

    Raises:
      DamagedError: what should be their directory is something else or cannot be read.
    """
    folder = directory / "checkpoints"
    if not exists(folder):
        return []
    try:
        names = [path.name for path in folder.iterdir()]
    except OSError as error:
        reason = error.strerror or type(error).__name__
        if folder.is_symlink():
            reason = f"it is a link to {os.readlink(folder)}: {reason}"
        raise DamagedError(
            f"{folder} cannot be read as a directory ({reason}); put the run's checkpoints there"
        ) from None
    return sorted(int(name) for name in names if _NAME.fullmatch(name))


def any_written(directory: Path) -> bool:
    """Whether any checkpoint was once written to its end, whatever became of it."""
    folder = directory / "checkpoints"
    return any(exists(_manifest(_path(folder, each))) for each in iterations(directory))


def problem(directory: Path, iteration: int) -> str | None:
    """What is wrong with a checkpoint, or None where it is whole."""
    path = _path(directory / "checkpoints", iteration)
    manifest = _manifest(path)
    if not exists(manifest):
        return "was not written to its end, or is being written now"
    try:
        content = decode(Manifest, read_json(manifest, ""), manifest.name)
    except DamagedError as error:
        return f"is broken: {str(error).removesuffix('; ')}"
    except ValueError as error:
        return f"is broken: {error}"
    if content["iteration"] != iteration or not content["files"]:
        return f"is broken: {manifest.name} is of another checkpoint"
    try:
        found = _fingerprints(path)
    except OSError as error:
        return f"is broken: {error.filename or path} cannot be read ({error.strerror})"
    for name, expected in content["files"].items():
        if name not in found:
            return f"is broken: it lacks {name}"
        if found[name] != expected:
            short = found[name]["bytes"] < expected["bytes"]
            return f"is broken: it has a {'truncated' if short else 'changed'} {name}"
    return None


def restore_newest(directory: Path, template: Any) -> tuple[int, Any] | None:
    """The newest whole checkpoint as (iterations done, state), or None; warns of broken ones.

    Another process may save and prune checkpoints meanwhile.

    Args:
      directory: of the run.
      template: the state's structure, arrays or `jax.ShapeDtypeStruct`.

    Raises:
      DamagedError: what should be the directory of checkpoints is something else.
      UsageError: if a whole checkpoint holds another state than the template.
    """
    found, warned = iterations(directory), set()
    while found:
        iteration = found.pop()
        path = _path(directory / "checkpoints", iteration)
        wrong = problem(directory, iteration)
        if wrong is None:
            try:
                return iteration, _restore(path, template)
            except UsageError:
                if problem(directory, iteration) is None:
                    raise
        elif exists(path) and iteration not in warned:
            warned.add(iteration)
            then = (
                f"the one before, after {found[-1]} iterations, is used"
                if found
                else "there is none before it"
            )
            warn(f"checkpoint {path} {wrong}; {then}")
        if not exists(path):  # pruned meanwhile, so that there are newer ones
            found = [each for each in iterations(directory) if each not in warned]
    return None


def restore(directory: Path, template: Any, iteration: int) -> Any:
    """The state after so many iterations.

    Args:
      directory, template: as in `restore_newest`.
      iteration: the number of iterations.

    Raises:
      UsageError: there is no such checkpoint, it is damaged, or holds another state than the
        template.
    """
    kept = iterations(directory)
    if iteration not in kept:
        found = ", ".join(str(each) for each in kept) or "none"
        raise UsageError(
            f"{directory} has no checkpoint after {iteration} iterations; it has: {found}. In "
            "training CheckpointConfig.keep says how many stay"
        )
    path = _path(directory / "checkpoints", iteration)
    wrong = problem(directory, iteration)
    if wrong is not None:
        raise UsageError(f"checkpoint {path} {wrong}; take another iteration")
    return _restore(path, template)


def _path(folder: Path, iteration: int) -> Path:
    return folder / f"{iteration:06d}"


def _manifest(path: Path) -> Path:
    return path.with_suffix(".json")


def _delete(path: Path) -> None:
    remove(_manifest(path))  # first: half a checkpoint is never taken for one
    remove(path)
    for left in path.parent.glob(f"{path.name}.orbax-checkpoint-tmp*"):  # of an interrupted save
        remove(left)


def _fingerprints(path: Path) -> dict[str, FileEntry]:
    found = {}
    for file in sorted(path.rglob("*")):
        if file.is_file():
            content = file.read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            found[file.relative_to(path).as_posix()] = FileEntry(bytes=len(content), sha256=digest)
    return found


def _cause(error: BaseException) -> BaseException:
    """What the system said, where TensorStore wraps it in an exception of its own."""
    text = str(error)
    for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES):
        if os.strerror(code) in text:
            return OSError(code, os.strerror(code))
    return error


def _is_key(leaf: Any) -> bool:
    return jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _unwrap_keys(state: Any) -> list[Any]:
    """The leaves, with typed PRNG keys as the integers behind them."""
    return [jax.random.key_data(leaf) if _is_key(leaf) else leaf for leaf in jax.tree.leaves(state)]


def _checkpointer() -> Any:
    # Takes seconds to import, and only a run with a directory needs it.
    import orbax.checkpoint as ocp

    return ocp.Checkpointer(ocp.StandardCheckpointHandler())


def _checkpointer_save(path: Path, leaves: list[Any]) -> None:
    with _said_once(), _checkpointer() as checkpointer:
        checkpointer.save(path, leaves)


class _Loop(asyncio.SelectorEventLoop):
    """An event loop that takes no offence at what ends after it was closed."""

    def call_soon_threadsafe(self, callback: Any, *arguments: Any, context: Any = None) -> Any:
        if self.is_closed():
            return None
        return super().call_soon_threadsafe(callback, *arguments, context=context)


@contextlib.contextmanager
def _said_once() -> Iterator[None]:
    """Keeps threads from printing tracebacks of what is raised here as well.

    Orbax logs them; and where one write fails it closes its event loop, of which TensorStore prints
    one for every other write that ends later.
    """
    logger, new_loop = logging.getLogger("absl"), asyncio.new_event_loop

    def is_no_traceback(record: logging.LogRecord) -> bool:
        return not (record.exc_info and "orbax" in record.pathname)

    logger.addFilter(is_no_traceback)
    asyncio.new_event_loop = _Loop
    try:
        yield
    finally:
        asyncio.new_event_loop = new_loop
        logger.removeFilter(is_no_traceback)


def _other_state(path: Path, why: str) -> UsageError:
    return UsageError(
        f"checkpoint {path} holds another state than these settings make in this version of "
        f"jgps ({why}); what its shapes follow from has to be as in that run (conditions, horizon, "
        "state, the kind and window of the prior, the network): use the version and the "
        "config.json that it was made with, or train anew"
    )


def _first_difference(template: Any, found: list[Any], expected: list[Any]) -> str:
    """Where the first array of another shape or kind belongs, and what it is."""
    if len(found) != len(expected):
        return f"it has {len(found)} arrays and has to have {len(expected)}"
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(template)]
    pairs = zip(paths, found, expected, strict=True)
    path, has, wants = next(pair for pair in pairs if pair[1] != pair[2])
    where = jax.tree_util.keystr(path, simple=True, separator="/")
    return f"{where} is {has[0]} {has[1]} and has to be {wants[0]} {wants[1]}"


def _restore(path: Path, template: Any) -> Any:
    leaves, structure = jax.tree.flatten(template)
    stored = jax.eval_shape(_unwrap_keys, leaves)
    # NumPy arrays: JAX arrays would come back committed to a device, for which every program
    # compiles anew.
    host = [np.zeros(leaf.shape, leaf.dtype) for leaf in stored]
    with _checkpointer() as checkpointer:
        try:
            arrays = checkpointer.restore(path.absolute(), host)
        except (OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
            raise _other_state(path, f"orbax says: {' '.join(str(error).split())[:200]}") from error
    kinds, expected = ([(each.shape, each.dtype) for each in group] for group in (arrays, host))
    if kinds != expected:
        raise _other_state(path, _first_difference(template, kinds, expected))
    restored = [
        jax.random.wrap_key_data(jax.numpy.asarray(array))
        if _is_key(leaf)
        else jax.numpy.asarray(array)
        for leaf, array in zip(leaves, arrays, strict=True)
    ]
    return jax.tree.unflatten(structure, restored)
