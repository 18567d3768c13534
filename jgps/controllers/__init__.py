"""Linear-Gaussian controllers: acting, initialisers, exploration noise."""

from jgps.controllers import linear_gaussian
from jgps.controllers.initial import LqrHoldConfig, PdHoldConfig, lqr_hold, pd_hold
from jgps.controllers.linear_gaussian import (
    FactoredController,
    act,
    factor,
    fold_noise,
    mean_controller,
)
from jgps.controllers.noise import exploration_noise

__all__ = [
    "FactoredController",
    "LqrHoldConfig",
    "PdHoldConfig",
    "act",
    "exploration_noise",
    "factor",
    "fold_noise",
    "linear_gaussian",
    "lqr_hold",
    "mean_controller",
    "pd_hold",
]
