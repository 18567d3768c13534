"""A second object compiles nothing: what differs in numbers alone is an argument of programs."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilations import count_compilations

import jgps
from jgps import costs, tasks
from jgps.algorithms import ALGORITHMS, FixedStartsConfig
from jgps.dynamics import NoPriorConfig
from jgps.optimise.models import FittedModelsConfig
from jgps.policies import DistilConfig
from jgps.policies.learner import MlpConfig

GOAL = np.array([0.3, 0.2])


def _task(goal=GOAL):
    """The point mass, on a short way to a goal."""
    task = dataclasses.replace(tasks.make("point_mass"), horizon=6)
    place = task.layout["qpos"]
    target = jnp.asarray(goal)
    cost = costs.weighted_sum(
        (1.0, costs.action(1e-2)), (1.0, costs.distance(place, target, point_dim=2))
    )
    return dataclasses.replace(
        task, cost=cost, distance=lambda x: jnp.linalg.norm(x[-1, place] - target), success=None
    )


def _config(algorithm):
    """Small settings, quick to compile."""
    _, config = ALGORITHMS[algorithm]
    names = {field.name for field in dataclasses.fields(config)}
    small = {
        "rollouts": FixedStartsConfig(num_samples=3),
        "models": FittedModelsConfig(prior=NoPriorConfig()),
        "observation_prior": NoPriorConfig(),
        "policy": MlpConfig(hidden=(4,), distil=DistilConfig(steps=5, checks=1)),
        "teacher_iterations": 1,
        "inner_rounds": 1,
    }
    return config(**{name: value for name, value in small.items() if name in names})


def _run(algorithm, task, backend):
    make, _ = ALGORITHMS[algorithm]
    run = make(task, _config(algorithm), backend=backend)
    state = run.init(jax.random.key(0))
    for _ in range(2):
        state, _ = run.step(state)
    result = jgps.evaluate(task, state.policy, key=jax.random.key(1), backend=backend)
    return state.controllers, result.train.cost


CASES = [(algorithm, "native") for algorithm in ALGORITHMS]
CASES += [(algorithm, "mjx") for algorithm in ("mdgps", "trajopt", "pi2")]


@pytest.mark.parametrize(("algorithm", "backend"), CASES)
def test_equal_settings_on_a_task_with_other_numbers_compile_nothing(algorithm, backend):
    task = _task()
    first, _ = _run(algorithm, task, backend)
    elsewhere = task.train._replace(qpos=task.train.qpos + 0.05)
    heavier = {
        name: conditions._replace(changes={"body_mass:mass": np.full((conditions.num, 1), 1.3)})
        for name, conditions in (("train", task.train), ("test", task.test))
    }
    others = {
        "made again": _task(),
        "elsewhere": dataclasses.replace(task, train=elsewhere),
        "heavier": dataclasses.replace(task, **heavier),
        "another goal": _task(GOAL + 0.1),
    }
    for what, other in others.items():
        found = []
        run = functools.partial(_run, algorithm, other, backend)
        count = count_compilations(lambda run=run, found=found: found.append(run()))
        assert count == 0, what
        same = np.array_equal(found[0][0].k, first.k)
        assert same == (what == "made again"), what
