"""The run directory: who may write into it, and what its `config.json` says."""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import platform
import re
import shutil
import types
import typing
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr

from jgps.simulation import Conditions
from jgps.tasks import Task
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
    "config.distil.on_divergence",
    "config.vision.head.on_divergence",
    "config.vision.end_to_end.on_divergence",
)


def describe(
    task: Task, algorithm: str, config: Any, iterations: int, seed: int, backend: str
) -> dict[str, Any]:
    """What `config.json` holds: everything that decides how a run goes."""
    return {
        "task": task.name,
        "algorithm": algorithm,
        "seed": seed,
        "backend": backend,
        "iterations": iterations,
        "float64": bool(jax.config.read("jax_enable_x64")),
        "config": encode(config),
        "model": {
            "state": list(task.layout.slices),
            "state_dim": task.state_dim,
            "action_dim": task.action_dim,
            "horizon": task.horizon,
            "control_dt": task.control_dt,
            "conditions_train": task.train.num,
            "conditions_test": task.test.num,
            "observation": None if task.observation is None else list(task.observation.slices),
            "initial": encode(task.initial),
            "hash": _hash(task),
        },
        "functions": _function_hashes(task),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide results, as far as they are installed."""
    names = ("jgps", "jax", "jaxlib", "mujoco", "mujoco-mjx", "numpy", "orbax-checkpoint")
    found = {"python": platform.python_version()}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _hash(task: Task) -> str:
    """Of the compiled model and of the conditions."""
    buffer = np.empty(mujoco.mj_sizeModel(task.model), np.uint8)
    mujoco.mj_saveModel(task.model, None, buffer)
    digest = hashlib.sha256(buffer.tobytes())
    conditions: Conditions | None
    for conditions in (task.train, task.test, task.distracted):
        if conditions is None:
            continue
        arrays = {"qpos": conditions.qpos, "qvel": conditions.qvel, **conditions.changes}
        for name, array in sorted(arrays.items()):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def _function_hashes(task: Task) -> dict[str, str | None]:
    """Of what JAX traces in the task's functions, their constants included; None without one."""

    def zeros(*shape: int) -> jax.Array:
        return jnp.zeros(shape)

    x, u = zeros(task.state_dim), zeros(task.action_dim)
    xs, us = zeros(task.horizon, task.state_dim), zeros(task.horizon, task.action_dim)
    functions = {
        "cost": (task.cost, (x, u, jnp.zeros((), jnp.int32))),
        "success": (task.success, (xs, us)),
        "distance": (task.distance, (xs,)),
        "random_start": (task.random_start, (jax.random.key(0),)),
    }
    return {
        name: None if function is None else _hash_trace(jax.make_jaxpr(function)(*arguments))
        for name, (function, arguments) in functions.items()
    }


def _hash_trace(trace: ClosedJaxpr) -> str:
    # Functions show as addresses, which differ between processes.
    digest = hashlib.sha256(re.sub(r"0x[0-9a-f]+", "", str(trace)).encode())

    def add_constants(trace: Any) -> None:
        for constant in getattr(trace, "consts", ()):
            digest.update(np.ascontiguousarray(constant).tobytes())
        for equation in getattr(trace, "jaxpr", trace).eqns:
            for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_trace):
                if _is_trace(inner):
                    add_constants(inner)

    add_constants(trace)
    return digest.hexdigest()[:16]


def _is_trace(value: Any) -> bool:
    return isinstance(value, ClosedJaxpr | Jaxpr)


def encode(value: Any) -> Any:
    """A config as JSON; `decode` reads it again."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"type": type(value).__name__, **fields}
    if isinstance(value, tuple | list):
        return [encode(each) for each in value]
    return value


def decode(hint: Any, value: Any) -> Any:
    """The config that `encode` wrote, where `hint` is its type or a union of types.

    Raises:
      ValueError: if it does not fit the type.
    """
    options = (
        typing.get_args(hint)
        if typing.get_origin(hint) in (types.UnionType, typing.Union)
        else (hint,)
    )
    if isinstance(value, dict):
        for option in options:
            if isinstance(option, type) and option.__name__ == value.get("type"):
                hints = typing.get_type_hints(option)
                fields = {k: v for k, v in value.items() if k != "type"}
                if set(fields) <= set(hints):
                    return option(**{k: decode(hints[k], v) for k, v in fields.items()})
        raise ValueError(f"no settings of type {value.get('type')!r} with these fields are known")
    return tuple(decode(Any, each) for each in value) if isinstance(value, list) else value


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
