"""What `config.json` of a run says: everything that decides how it goes."""

import contextlib
import hashlib
import importlib.metadata
import platform
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jgps.core.lifted import fingerprint
from jgps.simulation import Conditions
from jgps.tasks import Task
from jgps.training.codec import encode


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
        for name, array in sorted(arrays.items()):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def _function_hashes(task: Task) -> dict[str, str | None]:
    """Of what JAX traces in the task's functions, their constants included; None without one."""

    def array(*shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, jax.dtypes.canonicalize_dtype(float))

    x, u, t = array(task.state_dim), array(task.action_dim), jax.ShapeDtypeStruct((), jnp.int32)
    xs, us = array(task.horizon, task.state_dim), array(task.horizon, task.action_dim)
    functions = {
        "cost": (task.cost, (x, u, t)),
        "success": (task.success, (xs, us)),
        "distance": (task.distance, (xs,)),
        "random_start": (task.random_start, (jax.eval_shape(jax.random.key, 0),)),
    }
    return {
        name: None if function is None else fingerprint(jax.make_jaxpr(function)(*arguments))[:16]
        for name, (function, arguments) in functions.items()
    }
