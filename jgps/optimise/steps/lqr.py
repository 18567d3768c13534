"""The KL-constrained LQR step in every condition, with a bound that adapts to its own success."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from jgps.core import lqr
from jgps.core.checks import Config, Range, Schedule
from jgps.core.lqr.trust_region import TrustRegionConfig, TrustRegionInfo
from jgps.core.schedule import at_iteration
from jgps.core.types import OK, Controller, Rollouts, Status, worst
from jgps.optimise.models import LocalModels, choose, default_dtype
from jgps.optimise.step_size import StepMemory, first_memory, next_multiplier
from jgps.optimise.steps.step import StepInputs, StepResult, TrajectoryStep

_ORDER = 10.0  # of costs that are expected beside the highest that a sample had


@dataclasses.dataclass(frozen=True, kw_only=True)
class LqrStepConfig(Config):
    """How far the LQR step moves the controllers.

    The KL bound of an iteration is `horizon * kl_step * multiplier`.

    Attributes:
      kl_step: KL divergence per time step, nats, > 0.
      min_multiplier, max_multiplier: limits of the multiplier, 0 < min <= 1 <= max. From one
        iteration to the next it follows how well the last step was predicted, see
        `jgps.optimise.step_size`.
      enough: share of the improvement that the models predicted, (0, 0.5]: a step that brought it
        does not lower the multiplier; 0.5 is the published rule.
      entropy_weight: what a nat of the actions' entropy, given the state, is worth at every step,
        in units of the cost, >= 0: one number, or one per iteration, of which the last stays.
        Above 0 the controllers go on exploring where it costs little. The bound is adapted by the
        cost alone: a step that trades cost for entropy lowers it.
      shared_multiplier: whether all conditions have the same multiplier, from what the last step
        came to on average; a condition whose models err then holds back no step of its own.
      inner_iterations: how often the step is taken on the same models and samples, >= 1, each time
        within the bound about what the one before made; so controllers move further than models
        have been seen to be right. It counts for the next multiplier what all of them promised
        together. (In the code of 2016 a setting of this name solves the same problem again, about
        the same controllers, from a better start of the search.)
      trust_region: how the multiplier eta of the divergence is searched for.
    """

    kl_step: Annotated[float, Range("(0, 1e9]", "usually 0.1 to 2 nats")] = 1.0
    min_multiplier: Annotated[float, Range("(0, 1]", "usually 0.01 to 0.1")] = 0.01
    max_multiplier: Annotated[float, Range("[1, 1e6]", "usually 1 to 10")] = 10.0
    enough: Annotated[float, Range("(0, 0.5]", "usually 0.1 to 0.5")] = 0.5
    entropy_weight: Annotated[float | tuple[float, ...], Schedule(">= 0", "usually 0 to 0.1")] = 0.0
    shared_multiplier: bool = False
    inner_iterations: Annotated[int, Range(">= 1", "usually 1")] = 1
    trust_region: TrustRegionConfig = TrustRegionConfig()


# Of models, trust region centres, bounds, multipliers and worth of entropy, leaves [C, ...], the
# last one also without C.
Solve = Callable[..., tuple[Controller, TrustRegionInfo]]


def lqr_step(config: LqrStepConfig, solve: Solve) -> TrajectoryStep:
    """The step within a bound of the divergence.

    Args:
      config: of the bound, its adaptation and the search.
      solve: finds the best controllers within their bounds, see `bounded.make_solve`.
    """

    def improve(memory: StepMemory, inputs: StepInputs) -> StepResult:
        models, cost_now = inputs.models, inputs.cost_now
        assert models is not None and cost_now is not None
        trusted = explains(models, cost_now, inputs.rollouts)
        usable = (models.status.code == OK) & trusted & inputs.comparable
        memory = adapt_bound(memory, cost_now, usable, config)
        worth = at_iteration(config.entropy_weight, inputs.iteration)
        improve_once = functools.partial(improve_within_bound, solve, config, entropy_weight=worth)
        several = config.inner_iterations > 1
        take = functools.partial(_repeat, improve_once, config) if several else improve_once
        result = take(memory, models, inputs.trust_region_centre, inputs.controllers)
        stepped = result.memory.stepped & trusted
        return result._replace(memory=result.memory._replace(stepped=stepped))

    return TrajectoryStep(init=initial_memory, improve=improve)


def explains(models: LocalModels, cost_now: jax.Array, rollouts: Rollouts) -> jax.Array:
    """Whether the cost that the models expect is of the order of the samples' costs, [C].

    Of those the sum over time without signs counts: costs may cancel.

    Models of few samples may be unstable and expect costs that are higher by decades. What they
    promise and what comes then says nothing about the size of a step.
    """
    x, u, valid = rollouts
    z = jnp.where(valid[..., None, None], jnp.concatenate([x, u], axis=-1), 0)
    bend = 0.5 * jnp.einsum("ctij,cntj->cnti", models.cost.H, z, precision="highest")
    at_steps = jnp.sum((bend + models.cost.g[:, None]) * z, axis=-1) + models.cost.h[:, None]
    sizes = jnp.sum(jnp.abs(at_steps), axis=-1)  # [C, N]
    highest = jnp.max(jnp.where(valid, sizes, 0), axis=1)
    return jnp.abs(cost_now) <= _ORDER * highest


def initial_memory(num: int) -> StepMemory:
    """What the first step of `num` controllers remembers."""
    return first_memory(num, default_dtype())


def adapt_bound(
    memory: StepMemory, cost_now: jax.Array, usable: jax.Array, config: LqrStepConfig
) -> StepMemory:
    """The memory with the multiplier of the next bound, see `step_size.next_multiplier`."""
    limits = (config.min_multiplier, config.max_multiplier)
    multiplier = next_multiplier(
        memory, cost_now, usable, limits, enough=config.enough, shared=config.shared_multiplier
    )
    return memory._replace(multiplier=multiplier)


def improve_within_bound(
    solve: Solve,
    config: LqrStepConfig,
    memory: StepMemory,
    models: LocalModels,
    trust_region_centre: Controller,
    kept: Controller,
    entropy_weight: float | jax.Array = 0.0,
) -> StepResult:
    """The best controllers on the models within the bound that the memory's multiplier gives.

    Args:
      solve: see `lqr_step`.
      config: of the bound and of the search.
      memory: see `adapt_bound`.
      models: of every condition.
      trust_region_centre: what the divergence is measured from.
      kept: the controllers of a condition whose models or whose search failed.
      entropy_weight: what a nat of entropy is worth, scalar or [C, T]; the config's own is not
        read.
    """
    horizon = models.cost.h.shape[-1]
    epsilon = horizon * config.kl_step * memory.multiplier  # nats, summed over time, [C]
    solved = solve(models, trust_region_centre, epsilon, memory.eta, entropy_weight)
    return _conclude(_Solved(*solved), models.status, kept, memory, epsilon)


def _repeat(
    improve_once: Callable[..., StepResult],
    config: LqrStepConfig,
    memory: StepMemory,
    models: LocalModels,
    trust_region_centre: Controller,
    kept: Controller,
) -> StepResult:
    """The inner iterations. One that fails leaves what the ones before it made.

    Metrics are those of a condition's last inner iteration that did not fail, but for the status,
    which is the first one's; `inner_iterations` says how many did not.
    """

    def once(carry, _):
        centre, kept, memory = carry
        result = improve_once(memory, models, centre, kept)
        # One that failed is tried again with what it failed with, and fails again.
        centre = choose(result.memory.stepped, result.controllers, centre)
        return (centre, result.controllers, result.memory), (result.memory, result.metrics)

    carry = (trust_region_centre, kept, memory)
    carry, (memories, metrics) = jax.lax.scan(once, carry, length=config.inner_iterations)
    _, controllers, last = carry
    taken = jnp.sum(memories.stepped, axis=0, dtype=jnp.int32)
    index = jnp.maximum(taken - 1, 0)[None]
    found = jax.tree.map(lambda leaf: jnp.take_along_axis(leaf, index, axis=0)[0], metrics)
    first = {name: metrics[name][0] for name in ("status", "status_step")}
    return StepResult(
        controllers=controllers,
        memory=last._replace(cost_before=memories.cost_before[0], stepped=memories.stepped[0]),
        metrics={**found, **first, "inner_iterations": taken},
    )


class _Solved(NamedTuple):
    controllers: Controller
    info: TrustRegionInfo


def solve_without_limits(
    config: LqrStepConfig,
    models: LocalModels,
    trust_region_centre: Controller,
    epsilon: jax.Array,
    eta: jax.Array,
    entropy_weight: float | jax.Array,
) -> tuple[Controller, TrustRegionInfo]:
    """The best controllers of every condition within the bounds, whatever limits controls have."""

    def of_one(model, centre, epsilon, eta, worth):
        return lqr.solve_kl_constrained(
            model.dynamics, model.cost, centre, model.initial, epsilon,
            entropy_weight=worth, eta=eta, config=config.trust_region,
        )  # fmt: skip

    each = jax.vmap(of_one, in_axes=(0, 0, 0, 0, 0 if jnp.ndim(entropy_weight) else None))
    return each(models, trust_region_centre, epsilon, eta, entropy_weight)


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
            "cost_predicted": jnp.where(stepped, info.cost, jnp.nan),
            "kl": info.kl,
            "kl_bound": epsilon,
            "eta": info.eta,
            "step_multiplier": memory.multiplier,
            "search_rounds": info.rounds,
            "status": status.code,
            "status_step": status.step,
        },
    )
