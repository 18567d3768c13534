"""What a trajectory step is: from local models and rollouts to better controllers."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jgps.core.types import Controller, Rollouts
from jgps.optimise.algorithm import Metrics
from jgps.optimise.models import LocalModels


class StepInputs(NamedTuple):
    """What one iteration found out; leaves [C, ...]."""

    # fitted to the rollouts, their status is not OK where that failed; None without models
    models: LocalModels | None
    rollouts: Rollouts  # [C, N, T, ...], with noise
    sampled_costs: jax.Array  # [C, N, T], what their steps cost
    controllers: Controller  # the last ones, which a condition keeps where its step fails
    trust_region_centre: Controller  # what the new controllers stay near to
    sampled_with: Controller  # what the rollouts were drawn from
    # [C], expected cost on these models of what the last step led to; None without models
    cost_now: jax.Array | None
    comparable: bool  # whether that may be compared with what the last step promised
    iteration: jax.Array  # [] int, the first is 0


def about_controllers(
    controllers: Controller,
    models: LocalModels | None,
    rollouts: Rollouts,
    sampled_costs: jax.Array,
    cost_now: jax.Array | None,
    iteration: jax.Array,
) -> StepInputs:
    """The inputs where rollouts are the controllers' own, and new ones stay near to them."""
    return StepInputs(
        models=models,
        rollouts=rollouts,
        sampled_costs=sampled_costs,
        controllers=controllers,
        trust_region_centre=controllers,
        sampled_with=controllers,
        cost_now=cost_now,
        comparable=True,
        iteration=iteration,
    )


class StepResult(NamedTuple):
    """New controllers, and what to remember of the step; leaves [C, ...]."""

    controllers: Controller
    memory: Any
    metrics: Metrics  # `status` and `status_step` [C] among them


class TrajectoryStep(NamedTuple):
    """One way to improve the controllers of all conditions; its functions are pure.

    `init(num)` is what the first step of `num` controllers remembers, leaves [num, ...];
    `improve(memory, inputs)` takes the step in every condition. A condition whose models, samples
    or search fail keeps its controller and its memory, and the status in the metrics says why.
    """

    init: Callable[[int], Any]
    improve: Callable[[Any, StepInputs], StepResult]
