"""The KL-constrained LQR step in every condition, which most algorithms take."""

from typing import NamedTuple

import jax

from jgps.core import lqr
from jgps.core.lqr.trust_region import TrustRegionConfig, TrustRegionInfo
from jgps.core.types import OK, Controller, Status, worst
from jgps.optimise.algorithm import Metrics
from jgps.optimise.models import LocalModels, choose
from jgps.optimise.step_size import StepMemory


class StepResult(NamedTuple):
    """New controllers, and what to remember of the step; leaves [C, ...]."""

    controllers: Controller
    memory: StepMemory
    metrics: Metrics


def lqr_step(
    models: LocalModels,
    previous: Controller,
    kept: Controller,
    memory: StepMemory,
    epsilon: jax.Array,
    config: TrustRegionConfig,
    entropy_weight: float | jax.Array = 0.0,
) -> StepResult:
    """The best controllers on the models within `epsilon` of `previous`.

    Args:
      models: of every condition.
      previous: what the divergence is measured from.
      kept: the controllers of a condition whose models or whose search failed.
      memory: its multiplier is the one that `epsilon` was made with.
      epsilon: bound of the divergence, summed over time, nats, [C].
      config: of the search.
      entropy_weight: scalar or [C, T], see `lqr.solve_kl_constrained`.
    """

    def solve(model, previous, epsilon, eta, weight):
        return lqr.solve_kl_constrained(
            model.dynamics, model.cost, previous, model.initial, epsilon,
            entropy_weight=weight, eta=eta, config=config,
        )  # fmt: skip

    weight_axis = 0 if getattr(entropy_weight, "ndim", 0) else None
    controllers, info = jax.vmap(solve, in_axes=(0, 0, 0, 0, weight_axis))(
        models, previous, epsilon, memory.eta, entropy_weight
    )
    status = jax.vmap(worst)(models.status, info.status)
    return conclude(controllers, kept, info, status, memory, epsilon)


def conclude(
    controllers: Controller,
    kept: Controller,
    info: TrustRegionInfo,
    status: Status,
    memory: StepMemory,
    epsilon: jax.Array,
) -> StepResult:
    """Takes the step where `status` [C] is OK and says what happened."""
    stepped = status.code == OK
    return StepResult(
        controllers=choose(stepped, controllers, kept),
        memory=StepMemory(
            eta=choose(stepped, info.eta, memory.eta),
            multiplier=memory.multiplier,
            cost_before=choose(stepped, info.cost_previous, memory.cost_before),
            cost_predicted=choose(stepped, info.cost, memory.cost_predicted),
            stepped=stepped,
        ),
        metrics={
            "cost_predicted": info.cost,
            "kl": info.kl,
            "kl_bound": epsilon,
            "eta": info.eta,
            "step_multiplier": memory.multiplier,
            "search_rounds": info.rounds,
            "status": status.code,
            "status_step": status.step,
        },
    )
