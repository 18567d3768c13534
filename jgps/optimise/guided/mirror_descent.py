"""Mirror descent: one trajectory step for the controllers, then the network learns from them."""

import functools
from typing import NamedTuple

from jgps.core.lifted import shared_jit
from jgps.core.types import Controller, Marginals
from jgps.optimise.algorithm import Algorithm, Metrics
from jgps.optimise.guided.config import MirrorDescentConfig
from jgps.optimise.guided.importance import reused
from jgps.optimise.guided.loop import Slots, make_algorithm, make_parts
from jgps.optimise.guided.outliers import sample_weights
from jgps.optimise.guided.projection import (
    divergence,
    pooled,
    sampled_with,
    targets,
    trust_region_centre,
)
from jgps.optimise.guided.state import GuidedState
from jgps.optimise.models import LocalModels, predict, predicted_cost, sampled_costs
from jgps.optimise.steps.step import StepInputs, TrajectoryStep
from jgps.policies import Supervision
from jgps.simulation import SimulationRollouts
from jgps.tasks import Task


def mirror_descent(
    task: Task,
    config: MirrorDescentConfig,
    backend: str,
    step: TrajectoryStep,
    *,
    step_rule: str = "classic",
    slots: Slots | None = None,
) -> Algorithm:
    """Improves the controllers by one step, then trains the network to do what they do.

    Args:
      task: the task.
      config: of the loop.
      backend: "native", "mjx", "analytic" or "auto".
      step: the trajectory step.
      step_rule: what the prediction of the last step is compared with: the cost that the network
        has now ("global"), or the one that the local controllers have ("classic").
      slots: what the loop is filled with; None is what the settings ask for.

    Raises:
      ValueError: for an unknown backend, or where the task's initial controller does not fit its
        model.
    """
    parts = make_parts(task, config, backend, slots)
    source = parts.slots.source
    improve = shared_jit(
        functools.partial(_improve, task, config, step, step_rule, source.comparable)
    )
    label = shared_jit(functools.partial(_label, config))

    def learn(state, models, linearised, sampled, key):
        drew = state.controllers
        predicted = _Predicted(predict(drew, models), predict(linearised, models))
        state, metrics = improve(state, models, linearised, sampled, predicted)
        state, more = parts.distil(state, label(state, sampled, drew), key)
        return state, {**metrics, **more}

    first_memory = functools.partial(step.init, len(source.x0))
    return make_algorithm(task, config, backend, parts, first_memory, learn)


class _Predicted(NamedTuple):
    """Where the last controllers lead on the models, and where the linearised network does."""

    controllers: Marginals
    network: Marginals


def _improve(
    task: Task,
    config: MirrorDescentConfig,
    step: TrajectoryStep,
    step_rule: str,
    comparable: bool,
    state: GuidedState,
    models: LocalModels,
    linearised: Controller,
    sampled: SimulationRollouts,
    predicted: _Predicted,
) -> tuple[GuidedState, Metrics]:
    """The trajectory step: better controllers near the network, in every condition."""
    by_network = predicted_cost(predicted.network, models)
    by_controllers = predicted_cost(predicted.controllers, models)
    inputs = StepInputs(
        models=models,
        rollouts=sampled.rollouts,
        sampled_costs=sampled_costs(task, sampled.rollouts),
        controllers=state.controllers,
        trust_region_centre=trust_region_centre(config, state, linearised),
        sampled_with=sampled_with(config, state, linearised),
        cost_now=by_network if step_rule == "global" else by_controllers,
        comparable=comparable,
        iteration=state.iteration,
    )
    result = step.improve(state.memory, inputs)
    metrics = {
        "cost_expected": by_controllers,
        "policy_cost_expected": by_network,
        "policy_kl": divergence(state.controllers, linearised, predicted.controllers),
        **result.metrics,
    }
    return state._replace(controllers=result.controllers, memory=result.memory), metrics


def _label(
    config: MirrorDescentConfig, state: GuidedState, sampled: SimulationRollouts, drew: Controller
) -> Supervision:
    """What the network is to do in the visited states, and how much each error counts."""
    if config.weighs_history:
        supervision = reused(state, drew, config.reuse, config.rollouts.noise_smoothing)
    else:
        weight = sample_weights(state.controllers, sampled, config.outlier_bound)
        supervision = targets(state, sampled)._replace(weight=weight)
    if config.policy_weighting == "pooled":
        return pooled(supervision, state.controllers.C)
    return supervision
