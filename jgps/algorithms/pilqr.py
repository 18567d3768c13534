"""LQR on fitted models, then path integrals on what the models leave unexplained.

    repeat: roll out p(u|x) in every condition; fit linear-Gaussian dynamics to the samples;
            residual <- cost of every sample - what the models predict for its noise;
            p1 <- argmin E[predicted cost]  s.t.  KL_t(p1 || p) <= epsilon_t;
            p  <- fit of p1's k and C to the samples, weighted by their residual costs to go;
            adapt epsilon_t to the share of the cost that the models explain

As few samples as LQR while models serve, and as robust as PI2 where the cost or the motion jumps.

Source: Chebotar et al. (2017b), "Combining model-based and model-free updates for
trajectory-centric reinforcement learning", section 4.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from jgps import costs
from jgps.core import pilqr as two_stage
from jgps.core.pilqr import PilqrInfo, PilqrMemory, PilqrStepConfig
from jgps.core.types import OK, Controller, Rollouts, worst
from jgps.optimise import local_loop as local_search
from jgps.optimise.algorithm import Algorithm, Metrics
from jgps.optimise.local_loop import LocalState
from jgps.optimise.models import (
    LocalConfig,
    LocalModels,
    choose,
    default_dtype,
    expected_cost,
)
from jgps.tasks import Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class PilqrConfig(LocalConfig):
    """Settings of `pilqr`.

    Attributes:
      update: of both stages.
      num_samples, noise_smoothing, initial_variance, prior, fit, expand: see `LocalConfig`.
    """

    update: PilqrStepConfig = PilqrStepConfig()


def pilqr(task: Task, config: PilqrConfig = PilqrConfig(), backend: str = "auto") -> Algorithm:
    """The algorithm on a task; see the file's head for what it does.

    Raises:
      ValueError: for an unknown backend, or where the task's initial controller does not fit its
        model.
    """
    parts = local_search.make_parts(task, config, backend)
    optimise = jax.jit(functools.partial(_optimise, task, config))

    def improve(state: LocalState, rollouts: Rollouts) -> tuple[LocalState, Metrics]:
        prior, models, fit_metrics = parts.fit(state.prior, rollouts)
        state, metrics = optimise(state._replace(prior=prior), models, rollouts)
        return state, {**metrics, **fit_metrics}

    memory = first_memory(task)
    return local_search.make_algorithm(task, config, backend, parts, memory, improve)


def first_memory(task: Task) -> PilqrMemory:
    """Of every training condition before any update, leaves [C, T]."""
    one = two_stage.first_memory(task.horizon, default_dtype())
    return jax.tree.map(lambda a: jnp.tile(a, (task.train.num, 1)), one)


def _optimise(
    task: Task, config: PilqrConfig, state: LocalState, models: LocalModels, rollouts: Rollouts
) -> tuple[LocalState, Metrics]:
    """Both updates in every condition; a failing condition keeps its controller."""
    previous = state.controllers
    controllers, memory, metrics = pilqr_step(
        task, models, rollouts, previous, previous, previous, state.memory, config.update
    )
    state = state._replace(iteration=state.iteration + 1, controllers=controllers, memory=memory)
    return state, {"cost_expected": expected_cost(previous, models), **metrics}


def pilqr_step(
    task: Task,
    models: LocalModels,
    rollouts: Rollouts,
    previous: Controller,
    sampled: Controller,
    kept: Controller,
    memory: PilqrMemory,
    config: PilqrStepConfig,
) -> tuple[Controller, PilqrMemory, Metrics]:
    """Both updates in every condition.

    Args:
      models: fitted to the rollouts [C, N, T, ...].
      previous: what LQR's divergence is measured from.
      sampled: what the rollouts were sampled with.
      kept: the controllers of a condition whose models or whose update failed.
    """
    sampled_costs = costs.evaluate(task.cost, rollouts.x, rollouts.u)
    update = functools.partial(two_stage.improve, config=config)
    controllers, new_memory, info = jax.vmap(update)(
        previous, sampled, models.dynamics, models.cost, models.initial,
        rollouts, sampled_costs, memory,
    )  # fmt: skip
    status = jax.vmap(worst)(models.status, info.status)
    stepped = status.code == OK
    metrics = {**_metrics(info), "status": status.code, "status_step": status.step}
    return choose(stepped, controllers, kept), choose(stepped, new_memory, memory), metrics


def _metrics(info: PilqrInfo) -> Metrics:
    """What both stages did, [C]."""
    return {
        "cost_predicted": info.lqr.cost,
        "kl": info.lqr.kl,
        "kl_bound": jnp.sum(info.epsilon, axis=1),
        "eta": jnp.median(info.lqr.eta, axis=1),
        "search_rounds": info.lqr.rounds,
        "unexplained": jnp.mean(info.unexplained, axis=1),
        "weights_kl": jnp.mean(info.kl, axis=1),
        "temperature": jnp.mean(info.temperature, axis=1),
    }
