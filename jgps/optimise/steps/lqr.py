"""The KL-constrained LQR step in every condition, with a bound that adapts to its own success."""

import dataclasses
import functools
from typing import NamedTuple

import jax

from jgps.core import lqr
from jgps.core.checks import check_field, check_kinds
from jgps.core.lqr.trust_region import TrustRegionConfig, TrustRegionInfo
from jgps.core.types import OK, Controller, Status, worst
from jgps.optimise.models import LocalModels, choose, default_dtype
from jgps.optimise.step_size import StepMemory, first_memory, next_multiplier
from jgps.optimise.steps.step import StepInputs, StepResult, TrajectoryStep


@dataclasses.dataclass(frozen=True, kw_only=True)
class LqrStepConfig:
    """How far the LQR step moves the controllers.

    The KL bound of an iteration is `horizon * kl_step * multiplier`.

    Attributes:
      kl_step: KL divergence per time step, nats, > 0.
      min_multiplier, max_multiplier: limits of the multiplier, 0 < min <= 1 <= max. From one
        iteration to the next it follows how well the last step was predicted, see
        `jgps.optimise.step_size`.
      shared_multiplier: whether all conditions have the same multiplier, from what the last step
        came to on average; a condition whose models err then holds back no step of its own.
      trust_region: how the multiplier eta of the divergence is searched for.
    """

    kl_step: float = 1.0
    min_multiplier: float = 0.01
    max_multiplier: float = 10.0
    shared_multiplier: bool = False
    trust_region: TrustRegionConfig = TrustRegionConfig()

    def __post_init__(self) -> None:
        check_kinds(self)
        check_field(self, "kl_step", lambda v: v > 0, "> 0 nats, usually 0.1 to 2")
        check_field(self, "min_multiplier", lambda v: 0 < v <= 1, "in (0, 1], usually 0.01 to 0.1")
        check_field(self, "max_multiplier", lambda v: v >= 1, ">= 1, usually 1 to 10")


def lqr_step(horizon: int, config: LqrStepConfig) -> TrajectoryStep:
    """The step of trajectories of `horizon` steps."""

    def improve(memory: StepMemory, inputs: StepInputs) -> StepResult:
        models, cost_now = inputs.models, inputs.cost_now
        assert models is not None and cost_now is not None
        usable = (models.status.code == OK) & inputs.comparable
        memory = adapt_bound(memory, cost_now, usable, config)
        return improve_within_bound(
            horizon, config, memory, models, inputs.trust_region_centre, inputs.controllers
        )

    return TrajectoryStep(init=initial_memory, improve=improve)


def initial_memory(num: int) -> StepMemory:
    """What the first step of `num` controllers remembers."""
    return first_memory(num, default_dtype())


def adapt_bound(
    memory: StepMemory, cost_now: jax.Array, usable: jax.Array, config: LqrStepConfig
) -> StepMemory:
    """The memory with the multiplier of the next bound, see `step_size.next_multiplier`."""
    limits = (config.min_multiplier, config.max_multiplier)
    multiplier = next_multiplier(memory, cost_now, usable, limits, shared=config.shared_multiplier)
    return memory._replace(multiplier=multiplier)


def improve_within_bound(
    horizon: int,
    config: LqrStepConfig,
    memory: StepMemory,
    models: LocalModels,
    trust_region_centre: Controller,
    kept: Controller,
    entropy_weight: float | jax.Array = 0.0,
) -> StepResult:
    """The best controllers on the models within the bound that the memory's multiplier gives.

    Args:
      horizon: T.
      config: of the bound and of the search.
      memory: see `adapt_bound`.
      models: of every condition.
      trust_region_centre: what the divergence is measured from.
      kept: the controllers of a condition whose models or whose search failed.
      entropy_weight: scalar or [C, T], see `lqr.solve_kl_constrained`.
    """
    epsilon = horizon * config.kl_step * memory.multiplier  # nats, summed over time, [C]
    solve = functools.partial(_solve, config=config.trust_region)
    weight_axis = 0 if getattr(entropy_weight, "ndim", 0) else None
    solved = jax.vmap(solve, in_axes=(0, 0, 0, 0, weight_axis))(
        models, trust_region_centre, epsilon, memory.eta, entropy_weight
    )
    return _conclude(_Solved(*solved), models.status, kept, memory, epsilon)


class _Solved(NamedTuple):
    controllers: Controller
    info: TrustRegionInfo


def _solve(
    model: LocalModels,
    trust_region_centre: Controller,
    epsilon: jax.Array,
    eta: jax.Array,
    entropy_weight: float | jax.Array,
    *,
    config: TrustRegionConfig,
) -> tuple[Controller, TrustRegionInfo]:
    return lqr.solve_kl_constrained(
        model.dynamics, model.cost, trust_region_centre, model.initial, epsilon,
        entropy_weight=entropy_weight, eta=eta, config=config,
    )  # fmt: skip


def _conclude(
    solved: _Solved, fitted: Status, kept: Controller, memory: StepMemory, epsilon: jax.Array
) -> StepResult:
    """Takes the step where models and search are OK, and says what happened."""
    info = solved.info
    status = jax.vmap(worst)(fitted, info.status)
    stepped = status.code == OK
    return StepResult(
        controllers=choose(stepped, solved.controllers, kept),
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
