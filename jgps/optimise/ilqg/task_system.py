"""A task on one of its backends as a known system, and the way back to its state x."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jgps.core.host import to_device
from jgps.optimise.ilqg.simulated import simulated
from jgps.optimise.ilqg.system import Goal, KnownSystem, Paths
from jgps.optimise.models import default_dtype
from jgps.simulation import Conditions, SimulationRollouts
from jgps.simulation.inverse import StateInverse
from jgps.tasks import Task


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


def task_system(task: Task, conditions: Conditions, backend: str) -> TaskSystem:
    """The task from these conditions.

    Raises:
      ValueError: for a task whose state does not tell where the simulation is.
    """
    del backend
    system, begin, goal = simulated(task, conditions)
    inverse = StateInverse(task.model, task.layout)

    def rollouts(paths: Paths) -> SimulationRollouts:
        x, u = (to_device(np.asarray(a)[:, None]) for a in (paths.x, paths.u))
        valid = jnp.isfinite(paths.cost)[:, None]
        qpos = paths.state[:, None, :, 1 : 1 + task.model.nq]
        return SimulationRollouts(x=x, u=u, valid=valid, qpos=qpos, o=x)

    return TaskSystem(system, begin, goal, inverse.left, rollouts)


def seen(paths: Paths) -> Any:
    """What JAX computes with of paths: x and u in its own precision."""
    dtype = default_dtype()
    return jnp.asarray(paths.x, dtype), jnp.asarray(paths.u, dtype)
