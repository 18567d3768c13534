"""Samples -> time-varying linear-Gaussian models, of whole rollouts or online."""

from jgps.core.estimation.mixture import MixtureConfig
from jgps.core.estimation.regression import NormalInverseWishart
from jgps.dynamics.fit import FitConfig, fit, fit_initial
from jgps.dynamics.prior import (
    ConstantPriorConfig,
    MixturePriorConfig,
    NoPriorConfig,
    PointsPrior,
    Prior,
    PriorConfig,
    make_points_prior,
    make_prior,
)
from jgps.dynamics.recursive import (
    Adaptation,
    AdaptationConfig,
    AdaptationState,
    make_adaptation,
    prior_model,
)

__all__ = [
    "Adaptation",
    "AdaptationConfig",
    "AdaptationState",
    "ConstantPriorConfig",
    "FitConfig",
    "MixtureConfig",
    "MixturePriorConfig",
    "NoPriorConfig",
    "NormalInverseWishart",
    "PointsPrior",
    "Prior",
    "PriorConfig",
    "fit",
    "fit_initial",
    "make_adaptation",
    "make_points_prior",
    "make_prior",
    "prior_model",
]
