"""Checks what an algorithm is made with: the task, its settings, and the memory that they take."""

import functools
import inspect
import itertools
import math
from collections.abc import Callable
from typing import Any, ParamSpec

import jax
import jax.numpy as jnp
import numpy as np

from jgps.core import memory
from jgps.core.checks import Config, written_out
from jgps.core.names import did_you_mean, shown
from jgps.dynamics import MixturePriorConfig
from jgps.optimise.algorithm import Algorithm
from jgps.optimise.labelling.config import MpcDaggerConfig
from jgps.optimise.mpc.config import MpcConfig, plan_sizes
from jgps.optimise.rollouts.sampling import USUAL_SAMPLES, rollouts_each
from jgps.optimise.teaching.config import TeachingConfig
from jgps.tasks import Task
from jgps.tasks.checks import check_params_alike

Arguments = ParamSpec("Arguments")


def factory(make: Callable[Arguments, Algorithm]) -> Callable[Arguments, Algorithm]:
    """Makes `make(task, config, backend)` say in one sentence what is wrong with its arguments.

    Raises:
      ValueError: for a task or a config of another kind, and where an iteration would take more
        memory than there is.
      TypeError: for an argument that it does not have; says whose setting it is.
    """
    name, signature = make.__name__, inspect.signature(make)
    config_type = type(signature.parameters["config"].default)

    @functools.wraps(make)
    def checked(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Algorithm:
        for unknown in sorted(set(kwargs) - set(signature.parameters)):
            raise TypeError(_unknown(name, config_type, unknown))
        given = signature.bind(*args, **kwargs).arguments
        task: Any = given.get("task")
        config = given.get("config", config_type())
        check_task(name, task)
        if not isinstance(config, config_type):
            held = f"a {type(config).__name__}" if isinstance(config, Config) else shown(config)
            hint = "()" if config is config_type else ""
            raise ValueError(
                f"config is {held}; {name} takes a jgps.configs.{config_type.__name__}{hint}"
            )
        _check_smoothing(task, config)
        require_memory(name, task, config)
        algorithm = make(*args, **kwargs)
        return algorithm._replace(init=functools.partial(_init, algorithm.init))

    return checked


def check_task(name: str, task: Any) -> None:
    """Refuses what is no task, and one whose conditions have params that are not alike.

    Raises:
      ValueError: says how to make one.
    """
    if not isinstance(task, Task):
        made = f"jgps.tasks.make({task!r})" if isinstance(task, str) else "jgps.tasks.make(...)"
        raise ValueError(f"task is {shown(task)}; {name} takes a task, as {made} returns")
    check_params_alike(task.train, test=task.test, distracted=task.distracted)


def check_key(key: Any) -> None:
    """Refuses what is no random key.

    Raises:
      ValueError: says how to make one.
    """
    if isinstance(key, jax.Array):
        new = jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.shape == ()
        if new or (key.dtype == jnp.uint32 and key.shape == (2,)):
            return
    made = f"jax.random.key({key})" if isinstance(key, int) else "jax.random.key(0)"
    array = isinstance(key, jax.Array | np.ndarray)
    held = f"an array {list(key.shape)} of {key.dtype}" if array else shown(key)
    raise ValueError(f"key is {held}; it has to be one random key, {made}")


def _init(init: Callable[[jax.Array], Any], key: jax.Array) -> Any:
    check_key(key)
    return init(key)


def _check_smoothing(task: Task, config: Any) -> None:
    """Refuses noise that hardly changes within the horizon."""
    name = "config.rollouts" if hasattr(config, "rollouts") else "config"
    smoothing = getattr(getattr(config, "rollouts", config), "noise_smoothing", 0)
    if smoothing > task.horizon:
        raise ValueError(
            f"{name}.noise_smoothing is {smoothing:g} steps; it has to be at most the "
            f"horizon of {task.name!r}, {task.horizon} steps, usually 2"
        )


def _unknown(name: str, config_type: type[Config], unknown: str) -> str:
    """The sentence on an argument that the function does not have."""
    place = written_out(config_type, unknown)
    if place is None:
        hint = did_you_mean(unknown, ("task", "config", "backend"))
    else:
        hint = f"; it is a setting: config={place}"
    return f"{name} has no argument {shown(unknown)}; it takes task, config and backend{hint}"


def require_memory(name: str, task: Task, config: Any) -> None:
    """Refuses settings with which one iteration takes more memory than this machine has.

    Raises:
      ValueError: says how many GiB they take, what for, and which to lower.
    """
    memory.require(f"{name} on {task.name!r}", estimate(task, config), _remedy(task, config))


def estimate(task: Task, config: Any) -> dict[str, int]:
    """Bytes that an iteration takes at the very least, by what for."""
    if isinstance(config, MpcConfig):
        return plan_sizes(config, task, task.train.num)
    plans = {}
    if isinstance(config, TeachingConfig):  # of two kinds at most
        plans = plan_sizes(config, task, config.num_samples * task.train.num)
    if isinstance(config, MpcDaggerConfig):
        plans = {**plan_sizes(config, task, config.episodes), **_labels(task, config)}
    dX, dU, T = task.state_dim, task.action_dim, task.horizon
    rollouts, size = _rollouts(task, config), 8 if jax.config.read("jax_enable_x64") else 4
    rows = rollouts * T
    controllers = getattr(getattr(config, "rollouts", None), "num_groups", task.train.num)
    parts = {
        f"{rollouts:,} rollouts of {T:,} steps": size * rows * (dX + dU + task.observation_dim),
        f"controllers of {T:,} steps": size * controllers * T * dU * (dX + dU),
    }
    models = getattr(config, "models", None)
    if models is not None:
        parts[f"models of {T:,} steps"] = size * controllers * T * (2 * dX + dU) ** 2
        if isinstance(getattr(models, "prior", None), MixturePriorConfig):
            seen = models.prior.window * rows
            parts[f"{seen:,} points of the prior"] = size * seen * (2 * dX + dU)
    policy: Any = getattr(config, "policy", None)
    if policy is not None:
        widths = (task.configuration_dim, *policy.hidden, dU)
        weights = sum(a * b for a, b in itertools.pairwise(widths))
        parts[f"a network of {weights:,} weights"] = 4 * size * weights  # Adam has two more of each
    if policy is not None and hasattr(policy, "pretraining_images"):
        pixels = 3 * policy.pretraining_images * policy.width * policy.height
        parts[f"{policy.pretraining_images:,} images to pretrain on"] = pixels
    return {**parts, **plans}


def _labels(task: Task, config: MpcDaggerConfig) -> dict[str, int]:
    """Bytes of the labels that are kept, with their gains in half precision."""
    dO, dU = task.observation_dim, task.action_dim
    each = 4 * (dO + dU) + (2 * dO * dU if config.learns_gains else 0)
    return {f"{config.labels_kept:,} labels": config.labels_kept * each}


def _rollouts(task: Task, config: Any) -> int:
    """How many rollouts an iteration has."""
    settings = getattr(config, "rollouts", None)
    if settings is None:
        kept = getattr(config, "num_samples", 1) * getattr(config, "iterations_kept", 1)
        return kept * task.train.num
    drawn = getattr(settings, "num_rollouts", None)
    return rollouts_each(task, settings) * task.train.num if drawn is None else drawn


def _remedy(task: Task, config: Any) -> str:
    """Names what is furthest beyond what is usual."""
    if isinstance(config, MpcConfig):
        return "lower config.horizon, conditions, or how many rollouts config.planner makes at once"
    numbers = {"the task's horizon": task.horizon / 100, "conditions": task.train.num / 20}
    for name, usual in (("num_samples", 2), ("horizon", 25), ("iterations_kept", 12)):
        if isinstance(config, TeachingConfig):
            numbers[f"config.{name}"] = getattr(config, name) / usual
    if isinstance(config, MpcDaggerConfig):
        for name, usual in (("episodes", 48), ("horizon", 25), ("labels_kept", 200_000)):
            numbers[f"config.{name}"] = getattr(config, name) / usual
    for name, usual in (("num_samples", USUAL_SAMPLES), ("num_rollouts", 20)):
        number = getattr(getattr(config, "rollouts", None), name, None)
        if number is not None:
            numbers[f"config.rollouts.{name}"] = number / usual
    policy: Any = getattr(config, "policy", None)
    if policy is not None:
        numbers["config.policy.hidden"] = math.prod(policy.hidden) / 1600
    if policy is not None and hasattr(policy, "pretraining_images"):
        images = policy.pretraining_images * policy.width * policy.height
        numbers["config.policy.pretraining_images, width or height"] = images / (2000 * 64**2)
    return f"lower {max(numbers, key=lambda name: numbers[name])}"
