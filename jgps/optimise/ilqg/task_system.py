"""A task on one of its backends as a known system, and the way back to its state x."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jgps.core.host import to_device
from jgps.optimise.ilqg.simulated import known_system
from jgps.optimise.ilqg.system import Goal, KnownSystem, Paths, analytic
from jgps.optimise.ilqg.system import goal as plain_goal
from jgps.optimise.models import default_dtype
from jgps.simulation import Conditions, SimulationRollouts, condition_models, resolve_backend
from jgps.simulation.derivatives import DerivativesConfig, MjxDerivativesConfig
from jgps.simulation.inputs import changing
from jgps.simulation.inverse import StateInverse
from jgps.simulation.system import control_ranges
from jgps.tasks import Task
from jgps.tasks.functions import params_of
from jgps.tasks.start import initial_states


class TaskSystem(NamedTuple):
    """Known dynamics of a task from some conditions [B].

    Attributes:
      system: dynamics, cost and limits.
      begin: paths [B, T, ...] from where the conditions start under what holds the start.
      goal: what the conditions' params say, from step 0.
      left: of x [..., dX], what turns its small changes into those of the system's state.
      rollouts: of paths [B, T, ...], the same as rollouts [B, 1, T, ...], for figures.
    """

    system: KnownSystem
    begin: Paths
    goal: Goal
    left: Callable[[jax.Array], jax.Array]
    rollouts: Callable[[Paths], SimulationRollouts]


def task_system(
    task: Task,
    conditions: Conditions,
    backend: str,
    *,
    derivatives: DerivativesConfig | MjxDerivativesConfig | None = None,
    second_order: bool | None = False,
) -> TaskSystem:
    """The task from these conditions.

    Args:
      task: it has dynamics of its own, or a state that tells where its simulation is.
      conditions: where trajectories start.
      backend: "native", "mjx", "analytic" or "auto".
      derivatives: how the simulator is differentiated, settings of that backend; None is its
        defaults.
      second_order: whether second derivatives of the dynamics count (DDP); None is where these are
        the task's own.

    Raises:
      ValueError: for a backend that can't simulate the task, a task whose state does not tell where
        the simulation is, inputs that change, and second derivatives of a simulator.
    """
    if changing(conditions.inputs):
        raise ValueError(
            f"conditions have the input {changing(conditions.inputs)[0]!r}, which changes over "
            "time, and searches and plans by iLQG take the simulator as it is at the start; leave "
            "inputs out of the training conditions, or use an algorithm that samples rollouts"
        )
    name = resolve_backend(backend, task.system)
    if name == "analytic":
        return _analytic(task, conditions, second_order is not False)
    if second_order:
        raise ValueError(
            "second derivatives are those of dynamics that are a JAX function; the simulator has "
            "first ones: leave second_order=False, or give the task dynamics"
        )
    kind = MjxDerivativesConfig if name == "mjx" else DerivativesConfig
    config = kind() if derivatives is None else derivatives
    if not isinstance(config, kind):
        raise ValueError(
            f"derivatives is a {type(config).__name__}, which is not of backend {name!r}; that "
            f"takes a jgps.configs.{kind.__name__}"
        )
    system, begin, goal = known_system(task, conditions, config)
    inverse = StateInverse(task.model, task.layout)
    first = 0 if name == "mjx" else 1  # behind the time, which MJX's states don't have

    def rollouts(paths: Paths) -> SimulationRollouts:
        return _rollouts(paths, np.asarray(paths.state)[..., first : first + task.model.nq])

    return TaskSystem(system, begin, goal, inverse.left, rollouts)


def _analytic(task: Task, conditions: Conditions, second_order: bool) -> TaskSystem:
    assert task.dynamics is not None
    limits = control_ranges(condition_models(task.model, conditions))
    if np.all(limits == limits[:, :1]):
        limits = limits[:, 0]
    system = analytic(task.dynamics, task.cost, task.state_dim, limits, second_order=second_order)
    x0, dtype = np.asarray(initial_states(task, conditions)), default_dtype()
    x = np.repeat(x0[:, None], task.horizon, axis=1).astype(dtype)
    u = np.zeros((conditions.num, task.horizon, task.action_dim), dtype)
    if conditions.ctrl is not None:
        u += np.asarray(conditions.ctrl)[:, None]
    begin = Paths(jnp.asarray(x), jnp.asarray(x), jnp.asarray(u), jnp.zeros(conditions.num, dtype))
    frozen, index = conditions.qpos, task.layout.index
    told = index < task.model.nq

    def left(x: jax.Array) -> jax.Array:
        eye = jnp.eye(task.state_dim, dtype=x.dtype)
        return jnp.broadcast_to(eye, (*x.shape, task.state_dim))

    def rollouts(paths: Paths) -> SimulationRollouts:
        qpos = np.repeat(frozen[:, None], paths.x.shape[1], axis=1)
        qpos[..., index[told]] = np.asarray(paths.x)[..., told]
        return _rollouts(paths, qpos)

    return TaskSystem(
        system, begin, plain_goal(conditions.num, params_of(conditions)), left, rollouts
    )


def _rollouts(paths: Paths, qpos: np.ndarray) -> SimulationRollouts:
    x, u = (to_device(np.asarray(a)[:, None]) for a in (paths.x, paths.u))
    valid = jnp.isfinite(paths.cost)[:, None]
    return SimulationRollouts(x=x, u=u, valid=valid, qpos=qpos[:, None], o=x)


def seen(paths: Paths) -> Any:
    """What JAX computes with of paths: x and u in its own precision."""
    dtype = default_dtype()
    return jnp.asarray(paths.x, dtype), jnp.asarray(paths.u, dtype)
