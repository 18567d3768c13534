"""Cost terms, penalties, ramps, and the expansion of any cost to quadratics."""

from jgps.costs.expand import ExpandConfig, ExpandInfo, evaluate, expand
from jgps.costs.penalties import Penalty
from jgps.costs.ramps import RAMPS, ramp
from jgps.costs.terms import (
    Cost,
    Entries,
    Term,
    action,
    distance,
    region,
    state_target,
    waypoints,
    weighted_sum,
)

__all__ = [
    "RAMPS",
    "Cost",
    "Entries",
    "ExpandConfig",
    "ExpandInfo",
    "Penalty",
    "Term",
    "action",
    "distance",
    "evaluate",
    "expand",
    "ramp",
    "region",
    "state_target",
    "waypoints",
    "weighted_sum",
]
