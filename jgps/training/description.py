"""What `config.json` of a run says: everything that decides how it goes."""

import contextlib
import hashlib
import importlib.metadata
import os
import platform
from typing import Any, NotRequired, TypedDict

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jgps.core.traces import fingerprint
from jgps.simulation import Conditions
from jgps.tasks import Task
from jgps.tasks.functions import params_like
from jgps.training.codec import encode


class ModelDescription(TypedDict):
    """What `config.json` says of the task's model and conditions."""

    hash: str


class Description(TypedDict):
    """What `config.json` of a run holds that can be loaded."""

    task: str
    algorithm: str
    seed: int
    backend: str
    iterations: int
    float64: bool
    config: dict[str, Any]
    model: ModelDescription
    functions: dict[str, str | None]
    versions: dict[str, str]
    cores: NotRequired[int]
    start_from: NotRequired[dict[str, Any]]


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
        "cores": cores(),
    }


def cores() -> int:
    """Processor cores that this process may use: XLA adds up large sums in as many parts."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe_changes(saved: dict[str, Any]) -> str:
    """What is otherwise than when a run's `config.json` was written, and changes its results.

    Returns:
      A sentence; empty where a resumed run gives the same results to the last bit.
    """
    before = {**saved.get("versions", {}), "cores": saved.get("cores")}
    now = {**versions(), "cores": cores()}
    names = [name for name in now if before.get(name) not in (None, now[name])]
    if not names:
        return ""
    changes = ", ".join(f"{name}: {before[name]} before, {now[name]} now" for name in names)
    return (
        f"this machine is not as the run was made on ({changes}), so that results differ from "
        "those of a run without interruption: by rounding, which grows from iteration to iteration"
    )


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide results, as far as they are installed."""
    names = ("jgps", "jax", "jaxlib", "mujoco", "mujoco-mjx", "numpy", "orbax-checkpoint")
    found = {"python": platform.python_version()}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _hash(task: Task) -> str:
    """Of the compiled models and of the conditions."""
    digest = hashlib.sha256()
    for model in (task.model, task.mjx_model):
        if model is not None:
            buffer = np.empty(mujoco.mj_sizeModel(model), np.uint8)
            mujoco.mj_saveModel(model, None, buffer)
            digest.update(buffer.tobytes())
    conditions: Conditions | None
    for conditions in (task.train, task.test, task.distracted):
        if conditions is None:
            continue
        arrays = {"qpos": conditions.qpos, "qvel": conditions.qvel, **conditions.changes}
        arrays |= conditions.optional
        for path, leaf in jax.tree_util.tree_leaves_with_path(conditions.params):
            arrays[f"params{jax.tree_util.keystr(path)}"] = leaf
        arrays |= {f"inputs[{key!r}]": rows for key, rows in conditions.inputs.items()}
        for path, leaf in jax.tree_util.tree_leaves_with_path(conditions.sensing):
            arrays[f"sensing{jax.tree_util.keystr(path)}"] = leaf
        for name, array in sorted(arrays.items()):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    if task.episodes is not None:
        digest.update(repr(task.episodes).encode())
    for layout in (task.layout, task.observation):
        if layout is not None and layout.drawn is not None:
            digest.update(layout.drawn.content.encode())
    return digest.hexdigest()[:16]


def _function_hashes(task: Task) -> dict[str, str | None]:
    """Of what JAX traces in the task's functions, their constants included; None without one."""

    def array(*shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, jax.dtypes.canonicalize_dtype(float))

    x, u, t = array(task.state_dim), array(task.action_dim), jax.ShapeDtypeStruct((), jnp.int32)
    xs, us = array(task.horizon, task.state_dim), array(task.horizon, task.action_dim)
    extra = params_like(task.train)
    functions = {
        "cost": (task.cost, (x, u, t, *extra)),
        "success": (task.success, (xs, us, *extra)),
        "distance": (task.distance, (xs, *extra)),
        "random_start": (task.random_start, (jax.eval_shape(jax.random.key, 0),)),
    }
    if task.fall is not None:
        functions["fall"] = (task.fall, (x, *extra))
    if task.dynamics is not None:  # not named where there are none, as in runs of before
        functions["dynamics"] = (task.dynamics, (x, u, t, *extra))
    return {
        name: None if function is None else fingerprint(jax.make_jaxpr(function)(*arguments))[:16]
        for name, (function, arguments) in functions.items()
    }
