"""The steps within a bound of the divergence; the type of the settings decides which it is."""

import functools

import jax.numpy as jnp

from jgps.optimise.models import default_dtype
from jgps.optimise.steps.ilqg import IlqgStepConfig, solve_within_limits
from jgps.optimise.steps.lqr import LqrStepConfig, Solve, lqr_step, solve_without_limits
from jgps.optimise.steps.step import TrajectoryStep
from jgps.simulation.conditions import condition_models
from jgps.simulation.system import control_ranges
from jgps.tasks import Task

BoundedStepConfig = LqrStepConfig | IlqgStepConfig


def bounded_step(task: Task, config: BoundedStepConfig) -> TrajectoryStep:
    """The step that the settings ask for, on a task's training conditions."""
    return lqr_step(config, make_solve(task, config))


def make_solve(task: Task, config: BoundedStepConfig) -> Solve:
    """What finds the best controllers within their bounds, see `lqr_step`."""
    if not isinstance(config, IlqgStepConfig):
        return functools.partial(solve_without_limits, config)
    limits = control_ranges(condition_models(task.model, task.train))
    return functools.partial(solve_within_limits, config, jnp.asarray(limits, default_dtype()))
