"""The loop around local controllers alone, without a network.

At its end every iteration rolls the new controllers out without noise, once per condition; no model
is fitted to these noise-free rollouts. The result is the best that was rolled out so: contact now
and then spoils a step.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer

from jgps.controllers import linear_gaussian
from jgps.controllers.nearest import NearestController
from jgps.core.checks import Config
from jgps.core.lifted import shared_jit
from jgps.core.types import Controller, Rollouts
from jgps.optimise.algorithm import Algorithm, Inspection, Metrics, inspection_key
from jgps.optimise.models import (
    FittedModelsConfig,
    LocalModels,
    Models,
    choose,
    default_dtype,
    expected_cost,
    fitted_models,
    noise_free_metrics,
    predict,
    sample_metrics,
    sampled_costs,
)
from jgps.optimise.rollouts.sampling import FixedStartsConfig, make_sample, rollouts_each
from jgps.optimise.steps.step import TrajectoryStep, about_controllers
from jgps.simulation import SimulationRollouts, resolve_backend
from jgps.tasks import Task
from jgps.tasks.start import condition_features, initial_controllers, initial_states


@dataclasses.dataclass(frozen=True, kw_only=True)
class LocalConfig(Config):
    """Settings of the loop around local controllers alone.

    Attributes:
      rollouts: how many rollouts with noise each training condition has, how smooth their noise
        is, and how far from the condition's initial state they begin.
    """

    rollouts: FixedStartsConfig = FixedStartsConfig()

    def shape(self, task: Task) -> tuple[int, int]:
        """Leading axes of an iteration's rollouts with noise: conditions, samples."""
        return task.train.num, rollouts_each(task, self.rollouts)


class LocalState(NamedTuple):
    """What `trajopt`, `pi2` and `pilqr` keep from one iteration to the next."""

    key: jax.Array
    iteration: jax.Array  # [] int32
    controllers: Controller  # [C, ...], to be rolled out next
    policy: NearestController  # the best ones that were rolled out without noise so far
    policy_cost: jax.Array  # [C], what they cost then
    models: Any  # what the models' slot remembers
    memory: Any  # what the trajectory step remembers, leaves [C, ...]


class LocalParts(NamedTuple):
    """The parts of one iteration, jitted as far as the backend allows."""

    sample: Callable[[Controller, jax.Array], SimulationRollouts]  # with noise, [C, N, ...]
    # rolls the controllers out without noise
    select_best: Callable[[LocalState, jax.Array], tuple[LocalState, Metrics]]
    # from rollouts with noise
    fit: Callable[[LocalState, Rollouts], tuple[LocalState, LocalModels | None, Metrics]]
    improve: Callable[[LocalState, LocalModels | None, Rollouts], tuple[LocalState, Metrics]]


def make_parts(
    task: Task, config: LocalConfig, backend: str, models: Models, step: TrajectoryStep
) -> LocalParts:
    """The parts of an iteration."""
    act = NearestController.act
    roll_out = make_sample(task, act, backend, config.rollouts)
    roll_out_noise_free = make_sample(task, act, backend, None)
    factor = shared_jit(jax.vmap(linear_gaussian.factor))
    choose_best = shared_jit(functools.partial(_select_best, task))

    def sample(controllers: Controller, key: jax.Array) -> SimulationRollouts:
        return roll_out(factor(controllers)[0], key)

    def select_best(state: LocalState, key: jax.Array) -> tuple[LocalState, Metrics]:
        noise_free = roll_out_noise_free(factor(state.controllers)[0], key)
        return choose_best(state, noise_free.rollouts)

    return LocalParts(
        sample=sample,
        select_best=select_best,
        fit=shared_jit(functools.partial(_fit, models)),
        improve=shared_jit(functools.partial(_improve, task, step)),
    )


