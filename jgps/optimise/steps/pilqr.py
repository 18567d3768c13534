"""The PILQR step in every condition: LQR on the models, path integrals on what they leave over."""

import functools

import jax
import jax.numpy as jnp

from jgps.core import pilqr
from jgps.core.checks import refuse
from jgps.core.pilqr import PilqrInfo, PilqrMemory, PilqrStepConfig
from jgps.core.types import OK, worst
from jgps.optimise.algorithm import Metrics
from jgps.optimise.models import choose, default_dtype
from jgps.optimise.steps.step import StepInputs, StepResult, TrajectoryStep


def pilqr_step(horizon: int, config: PilqrStepConfig) -> TrajectoryStep:
    """The step of trajectories of `horizon` steps.

    Raises:
      ValueError: if a setting has a number for every step, but of another horizon.
    """
    for field in pilqr.PER_STEP:
        value = getattr(config, field)
        if isinstance(value, tuple) and len(value) != horizon:
            refuse(config, field, f"one number, or one for each of the {horizon} steps")

    def init(num: int) -> PilqrMemory:
        one = pilqr.first_memory(horizon, default_dtype())
        return jax.tree.map(lambda leaf: jnp.tile(leaf, (num, 1)), one)

    def improve(memory: PilqrMemory, inputs: StepInputs) -> StepResult:
        models, rollouts = inputs.models, inputs.rollouts
        assert models is not None
        update = functools.partial(pilqr.improve, config=config)
        controllers, new_memory, info = jax.vmap(update)(
            inputs.trust_region_centre, inputs.sampled_with, models.dynamics, models.cost,
            models.initial, rollouts, inputs.sampled_costs, memory,
        )  # fmt: skip
        status = jax.vmap(worst)(models.status, info.status)
        stepped = status.code == OK
        return StepResult(
            controllers=choose(stepped, controllers, inputs.controllers),
            memory=choose(stepped, new_memory, memory),
            metrics={**_metrics(info), "status": status.code, "status_step": status.step},
        )

    return TrajectoryStep(init=init, improve=improve)


def _metrics(info: PilqrInfo) -> Metrics:
    """What both stages did, [C]."""
    return {
        "cost_predicted": info.lqr.cost,
        "kl": info.lqr.kl,
        "kl_bound": jnp.sum(info.epsilon, axis=1),
        "eta": jnp.median(info.lqr.eta, axis=1),
        "search_rounds": info.lqr.rounds,
        "unexplained": jnp.mean(info.unexplained, axis=1),
        "weights_kl": jnp.mean(info.kl, axis=1),
        "temperature": jnp.mean(info.temperature, axis=1),
    }
