"""Guided policy search by Bregman ADMM: duals make local controllers and one network agree.

    repeat: roll out the local controllers p_c; fit linear-Gaussian dynamics to the samples
            several times:
                lambda_t <- lambda_t + alpha nu_t (E[mu_pi] - E[u])                      (duals)
                p_c <- argmin E[cost - u'lambda - nu log pi_c(u|x)] - nu entropy(p_c)
                       s.t.  KL(p_c || p_c as sampled) <= epsilon               (trajectory step)
                pi  <- argmin sum_c E[nu KL(pi || p_c) + lambda'mu_pi]              (policy step)
                pi_c <- pi as a controller in condition c
            raise nu where controllers and network disagree, lower it where they agree
            adapt epsilon

Lagrangian: sum_c E_p[cost] + lambda'(E[mu_pi] - E[u]) + nu KL, for the constraint that the mean
actions are the same at every step. So the trajectory step has -u'lambda, the policy step
+lambda'mu_pi.

Source: Levine, Finn, Darrell, Abbeel (2016), "End-to-end training of deep visuomotor policies",
section 4 and appendix A; Wang & Banerjee (2014), "Bregman ADMM".
"""

import dataclasses
import functools
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from jgps.core import gaussian, lqr
from jgps.core.bregman import (
    adapt_weights,
    agreement_penalty,
    dual_step,
    policy_targets,
)
from jgps.core.checks import Range, refuse
from jgps.core.lifted import shared_jit
from jgps.core.types import OK, Controller, QuadraticCost
from jgps.optimise.algorithm import Algorithm, Metrics
from jgps.optimise.factory import factory
from jgps.optimise.guided import loop as guided
from jgps.optimise.guided import projection
from jgps.optimise.guided.config import GuidedConfig, RegressionConfig
from jgps.optimise.guided.loop import Parts, joint_status
from jgps.optimise.guided.state import GuidedState
from jgps.optimise.models import LocalModels, choose, default_dtype, expected_cost
from jgps.optimise.step_size import StepMemory
from jgps.optimise.steps.lqr import (
    LqrStepConfig,
    adapt_bound,
    improve_within_bound,
    initial_memory,
)
from jgps.policies import DistilConfig, Supervision
from jgps.policies.learner import MlpConfig
from jgps.simulation import SimulationRollouts
from jgps.tasks import Task
from jgps.vision.config import NetworkPolicyConfig

WITHOUT_WEIGHT = "usually from 0.001 to 1: without weight nothing makes the network follow"


@dataclasses.dataclass(frozen=True, kw_only=True)
class BadmmConfig(GuidedConfig):
    """Settings of `badmm`.

    Attributes:
      inner_rounds: how often duals, controllers and network are updated per iteration, at least 1.
      dual_rate: alpha of the duals' step, > 0.
      initial_weight: nu of the agreement to begin with, > 0, units of the cost per nat.
      min_weight, max_weight: limits of nu, around the initial one.
      weight_band: nu doubles where the divergence is this many times its mean over time, and halves
        where it is as much below, > 1.
      policy: the network and how it is trained in one round.
      linearisation: how the network is written as a controller, from which the penalty on
        disagreement is made.
      step: bound of the KL divergence, its adaptation, and the search for its multiplier.
      others: see `GuidedConfig`.
    """

    inner_rounds: Annotated[int, Range(">= 1")] = 4
    dual_rate: Annotated[float, Range("> 0")] = 0.1
    initial_weight: Annotated[float, Range("> 0", WITHOUT_WEIGHT)] = 0.01
    min_weight: Annotated[float, Range("> 0", WITHOUT_WEIGHT)] = 1e-3
    max_weight: Annotated[float, Range("> 0", WITHOUT_WEIGHT)] = 1.0
    weight_band: Annotated[float, Range("> 1")] = 2.0
    policy: NetworkPolicyConfig = MlpConfig(distil=DistilConfig(steps=500, learning_rate=3e-3))
    linearisation: RegressionConfig = RegressionConfig(covariance="network")
    step: LqrStepConfig = LqrStepConfig()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.min_weight <= self.initial_weight <= self.max_weight:
            limits = f"from min_weight {self.min_weight} to max_weight {self.max_weight}"
            refuse(self, "initial_weight", limits)


