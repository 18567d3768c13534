"""Linear-Gaussian controllers: acting, initialisers, exploration noise; one-step tracking."""

from jgps.controllers import linear_gaussian
from jgps.controllers.hold import Hold, HoldConfig, hold_known, hold_pose
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
from jgps.controllers.tracking import Target, track

__all__ = [
    "Hold",
    "HoldConfig",
    "LqrHoldConfig",
    "NearestController",
    "NoiseConfig",
    "PdHoldConfig",
    "Target",
    "act",
    "exploration_noise",
    "hold_known",
    "hold_pose",
    "linear_gaussian",
    "lqr_hold",
    "pd_hold",
    "pure_noise",
    "track",
]
