"""Gaits: which foot stands and which swings at what time, and residuals that follow the schedule.

The clock is in the state, as the time of MuJoCo's `clock` sensor or as the two entries of
`"phase:PERIOD"` with the gait's period, so that a gait goes on however long an episode is. A gait
keeps planners away from hops, kicks and dives, which have local optima of speed and effort alone.
"""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from numpy.typing import ArrayLike

from jgps.costs.locomotion import Base, along_heading
from jgps.costs.parts import Entries, finite, nonnegative, scalar, take
from jgps.costs.residuals import Residual


@dataclass(frozen=True)
class Gait:
    """When which foot stands.

    Attributes:
      period: duration of a stride, in which every foot stands once and swings once, s.
      duty: share of the period for which a foot stands, in (0, 1).
      offsets: share of the period by which each of the F feet is ahead of the clock: (0, 0.5) for
        two legs that take turns. A foot without offset begins to stand at time 0.

    Raises:
      ValueError: if a number is out of its range, or no foot has an offset.
    """

    period: float
    duty: float
    offsets: tuple[float, ...]

    def __post_init__(self):
        if not (math.isfinite(self.period) and self.period > 0):
            raise ValueError(f"Gait.period is {self.period}; it has to be > 0 seconds.")
        if not 0 < self.duty < 1:
            raise ValueError(
                f"Gait.duty is {self.duty}; it has to be between 0 and 1, usually 0.5 to 0.7."
            )
        if not self.offsets or not all(map(math.isfinite, self.offsets)):
            raise ValueError(
                f"Gait.offsets is {self.offsets}; it has to have a finite number for each foot."
            )

    def progress(self, time: jax.Array) -> tuple[jax.Array, jax.Array]:
        """How far each foot is through its stance and through its swing.

        Args:
          time: scalar, s.

        Returns:
          Two arrays [F] in [0, 1]: of stance, 1 while the foot swings, and of swing, 0 while it
          stands.
        """
        phase = jnp.mod(time / self.period + jnp.asarray(self.offsets), 1.0)
        stance = jnp.minimum(phase / self.duty, 1)
        swing = jnp.maximum(phase - self.duty, 0) / (1 - self.duty)
        return stance, swing


def trot(period: float = 0.5, duty: float = 0.55) -> Gait:
    """Diagonal legs swing together; feet are front right, front left, rear right, rear left."""
    return Gait(period, duty, (0.0, 0.5, 0.5, 0.0))


def pace(period: float = 0.5, duty: float = 0.55) -> Gait:
    """Legs of one side swing together; feet are front right, front left, rear right, rear left."""
    return Gait(period, duty, (0.0, 0.5, 0.0, 0.5))


def walk(period: float = 0.8, duty: float = 0.78) -> Gait:
    """One leg swings at a time, each rear leg before the front one of its side.

    Feet are front right, front left, rear right, rear left.
    """
    return Gait(period, duty, (0.0, 0.5, 0.25, 0.75))


def biped_walk(period: float = 0.8, duty: float = 0.6) -> Gait:
    """Two legs take turns, right and left; at a duty below 0.5 they run."""
    return Gait(period, duty, (0.0, 0.5))


def foot_height(
    gait: Gait, clock: Entries, heights: Entries, apex: float, ground: float = 0.0
) -> Residual:
    """How far feet are from the height that the gait wants, m: the ground, or an arc of a swing.

    Args:
      gait: of F feet.
      clock: the entry of the state that is the time, s, or the two that are the gait's phase.
      heights: entries that are heights above the ground of points of feet, F times P of them, foot
        by foot; their mean is the foot's height.
      apex: height in the middle of a swing, m, >= 0.
      ground: height of the points of a foot that stands, m, such as the radius of a ball.

    Returns:
      A residual of F numbers.

    Raises:
      ValueError: at once on an apex out of range; while tracing where entries do not fit.
    """
    apex = float(nonnegative("foot_height.apex", apex, max_ndim=0))
    ground = float(nonnegative("foot_height.ground", ground, max_ndim=0))

    def residual(x, u, t):
        del u, t
        _, swing = gait.progress(_time(gait, x, clock, "foot_height"))
        above = _feet(gait, x, heights, "foot_height.heights")
        return above - ground - apex * jnp.square(jnp.sin(jnp.pi * swing))

    return residual


