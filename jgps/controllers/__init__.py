"""Linear-Gaussian controllers: acting, initialisers, exploration noise."""

from jgps.controllers import linear_gaussian
from jgps.controllers.initial import (
    LqrHoldConfig,
    NoiseConfig,
    PdHoldConfig,
    lqr_hold,
    pd_hold,
    pure_noise,
)
from jgps.controllers.linear_gaussian import (
    FactoredController,
    act,
    factor,
    mean_controller,
)
from jgps.controllers.nearest import NearestController
from jgps.controllers.noise import exploration_noise

__all__ = [
    "FactoredController",
    "LqrHoldConfig",
    "NearestController",
    "NoiseConfig",
    "PdHoldConfig",
    "act",
    "exploration_noise",
    "factor",
    "linear_gaussian",
    "lqr_hold",
    "mean_controller",
    "pd_hold",
    "pure_noise",
]
