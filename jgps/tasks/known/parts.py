"""What tasks with known dynamics are made of: MuJoCo's step of two joints, costs of the end."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

Cost = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
TALL = 0.1  # rad off the vertical at which something still stands upright


def euler_step(
    x: jax.Array,
    mass: tuple[jax.Array | float, ...],
    force: tuple[jax.Array, ...],
    damping: tuple[float, float],
    timestep: float,
) -> jax.Array:
    """One step of two joints as MuJoCo's Euler integrator takes it, with implicit damping.

    v' = v + h a with (M + h D) a = f - D v, then q' = q + h v'.

    Args:
      x: positions and velocities of both joints, [4].
      mass: M as M_11, M_12, M_22.
      force: f of both joints but for their damping: gravity, actuators, what speeds bring.
      damping: D of both joints.
      timestep: h, seconds.
    """
    q, v = x[:2], x[2:]
    m11, m12, m22 = mass[0] + timestep * damping[0], mass[1], mass[2] + timestep * damping[1]
    f1, f2 = force[0] - damping[0] * v[0], force[1] - damping[1] * v[1]
    a = jnp.stack([m22 * f1 - m12 * f2, m11 * f2 - m12 * f1]) / (m11 * m22 - m12 * m12)
    v = v + timestep * a
    return jnp.concatenate([q + timestep * v, v])


def off_upright(*angles: jax.Array) -> jax.Array:
    """Sum of 1 - cos over angles from the vertical: 0 where all are upright, 2 for each below."""
    return sum((1 - jnp.cos(angle) for angle in angles), jnp.zeros((), jnp.result_type(*angles)))


def is_upright(*angles: jax.Array, within: float = TALL) -> jax.Array:
    """Whether all of the angles are so near the vertical, however often they have turned."""
    return jnp.all(jnp.stack([jnp.cos(angle) >= jnp.cos(within) for angle in angles]))


def with_end(running: Cost, end: Cost, horizon: int) -> Cost:
    """A cost of every step, and another one on top of it from the last step on."""

    def cost(x: jax.Array, u: jax.Array, t: jax.Array) -> jax.Array:
        return running(x, u, t) + jnp.where(t >= horizon - 1, end(x, u, t), 0)

    return cost
