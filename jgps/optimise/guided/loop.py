"""What all algorithms share that train one network along with local controllers.

    repeat: roll out the local controllers p_c (off-policy) or the network pi (on-policy)
            fit linear-Gaussian dynamics to the samples, and pi as a controller there: pi_c
            improve the controllers and train the network           (where the algorithms differ)
            roll the network out without noise

The result is the best network so far, by its noise-free rollouts in all training conditions.
"""

import dataclasses
import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jgps.core.lifted import shared_jit
from jgps.core.schedule import at_iteration
from jgps.core.types import OK, Controller, Status, worst
from jgps.optimise.algorithm import Algorithm, Inspection, Metrics, inspection_key
from jgps.optimise.guided.acting import SamplingAct, acting_params_of
from jgps.optimise.guided.config import GuidedConfig, RegressionConfig
from jgps.optimise.guided.history import empty_history, remember
from jgps.optimise.guided.importance import log_prob_before
from jgps.optimise.guided.observation_model import (
    ObservationModel,
    observation_model_prior,
    update_observation_model,
)
from jgps.optimise.guided.projection import linearise, penalised_cov, regression_prior
from jgps.optimise.guided.selection import make_select_best, training_metrics
from jgps.optimise.guided.state import GuidedState, trained
from jgps.optimise.model_source import make_models
from jgps.optimise.models import (
    LocalModels,
    Models,
    default_dtype,
    predict,
)
from jgps.optimise.rollouts.conditions import RolloutSource, fixed_starts
from jgps.optimise.rollouts.random_starts import RandomStartsConfig, random_starts
from jgps.policies import DistilInfo, NetworkPolicy, Supervision
from jgps.policies.learner import PolicyLearner
from jgps.policies.supervision import no_training
from jgps.simulation import SimulationRollouts, resolve_backend
from jgps.tasks import Task
from jgps.tasks.start import initial_controllers
from jgps.vision.learner import make_learner


class Slots(NamedTuple):
    """What fills the slots of the loop; the trajectory step is the algorithm's own."""

    source: RolloutSource  # where rollouts with noise start, and whose they are
    models: Models  # how local models come about; they are to be learned from rollouts
    learner: PolicyLearner  # how the network is made, acts and learns


class Parts(NamedTuple):
    """The shared parts of one iteration, jitted as far as the backend allows."""

    slots: Slots
    sample: Callable[[GuidedState, jax.Array], SimulationRollouts]  # with noise
    fit: Callable[[GuidedState, SimulationRollouts], tuple[GuidedState, LocalModels, Metrics]]
    linearise: Callable[
        [GuidedState, SimulationRollouts], tuple[GuidedState, Controller, Status, Metrics]
    ]
    distil: Callable[[GuidedState, Supervision, jax.Array], tuple[GuidedState, Metrics]]
    select_best: Callable[
        [GuidedState, jax.Array], tuple[GuidedState, Metrics]
    ]  # rolls the learner out


# learn(state, models, linearised, rollouts, key) -> (state, metrics)
Learn = Callable[
    [GuidedState, LocalModels, Controller, SimulationRollouts, jax.Array],
    tuple[GuidedState, Metrics],
]


