"""A pendulum whose mass is not what a nominal model thinks, for tests of adaptation."""

import jax
import jax.numpy as jnp

from jgps.core.types import Dynamics

DT, GRAVITY, LENGTH, DAMPING = 0.02, 9.81, 1.0, 0.1  # s, m/s^2, m, N m s
NOISE = 1e-3  # rad/s, of the velocity in every step
NOMINAL = 1.0  # kg


def step(x: jax.Array, u: jax.Array, mass: jax.Array | float) -> jax.Array:
    """The next angle (rad) and velocity (rad/s) under a torque [1] (N m), semi-implicit Euler."""
    inertia = mass * LENGTH**2
    acceleration = -GRAVITY / LENGTH * jnp.sin(x[0]) + (u[0] - DAMPING * x[1]) / inertia
    velocity = x[1] + DT * acceleration
    return jnp.stack([x[0] + DT * velocity, velocity])


def nominal(x: jax.Array, u: jax.Array) -> Dynamics:
    """The derivatives of the nominal model at a state and a torque."""
    A, B = jax.jacfwd(step, (0, 1))(x, u, NOMINAL)
    f = step(x, u, NOMINAL) - A @ x - B @ u
    return Dynamics(F=jnp.concatenate([A, B], axis=1), f=f, W=NOISE**2 * jnp.eye(2))


def disturbed(
    key: jax.Array,
    x: jax.Array,
    u: jax.Array,
    mass: jax.Array | float,
    noise: jax.Array | float = NOISE,
) -> jax.Array:
    """The next state with noise, which the position integrates as it does the velocity."""
    return step(x, u, mass) + noise * jax.random.normal(key) * jnp.array([DT, 1.0])
