"""Ramps: how the weight of a cost term changes over time."""

import math

import numpy as np

RAMPS = ("constant", "linear", "quadratic", "final_only")


def ramp(kind: str, horizon: int, final_multiplier: float = 1.0) -> np.ndarray:
    """Weight of every step, [T], as a constant of the host (terms cast it to the state's dtype).

    Args:
      kind: "constant" 1; "linear" (t + 1) / T; "quadratic" ((t + 1) / T)^2; "final_only" 0 before
        the last step and 1 there.
      horizon: T, >= 1.
      final_multiplier: the last step's weight is multiplied by this, >= 0.

    Raises:
      ValueError: on an unknown kind or a value out of range.
    """
    if isinstance(horizon, bool) or not isinstance(horizon, (int, np.integer)) or horizon < 1:
        raise ValueError(
            f"horizon is {horizon!r}; it has to be an integer >= 1. Pass the number of time steps."
        )
    if not (math.isfinite(final_multiplier) and final_multiplier >= 0):
        raise ValueError(
            f"final_multiplier is {final_multiplier}; it has to be finite and >= 0. "
            "Use 1.0 to leave the last step as it is."
        )
    progress = np.arange(1, horizon + 1) / horizon
    if kind == "constant":
        weights = np.ones(horizon)
    elif kind == "linear":
        weights = progress
    elif kind == "quadratic":
        weights = progress**2
    elif kind == "final_only":
        weights = np.where(np.arange(horizon) == horizon - 1, 1.0, 0.0)
    else:
        raise ValueError(f"kind is {kind!r}; it has to be one of {', '.join(RAMPS)}.")
    weights[-1] *= final_multiplier
    return weights
