"""Published algorithms, one file each, on shared parts."""

from jgps.algorithms.algorithm import Algorithm, Inspection, Metrics
from jgps.algorithms.step_size import StepSizeConfig
from jgps.algorithms.trajopt import TrajoptConfig, TrajoptState, trajopt

ALGORITHMS = {"trajopt": (trajopt, TrajoptConfig)}

__all__ = [
    "ALGORITHMS",
    "Algorithm",
    "Inspection",
    "Metrics",
    "StepSizeConfig",
    "TrajoptConfig",
    "TrajoptState",
    "trajopt",
]
