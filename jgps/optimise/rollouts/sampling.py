"""Rollouts of every training condition, with smoothed exploration noise or without."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jgps.controllers import exploration_noise
from jgps.core.lifted import shared_jit
from jgps.optimise.models import default_dtype
from jgps.simulation import Policy, SimulationRollouts, make_sampler, resolve_backend
from jgps.tasks import Task


def make_sample(
    task: Task, policy: Policy, backend: str, num_samples: int, noise_smoothing: float = 0.0
) -> Callable[[Any, jax.Array], SimulationRollouts]:
    """`sample(params, key)` -> rollouts [C, N, T, ...] with noise, or [C, 1, T, ...] without.

    Args:
      num_samples: number N with noise; 0 is one without.
      noise_smoothing: of the noise, steps.
    """
    sampler = make_sampler(task.system, task.train, policy, resolve_backend(backend))
    roll_out = sampler.sample
    num, T, dU = task.train.num, task.horizon, task.action_dim

    @shared_jit
    def draw(key: jax.Array) -> jax.Array:
        if num_samples == 0:
            return jnp.zeros((num, 1, T, dU), default_dtype())
        noise = exploration_noise(
            key, num * num_samples, T, dU, noise_smoothing, dtype=default_dtype()
        )
        return noise.reshape(num, num_samples, T, dU)

    def sample(params: Any, key: jax.Array) -> SimulationRollouts:
        return roll_out(params, draw(key))

    return sample
