"""Rollouts of every training condition, with smoothed exploration noise or without."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

from jgps.controllers import exploration_noise
from jgps.core.checks import Config, Range, refuse
from jgps.core.lifted import shared_jit
from jgps.optimise.models import default_dtype
from jgps.simulation import (
    Policy,
    SimulationRollouts,
    Starts,
    make_sampler,
    moved,
    resolve_backend,
)
from jgps.tasks import Task

USUAL_SAMPLES = 5  # at the least, unless the config says how many
PerDof = float | tuple[float, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FixedStartsConfig(Config):
    """Settings of rollouts from the initial state of every training condition.

    Attributes:
      num_samples: rollouts per condition and iteration, at least 2; None takes as many as the
        task's local models need, see `rollouts_each`.
      noise_smoothing: standard deviation, in steps, of the kernel that smooths exploration noise;
        0 is white.
      qpos_deviation, qvel_deviation: standard deviations of what is added at random to the joint
        positions and velocities in which a rollout with noise begins, in rad and metres, and per
        second; one for all degrees of freedom of the model or one for each, 0 for none. Activations
        stay those of the condition.
    """

    num_samples: Annotated[
        int | None,
        Range("[2, 1e15]", "usually 5: fitting takes at least 2 rollouts per condition"),
    ] = None
    noise_smoothing: Annotated[float, Range(">= 0", "usually 2 steps")] = 2.0
    qpos_deviation: Annotated[PerDof, Range(">= 0", "usually 0 to 0.1")] = 0.0
    qvel_deviation: Annotated[PerDof, Range(">= 0", "usually 0 to 0.1")] = 0.0


def rollouts_each(task: Task, config: FixedStartsConfig) -> int:
    """How many rollouts with noise each training condition has in an iteration.

    Local models have dX + dU inputs, and learn of them from the rollouts of all conditions by the
    prior that these share. Half as many rollouts as inputs in all, and 5 in each condition, are
    taken where the config has no number: a robot that starts in one pose takes more of them than
    one that starts in many, and the more, the larger it is.
    """
    if config.num_samples is not None:
        return config.num_samples
    inputs = task.state_dim + task.action_dim
    return max(USUAL_SAMPLES, -(-inputs // (2 * task.train.num)))


def make_sample(
    task: Task, policy: Policy, backend: str, config: FixedStartsConfig | None
) -> Callable[[Any, jax.Array], SimulationRollouts]:
    """`sample(params, key)` -> rollouts [C, N, T, ...] with noise, or [C, 1, T, ...] without.

    Args:
      config: of rollouts with noise; None is one without, from the condition's own initial state.

    Raises:
      ValueError: if the config has a number for each of another number of degrees of freedom.
    """
    sampler = make_sampler(task.system, task.train, policy, resolve_backend(backend, task.system))
    roll_out = sampler.sample
    num, T, dU = task.train.num, task.horizon, task.action_dim
    draw_starts = None if config is None else _make_draw_starts(task, config)

    @shared_jit
    def draw(key: jax.Array) -> jax.Array:
        if config is None:
            return jnp.zeros((num, 1, T, dU), default_dtype())
        samples, smoothing = rollouts_each(task, config), config.noise_smoothing
        noise = exploration_noise(key, num * samples, T, dU, smoothing, dtype=default_dtype())
        return noise.reshape(num, samples, T, dU)

    def sample(params: Any, key: jax.Array) -> SimulationRollouts:
        if draw_starts is None:
            return roll_out(params, draw(key))
        noise_key, start_key = jax.random.split(key)
        return roll_out(params, draw(noise_key), draw_starts(start_key))

    return sample


def make_trials(
    task: Task, policy: Policy, backend: str, sizes: Sequence[float]
) -> Callable[[Any], SimulationRollouts]:
    """`roll_out(params)` -> rollouts [C, S, T, ...] in which nothing is drawn.

    In the place of noise a policy gets one of the S sizes in all entries, the same throughout a
    rollout: a controller whose factor of the covariance is the diagonal matrix of a step takes the
    step to that size.
    """
    sampler = make_sampler(task.system, task.train, policy, resolve_backend(backend, task.system))
    shape = (task.train.num, len(sizes), task.horizon, task.action_dim)

    @shared_jit
    def given() -> jax.Array:
        column = jnp.asarray(sizes, default_dtype())[:, None, None]
        return jnp.broadcast_to(column, shape)

    return lambda params: sampler.sample(params, given())


def _make_draw_starts(
    task: Task, config: FixedStartsConfig
) -> Callable[[jax.Array], Starts] | None:
    """`draw(key)` -> initial poses [C, N, ...] about the conditions' own; None for just those."""
    model, train = task.model, task.train
    deviations = []
    for field in ("qpos_deviation", "qvel_deviation"):
        value = getattr(config, field)
        if isinstance(value, tuple) and len(value) != model.nv:
            refuse(
                config, field, f"one number, or one for each of the {model.nv} degrees of freedom"
            )
        deviations.append(np.broadcast_to(np.asarray(value, float), (model.nv,)))
    if not np.any(deviations):
        return None
    shape = (2, train.num, rollouts_each(task, config), model.nv)

    @shared_jit
    def draw(key: jax.Array) -> Starts:
        dtype = default_dtype()
        change = jax.random.normal(key, shape, dtype)
        scale = jnp.asarray(np.stack(deviations), dtype)[:, None, None]
        in_qpos, in_qvel = scale * change
        qpos = jnp.broadcast_to(
            jnp.asarray(train.qpos, dtype)[:, None], (*in_qpos.shape[:2], model.nq)
        )
        return Starts(
            moved(model, qpos, in_qpos), jnp.asarray(train.qvel, dtype)[:, None] + in_qvel
        )

    return draw
