"""The path-integral step in every condition: samples weighted by their cost, no models."""

import functools

import jax
import jax.numpy as jnp

from jgps.core import path_integral
from jgps.core.path_integral import Pi2StepConfig
from jgps.core.types import OK, Controller
from jgps.optimise.models import choose
from jgps.optimise.steps.step import StepInputs, StepResult, TrajectoryStep


def pi2_step(config: Pi2StepConfig) -> TrajectoryStep:
    """The step on what the rollouts cost; it remembers nothing."""

    def improve(memory: tuple[()], inputs: StepInputs) -> StepResult:
        rollouts, sampled_with = inputs.rollouts, inputs.sampled_with
        update = functools.partial(path_integral.improve, config=config)
        updated, info = jax.vmap(update)(sampled_with, rollouts, inputs.sampled_costs)
        moved = updated
        if inputs.trust_region_centre is not sampled_with:
            # The noise that cost little is added to what the controllers are held to.
            centre = inputs.trust_region_centre
            moved = Controller(K=centre.K, k=centre.k + updated.k - sampled_with.k, C=updated.C)
        stepped = info.status.code == OK
        if inputs.models is not None:
            stepped &= inputs.models.status.code == OK
        metrics = {
            "weights_kl": jnp.mean(info.kl, axis=1),
            "temperature": jnp.mean(info.eta, axis=1),
            "status": info.status.code,
            "status_step": info.status.step,
        }
        return StepResult(choose(stepped, moved, inputs.controllers), memory, metrics)

    return TrajectoryStep(init=lambda num: (), improve=improve)
