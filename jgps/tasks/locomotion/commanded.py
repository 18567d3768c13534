"""How well a robot with a free trunk does what the command in its state says."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jgps.costs.locomotion import Base, along_heading
from jgps.costs.parts import Entries, take

VELOCITY_TOLERANCE, TURN_TOLERANCE = 0.1, 0.15  # m/s and rad/s, of the means


class Commanded(NamedTuple):
    """Where in the state there is what was asked for and what is done.

    Attributes:
      base: of the trunk.
      turn: the entry that is the turn rate, rad/s.
      command: the entries of the velocity ahead and to the left, m/s, and of the turn rate.
    """

    base: Base
    turn: Entries
    command: Entries


def errors(s: Commanded, x: jax.Array, settling: int = 0) -> tuple[jax.Array, jax.Array]:
    """How far mean velocity and mean turn rate of a trajectory are from the mean command.

    Args:
      s: where in the state they are.
      x: [T, dX].
      settling: how many steps at the beginning don't count.

    Returns:
      The distance of the velocities, m/s, and of the turn rates, rad/s, scalars.
    """

    def off(x: jax.Array) -> jax.Array:
        moved = along_heading(x, s.base, take(x, s.base.velocity, "velocity")[:2])
        done = jnp.concatenate([moved, take(x, s.turn, "turn")])
        return done - take(x, s.command, "command")

    mean = jnp.mean(jax.vmap(off)(x[settling:]), axis=0)
    return jnp.linalg.norm(mean[:2]), jnp.abs(mean[2])


def as_told(s: Commanded, settling: int) -> Callable[..., jax.Array]:
    """`success(x [T, dX], u) -> bool`: both errors are within their tolerance.

    Args:
      s: where in the state they are.
      settling: how many steps at the beginning don't count.
    """

    def success(x: jax.Array, u: jax.Array, *params: object) -> jax.Array:
        del u, params
        velocity, turn = errors(s, x, settling)
        return (velocity <= VELOCITY_TOLERANCE) & (turn <= TURN_TOLERANCE)

    return success
