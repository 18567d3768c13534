"""The run directory: the files of a run, and who may write into it."""

import json
import shutil
from pathlib import Path
from typing import Any

from jgps.training.errors import UsageError

_OURS = (
    "metrics.jsonl",
    "summary.json",
    "trajectories.npz",
    "checkpoints",
    "figures",
    "videos",
    "tensorboard",
    "config.json.tmp",  # of a process that was killed
    "metrics.jsonl.tmp",
    "summary.json.tmp",
    "trajectories.tmp.npz",
    "config.json",  # last: a directory is recognised by it
)
# What a resumed run may have otherwise, and what follows from it.
_FREE = (
    "iterations",
    "versions",
    "config.policy.distil.on_divergence",
    "config.policy.dense.on_divergence",
    "config.policy.end_to_end.on_divergence",
)


def read_config(directory: Path) -> dict[str, Any]:
    """What `config.json` of a run says.

    Raises:
      UsageError: if the directory holds no run.
    """
    path = directory / "config.json"
    if not directory.is_dir():
        raise UsageError(f"{directory} is no directory; name one that `jgps train` wrote")
    if not path.is_file():
        raise UsageError(f"{directory} holds no run (it has no config.json)")
    try:
        config = json.loads(path.read_text())
    except json.JSONDecodeError:
        raise UsageError(
            f"{path} cannot be read; start the run anew in another directory"
        ) from None
    if not isinstance(config, dict) or not {"task", "algorithm", "config"} <= set(config):
        raise UsageError(f"{path} was not written by jgps; choose another directory")
    return config


def prepare(directory: Path, description: dict[str, Any], *, resume: bool, overwrite: bool) -> None:
    """Makes the directory ready for a run and writes `config.json`.

    Raises:
      UsageError: if it belongs to something else, to another run, or cannot be written.
    """
    if resume and overwrite:
        raise UsageError("a run is either resumed or overwritten: leave out one of the two")
    try:
        if resume:
            _check_same(directory, description)
        elif directory.is_dir() and any(directory.iterdir()):
            if not overwrite:
                raise UsageError(
                    f"{directory} is not empty; pass --resume to go on with the run in it, "
                    "--overwrite to replace it, or choose another --out"
                )
            _delete_run(directory)
        directory.mkdir(parents=True, exist_ok=True)
        write_json(directory / "config.json", description)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UsageError(
            f"cannot write into {directory} ({reason}); choose another --out"
        ) from None


def write_json(path: Path, content: Any) -> None:
    """Writes a file as a whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    temporary.replace(path)


def _check_same(directory: Path, description: dict[str, Any]) -> None:
    if not directory.is_dir():
        raise UsageError(f"{directory} is no directory; leave out --resume to start a run in it")
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
    if different and all(key.startswith("config.") and key not in saved for key in different):
        raise UsageError(
            f"{directory} was made by a jgps without {' or '.join(different)}, so it cannot be "
            "resumed; choose another --out"
        )
    differences = [
        f"{key}: saved {_show(saved, key)}, given {_show(given, key)}" for key in different
    ]
    if differences:
        raise UsageError(
            f"{directory} holds another run, so it cannot be resumed ({'; '.join(differences)}); "
            "pass what the run was started with, or choose another --out"
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


def _delete_run(directory: Path) -> None:
    """Deletes what a run wrote, and nothing else."""
    try:
        read_config(directory)
    except UsageError as error:
        reason = str(error).partition("; ")[0]
        raise UsageError(f"{reason}, so it is not overwritten; choose another --out") from None
    for name in _OURS:
        path = directory / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
