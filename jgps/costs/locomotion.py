"""Residuals of bodies that move about, in SI units, smooth, for `costs.sum_of_squares`.

Each is a function `residual(x [dX], u [dU], t) -> r [m]` that reads entries of the state by their
position, as the terms of `jgps.costs` do. Targets may be traced, such as a commanded velocity in
the params of a condition.
"""

import jax
import jax.numpy as jnp
from numpy.typing import ArrayLike

from jgps.costs.parts import Entries, finite, fits, nonnegative, take
from jgps.costs.residuals import Residual


def deviation(entries: Entries, target: ArrayLike, name: str = "deviation") -> Residual:
    """How far entries of the state are from a target, x_i - target_i.

    Args:
      entries: slice or indices of the state, D of them.
      target: scalar or [D], in their units.
      name: what messages call it.

    Raises:
      ValueError: at once where the target is not finite; while tracing where entries do not fit.
    """
    target = finite(f"{name}.target", target, max_ndim=1)

    def residual(x, u, t):
        del u, t
        values = take(x, entries, f"{name}.entries")
        fits(f"{name}.target", target, values.size)
        return values - jnp.asarray(target, x.dtype)

    return residual


def velocity(entries: Entries, target: ArrayLike) -> Residual:
    """How far velocities are from those that are commanded, m/s or rad/s; see `deviation`."""
    return deviation(entries, target, "velocity")


def height(entries: Entries, target: ArrayLike) -> Residual:
    """How far heights are from their targets, m; see `deviation`."""
    return deviation(entries, target, "height")


def tilt(entries: Entries, target: ArrayLike = 0.0) -> Residual:
    """How far angles, such as that of a torso, are from their targets, rad; see `deviation`."""
    return deviation(entries, target, "tilt")


def smoothness(entries: Entries) -> Residual:
    """Velocities that are to be small, such as those of joints, in the units of the entries."""
    return deviation(entries, 0.0, "smoothness")


def effort() -> Residual:
    """The controls, in the actuators' units."""

    def residual(x, u, t):
        del x, t
        return u

    return residual


def sliding(
    heights: Entries, velocities: Entries, clearance: float = 0.03, edge: float | None = None
) -> Residual:
    """Velocities along the ground of points of feet, m/s, where these are low.

    The share of the velocity that counts falls from 1 below `clearance` to 0 above it, as a
    logistic function of the height. So a foot that stands is not to slide, and one that swings has
    to be lifted.

    Args:
      heights: slice or indices of the points' heights above the ground, P of them.
      velocities: of their velocities, P, or as many for each of them in turn.
      clearance: height at which half the velocity counts, m.
      edge: over which height the share falls e-fold, m, > 0; None is a third of the clearance.

    Raises:
      ValueError: at once on numbers out of range; while tracing where entries do not fit.
    """
    clearance = float(nonnegative("sliding.clearance", clearance, max_ndim=0))
    edge = float(nonnegative("sliding.edge", clearance / 3 if edge is None else edge, max_ndim=0))
    if edge == 0:
        raise ValueError("sliding.edge is 0.0; it has to be > 0, usually a third of the clearance.")

    def residual(x, u, t):
        del u, t
        above = take(x, heights, "sliding.heights")
        speeds = take(x, velocities, "sliding.velocities")
        if speeds.size % above.size:
            raise ValueError(
                f"sliding.velocities has {speeds.size} entries but sliding.heights has "
                f"{above.size}; pass as many velocities for every point."
            )
        low = jax.nn.sigmoid((clearance - above) / edge)
        return jnp.repeat(low, speeds.size // above.size) * speeds

    return residual
