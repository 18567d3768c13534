"""JAX-accelerated batched trajectory optimisation and guided policy search.

Importing this package changes no global configuration.
"""

from jgps import (
    algorithms,
    configs,
    controllers,
    costs,
    dynamics,
    policies,
    recipes,
    rendering,
    simulation,
    tasks,
    training,
)
from jgps.core import lqr
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
from jgps.tasks import from_mjcf
from jgps.training import evaluate, train

__version__ = "0.1.0"

__all__ = [
    "Controller",
    "Dynamics",
    "Gaussian",
    "Marginals",
    "QuadraticCost",
    "QuadraticValue",
    "Rollouts",
    "Status",
    "algorithms",
    "configs",
    "controllers",
    "costs",
    "dynamics",
    "evaluate",
    "from_mjcf",
    "lqr",
    "policies",
    "recipes",
    "rendering",
    "simulation",
    "tasks",
    "train",
    "training",
]