def foot_placement(
    gait: Gait, clock: Entries, places: Entries, body: Entries, velocity: ArrayLike
) -> Residual:
    """How far feet are from where the gait wants them before and behind the body, m.

    In stance a foot passes below the body from front to back as fast as the ground does, and its
    stance is halved there; in its swing it returns, and has no velocity beside the body's at both
    ends.

    Args:
      gait: of F feet.
      clock: the entry of the state that is the time, s, or the two that are the gait's phase.
      places: entries that are places of points of feet along one axis, m, F times P of them, foot
        by foot; their mean is the foot's place.
      body: the entry that is the place of the body along that axis, m.
      velocity: scalar, of the body along that axis, m/s, as it is commanded.

    Returns:
      A residual of F numbers.

    Raises:
      ValueError: at once on a velocity that is not finite; while tracing where entries do not fit.
    """
    velocity = scalar(finite("foot_placement.velocity", velocity, max_ndim=0))

    def residual(x, u, t):
        del u, t
        ahead = velocity * _stride(gait, _time(gait, x, clock, "foot_placement"))
        middle = take(x, body, "foot_placement.body")
        return _feet(gait, x, places, "foot_placement.places") - middle - ahead

    return residual


def footholds(
    gait: Gait,
    clock: Entries,
    places: Entries,
    base: Base,
    rest: ArrayLike,
    command: Entries,
) -> Residual:
    """How far feet are from where the gait wants them below a trunk that goes where it is told, m.

    The same as `foot_placement` ahead and to the left of the trunk, around each foot's place at
    rest, for a command of two velocities and a turn rate.

    Args:
      gait: of F feet.
      clock: the entry of the state that is the time, s, or the two that are the gait's phase.
      places: entries that are places x, y of one point of each foot in the world, m, 2 F of them,
        foot by foot.
      base: of the trunk.
      rest: [F, 2], where feet are at rest, ahead and to the left of the trunk's place, m.
      command: entries of the state that are the velocity ahead and to the left, m/s, and the turn
        rate, rad/s, counterclockwise.

    Returns:
      A residual of 2 F numbers.

    Raises:
      ValueError: at once where rest is no place for each foot; while tracing where entries do not
        fit.
    """
    feet = len(gait.offsets)
    rest = finite("footholds.rest", rest, max_ndim=2)
    if rest.shape != (feet, 2):
        raise ValueError(
            f"footholds.rest has the shape {list(rest.shape)}; it has to be [{feet}, 2], a place "
            "for each of the gait's feet."
        )

    def residual(x, u, t):
        del u, t
        at = take(x, places, "footholds.places")
        told = take(x, command, "footholds.command")
        if at.size != 2 * feet or told.size != 3:
            raise ValueError(
                f"footholds has {at.size} places and {told.size} commands; pass x and y of each "
                f"of the {feet} feet, and two velocities and a turn rate."
            )
        around = jnp.asarray(rest, x.dtype)
        sideways = jnp.stack([-around[:, 1], around[:, 0]], axis=-1)
        velocity = told[:2] + told[2] * sideways  # of a foot's place at rest, under the trunk
        ahead = velocity * _stride(gait, _time(gait, x, clock, "footholds"))[:, None]
        middle = take(x, base.place, "base.place")[:2]
        found = along_heading(x, base, at.reshape(feet, 2) - middle)
        return (found - around - ahead).reshape(-1)

    return residual


def _stride(gait: Gait, time: jax.Array) -> jax.Array:
    """How far ahead of its middle each foot is, [F], for each m/s of velocity, s."""
    stance, swing = gait.progress(time)
    back = swing - jnp.sin(2 * jnp.pi * swing) / (2 * jnp.pi)
    return gait.period * gait.duty * (0.5 - stance + back)


def _time(gait: Gait, x: jax.Array, clock: Entries, name: str) -> jax.Array:
    """The time, s, or one at which the gait is the same."""
    read = take(x, clock, f"{name}.clock")
    if read.size == 1:
        return read[0]
    if read.size == 2:  # cosine and sine
        return jnp.arctan2(read[1], read[0]) / (2 * jnp.pi) * gait.period
    raise ValueError(
        f"{name}.clock has {read.size} entries; pass the one that is the time, or the two of "
        f"'phase:{gait.period:g}'."
    )


def _feet(gait: Gait, x: jax.Array, entries: Entries, field: str) -> jax.Array:
    """The mean of each foot's points, [F]."""
    points, feet = take(x, entries, field), len(gait.offsets)
    if points.size % feet:
        raise ValueError(
            f"{field} has {points.size} entries but the gait has {feet} feet; pass as many for "
            "each of them."
        )
    return points.reshape(feet, -1).mean(axis=-1)
