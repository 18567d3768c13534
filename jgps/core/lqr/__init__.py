"""Linear-quadratic problems: the public face of the Riccati passes and of the objectives on top."""

from jgps.core.lqr.maximum_entropy import MaximumEntropyInfo, solve_maximum_entropy
from jgps.core.lqr.riccati import backward, expected_cost, forward
from jgps.core.lqr.trust_region import (
    PerStepTrustRegionConfig,
    TrustRegionConfig,
    TrustRegionInfo,
    solve_kl_constrained,
    solve_kl_constrained_per_step,
)

__all__ = [
    "MaximumEntropyInfo",
    "PerStepTrustRegionConfig",
    "TrustRegionConfig",
    "TrustRegionInfo",
    "backward",
    "expected_cost",
    "forward",
    "solve_kl_constrained",
    "solve_kl_constrained_per_step",
    "solve_maximum_entropy",
]
