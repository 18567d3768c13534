"""Which network is the result: each is rolled out without noise, and the best so far is kept."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jgps.core.lifted import shared_jit
from jgps.core.types import Rollouts
from jgps.optimise.algorithm import Metrics
from jgps.optimise.guided.acting import NoiseFreeAct, acting_params_of
from jgps.optimise.guided.config import GuidedConfig
from jgps.optimise.guided.state import GuidedState
from jgps.optimise.models import noise_free_metrics
from jgps.optimise.rollouts.sampling import make_sample
from jgps.policies import DistilInfo
from jgps.policies.learner import PolicyLearner
from jgps.simulation import Policy
from jgps.tasks import Task

# select_best(state, key) -> (state, metrics)
SelectBest = Callable[[GuidedState, jax.Array], tuple[GuidedState, Metrics]]


def make_select_best(
    task: Task, config: GuidedConfig, backend: str, network_act: Policy
) -> SelectBest:
    """Rolls the network out without noise; the controllers, as long as it is not trained."""
    if config.trajectory_iterations == 0:
        roll_out_noise_free = make_sample(task, network_act, backend, None)
        choose_best = shared_jit(functools.partial(keep_best, task))
        network_params = shared_jit(lambda policy: policy.params_for(None))
        return lambda state, key: choose_best(
            state, roll_out_noise_free(network_params(state.newest), key).rollouts
        )

    roll_out_noise_free = make_sample(task, NoiseFreeAct(network_act), backend, None)

    @shared_jit
    def acting_params(state: GuidedState):
        return acting_params_of(state, state.iteration >= config.trajectory_iterations)

    @shared_jit
    def choose_best(state: GuidedState, noise_free: Rollouts) -> tuple[GuidedState, Metrics]:
        return keep_best(task, state, noise_free, state.iteration >= config.trajectory_iterations)

    return lambda state, key: choose_best(
        state, roll_out_noise_free(acting_params(state), key).rollouts
    )


def keep_best(
    task: Task, state: Any, noise_free: Rollouts, by_network: jax.Array | bool = True
) -> tuple[Any, Metrics]:
    """Keeps the learner if it did better than any before, on all training conditions together.

    The state is a `GuidedState`, or another with `newest` and its fields that begin with `policy`.

    Nothing is kept of rollouts that were not the network's.

    Better is to get through more of them with a finite cost and without a fall, then to succeed in
    more, then to cost less: a mean cost alone may prefer one that fails, or diverges, where it
    costs most.
    """
    metrics = noise_free_metrics(task, noise_free)
    valid = noise_free.valid[:, 0] & jnp.isfinite(metrics["noise_free_cost"])
    if task.fall is not None:  # whoever has fallen has not got through
        valid &= metrics["noise_free_falls"] == 0
    # A condition that nothing gets through must not keep the others from being compared.
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
            lambda new, old: jnp.where(better, new, old), state.newest, state.policy
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


def training_metrics(learner: PolicyLearner, info: DistilInfo) -> Metrics:
    """How the network's training went, scalars."""
    metrics = {
        "policy_loss_before": info.loss_before,
        "policy_loss": info.loss,
        "policy_gradient_norm": info.gradient_norm,
        "policy_status": info.status.code,
    }
    if learner.validates:
        metrics["policy_loss_validation"] = info.loss_validation
    return metrics
