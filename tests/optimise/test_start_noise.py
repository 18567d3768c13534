"""Rollouts of fixed conditions that begin a little elsewhere each time."""

import types
from typing import Any

import jax
import numpy as np
import pytest
from pointer import make_task

from jgps.algorithms import FixedStartsConfig
from jgps.controllers import linear_gaussian
from jgps.controllers.nearest import NearestController
from jgps.optimise.rollouts.sampling import make_sample, rollouts_each
from jgps.tasks.start import initial_controllers, initial_states


def _sample(**settings):
    task = make_task((-1.0, 1.0), horizon=4)
    config = FixedStartsConfig(num_samples=300, noise_smoothing=0, **settings)
    controllers = initial_controllers(task, initial_states(task, task.train))
    params = jax.vmap(linear_gaussian.factor)(controllers)[0]
    return task, make_sample(task, NearestController.act, "native", config)(
        params, jax.random.key(0)
    )


def test_rollouts_with_noise_begin_about_the_conditions_start():
    task, rollouts = _sample(qpos_deviation=0.05, qvel_deviation=0.2)
    start = np.asarray(rollouts.x[:, :, 0])
    q, v = task.layout.positions, task.layout.velocities
    own = np.asarray(initial_states(task, task.train))
    for entries, deviation in ((q, 0.05), (v, 0.2)):
        gap = start[:, :, entries] - own[:, None, entries]
        assert np.abs(gap.std(axis=1) - deviation).max() < 0.15 * deviation
        assert np.abs(gap.mean(axis=1)).max() < 0.2 * deviation
    assert bool(rollouts.valid.all())


def test_without_deviations_nothing_is_drawn():
    _, plain = _sample()
    _, still = _sample(qpos_deviation=0.0, qvel_deviation=(0.0,))
    np.testing.assert_array_equal(plain.x, still.x)
    starts = np.asarray(plain.x[:, :, 0])
    np.testing.assert_array_equal(starts, np.broadcast_to(starts[:, :1], starts.shape))


def test_one_deviation_per_degree_of_freedom():
    with pytest.raises(ValueError, match=r"qpos_deviation is .*one for each of the 1 degrees"):
        _sample(qpos_deviation=(0.1, 0.1))


def test_as_many_rollouts_are_taken_as_local_models_need():
    def each(dX: int, conditions: int, **settings: Any) -> int:
        task: Any = types.SimpleNamespace(
            state_dim=dX, action_dim=2, train=types.SimpleNamespace(num=conditions)
        )
        return rollouts_each(task, FixedStartsConfig(**settings))

    # Half as many as states and actions have entries, of all conditions together.
    assert [each(dX, 1) for dX in (4, 8, 9, 48)] == [5, 5, 6, 25]
    assert [each(dX, 4) for dX in (4, 31, 38, 120)] == [5, 5, 5, 16]
    assert each(120, 1, num_samples=3) == 3