def make_algorithm(
    task: Task,
    config: GuidedConfig,
    backend: str,
    parts: Parts,
    first_memory: Callable[[], Any],
    learn: Learn,
) -> Algorithm:
    """The loop around one way to improve the controllers and train the network.

    Args:
      first_memory: makes what `learn` keeps in the state, before the first iteration.
      learn: from the local models, whose status is not OK where the network could not be
        linearised either, the linearised network and the rollouts with noise.

    Raises:
      ValueError: for an unknown backend, or where the task's initial controller does not fit its
        model.
    """
    source = parts.slots.source

    def step(state: GuidedState) -> tuple[GuidedState, Metrics]:
        (key, sample_key, learn_key, noise_free_key), following = _begin(state.key, state.iteration)
        state = state._replace(key=key)
        state, sampled = source.share_out(state, parts.sample(state, sample_key))
        state, models, fit_metrics = parts.fit(state, sampled)
        state, linearised, status, regression = parts.linearise(state, sampled)
        models = joint_status(models, status)
        state, metrics = learn(state, models, linearised, sampled, learn_key)
        state, noise_free = parts.select_best(state, noise_free_key)
        state = state._replace(iteration=following)
        return state, {**regression, **metrics, **fit_metrics, **noise_free}

    if resolve_backend(backend, task.system) != "native":
        step = shared_jit(step)  # one program; on native only the sampling leaves JAX

    def draw(state: GuidedState) -> SimulationRollouts:
        (_, sample_key, *_), _ = _begin(state.key, state.iteration)
        return parts.sample(state, sample_key)

    def inspect(state: GuidedState) -> Inspection:
        sampled = parts.sample(state, inspection_key(state.key))
        state, sampled = source.share_out(state, sampled)
        _, models, _ = parts.fit(state, sampled)
        marginals = predict(state.controllers, models)
        return Inspection(sampled, marginals, state.controllers)

    initialise = shared_jit(functools.partial(_init, task, config, first_memory, parts))

    def init(key: jax.Array) -> GuidedState:
        prepare = parts.slots.learner.prepare
        if prepare is None:
            return initialise(key, None)
        key, prepare_key = jax.random.split(key)
        return initialise(key, prepare(prepare_key))

    return Algorithm(
        init=init,
        step=step,
        inspect=inspect,
        samples=draw,
        forget_results=_forget_results,
        rollouts_per_step=source.rollouts + task.train.num,
        first_training=config.trajectory_iterations,
        newest=operator.attrgetter("newest"),
        problem=lambda state: parts.slots.learner.problem(state.pretraining),
    )


def fill_slots(task: Task, config: GuidedConfig, backend: str) -> Slots:
    """What the settings ask for; `_replace` puts a part of one's own in a slot.

    Raises:
      ValueError: for random starts or a camera that the task does not have.
    """
    rollouts = config.rollouts
    if isinstance(rollouts, RandomStartsConfig):
        source = random_starts(task, rollouts)
    else:
        source = fixed_starts(task, rollouts)
    return Slots(
        source=source,
        models=make_models(task, config.models, source.shape, backend),
        learner=make_learner(task, config.policy),
    )


def make_parts(
    task: Task,
    config: GuidedConfig,
    backend: str,
    slots: Slots | None = None,
    *,
    waits: bool = True,
) -> Parts:
    """The parts on a task.

    Args:
      task: the task.
      config: of the loop.
      backend: "native", "mjx", "analytic" or "auto".
      slots: None is what the settings ask for, see `fill_slots`.
      waits: whether `distil` leaves the network alone in the first `trajectory_iterations`; an
        algorithm that does not call it then has no need of that.

    Raises:
      ValueError: for an unknown backend, or where the task's initial controller does not fit its
        model.
    """
    slots = fill_slots(task, config, backend) if slots is None else slots
    source, models, learner = slots
    act = SamplingAct(learner.act, on_policy=config.on_policy)
    return Parts(
        slots=slots,
        sample=source.make_sample(
            act, lambda state: acting_params_of(state, trained(config, state)), backend
        ),
        fit=shared_jit(functools.partial(_fit, task, config, source, models)),
        linearise=shared_jit(functools.partial(linearise, task, config, source, learner)),
        distil=shared_jit(functools.partial(_distil, config, source, learner, waits)),
        select_best=make_select_best(task, config, backend, learner.act),
    )


