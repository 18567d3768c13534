"""Residuals of bodies that move about, in SI units, smooth, for `costs.SumOfSquares`.

Each is a function `residual(x [dX], u [dU], t) -> r [m]` that reads entries of the state by their
position, as the terms of `jgps.costs` do. Targets may be traced, such as a commanded velocity in
the params of a condition; a command that changes in an episode is an entry of the state.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from numpy.typing import ArrayLike

from jgps.costs.parts import Entries, finite, fits, nonnegative, take
from jgps.costs.residuals import Residual


class Base(NamedTuple):
    """Which entries of the state tell where a robot's trunk is.

    Attributes:
      place: of its position in the world, x, y and whatever follows, m.
      rotation: of the first two columns of its rotation matrix, 6 of them, as `qpos` of a free
        joint and `body_rot` have them; at least the first column's x and y.
      velocity: of its linear velocity in the world, x, y and whatever follows, m/s.
    """

    place: Entries
    rotation: Entries
    velocity: Entries


def along_heading(x: jax.Array, base: Base, vectors: jax.Array) -> jax.Array:
    """Horizontal vectors [..., 2] of the world as (ahead, to the left) of a robot's trunk.

    Args:
      x: the state [dX].
      base: of which `rotation` is read.
      vectors: along the axes x and y of the world.
    """
    forward = take(x, base.rotation, "base.rotation")[:2]
    # The heading of a trunk that points straight up is any; the square root stays smooth there.
    forward = forward / jnp.sqrt(jnp.sum(jnp.square(forward)) + 1e-6)
    left = jnp.stack([-forward[1], forward[0]])
    return vectors @ jnp.stack([forward, left], axis=1)


def planar_velocity(base: Base, command: Entries) -> Residual:
    """How far a trunk's velocity is from the command's, ahead and to the left of it, m/s.

    Args:
      base: of the trunk.
      command: entries of the state that are the command: ahead, to the left, and whatever follows.

    Returns:
      A residual of 2 numbers.
    """

    def residual(x, u, t):
        del u, t
        moved = take(x, base.velocity, "base.velocity")[:2]
        return along_heading(x, base, moved) - take(x, command, "command")[:2]

    return residual


def difference(entries: Entries, targets: Entries) -> Residual:
    """How far entries of the state are from others, which they are to follow, in their units.

    Args:
      entries: slice or indices of the state, D of them, such as a turn rate.
      targets: the same of what they are to be, D of them, such as that of the command.

    Raises:
      ValueError: while tracing where entries do not fit.
    """

    def residual(x, u, t):
        del u, t
        values = take(x, entries, "difference.entries")
        wanted = take(x, targets, "difference.targets")
        if values.size != wanted.size:
            raise ValueError(
                f"difference.entries has {values.size} entries but difference.targets has "
                f"{wanted.size}; pass one target for each."
            )
        return values - wanted

    return residual


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


def servo_effort(positions: Entries, stiffness: ArrayLike = 1.0) -> Residual:
    """Torques of position servos at rest, stiffness times (control - position), N m.

    Args:
      positions: entries that are the positions of the joints of all servos, in their order, rad.
      stiffness: of the servos, N m / rad, scalar or one for each; 1 is how far they are from their
        targets, rad.

    Returns:
      A residual of dU numbers.
    """
    stiffness = nonnegative("servo_effort.stiffness", stiffness, max_ndim=1)

    def residual(x, u, t):
        del t
        values = take(x, positions, "servo_effort.positions")
        fits("servo_effort.stiffness", stiffness, u.size)
        if values.size != u.size:
            raise ValueError(
                f"servo_effort.positions has {values.size} entries but there are {u.size} "
                "controls; pass the joint position of every servo."
            )
        return jnp.asarray(stiffness, x.dtype) * (u - values)

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
