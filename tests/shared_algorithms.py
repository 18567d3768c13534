"""Algorithms that tests share, so that each is traced and compiled once."""

import functools
from collections.abc import Callable, Mapping
from typing import Any
from unittest import mock

import jax

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


def springs(task: Task, stiffnesses: Mapping[Any, Any]) -> dict[Any, Conditions]:
    """The task's training conditions, with a spring of so many N/m at the point mass in each."""
    return {
        name: task.train._replace(changes={"jnt_stiffness:x": stiffness})
        for name, stiffness in stiffnesses.items()
    }
