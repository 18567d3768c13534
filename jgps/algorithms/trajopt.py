"""Trajectory optimisation on fitted local models: one KL-constrained LQR step per iteration.

    repeat: roll out p(u|x) in every condition; fit linear-Gaussian dynamics to the samples;
            p <- argmin E[cost]  s.t.  KL(new || p) <= epsilon;  adapt epsilon

Source: Levine & Abbeel (2014), "Learning neural network policies with guided policy search under
unknown dynamics", sections 3 and 4.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax

from jgps.core.lqr.trust_region import TrustRegionConfig
from jgps.core.types import OK, Rollouts
from jgps.optimise import local_loop as local_search
from jgps.optimise import step_size
from jgps.optimise.algorithm import Algorithm, Metrics
from jgps.optimise.local_loop import LocalState
from jgps.optimise.models import LocalConfig, LocalModels, default_dtype, expected_cost
from jgps.optimise.step_size import StepSizeConfig
from jgps.optimise.steps.lqr import lqr_step
from jgps.tasks import Task

TrajoptState = LocalState  # its memory is a StepMemory


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrajoptConfig(LocalConfig):
    """Settings of `trajopt`.

    Attributes:
      step_size: bound of the KL divergence and its adaptation.
      trust_region: of the search for the multiplier.
      num_samples, noise_smoothing, initial_variance, prior, fit, expand: see `LocalConfig`.
    """

    step_size: StepSizeConfig = StepSizeConfig()
    trust_region: TrustRegionConfig = TrustRegionConfig()


class Stages(NamedTuple):
    """The parts of one iteration, for timing."""

    sample: Any  # (controllers, key) -> Samples
    judge: Any  # (state, trial rollouts) -> (state, metrics)
    fit: Any  # (prior state, rollouts) -> (prior state, LocalModels, metrics)
    optimise: Any  # (state, models) -> (state, metrics)


def trajopt(
    task: Task, config: TrajoptConfig = TrajoptConfig(), backend: str = "auto"
) -> Algorithm:
    """The algorithm on a task; see the file's head for what it does.

    Raises:
      ValueError: for an unknown backend, or where the task's initial controller does not fit its
        model.
    """
    stages = make_stages(task, config, backend)

    def improve(state: TrajoptState, rollouts: Rollouts) -> tuple[TrajoptState, Metrics]:
        prior, models, fit_metrics = stages.fit(state.prior, rollouts)
        state, metrics = stages.optimise(state._replace(prior=prior), models)
        return state, {**metrics, **fit_metrics}

    memory = step_size.first_memory(task.train.num, default_dtype())
    parts = local_search.LocalParts(stages.sample, stages.judge, stages.fit)
    return local_search.make_algorithm(task, config, backend, parts, memory, improve)


def make_stages(task: Task, config: TrajoptConfig, backend: str) -> Stages:
    """The parts of an iteration, jitted as far as the backend allows."""
    parts = local_search.make_parts(task, config, backend)
    return Stages(*parts, optimise=jax.jit(functools.partial(_optimise, task, config)))


def _optimise(
    task: Task, config: TrajoptConfig, state: TrajoptState, models: LocalModels
) -> tuple[TrajoptState, Metrics]:
    """One KL-constrained step in every condition; a failing condition keeps its controller."""
    previous = state.controllers
    actual = expected_cost(previous, models)
    multiplier = step_size.next_multiplier(
        state.memory, actual, models.status.code == OK, config.step_size
    )
    epsilon = task.horizon * config.step_size.kl_step * multiplier
    memory = state.memory._replace(multiplier=multiplier)
    result = lqr_step(models, previous, previous, memory, epsilon, config.trust_region)
    state = state._replace(
        iteration=state.iteration + 1, controllers=result.controllers, memory=result.memory
    )
    return state, {"cost_expected": actual, **result.metrics}
