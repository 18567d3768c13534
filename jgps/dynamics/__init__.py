"""Samples -> time-varying linear-Gaussian models."""

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

__all__ = [
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
    "make_points_prior",
    "make_prior",
]
