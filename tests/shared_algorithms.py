"""Algorithms that tests share, so that each is traced and compiled once."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from jgps import costs, tasks
from jgps.optimise.algorithm import Algorithm
from jgps.optimise.guided import loop as guided
from jgps.optimise.guided.loop import Parts
from jgps.optimise.rollouts import sampling
from jgps.simulation import Conditions, Sampler, make_sampler
from jgps.tasks import Task


def with_parts(make: Callable[..., Algorithm], task: Task, config: Any) -> tuple[Algorithm, Parts]:
    """A guided algorithm on the native backend, and the parts that it is made of."""
    made = []

    def keep(**parts):
        made.append(Parts(**parts))
        return made[-1]

    with mock.patch.object(guided, "Parts", keep):
        algorithm = make(task, config, backend="native")
    (parts,) = made
    return algorithm, parts


def on_many_sets(
    make: Callable[..., Algorithm],
    task: Task,
    config: Any,
    sets: Mapping[Any, Conditions],
    seed: int = 0,
) -> Callable[[Any, int], tuple[Any, Any]]:
    """`run(name, iterations)`: state and metrics after training on that set of conditions.

    One native algorithm for all of them, which may differ in the simulated models alone; what was
    run is remembered.
    """
    current = []

    def switched(system, conditions, policy, backend):
        assert backend == "native"
        samplers = {
            name: make_sampler(system, each, policy, backend) for name, each in sets.items()
        }
        return Sampler(lambda *args: samplers[current[-1]].sample(*args), jittable=False)

    with mock.patch.object(sampling, "make_sampler", switched):
        algorithm = make(task, config, backend="native")

    @functools.cache
    def run(name, iterations):
        if iterations == 0:
            return algorithm.init(jax.random.key(seed)), {}
        before, _ = run(name, iterations - 1)
        current.append(name)
        return algorithm.step(before)

    return run


GOAL = np.array([0.3, 0.2])


def to_goal(horizon: int, goal: np.ndarray = GOAL) -> Task:
    """The point mass on a short way to a goal that its functions close over."""
    task = dataclasses.replace(tasks.make("point_mass"), horizon=horizon)
    place, target = task.layout["qpos"], jnp.asarray(goal)
    cost = costs.weighted_sum(
        (1.0, costs.action(1e-2)), (1.0, costs.distance(place, target, point_dim=2))
    )

    def distance(x: jax.Array) -> jax.Array:
        return jnp.linalg.norm(x[-1, place] - target)

    return dataclasses.replace(
        task, cost=cost, distance=distance, success=lambda x, u: distance(x) < 0.1
    )


def with_other_numbers(horizon: int) -> Task:
    """The same with another goal, another mass and other initial states."""
    task = to_goal(horizon, GOAL + 0.1)

    def other(each: Conditions) -> Conditions:
        heavier = {"body_mass:mass": np.full((each.num, 1), 1.3)}
        return each._replace(qpos=each.qpos + 0.05, changes=heavier)

    return dataclasses.replace(task, train=other(task.train), test=other(task.test))


def springs(task: Task, stiffnesses: Mapping[Any, Any]) -> dict[Any, Conditions]:
    """The task's training conditions, with a spring of so many N/m at the point mass in each."""
    return {
        name: task.train._replace(changes={"jnt_stiffness:x": stiffness})
        for name, stiffness in stiffnesses.items()
    }