class Memory(NamedTuple):
    """What an iteration leaves to the next; leaves [C, ...]."""

    step: StepMemory
    duals: jax.Array  # [C, T, dU], lambda
    weights: jax.Array  # [C, T], nu
    penalty: QuadraticCost  # that the last step added to the cost


@factory
def badmm(task: Task, config: BadmmConfig = BadmmConfig(), backend: str = "auto") -> Algorithm:
    """The algorithm on a task; see the file's head for what it does.

    Raises:
      ValueError: for an unknown backend, or where the task's initial controller does not fit its
        model.
    """
    parts = guided.make_parts(task, config, backend)
    learn = shared_jit(functools.partial(_learn, task, config, parts))
    first_memory = functools.partial(_first_memory, task, config)
    return guided.make_algorithm(task, config, backend, parts, first_memory, learn)


def _first_memory(task: Task, config: BadmmConfig) -> Memory:
    num, T, dU, dtype = task.train.num, task.horizon, task.action_dim, default_dtype()
    n = task.state_dim + dU
    return Memory(
        step=initial_memory(num),
        duals=jnp.zeros((num, T, dU), dtype),
        weights=jnp.full((num, T), config.initial_weight, dtype),
        penalty=QuadraticCost(
            H=jnp.zeros((num, T, n, n), dtype),
            g=jnp.zeros((num, T, n), dtype),
            h=jnp.zeros((num, T), dtype),
        ),
    )


def _learn(
    task: Task,
    config: BadmmConfig,
    parts: Parts,
    state: GuidedState,
    models: LocalModels,
    linearised: Controller,
    sampled: SimulationRollouts,
    key: jax.Array,
) -> tuple[GuidedState, Metrics]:
    """The inner rounds, all about the same samples and within one bound of what made them."""
    as_sampled = state.controllers
    state, first_metrics = _adapt_step(config, state, models, linearised)

    def one_round(carry, key):
        state, linearised, status = carry
        usable = joint_status(models, status)
        state, metrics = _improve(task, config, as_sampled, state, usable, linearised)
        state, more = parts.distil(state, _supervision(state, sampled), key)
        # By now the network is trained, in the first iteration too.
        trained = state._replace(iteration=state.iteration + 1)
        trained, linearised, status = parts.linearise(trained, sampled)
        state = trained._replace(iteration=state.iteration)
        return (state, linearised, status), {**metrics, **more}

    keys = jax.random.split(key, config.inner_rounds)
    carry, metrics = jax.lax.scan(one_round, (state, linearised, models.status), keys)
    state, linearised, status = carry
    metrics = _over_rounds(metrics)
    state, last_metrics = _adapt_weights(config, state, joint_status(models, status), linearised)
    return state, {**first_metrics, **metrics, **last_metrics}


def _over_rounds(metrics: Metrics) -> Metrics:
    """Metrics of the last round, leaves [rounds, ...], but the first failure of all rounds."""
    last = jax.tree.map(lambda rounds: rounds[-1], metrics)

    def first(code: str, *others: str) -> Metrics:
        """Of the first round that failed; of the last where none did."""
        failed = metrics[code] != OK
        rounds = failed.shape[0]
        index = jnp.where(jnp.any(failed, axis=0), jnp.argmax(failed, axis=0), rounds - 1)[None]
        return {
            name: jnp.take_along_axis(metrics[name], index, axis=0)[0] for name in (code, *others)
        }

    return {
        **last,
        **first("status", "status_step"),
        **first("policy_status"),
        "policy_gradient_norm": jnp.max(metrics["policy_gradient_norm"]),
    }


