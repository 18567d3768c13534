"""The step of iLQG with a reward for entropy: the LQR step within the limits of the controls.

Local models by derivatives (`KnownModelsConfig`) and this step are an iteration of iLQG whose line
search is the KL bound. What comes of it is the linear-Gaussian controller that guided policy
search needs: its covariance is a temperature times the inverse of Q_uu.

Source: Levine & Koltun (2013), "Guided policy search"; Levine & Koltun (2014), "Learning complex
neural network policies with trajectory optimization"; for the limits see `jgps.core.lqr.limited`.
"""

import dataclasses
from typing import Annotated

import jax
import jax.numpy as jnp

from jgps.core.checks import Range
from jgps.core.lqr.limited import ControlLimits, KlProblem, solve_kl_constrained_within
from jgps.core.lqr.trust_region import TrustRegionInfo
from jgps.core.types import Controller
from jgps.optimise.models import LocalModels
from jgps.optimise.steps.lqr import LqrStepConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class IlqgStepConfig(LqrStepConfig):
    """How far the iLQG step moves the controllers: as the LQR step, within the controls' limits.

    The mean actions on the models are within the limits of the training conditions' controls. Those
    at a limit have no gains, and the other gains count with that. Covariances are those of the
    whole Q_uu, (eta + entropy_weight) Q_uu^-1, with the multiplier eta of the KL bound. The rule
    for the bound compares what a step promised with what newer models expect of its controllers
    without limits: where those models carry means beyond a limit, the bound may be too wide.

    Attributes:
      limit_passes: how many backward passes may find out which controls are at a limit, >= 1, for
        each eta; where no control is, none is made.
      entropy_weight: as of `LqrStepConfig`; with it eta + entropy_weight is the temperature.
      others: see `LqrStepConfig`.
    """

    limit_passes: Annotated[int, Range("[1, 100]", "usually 4")] = 4


def solve_within_limits(
    config: IlqgStepConfig,
    limits: jax.Array,
    models: LocalModels,
    trust_region_centre: Controller,
    epsilon: jax.Array,
    eta: jax.Array,
    entropy_weight: float | jax.Array,
) -> tuple[Controller, TrustRegionInfo]:
    """The best controllers within the bounds and within the limits [2, C, dU] of the controls."""

    def of_one(model, centre, epsilon, eta, worth, limits):
        return solve_kl_constrained_within(
            KlProblem(model.dynamics, model.cost, centre, model.initial), epsilon, limits,
            entropy_weight=worth, eta=eta, config=config.trust_region, passes=config.limit_passes,
        )  # fmt: skip

    each = jax.vmap(of_one, in_axes=(0, 0, 0, 0, 0 if jnp.ndim(entropy_weight) else None, 0))
    own = ControlLimits(*limits)
    return each(models, trust_region_centre, epsilon, eta, entropy_weight, own)
