"""A controller that holds a pose by what is known of the robot: nominal controls and feedback."""

from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from jgps.core.checks import Config, Range
from jgps.core.types import Controller


@dataclass(frozen=True, kw_only=True)
class HoldConfig(Config):
    """Settings of the hold that fits any mix of actuators, see `jgps.tasks.hold`.

    Attributes:
      exploration: standard deviation of the exploration noise as a part of half the control range,
        > 0; of half the range of the force where that is less. A control without a range counts as
        one of -1 to 1.
      servo_exploration: the same of position servos, whose controls are positions, > 0.
      stiffness: weight of position errors relative to squared actions in units of half the control
        range, >= 0, for actuators that don't hold a position by themselves: motors, muscles,
        velocity servos. Position servos have no feedback but their own.
      velocity_stiffness: weight of velocity errors as a multiple of `stiffness`, >= 0.
    """

    exploration: Annotated[float, Range("> 0", "usually 0.02 to 0.3")] = 0.2
    servo_exploration: Annotated[float, Range("> 0", "usually 0.02 to 0.3")] = 0.05
    stiffness: Annotated[float, Range(">= 0")] = 1.0
    velocity_stiffness: Annotated[float, Range(">= 0")] = 0.5


class Hold(NamedTuple):
    """What holds poses of one robot: u = offset + slope (q(x0) - q(x)) + K x about a known pose x.

    Leaves are arrays; `positions` tells the entries of the state that slope and distance read.
    """

    K: Any  # [dU, dX] feedback
    slope: Any  # [dU, dX] how the nominal action, less K x, follows the pose
    variance: Any  # [dU] of the exploration noise
    positions: Any  # [dX] 1 where an entry is the position of a joint, else 0
    x: Any  # [C, dX] known poses
    offset: Any  # [C, dU] their nominal actions less K x


def hold_known(hold: Hold, offset: jax.Array, T: int) -> Controller:
    """The controller u ~ N(K x + offset, variance) at each of T steps; offset is [dU]."""
    every_step = Controller(K=hold.K, k=offset, C=jnp.diag(hold.variance))
    return jax.tree.map(lambda a: jnp.broadcast_to(a, (T, *a.shape)), every_step)


def hold_pose(hold: Hold, x0: jax.Array, T: int) -> Controller:
    """The controller that holds the pose of x0 [dX], in which only positions of joints are read.

    What holds the nearest known pose is moved to this one to first order.
    """
    apart = (x0 - hold.x) * hold.positions  # [C, dX]
    nearest = jnp.argmin(jnp.sum(jnp.square(apart), axis=-1))
    return hold_known(hold, hold.offset[nearest] + hold.slope @ apart[nearest], T)
