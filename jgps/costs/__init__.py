"""Cost terms, penalties, ramps, and the expansion of any cost to quadratics."""

from jgps.costs.expand import ExpandConfig, ExpandInfo, evaluate, expand
from jgps.costs.parts import Cost, Entries, Term
from jgps.costs.paths import linear_waypoints, waypoints
from jgps.costs.penalties import Penalty
from jgps.costs.ramps import RAMPS, ramp
from jgps.costs.residuals import Residual, SumOfSquares, stacked
from jgps.costs.terms import action, distance, region, state_target, weighted_sum

__all__ = [
    "RAMPS",
    "Cost",
    "Entries",
    "ExpandConfig",
    "ExpandInfo",
    "Penalty",
    "Residual",
    "SumOfSquares",
    "Term",
    "action",
    "distance",
    "evaluate",
    "expand",
    "linear_waypoints",
    "ramp",
    "region",
    "stacked",
    "state_target",
    "waypoints",
    "weighted_sum",
]
