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
    """What holds known poses x: u = offset + slope (q(x0) - q(x)) + K x for a pose x0 near x.

    Leaves are arrays [C, ...] of C known poses, each with a model of its own.
    """

    x: Any  # [C, dX] known poses
    positions: Any  # [C, dX] 1 where an entry is the position of a joint, else 0: what is read
    K: Any  # [C, dU, dX] feedback
    slope: Any  # [C, dU, dX] how the nominal action, less K x, follows the pose
    offset: Any  # [C, dU] nominal actions less K x
    variance: Any  # [C, dU] of the exploration noise


def hold_known(hold: Hold, T: int) -> Controller:
    """The controllers u ~ N(K x + offset, variance) of all known poses, leaves [C, T, ...]."""

    def every_step(K: jax.Array, offset: jax.Array, variance: jax.Array) -> Controller:
        controller = Controller(K=K, k=offset, C=jnp.diag(variance))
        return jax.tree.map(lambda a: jnp.broadcast_to(a, (T, *a.shape)), controller)

    return jax.vmap(every_step)(hold.K, hold.offset, hold.variance)


def hold_pose(hold: Hold, x0: jax.Array, T: int, known: jax.Array | None = None) -> Controller:
    """The controller that holds the pose of x0 [dX], in which only positions of joints are read.

    What holds the nearest known pose is moved to this one to first order.

    Args:
      hold: what holds known poses.
      x0: the pose.
      T: steps.
      known: bool [C], which of them count, of which there has to be one; None is all.
    """
    apart = (x0 - hold.x) * hold.positions  # [C, dX]
    distance = jnp.sum(jnp.square(apart), axis=-1)
    if known is not None:
        distance = jnp.where(known, distance, jnp.inf)
    nearest = jnp.argmin(distance)
    moved = hold.offset + jnp.einsum("cux,cx->cu", hold.slope, apart)
    rows = jax.tree.map(lambda leaf: leaf[nearest][None], hold._replace(offset=moved))
    return jax.tree.map(lambda leaf: leaf[0], hold_known(rows, T))