def _adapt_step(
    config: BadmmConfig, state: GuidedState, models: LocalModels, linearised: Controller
) -> tuple[GuidedState, Metrics]:
    """The multiplier of the bound: what the last step promised was with the penalties of then."""
    memory = state.memory
    cost = jax.tree.map(jnp.add, models.cost, memory.penalty)
    actual = expected_cost(state.controllers, models._replace(cost=cost))
    step = adapt_bound(memory.step, actual, models.status.code == OK, config.step)
    metrics = {
        "cost_expected": expected_cost(state.controllers, models),
        "policy_cost_expected": expected_cost(linearised, models),
    }
    return state._replace(memory=memory._replace(step=step)), metrics


def _improve(
    task: Task,
    config: BadmmConfig,
    as_sampled: Controller,
    state: GuidedState,
    models: LocalModels,
    linearised: Controller,
) -> tuple[GuidedState, Metrics]:
    """The duals' step, then the trajectory step; a condition that fails keeps everything."""
    memory = state.memory
    policy_mean, action_mean = _mean_actions(state.controllers, linearised, models)
    duals = dual_step(memory.duals, memory.weights, policy_mean, action_mean, config.dual_rate)
    penalty = agreement_penalty(duals, memory.weights, linearised)
    augmented = models._replace(cost=jax.tree.map(jnp.add, models.cost, penalty))
    result = improve_within_bound(
        task.horizon, config.step, memory.step, augmented, as_sampled, state.controllers,
        entropy_weight=memory.weights,
    )  # fmt: skip
    stepped = result.memory.stepped
    memory = Memory(
        step=result.memory,
        duals=choose(stepped, duals, memory.duals),
        weights=memory.weights,
        penalty=choose(stepped, penalty, memory.penalty),
    )
    return state._replace(controllers=result.controllers, memory=memory), result.metrics


def _mean_actions(
    controllers: Controller, linearised: Controller, models: LocalModels
) -> tuple[jax.Array, jax.Array]:
    """E[mu_pi] and E[u] [C, T, dU] where the controllers go on the models."""

    def one(controller, policy, model):
        mean = lqr.forward(controller, model.dynamics, model.initial).mean
        x, u = mean[:, : controller.K.shape[-1]], mean[:, controller.K.shape[-1] :]
        return jnp.einsum("tij,tj->ti", policy.K, x) + policy.k, u

    with jax.default_matmul_precision("highest"):
        return jax.vmap(one)(controllers, linearised, models)


def _supervision(state: GuidedState, sampled: SimulationRollouts) -> Supervision:
    """What the policy step imitates: the controllers' actions, moved by the duals."""
    memory, controllers = state.memory, state.controllers
    plain = projection.targets(state, sampled)
    return plain._replace(
        target=policy_targets(plain.target, controllers.C, memory.duals, memory.weights),
        weight=plain.weight * memory.weights[:, None],
    )


def _adapt_weights(
    config: BadmmConfig, state: GuidedState, models: LocalModels, linearised: Controller
) -> tuple[GuidedState, Metrics]:
    """Nu for the next iteration, from how far controllers and network ended from each other."""

    def divergence(controller, policy, model):
        marginals = lqr.forward(controller, model.dynamics, model.initial)
        return gaussian.controller_kl(controller, policy, marginals)

    kl = jax.vmap(divergence)(state.controllers, linearised, models)
    memory, usable = state.memory, models.status.code == OK
    adapted = adapt_weights(
        memory.weights, kl, config.weight_band, config.min_weight, config.max_weight
    )
    weights = choose(usable, adapted, memory.weights)
    metrics = {
        "policy_kl": jnp.sum(kl, axis=-1),
        "dual_norm": jnp.sqrt(jnp.mean(jnp.square(memory.duals), axis=(-2, -1))),
        "weight": jnp.mean(weights, axis=-1),
    }
    return state._replace(memory=memory._replace(weights=weights)), metrics
