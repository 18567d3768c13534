"""Rollouts of every training condition, with smoothed exploration noise and without."""

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
    task: Task,
    policy: Policy,
    backend: str,
    num_samples: int,
    noise_smoothing: float = 0.0,
    *,
    noise_free: bool = True,
) -> Callable[[Any, jax.Array], SimulationRollouts]:
    """`sample(params, key)` -> rollouts [C, N, T, ...]: with noise, then one without.

    Args:
      num_samples: with noise; may be 0 where there is one without.
      noise_smoothing: of the noise, steps.
      noise_free: whether each condition has one rollout without noise.
    """
    sampler = make_sampler(task.system, task.train, policy, resolve_backend(backend))
    roll_out = sampler.sample
    num, T, dU = task.train.num, task.horizon, task.action_dim

    @shared_jit
    def draw(key: jax.Array) -> jax.Array:
        still = jnp.zeros((num, int(noise_free), T, dU), default_dtype())
        if num_samples == 0:
            return still
        noise = exploration_noise(
            key, num * num_samples, T, dU, noise_smoothing, dtype=default_dtype()
        )
        return jnp.concatenate([noise.reshape(num, num_samples, T, dU), still], axis=1)

    def sample(params: Any, key: jax.Array) -> SimulationRollouts:
        return roll_out(params, draw(key))

    return sample


def split_noise_free(rollouts: SimulationRollouts) -> tuple[SimulationRollouts, SimulationRollouts]:
    """Those with noise [C, N, ...] and the one without [C, 1, ...]."""
    noisy = jax.tree.map(lambda leaf: leaf[:, :-1], rollouts)
    return noisy, jax.tree.map(lambda leaf: leaf[:, -1:], rollouts)
