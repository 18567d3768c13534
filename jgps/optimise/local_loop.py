"""What all algorithms share that improve local controllers alone, without a network.

Every iteration also tries the controllers without noise, one rollout per condition that no model is
fitted to. The result is the best that was tried: what the last iteration made has not been, and
contact now and then spoils a step.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jgps.controllers import linear_gaussian
from jgps.controllers.nearest import NearestController
from jgps.core import lqr
from jgps.core.types import Controller, Rollouts
from jgps.optimise.algorithm import Algorithm, Inspection, Metrics
from jgps.optimise.models import (
    LocalConfig,
    LocalModels,
    choose,
    default_dtype,
    dynamics_prior,
    fit_models,
    noise_free_metrics,
)
from jgps.optimise.rollouts.sampling import make_sample, split_noise_free
from jgps.simulation import SimulationRollouts, resolve_backend
from jgps.tasks import Task
from jgps.tasks.start import initial_controllers, initial_states


class LocalState(NamedTuple):
    """Everything that the next iteration needs."""

    key: jax.Array
    iteration: jax.Array  # [] int32
    controllers: Controller  # [C, ...], to be rolled out next
    policy: NearestController  # the best ones that were tried without noise so far
    policy_cost: jax.Array  # [C], what they cost then
    prior: Any
    memory: Any  # what the algorithm's own step keeps, leaves [C, ...]


class Samples(NamedTuple):
    """One iteration's rollouts."""

    noisy: SimulationRollouts  # [C, N, ...], to learn from
    trial: SimulationRollouts  # [C, 1, ...], without noise


class LocalParts(NamedTuple):
    """The shared parts of one iteration, jitted as far as the backend allows."""

    sample: Callable[[Controller, jax.Array], Samples]
    judge: Callable[[LocalState, Rollouts], tuple[LocalState, Metrics]]  # from the trial
    fit: Callable[[Any, Rollouts], tuple[Any, LocalModels, Metrics]]  # from and to the prior state


def make_parts(task: Task, config: LocalConfig, backend: str) -> LocalParts:
    """The shared parts of an iteration."""
    sample_both = make_sample(
        task, NearestController.act, backend, config.num_samples, config.noise_smoothing
    )
    factor = jax.jit(jax.vmap(linear_gaussian.factor))

    def sample(controllers: Controller, key: jax.Array) -> Samples:
        return Samples(*split_noise_free(sample_both(factor(controllers)[0], key)))

    prior = dynamics_prior(task, config)
    return LocalParts(
        sample=sample,
        judge=jax.jit(functools.partial(_judge, task)),
        fit=jax.jit(functools.partial(fit_models, task, config, prior)),
    )


def make_algorithm(
    task: Task,
    config: LocalConfig,
    backend: str,
    parts: LocalParts,
    memory: Any,
    improve: Callable[[LocalState, Rollouts], tuple[LocalState, Metrics]],
) -> Algorithm:
    """The loop around one way to improve controllers from their rollouts.

    Args:
      memory: what the step keeps, before the first one.
      improve: the step, from the noisy rollouts [C, N, ...].

    Raises:
      ValueError: for an unknown backend, or where the task's initial controller does not fit its
        model.
    """
    predict = jax.jit(jax.vmap(lqr.forward))

    def step(state: LocalState) -> tuple[LocalState, Metrics]:
        key, noise_key = jax.random.split(state.key)
        samples = parts.sample(state.controllers, noise_key)
        state, trial = parts.judge(state._replace(key=key), samples.trial.rollouts)
        state, metrics = improve(state, samples.noisy.rollouts)
        return state, {**metrics, **trial}

    if resolve_backend(backend) == "mjx":
        step = jax.jit(step)  # one program; on native only the sampling leaves JAX

    def inspect(state: LocalState) -> Inspection:
        sampled = parts.sample(state.policy.controllers, state.key).noisy
        _, models, _ = parts.fit(state.prior, sampled.rollouts)
        marginals = predict(state.policy.controllers, models.dynamics, models.initial)
        return Inspection(sampled, marginals, state.policy.controllers)

    x0 = initial_states(task, task.train)
    return Algorithm(
        init=jax.jit(functools.partial(_init, task, config, x0, memory)),
        step=step,
        inspect=inspect,
        rollouts_per_step=task.train.num * (config.num_samples + 1),
    )


def _init(
    task: Task, config: LocalConfig, x0: jax.Array, memory: Any, key: jax.Array
) -> LocalState:
    key, prior_key = jax.random.split(key)
    controllers = initial_controllers(task, x0)
    return LocalState(
        key=key,
        iteration=jnp.zeros((), jnp.int32),
        controllers=controllers,
        policy=NearestController(controllers=controllers, x0=x0),
        policy_cost=jnp.full(task.train.num, jnp.inf, default_dtype()),
        prior=dynamics_prior(task, config).init(prior_key),
        memory=memory,
    )


def _judge(task: Task, state: LocalState, trial: Rollouts) -> tuple[LocalState, Metrics]:
    """Keeps the controllers that the trial [C, 1, ...] shows to be better than the best so far."""
    metrics = noise_free_metrics(task, trial)
    cost = metrics["noise_free_cost"]
    better = trial.valid[:, 0] & (cost < state.policy_cost)
    best = choose(better, state.controllers, state.policy.controllers)
    state = state._replace(
        policy=state.policy._replace(controllers=best),
        policy_cost=jnp.where(better, cost, state.policy_cost),
    )
    return state, metrics
