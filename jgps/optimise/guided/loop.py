"""What all algorithms share that train one network along with local controllers.

    repeat: roll out the local controllers p_c (off-policy) or the network pi (on-policy)
            fit linear-Gaussian dynamics to the samples, and pi as a controller there: pi_c
            improve the controllers and train the network           (where the algorithms differ)
            try the network without noise

The result is the best network that was tried, on all training conditions together.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jgps import policies
from jgps.controllers import linear_gaussian
from jgps.controllers.linear_gaussian import FactoredController
from jgps.core import lqr
from jgps.core.types import Controller, Rollouts, Shared, Status, worst
from jgps.optimise.algorithm import Algorithm, Inspection, Metrics
from jgps.optimise.guided.importance import log_prob_before, reused
from jgps.optimise.guided.projection import (
    divergence,
    linearise,
    observation_model_prior,
    policy_prior,
    pooled,
    sampled_with,
    see,
    targets,
    trust_region_centre,
)
from jgps.optimise.guided.state import (
    GuidedConfig,
    GuidedState,
    History,
    Sight,
    remember,
    trained,
)
from jgps.optimise.models import (
    LocalModels,
    Models,
    default_dtype,
    expected_cost,
    fitted_models,
    noise_free_metrics,
)
from jgps.optimise.rollouts.conditions import Grouping, by_condition
from jgps.optimise.rollouts.sampling import make_sample
from jgps.optimise.steps.step import StepInputs, TrajectoryStep
from jgps.policies import Supervision
from jgps.simulation import Policy, SimulationRollouts, resolve_backend
from jgps.tasks import Task
from jgps.tasks.start import initial_controllers
from jgps.vision import learner as eyes
from jgps.vision.learner import Eyes
from jgps.vision.pretraining import PretrainingData, draw_pretraining_data, pretrain


class Parts(NamedTuple):
    """The shared parts of one iteration, jitted as far as the backend allows."""

    eyes: Eyes  # the network and what it reads
    grouping: Grouping  # shares rollouts out among the controllers
    models: Models  # how local models are learned
    sample: Callable[[GuidedState, jax.Array], SimulationRollouts]  # with noise
    fit: Callable[[GuidedState, SimulationRollouts], tuple[GuidedState, LocalModels, Metrics]]
    linearise: Callable[..., tuple[GuidedState, Controller, Status]]  # from state and rollouts
    distil: Callable[..., tuple[GuidedState, Metrics]]  # from state, supervision and key
    select_best: Callable[
        [GuidedState, jax.Array], tuple[GuidedState, Metrics]
    ]  # rolls the learner out


# select_best(state, key) -> (state, metrics)
SelectBest = Callable[[GuidedState, jax.Array], tuple[GuidedState, Metrics]]
# learn(state, models, linearised, rollouts, key) -> (state, metrics)
Learn = Callable[..., tuple[GuidedState, Metrics]]


def make_algorithm(
    task: Task,
    config: GuidedConfig,
    backend: str,
    parts: Parts,
    memory: Any,
    learn: Learn,
) -> Algorithm:
    """The loop around one way to improve the controllers and train the network.

    Args:
      memory: what `learn` keeps in the state, before the first iteration.
      learn: from the local models, whose status is not OK where the network could not be
        linearised either, the linearised network and the rollouts with noise.

    Raises:
      ValueError: for an unknown backend, or where the task's initial controller does not fit its
        model.
    """
    predict, grouping = jax.jit(jax.vmap(lqr.forward)), parts.grouping

    def step(state: GuidedState) -> tuple[GuidedState, Metrics]:
        key, sample_key, learn_key, noise_free_key = jax.random.split(state.key, 4)
        state = state._replace(key=key)
        state, sampled = grouping.group(state, parts.sample(state, sample_key))
        state, models, fit_metrics = parts.fit(state, sampled)
        state, linearised, status = parts.linearise(state, sampled)
        models = joint_status(models, status)
        state, metrics = learn(state, models, linearised, sampled, learn_key)
        state, noise_free = parts.select_best(state, noise_free_key)
        state = state._replace(iteration=state.iteration + 1)
        return state, {**metrics, **fit_metrics, **noise_free}

    if resolve_backend(backend) == "mjx":
        step = jax.jit(step)  # one program; on native only the sampling leaves JAX

    def inspect(state: GuidedState) -> Inspection:
        state, sampled = grouping.group(state, parts.sample(state, state.key))
        _, models, _ = parts.fit(state, sampled)
        marginals = predict(state.controllers, models.dynamics, models.initial)
        return Inspection(sampled, marginals, state.controllers)

    initialise = jax.jit(functools.partial(_init, task, config, memory, parts))

    def init(key: jax.Array) -> GuidedState:
        if not eyes.sees(config.policy):
            return initialise(key, None)
        key, scene_key = jax.random.split(key)
        return initialise(key, draw_pretraining_data(task, config.vision, scene_key))

    return Algorithm(
        init=init,
        step=step,
        inspect=inspect,
        rollouts_per_step=grouping.rollouts + task.train.num,
        first_training=config.first_training,
    )


def make_parts(
    task: Task, config: GuidedConfig, backend: str, grouping: Grouping | None = None
) -> Parts:
    """The parts on a task; without a grouping, each training condition has its own rollouts.

    Raises:
      ValueError: for an unknown backend, or where the task's initial controller does not fit its
        model.
    """
    if grouping is None:
        grouping = by_condition(task, config.num_samples, config.noise_smoothing)
    models = fitted_models(task, config.models, grouping.shape)
    own = eyes.open_eyes(task, config.policy, config.hidden, config.vision)
    network_act = own.act

    def act(params, x, o, t, noise):
        factored, network_params, by_network = params
        local = linear_gaussian.act(factored, x, t, noise)
        if config.sampling == "off_policy":
            return local
        return jnp.where(by_network, network_act(network_params, x, o, t, noise), local)

    return Parts(
        eyes=own,
        grouping=grouping,
        sample=grouping.make_sample(
            act, lambda state: _acting_params(state, trained(config, state)), backend
        ),
        models=models,
        fit=jax.jit(functools.partial(_fit, task, config, grouping, models)),
        linearise=jax.jit(functools.partial(linearise, task, config, grouping)),
        distil=jax.jit(functools.partial(_supervise, config, grouping, own)),
        select_best=_make_select_best(task, config, backend, network_act),
    )


def _make_select_best(
    task: Task, config: GuidedConfig, backend: str, network_act: Policy
) -> SelectBest:
    """Tries the network; one that is not trained yet is not seen, and the controllers are tried."""
    if config.first_training == 0:
        roll_out_noise_free = make_sample(task, network_act, backend, 0)
        choose_best = jax.jit(functools.partial(keep_best, task))
        network_params = jax.jit(lambda policy: policy.params_for(None))
        return lambda state, key: choose_best(
            state, roll_out_noise_free(network_params(state.learner), key).rollouts
        )

    def act(params, x, o, t, noise):
        factored, network_params, by_network = params
        # No condition has this flag for itself, so that under vmap one branch is run.
        return jax.lax.cond(
            by_network,
            lambda: network_act(network_params, x, o, t, noise),
            lambda: linear_gaussian.act(factored, x, t, noise),
        )

    roll_out_noise_free = make_sample(task, act, backend, 0)

    @jax.jit
    def acting_params(state: GuidedState):
        return _acting_params(state, state.iteration >= config.first_training)

    @jax.jit
    def choose_best(state: GuidedState, noise_free: Rollouts) -> tuple[GuidedState, Metrics]:
        return keep_best(task, state, noise_free, state.iteration >= config.first_training)

    return lambda state, key: choose_best(
        state, roll_out_noise_free(acting_params(state), key).rollouts
    )


def _init(
    task: Task,
    config: GuidedConfig,
    memory: Any,
    parts: Parts,
    key: jax.Array,
    scenes: PretrainingData | None,
) -> GuidedState:
    grouping = parts.grouping
    key, network_key, prior_key, policy_prior_key, group_key, sight_key = jax.random.split(key, 6)
    ring, dtype = (config.window, *grouping.shape), default_dtype()
    sight = None
    if task.observation is not None:
        num = grouping.x0.shape[0]
        sight = Sight(
            prior=observation_model_prior(task, config, grouping).init(sight_key),
            slope=jnp.zeros((num, task.horizon, task.state_dim, task.configuration_dim), dtype),
        )
    look_key = None
    if scenes is not None:
        network_key, look_key = jax.random.split(network_key)
    learner, pretraining = parts.eyes.initialise(task, network_key, dtype), None
    if scenes is not None and look_key is not None:
        learner, pretraining = pretrain(task, config.vision, learner, scenes, look_key)
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
        memory=memory,
        groups=grouping.init(group_key),
        sight=sight,
        pretraining=pretraining,
    )


def _acting_params(
    state: GuidedState, by_network: jax.Array
) -> tuple[FactoredController, Shared, Shared]:
    factored, _ = jax.vmap(linear_gaussian.factor)(state.controllers)
    x0 = factored.k[:, 0]
    return factored, state.learner.params_for(x0), Shared(by_network)


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


def _supervise(
    config: GuidedConfig,
    grouping: Grouping,
    own: Eyes,
    state: GuidedState,
    supervision: Supervision,
    key: jax.Array,
) -> tuple[GuidedState, Metrics]:
    """Trains the learner; one that diverges keeps its last good parameters."""
    supervision, learner = grouping.merge(supervision), state.learner
    metrics = {}
    if state.pretraining is not None:
        how = config.vision
        learner, info = eyes.train(
            config.policy, how, own, state.iteration, learner, supervision, key
        )
        metrics = {
            "pose_error": state.pretraining.error,
            "pose_error_constant": state.pretraining.error_constant,
            "pretraining_status": state.pretraining.status,
        }
    else:
        if learner.observe is not None:
            supervision = supervision._replace(o=policies.look(learner.observe, supervision.o))
        learner, info = policies.distil(learner, supervision, key, config.distil)
    metrics |= {
        "policy_loss_before": info.loss_before,
        "policy_loss": info.loss,
        "policy_gradient_norm": info.gradient_norm,
        "policy_status": info.status.code,
    }
    if any(each.validation > 0 for each in config.trainings):
        metrics["policy_loss_validation"] = info.loss_validation
    return state._replace(learner=learner), metrics


def keep_best(
    task: Task, state: GuidedState, noise_free: Rollouts, by_network: jax.Array | bool = True
) -> tuple[GuidedState, Metrics]:
    """Keeps the learner if it did better than any before, on all training conditions together.

    Nothing is kept of rollouts that were not the network's.

    Better is to get through more of them with a finite cost, then to succeed in more, then to cost
    less: a mean cost alone may prefer one that fails, or diverges, where it costs most.
    """
    metrics = noise_free_metrics(task, noise_free)
    valid = noise_free.valid[:, 0] & jnp.isfinite(metrics["noise_free_cost"])
    # A condition that nothing gets through must not keep the others from being judged.
    counted = jnp.maximum(jnp.sum(valid), 1)
    cost = jnp.sum(jnp.where(valid, metrics["noise_free_cost"], 0)) / counted
    through = jnp.mean(valid, dtype=cost.dtype)
    success = jnp.zeros_like(cost)
    if task.success is not None:
        success = jnp.mean(jnp.where(valid, metrics["noise_free_success"], 0))
    better = (
        jnp.any(valid)
        & by_network
        & _greater(
            (through, success, -cost),
            (state.policy_valid, state.policy_success, -state.policy_cost),
        )
    )
    state = state._replace(
        policy=jax.tree.map(
            lambda new, old: jnp.where(better, new, old), state.learner, state.policy
        ),
        policy_valid=jnp.where(better, through, state.policy_valid),
        policy_success=jnp.where(better, success, state.policy_success),
        policy_cost=jnp.where(better, cost, state.policy_cost),
    )
    return state, metrics


def _greater(one: tuple[jax.Array, ...], other: tuple[jax.Array, ...]) -> jax.Array:
    """Whether the first entry that differs is greater."""
    greater = jnp.asarray(False)
    for a, b in zip(reversed(one), reversed(other), strict=True):
        greater = (a > b) | ((a == b) & greater)
    return greater


def mirror_descent(
    task: Task,
    config: GuidedConfig,
    backend: str,
    step: TrajectoryStep,
    *,
    step_rule: str = "classic",
    grouping: Grouping | None = None,
) -> Algorithm:
    """Improves the controllers by one step, then trains the network to do what they do.

    Args:
      task: the task.
      config: of the loop.
      backend: "native", "mjx" or "auto".
      step: the trajectory step.
      step_rule: what the prediction of the last step is compared with: the cost that the network
        has now ("global"), or the one that the local controllers have ("classic").
      grouping: how rollouts are made and shared out; None for every condition its own, and
        otherwise the cost of one iteration is not compared with that of the next.

    Raises:
      ValueError: for an unknown backend, or where the task's initial controller does not fit its
        model.
    """
    parts = make_parts(task, config, backend, grouping)
    # From other starts, a step's promise and what came of it cannot be compared.
    comparable = grouping is None
    improve = jax.jit(functools.partial(_improve, config, step, step_rule, comparable))
    label = jax.jit(functools.partial(_label, config))

    def learn(state, models, linearised, sampled, key):
        drew = state.controllers
        state, metrics = improve(state, models, linearised, sampled)
        state, more = parts.distil(state, label(state, sampled, drew), key)
        return state, {**metrics, **more}

    memory = step.init(len(parts.grouping.x0))
    return make_algorithm(task, config, backend, parts, memory, learn)


def _improve(
    config: GuidedConfig,
    step: TrajectoryStep,
    step_rule: str,
    comparable: bool,
    state: GuidedState,
    models: LocalModels,
    linearised: Controller,
    sampled: SimulationRollouts,
) -> tuple[GuidedState, Metrics]:
    """The trajectory step: better controllers near the network, in every condition."""
    by_network = expected_cost(linearised, models)
    by_controllers = expected_cost(state.controllers, models)
    inputs = StepInputs(
        models=models,
        rollouts=sampled.rollouts,
        controllers=state.controllers,
        centre=trust_region_centre(config, state, linearised),
        sampled_with=sampled_with(config, state, linearised),
        cost_now=by_network if step_rule == "global" else by_controllers,
        comparable=comparable,
    )
    result = step.improve(state.memory, inputs)
    metrics = {
        "cost_expected": by_controllers,
        "policy_cost_expected": by_network,
        "policy_kl": divergence(state.controllers, linearised, models),
        **result.metrics,
    }
    return state._replace(controllers=result.controllers, memory=result.memory), metrics


def _label(
    config: GuidedConfig, state: GuidedState, sampled: SimulationRollouts, drew: Controller
) -> Supervision:
    """What the network is to do in the visited states, and how much each error counts."""
    supervision = targets(state, sampled)
    if config.reuse > 1:
        supervision = reused(state, drew, config.reuse, config.noise_smoothing)
    if config.policy_weighting == "pooled":
        return pooled(supervision, state.controllers.C)
    return supervision


def joint_status(models: LocalModels, status: Status) -> LocalModels:
    """The models, failed where the linearisation of the policy did."""
    return models._replace(status=jax.vmap(worst)(models.status, status))
