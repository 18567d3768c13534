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
from jgps.controllers.linear_gaussian import act
from jgps.controllers.nearest import NearestController
from jgps.controllers.noise import exploration_noise

__all__ = [
    "LqrHoldConfig",
    "NearestController",
    "NoiseConfig",
    "PdHoldConfig",
    "act",
    "exploration_noise",
    "linear_gaussian",
    "lqr_hold",
    "pd_hold",
    "pure_noise",
]
