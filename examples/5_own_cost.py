"""A cost of your own, and the policy evaluated in conditions of your own."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

import jgps
from jgps.simulation import Conditions

SPEED_LIMIT = 0.8  # metres per second


def with_speed_limit(task: jgps.tasks.Task) -> jgps.tasks.Task:
    """The same task, in which it costs to be fast."""
    velocity = task.layout["qvel"]  # where the state holds it

    # A cost is a function of one step that JAX can trace: state, action, number of the step.
    # (The gradient of a norm is not finite at zero.)
    def cost(x: jax.Array, u: jax.Array, t: jax.Array) -> jax.Array:
        speed = jnp.sqrt(jnp.sum(x[velocity] ** 2) + 1e-6)
        return task.cost(x, u, t) + 5.0 * jnp.maximum(speed - SPEED_LIMIT, 0.0) ** 2

    return dataclasses.replace(task, name="slow_point_mass", cost=cost)


def main(iterations: int = 8) -> dict[str, dict[str, float]]:
    """Greatest speed and distance from the origin at the end, in unseen places, by task."""
    # Between the corners where it trains; pushed off at first in half of them.
    places = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    pushes = np.array([[0.0, 0.0], [0.0, 0.0], [0.0, 0.3], [0.3, 0.0]])
    task = jgps.tasks.make("point_mass")
    usual = dataclasses.replace(task, test=Conditions(places, pushes))

    found = {}
    for task in (usual, with_speed_limit(usual)):
        result = jgps.train(task, iterations=iterations, evaluate_every=0)
        # Rolls the policy out without noise, on task.train and on task.test.
        unseen = jgps.evaluate(task, result.state.policy, key=jax.random.key(0)).test
        x = np.asarray(unseen.rollouts.rollouts.x)  # [conditions, 1, steps, state]
        speed = np.linalg.norm(x[..., task.layout["qvel"]], axis=-1)
        found[task.name] = {"speed": float(speed.max()), "distance": float(unseen.distance.max())}
    return found


if __name__ == "__main__":
    for name, numbers in main().items():
        print(f"{name}: {numbers['speed']:.2f} m/s at most, {numbers['distance']:.2f} m at the end")