def make_local_algorithm(
    task: Task, config: LocalConfig, backend: str, models: Models, step: TrajectoryStep
) -> Algorithm:
    """The loop around one way to learn models and one way to improve the controllers.

    Raises:
      ValueError: for an unknown backend, or where the task's initial controller does not fit its
        model.
    """
    parts = make_parts(task, config, backend, models, step)

    def draw(state: LocalState) -> SimulationRollouts:
        _, noise_key = jax.random.split(state.key)
        return parts.sample(state.controllers, noise_key)

    def iterate(state: LocalState) -> tuple[LocalState, Metrics]:
        key, noise_key = jax.random.split(state.key)
        rollouts = parts.sample(state.controllers, noise_key).rollouts
        state, fitted, fit_metrics = parts.fit(state._replace(key=key), rollouts)
        state, metrics = parts.improve(state, fitted, rollouts)
        state, noise_free = parts.select_best(state, noise_key)  # which draws nothing
        return state, {**metrics, **fit_metrics, **noise_free}

    if resolve_backend(backend, task.system) != "native":
        iterate = shared_jit(iterate)  # one program; on native only the sampling leaves JAX

    def try_start(state: LocalState) -> LocalState:
        return parts.select_best(state, state.key)[0]

    def step_once(state: LocalState) -> tuple[LocalState, Metrics]:
        # What the run starts with may be the best there is.
        if isinstance(state.iteration, Tracer):
            tried = jax.lax.cond(state.iteration == 0, try_start, lambda state: state, state)
        else:
            tried = try_start(state) if int(state.iteration) == 0 else state
        return iterate(tried)

    x0, features = initial_states(task, task.train), condition_features(task, task.train)
    return Algorithm(
        init=shared_jit(functools.partial(_init, task, x0, features, models, step)),
        step=step_once,
        inspect=functools.partial(_inspect, task, config, parts),
        samples=draw,
        forget_results=functools.partial(_forget_results, features),
        rollouts_per_step=task.train.num * (rollouts_each(task, config.rollouts) + 1),
    )


def _init(
    task: Task,
    x0: jax.Array,
    features: jax.Array,
    models: Models,
    step: TrajectoryStep,
    key: jax.Array,
) -> LocalState:
    key, models_key = jax.random.split(key)
    controllers = initial_controllers(task, x0)
    return LocalState(
        key=key,
        iteration=jnp.zeros((), jnp.int32),
        controllers=controllers,
        policy=NearestController(controllers=controllers, x0=features),
        policy_cost=jnp.full(task.train.num, jnp.inf, default_dtype()),
        models=models.init(models_key),
        memory=step.init(task.train.num),
    )


def _forget_results(features: jax.Array, state: LocalState) -> LocalState:
    """The state with which everything has to be tried anew, the controllers that it holds first.

    It may come from other conditions: the controllers belong to those of these features from now.
    """
    return state._replace(
        policy=state.policy._replace(x0=features),
        iteration=jnp.zeros_like(state.iteration),
        policy_cost=jnp.full_like(state.policy_cost, jnp.inf),
    )


def _select_best(task: Task, state: LocalState, noise_free: Rollouts) -> tuple[LocalState, Metrics]:
    """Keeps the controllers that noise-free rollouts [C, 1, ...] show to be the best so far."""
    metrics = noise_free_metrics(task, noise_free)
    cost = metrics["noise_free_cost"]
    better = noise_free.valid[:, 0] & (cost < state.policy_cost)
    best = choose(better, state.controllers, state.policy.controllers)
    state = state._replace(
        policy=state.policy._replace(controllers=best),
        policy_cost=jnp.where(better, cost, state.policy_cost),
    )
    return state, metrics


def _fit(
    models: Models, state: LocalState, rollouts: Rollouts
) -> tuple[LocalState, LocalModels | None, Metrics]:
    memory, fitted, metrics = models.fit(state.models, rollouts, None)
    return state._replace(models=memory), fitted, metrics


def _improve(
    task: Task,
    step: TrajectoryStep,
    state: LocalState,
    models: LocalModels | None,
    rollouts: Rollouts,
) -> tuple[LocalState, Metrics]:
    """One step in every condition; a failing condition keeps its controller."""
    previous = state.controllers
    if models is None:  # whose fit would have measured the samples
        cost_now, measured = None, sample_metrics(task, rollouts)
    else:
        cost_now = expected_cost(previous, models)
        measured = {"cost_expected": cost_now}
    costs = sampled_costs(task, rollouts)
    result = step.improve(
        state.memory,
        about_controllers(previous, models, rollouts, costs, cost_now, state.iteration),
    )
    state = state._replace(
        iteration=state.iteration + 1, controllers=result.controllers, memory=result.memory
    )
    return state, {**measured, **result.metrics}


def _inspect(task: Task, config: LocalConfig, parts: LocalParts, state: LocalState) -> Inspection:
    """Samples of the best controllers, and a Gaussian model of them."""
    best = state.policy.controllers
    sample_key, models_key = jax.random.split(inspection_key(state.key))
    sampled = parts.sample(best, sample_key)
    _, fitted, _ = parts.fit(state, sampled.rollouts)
    if fitted is None:  # models for figures alone
        models = fitted_models(task, FittedModelsConfig(), config.shape(task))
        _, fitted, _ = shared_jit(models.fit)(models.init(models_key), sampled.rollouts, None)
        assert fitted is not None
    marginals = predict(best, fitted)
    return Inspection(sampled, marginals, best)
