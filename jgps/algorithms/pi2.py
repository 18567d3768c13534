"""Path-integral policy improvement: local controllers from weighted samples, without models.

    repeat: roll out p(u|x) in every condition; S_t <- every sample's cost from step t to the end;
            weights_t <- softmax(-S_t / eta_t), epsilon nats from uniform;
            k, C of p <- fit to the weighted actions; K stays

It needs more samples than algorithms with models, 20 per iteration where 5 do for those, but no
derivative of the cost and no smooth motion.

Source: Chebotar et al. (2017a), "Path integral guided policy search", section III.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from jgps import costs
from jgps.core import path_integral
from jgps.core.path_integral import Pi2StepConfig
from jgps.core.types import OK, Controller, Rollouts
from jgps.optimise import local_loop as local_search
from jgps.optimise.algorithm import Algorithm, Metrics
from jgps.optimise.local_loop import LocalState
from jgps.optimise.models import LocalConfig, choose, sample_metrics
from jgps.tasks import Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pi2Config(LocalConfig):
    """Settings of `pi2`.

    Attributes:
      path_integral: how far one update moves.
      num_samples, noise_smoothing: see `LocalConfig`.
      initial_variance, prior, fit, expand: of the models fitted for figures only.
    """

    path_integral: Pi2StepConfig = Pi2StepConfig()


def pi2(task: Task, config: Pi2Config = Pi2Config(), backend: str = "auto") -> Algorithm:
    """The algorithm on a task; see the file's head for what it does.

    Raises:
      ValueError: for an unknown backend, or where the task's initial controller does not fit its
        model.
    """
    parts = local_search.make_parts(task, config, backend)
    improve = jax.jit(functools.partial(_improve, task, config))
    return local_search.make_algorithm(task, config, backend, parts, (), improve)


def _improve(
    task: Task, config: Pi2Config, state: LocalState, rollouts: Rollouts
) -> tuple[LocalState, Metrics]:
    """One update in every condition; a failing condition keeps its controller."""
    previous = state.controllers
    controllers, metrics = pi2_step(task, rollouts, previous, previous, config.path_integral)
    state = state._replace(iteration=state.iteration + 1, controllers=controllers)
    return state, {**metrics, **sample_metrics(task, rollouts)}


def pi2_step(
    task: Task,
    rollouts: Rollouts,
    sampled: Controller,
    kept: Controller,
    config: Pi2StepConfig,
) -> tuple[Controller, Metrics]:
    """One update in every condition.

    Args:
      rollouts: [C, N, T, ...].
      sampled: what they were sampled with.
      kept: the controllers of a condition whose update failed.
    """
    sampled_costs = costs.evaluate(task.cost, rollouts.x, rollouts.u)
    update = functools.partial(path_integral.improve, config=config)
    controllers, info = jax.vmap(update)(sampled, rollouts, sampled_costs)
    metrics = {
        "weights_kl": jnp.mean(info.kl, axis=1),
        "temperature": jnp.mean(info.eta, axis=1),
        "status": info.status.code,
        "status_step": info.status.step,
    }
    return choose(info.status.code == OK, controllers, kept), metrics
