"""Checkpoints of an algorithm's state, whole and verified.

`checkpoints/000012/` holds the state after 12 iterations, written by orbax.
`checkpoints/000012.json` lists the size and SHA-256 of its files; it is written last, so that a
checkpoint without it is not whole.
"""

import dataclasses
import hashlib
import json
import shutil
import time
import warnings
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np

from jgps.core.checks import Config, Range
from jgps.training.errors import UsageError

KEEP = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointConfig(Config):
    """When training saves its state: after an iteration in which one of these limits is reached.

    The state is saved after the last iteration too, and whenever training stops early. Only what is
    killed loses work: the iteration that was running, and those since the last checkpoint, which
    took less than `every_seconds`. Where every iteration takes longer, that is none.

    Attributes:
      every_iterations: iterations since the last checkpoint, at least 1; None sets no such limit.
      every_seconds: seconds since the last checkpoint, >= 0; None sets no such limit.
    """

    every_iterations: Annotated[int | None, Range(">= 1")] = None
    every_seconds: Annotated[float | None, Range(">= 0")] = 10.0


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
        """Saves the state after this iteration, if it is not saved yet."""
        if self._directory is None or (self._begun and iteration == self._newest):
            return
        save(self._directory, iteration, state)
        self._newest, self._when, self._begun = iteration, time.monotonic(), True


def save(directory: Path, iteration: int, state: Any, keep: int = KEEP) -> Path:
    """Saves the state after `iteration` iterations; keeps it and the `keep - 1` newest others."""
    folder = directory / "checkpoints"
    folder.mkdir(exist_ok=True)
    path = _path(folder, iteration)
    _delete(path)
    _checkpointer_save(path.absolute(), jax.device_get(_unwrap_keys(state)))
    temporary = path.with_suffix(".json.tmp")
    temporary.write_text(json.dumps({"iteration": iteration, "files": _fingerprints(path)}))
    temporary.replace(_manifest(path))
    others = [each for each in iterations(directory) if each != iteration]
    for old in others[: max(0, len(others) - keep + 1)]:
        _delete(_path(folder, old))
    return path


def discard_after(directory: Path, iteration: int) -> list[int]:
    """Deletes checkpoints of more than `iteration` iterations, and returns which."""
    discarded = [each for each in iterations(directory) if each > iteration]
    for each in discarded:
        _delete(_path(directory / "checkpoints", each))
    return discarded


def iterations(directory: Path) -> list[int]:
    """After how many iterations there are checkpoints, ascending; whole or not."""
    folder = directory / "checkpoints"
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


def problem(directory: Path, iteration: int) -> str | None:
    """What is wrong with a checkpoint, or None where it is whole."""
    path = _path(directory / "checkpoints", iteration)
    manifest = _manifest(path)
    if not manifest.is_file():
        return "was not written to its end"
    try:
        expected = json.loads(manifest.read_text())["files"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return f"has an unreadable {manifest.name}"
    found = _fingerprints(path)
    for name in expected:
        if name not in found:
            return f"lacks {name}"
        if found[name] != expected[name]:
            short = found[name]["bytes"] < expected[name]["bytes"]
            return f"has a {'truncated' if short else 'changed'} {name}"
    return None


def restore_newest(
    directory: Path, template: Any, *, at_most: int | None = None
) -> tuple[int, Any] | None:
    """The newest whole checkpoint as (iterations done, state), or None; warns of broken ones.

    Args:
      directory: of the run.
      template: the state's structure, arrays or `jax.ShapeDtypeStruct`.
      at_most: iterations; checkpoints of more are left out. None takes all.

    Raises:
      UsageError: if a whole checkpoint holds another state than the template.
    """
    found = [each for each in iterations(directory) if at_most is None or each <= at_most]
    for index, iteration in reversed(list(enumerate(found))):
        wrong = problem(directory, iteration)
        if wrong is None:
            return iteration, _restore(_path(directory / "checkpoints", iteration), template)
        then = (
            f"the one after {found[index - 1]} iterations is read" if index else "it was the last"
        )
        warnings.warn(
            f"checkpoint {_path(directory / 'checkpoints', iteration)} {wrong}; {then}",
            stacklevel=2,
        )
    return None


def _path(folder: Path, iteration: int) -> Path:
    return folder / f"{iteration:06d}"


def _manifest(path: Path) -> Path:
    return path.with_suffix(".json")


def _delete(path: Path) -> None:
    _manifest(path).unlink(missing_ok=True)  # first: half a checkpoint is never taken for one
    if path.exists():
        shutil.rmtree(path)
    for left in path.parent.glob(f"{path.name}.orbax-checkpoint-tmp*"):  # of an interrupted save
        shutil.rmtree(left)


def _fingerprints(path: Path) -> dict[str, dict[str, Any]]:
    found = {}
    for file in sorted(path.rglob("*")):
        if file.is_file():
            content = file.read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            found[file.relative_to(path).as_posix()] = {"bytes": len(content), "sha256": digest}
    return found


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
    with _checkpointer() as checkpointer:
        checkpointer.save(path, leaves)


def _first_difference(template: Any, found: list[Any], expected: list[Any]) -> str:
    """Where the first array of another shape or kind belongs; empty where their number differs."""
    if len(found) != len(expected):
        return ""
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(template)]
    pairs = zip(paths, found, expected, strict=True)
    path, has, wants = next(pair for pair in pairs if pair[1] != pair[2])
    where = jax.tree_util.keystr(path, simple=True, separator="/")
    return f" ({where} is {has[0]} {has[1]} and has to be {wants[0]} {wants[1]})"


def _restore(path: Path, template: Any) -> Any:
    leaves, structure = jax.tree.flatten(template)
    stored = jax.eval_shape(_unwrap_keys, leaves)
    # NumPy arrays: JAX arrays would come back committed to a device, for which every program
    # compiles anew.
    host = [np.zeros(leaf.shape, leaf.dtype) for leaf in stored]
    with _checkpointer() as checkpointer:
        try:
            arrays = checkpointer.restore(path.absolute(), host)
        except ValueError:  # another number of arrays
            arrays = []
    kinds, expected = ([(each.shape, each.dtype) for each in group] for group in (arrays, host))
    if kinds != expected:
        raise UsageError(
            f"checkpoint {path} holds another state than these settings make in this version of "
            f"jgps{_first_difference(template, kinds, expected)}; use the version and the "
            "config.json that the run was made with, or train anew"
        )
    restored = [
        jax.random.wrap_key_data(jax.numpy.asarray(array))
        if _is_key(leaf)
        else jax.numpy.asarray(array)
        for leaf, array in zip(leaves, arrays, strict=True)
    ]
    return jax.tree.unflatten(structure, restored)
