"""Pure maths of one trajectory; callers `vmap`. Knows no simulator and no network."""

from jgps.core import gaussian, linalg, lqr, types
from jgps.core.estimation import kmeans, mixture, regression
from jgps.core.lqr import MaximumEntropyInfo, trust_region
from jgps.core.lqr.trust_region import TrustRegionConfig, TrustRegionInfo
from jgps.core.types import (
    Controller,
    Dynamics,
    Gaussian,
    Marginals,
    QuadraticCost,
    QuadraticValue,
    Rollouts,
    Status,
)

__all__ = [
    "Controller",
    "Dynamics",
    "Gaussian",
    "Marginals",
    "MaximumEntropyInfo",
    "QuadraticCost",
    "QuadraticValue",
    "Rollouts",
    "Status",
    "TrustRegionConfig",
    "TrustRegionInfo",
    "gaussian",
    "kmeans",
    "linalg",
    "lqr",
    "mixture",
    "regression",
    "trust_region",
    "types",
]