def _init(
    task: Task,
    config: GuidedConfig,
    first_memory: Callable[[], Any],
    parts: Parts,
    key: jax.Array,
    prepared: Any,
) -> GuidedState:
    source = parts.slots.source
    key, network_key, models_key, prior_key, source_key, observation_key = jax.random.split(key, 6)
    dtype, settings = default_dtype(), config.linearisation
    linearisation_prior = observation_model = None
    if isinstance(settings, RegressionConfig):
        linearisation_prior = regression_prior(task, settings, source).init(prior_key)
    if task.observation is not None:
        num = source.x0.shape[0]
        observation_model = ObservationModel(
            prior=observation_model_prior(task, config, source).init(observation_key),
            slope=jnp.zeros((num, task.horizon, task.state_dim, task.configuration_dim), dtype),
        )
    learner, pretraining = parts.slots.learner.init(network_key, prepared)
    return GuidedState(
        key=key,
        iteration=jnp.zeros((), jnp.int32),
        controllers=initial_controllers(task, source.x0),
        newest=learner,
        policy=learner,
        policy_valid=jnp.zeros((), dtype),
        policy_success=jnp.zeros((), dtype),
        policy_cost=jnp.full((), jnp.inf, dtype),
        models=parts.slots.models.init(models_key),
        linearisation_prior=linearisation_prior,
        history=empty_history(task, config.history_length, source.shape),
        memory=first_memory(),
        groups=source.init(source_key),
        observation_model=observation_model,
        pretraining=pretraining,
    )


def _forget_results(state: GuidedState) -> GuidedState:
    """The state for which any policy that gets through is better than the best so far."""
    return state._replace(
        policy_valid=jnp.zeros_like(state.policy_valid),
        policy_success=jnp.zeros_like(state.policy_success),
        policy_cost=jnp.full_like(state.policy_cost, jnp.inf),
    )


def _fit(
    task: Task,
    config: GuidedConfig,
    source: RolloutSource,
    models: Models,
    state: GuidedState,
    sampled: SimulationRollouts,
) -> tuple[GuidedState, LocalModels, Metrics]:
    """Local models, and a state that remembers what they were fitted to."""
    seen = source.pool(sampled)
    memory, fitted, metrics = models.fit(state.models, sampled.rollouts, seen.rollouts)
    assert fitted is not None
    log_prob = jnp.zeros(seen.x.shape[:3], seen.x.dtype)
    if config.weighs_history:
        smoothing = config.rollouts.noise_smoothing
        log_prob = log_prob_before(state.controllers, seen.x, seen.u, smoothing)
    model = state.observation_model
    if model is not None:
        model, more = update_observation_model(task, config, source, model, sampled)
        metrics = {**metrics, **more}
    history = state.history
    if history is not None:
        history = remember(history, state.iteration, seen, log_prob)
    state = state._replace(models=memory, history=history, observation_model=model)
    return state, fitted, metrics


def _distil(
    config: GuidedConfig,
    source: RolloutSource,
    learner: PolicyLearner,
    waits: bool,
    state: GuidedState,
    supervision: Supervision,
    key: jax.Array,
) -> tuple[GuidedState, Metrics]:
    """Trains the learner; one that diverges keeps its last good parameters."""
    supervision = source.merge(supervision)
    iteration = state.iteration - config.trajectory_iterations

    def train(policy: NetworkPolicy) -> tuple[NetworkPolicy, DistilInfo]:
        taught, info = learner.train(policy, supervision, iteration, key)
        if config.variance_penalty == 0:
            return taught, info
        cost = at_iteration(config.variance_penalty, state.iteration)
        cov = jnp.where(info.status.code == OK, penalised_cov(taught.cov, cost), taught.cov)
        return dataclasses.replace(taught, cov=cov), info

    def wait(policy: NetworkPolicy) -> tuple[NetworkPolicy, DistilInfo]:
        return policy, no_training(supervision.target.dtype)

    if config.trajectory_iterations == 0 or not waits:
        trained_policy, info = train(state.newest)
    else:
        trained_policy, info = jax.lax.cond(iteration >= 0, train, wait, state.newest)
    metrics = learner.metrics(state.pretraining)
    metrics |= training_metrics(learner, info)
    return state._replace(newest=trained_policy), metrics


def joint_status(models: LocalModels, status: Status) -> LocalModels:
    """The models, failed where the linearisation of the policy did."""
    return models._replace(status=_worst(models.status, status))


_worst = jax.jit(jax.vmap(worst))


@jax.jit
def _begin(key: jax.Array, iteration: jax.Array) -> tuple[tuple[jax.Array, ...], jax.Array]:
    """Keys of the next iteration and of its parts, and the number of the one that follows."""
    return tuple(jax.random.split(key, 4)), iteration + 1
