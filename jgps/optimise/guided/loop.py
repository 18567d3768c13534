"""What all algorithms share that train one network along with local controllers.

    repeat: roll out the local controllers p_c (off-policy) or the network pi (on-policy)
            fit linear-Gaussian dynamics to the samples, and pi as a controller there: pi_c
            improve the controllers and train the network           (where the algorithms differ)
            try the network without noise

The result is the best network that was tried, on all training conditions together.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jgps.controllers import linear_gaussian
from jgps.core.lifted import shared_jit
from jgps.core.types import Controller, Status, worst
from jgps.optimise.algorithm import Algorithm, Inspection, Metrics
from jgps.optimise.guided.importance import log_prob_before
from jgps.optimise.guided.projection import (
    linearise,
    observation_model_prior,
    policy_prior,
    see,
)
from jgps.optimise.guided.selection import acting_params_of, make_select_best
from jgps.optimise.guided.state import (
    GuidedConfig,
    GuidedState,
    History,
    ObservationModel,
    remember,
    trained,
)
from jgps.optimise.models import (
    LocalModels,
    Models,
    default_dtype,
    fitted_models,
    predict,
)
from jgps.optimise.rollouts.conditions import Grouping, by_condition
from jgps.policies import DistilInfo, NetworkPolicy, Supervision
from jgps.policies.distil import no_training
from jgps.policies.learner import PolicyLearner
from jgps.simulation import Policy, SimulationRollouts, resolve_backend
from jgps.tasks import Task
from jgps.tasks.start import initial_controllers
from jgps.vision.learner import make_learner


class Parts(NamedTuple):
    """The shared parts of one iteration, jitted as far as the backend allows."""

    learner: PolicyLearner  # how the network is made, acts and learns
    grouping: Grouping  # shares rollouts out among the controllers
    models: Models  # how local models are learned
    sample: Callable[[GuidedState, jax.Array], SimulationRollouts]  # with noise
    fit: Callable[[GuidedState, SimulationRollouts], tuple[GuidedState, LocalModels, Metrics]]
    linearise: Callable[..., tuple[GuidedState, Controller, Status]]  # from state and rollouts
    distil: Callable[..., tuple[GuidedState, Metrics]]  # from state, supervision and key
    select_best: Callable[
        [GuidedState, jax.Array], tuple[GuidedState, Metrics]
    ]  # rolls the learner out


# learn(state, models, linearised, rollouts, key) -> (state, metrics)
Learn = Callable[..., tuple[GuidedState, Metrics]]


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
    grouping = parts.grouping

    def step(state: GuidedState) -> tuple[GuidedState, Metrics]:
        (key, sample_key, learn_key, noise_free_key), following = _begin(state.key, state.iteration)
        state = state._replace(key=key)
        state, sampled = grouping.group(state, parts.sample(state, sample_key))
        state, models, fit_metrics = parts.fit(state, sampled)
        state, linearised, status = parts.linearise(state, sampled)
        models = joint_status(models, status)
        state, metrics = learn(state, models, linearised, sampled, learn_key)
        state, noise_free = parts.select_best(state, noise_free_key)
        state = state._replace(iteration=following)
        return state, {**metrics, **fit_metrics, **noise_free}

    if resolve_backend(backend) == "mjx":
        step = shared_jit(step)  # one program; on native only the sampling leaves JAX

    def inspect(state: GuidedState) -> Inspection:
        state, sampled = grouping.group(state, parts.sample(state, state.key))
        _, models, _ = parts.fit(state, sampled)
        marginals = predict(state.controllers, models)
        return Inspection(sampled, marginals, state.controllers)

    initialise = shared_jit(functools.partial(_init, task, config, first_memory, parts))

    def init(key: jax.Array) -> GuidedState:
        prepare = parts.learner.prepare
        if prepare is None:
            return initialise(key, None)
        key, prepare_key = jax.random.split(key)
        return initialise(key, prepare(prepare_key))

    return Algorithm(
        init=init,
        step=step,
        inspect=inspect,
        rollouts_per_step=grouping.rollouts + task.train.num,
        first_training=config.trajectory_iterations,
    )


def make_parts(
    task: Task,
    config: GuidedConfig,
    backend: str,
    grouping: Grouping | None = None,
    *,
    waits: bool = True,
) -> Parts:
    """The parts on a task.

    Args:
      task: the task.
      config: of the loop.
      backend: "native", "mjx" or "auto".
      grouping: how rollouts are made and shared out; None for every condition its own.
      waits: whether `distil` leaves the network alone in the first `trajectory_iterations`; an
        algorithm that does not call it then has no need of that.

    Raises:
      ValueError: for an unknown backend, or where the task's initial controller does not fit its
        model.
    """
    if grouping is None:
        grouping = by_condition(task, config.num_samples, config.noise_smoothing)
    models = fitted_models(task, config.models, grouping.shape)
    learner = make_learner(task, config.policy)
    act = _SamplingAct(learner.act, on_policy=config.sampling == "on_policy")
    return Parts(
        learner=learner,
        grouping=grouping,
        sample=grouping.make_sample(
            act, lambda state: acting_params_of(state, trained(config, state)), backend
        ),
        models=models,
        fit=shared_jit(functools.partial(_fit, task, config, grouping, models)),
        linearise=shared_jit(functools.partial(linearise, task, config, grouping, learner)),
        distil=shared_jit(functools.partial(_distil, config, grouping, learner, waits)),
        select_best=make_select_best(task, config, backend, learner.act),
    )


@dataclasses.dataclass(frozen=True)
class _SamplingAct:
    """How rollouts with noise act; equal for equal networks, so that programs are shared."""

    network_act: Policy
    on_policy: bool

    def __call__(
        self, params: Any, x: jax.Array, o: jax.Array, t: jax.Array, noise: jax.Array
    ) -> jax.Array:
        factored, network_params, by_network = params
        local = linear_gaussian.act(factored, x, t, noise)
        if not self.on_policy:
            return local
        return jnp.where(by_network, self.network_act(network_params, x, o, t, noise), local)


def _init(
    task: Task,
    config: GuidedConfig,
    first_memory: Callable[[], Any],
    parts: Parts,
    key: jax.Array,
    prepared: Any,
) -> GuidedState:
    grouping = parts.grouping
    key, network_key, prior_key, policy_prior_key, group_key, observation_key = jax.random.split(
        key, 6
    )
    ring, dtype = (config.window, *grouping.shape), default_dtype()
    observation_model = None
    if task.observation is not None:
        num = grouping.x0.shape[0]
        observation_model = ObservationModel(
            prior=observation_model_prior(task, config, grouping).init(observation_key),
            slope=jnp.zeros((num, task.horizon, task.state_dim, task.configuration_dim), dtype),
        )
    learner, pretraining = parts.learner.init(network_key, prepared)
    return GuidedState(
        key=key,
        iteration=jnp.zeros((), jnp.int32),
        controllers=initial_controllers(task, grouping.x0),
        learner=learner,
        policy=learner,
        policy_valid=jnp.zeros((), dtype),
        policy_success=jnp.zeros((), dtype),
        policy_cost=jnp.full((), jnp.inf, dtype),
        models=parts.models.init(prior_key),
        policy_prior=policy_prior(task, config, grouping).init(policy_prior_key),
        history=History(
            x=jnp.zeros((*ring, task.horizon, task.state_dim), dtype),
            o=jnp.zeros((*ring, task.horizon, task.observation_dim), dtype),
            valid=jnp.zeros(ring, bool),
            u=jnp.zeros((*ring, task.horizon, task.action_dim), dtype),
            log_prob=jnp.zeros((*ring, task.horizon), dtype),
        ),
        memory=first_memory(),
        groups=grouping.init(group_key),
        observation_model=observation_model,
        pretraining=pretraining,
    )


def _fit(
    task: Task,
    config: GuidedConfig,
    grouping: Grouping,
    models: Models,
    state: GuidedState,
    sampled: SimulationRollouts,
) -> tuple[GuidedState, LocalModels, Metrics]:
    """Local models, and a state that remembers what they were fitted to."""
    seen = grouping.pool(sampled)
    memory, fitted, metrics = models.fit(state.models, sampled.rollouts, seen.rollouts)
    assert fitted is not None
    log_prob = jnp.zeros(seen.x.shape[:3], seen.x.dtype)
    if config.reuse > 1:
        log_prob = log_prob_before(state.controllers, seen.x, seen.u, config.noise_smoothing)
    state = remember(state._replace(models=memory), seen, log_prob)
    return see(task, config, grouping, state, sampled), fitted, metrics


def _distil(
    config: GuidedConfig,
    grouping: Grouping,
    learner: PolicyLearner,
    waits: bool,
    state: GuidedState,
    supervision: Supervision,
    key: jax.Array,
) -> tuple[GuidedState, Metrics]:
    """Trains the learner; one that diverges keeps its last good parameters."""
    supervision = grouping.merge(supervision)
    iteration = state.iteration - config.trajectory_iterations

    def train(policy: NetworkPolicy) -> tuple[NetworkPolicy, DistilInfo]:
        return learner.train(policy, supervision, iteration, key)

    def wait(policy: NetworkPolicy) -> tuple[NetworkPolicy, DistilInfo]:
        return policy, no_training(supervision.target.dtype)

    if config.trajectory_iterations == 0 or not waits:
        trained_policy, info = train(state.learner)
    else:
        trained_policy, info = jax.lax.cond(iteration >= 0, train, wait, state.learner)
    metrics = learner.metrics(state.pretraining)
    metrics |= {
        "policy_loss_before": info.loss_before,
        "policy_loss": info.loss,
        "policy_gradient_norm": info.gradient_norm,
        "policy_status": info.status.code,
    }
    if any(each.validation > 0 for each in config.policy.trainings):
        metrics["policy_loss_validation"] = info.loss_validation
    return state._replace(learner=trained_policy), metrics


def joint_status(models: LocalModels, status: Status) -> LocalModels:
    """The models, failed where the linearisation of the policy did."""
    return models._replace(status=_worst(models.status, status))


_worst = jax.jit(jax.vmap(worst))


@jax.jit
def _begin(key: jax.Array, iteration: jax.Array) -> tuple[tuple[jax.Array, ...], jax.Array]:
    """Keys of the next iteration and of its parts, and the number of the one that follows."""
    return tuple(jax.random.split(key, 4)), iteration + 1
