"""Mirror descent guided policy search: local controllers stay near one network, which follows them.

    repeat: roll out the local controllers p_c (off-policy) or the network pi (on-policy)
            fit linear-Gaussian dynamics to the samples, and pi as a controller there: pi_c
            p_c <- argmin E[cost]  s.t.  KL(p_c || pi_c) <= epsilon        (trajectory step;
                   by default around a point between p_c and pi_c, see `GuidedConfig.agreement`)
            pi  <- argmin sum_c E[KL(pi || p_c)] over the visited states   (policy step)
            adapt epsilon

It is approximate mirror descent on the network's expected cost: the trajectory step is the descent,
the policy step the projection back onto what the network can do.

Source: Montgomery & Levine (2016), "Guided policy search via approximate mirror descent".
"""

import dataclasses
import functools

import jax

from jgps.core.checks import check_choice
from jgps.core.types import OK, Controller
from jgps.optimise import step_size
from jgps.optimise.algorithm import Algorithm, Metrics
from jgps.optimise.guided import loop as guided
from jgps.optimise.guided.loop import mirror_descent
from jgps.optimise.guided.projection import centre, divergence
from jgps.optimise.guided.state import GuidedConfig, GuidedState
from jgps.optimise.models import LocalModels, default_dtype, expected_cost
from jgps.optimise.rollouts.random_starts import (
    RandomStartsConfig,
    by_random_start,
    check_random_starts,
)
from jgps.optimise.steps.lqr import lqr_step
from jgps.simulation import SimulationRollouts
from jgps.tasks import Task

STEP_RULES = ("global", "classic")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MdgpsConfig(GuidedConfig):
    """Settings of `mdgps`.

    Attributes:
      step_rule: what the prediction of the last step is compared with: the cost that the network
        has now ("global"), or the one that the local controllers have ("classic").
      random_starts: rollouts from random initial states, grouped, instead of from the training
        conditions (which still try the network); takes sampling="on_policy" and priors that are
        shared, and the step size is not adapted. None, or as of `RandomStartsConfig`.
      hidden, sampling, linearisation, policy_covariance, policy_weighting, distil, window,
        policy_prior, step_size, trust_region: see `GuidedConfig`.
      num_samples, noise_smoothing, initial_variance, prior, fit, expand: see `LocalConfig`.
    """

    step_rule: str = "classic"
    random_starts: RandomStartsConfig | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "step_rule", STEP_RULES)
        if self.random_starts is not None:
            check_random_starts(self)


def mdgps(task: Task, config: MdgpsConfig = MdgpsConfig(), backend: str = "auto") -> Algorithm:
    """The algorithm on a task; see the file's head for what it does.

    Raises:
      ValueError: for an unknown backend, where the task's initial controller does not fit its
        model, or where it has no random starts but the settings ask for them.
    """
    grouping = None
    if config.random_starts is not None:
        grouping = by_random_start(task, config.random_starts, config.noise_smoothing)
    parts = guided.make_parts(task, config, backend, grouping)
    improve = jax.jit(functools.partial(_improve, task, config))
    memory = step_size.first_memory(len(parts.grouping.x0), default_dtype())
    learn = mirror_descent(config, parts, improve)
    return guided.make_algorithm(task, config, backend, parts, memory, learn)


def _improve(
    task: Task,
    config: MdgpsConfig,
    state: GuidedState,
    models: LocalModels,
    linearised: Controller,
    sampled: SimulationRollouts,
) -> tuple[GuidedState, Metrics]:
    """The trajectory step: the best controllers near the network, in every condition."""
    by_network = expected_cost(linearised, models)
    by_controllers = expected_cost(state.controllers, models)
    actual = by_network if config.step_rule == "global" else by_controllers
    # From other starts, a step's promise and what came of it cannot be compared.
    comparable = (models.status.code == OK) & (config.random_starts is None)
    multiplier = step_size.next_multiplier(state.memory, actual, comparable, config.step_size)
    epsilon = task.horizon * config.step_size.kl_step * multiplier
    memory = state.memory._replace(multiplier=multiplier)
    previous = centre(config, state, linearised)
    result = lqr_step(models, previous, state.controllers, memory, epsilon, config.trust_region)
    metrics = {
        "cost_expected": by_controllers,
        "policy_cost_expected": by_network,
        "policy_kl": divergence(state.controllers, linearised, models),
        **result.metrics,
    }
    return state._replace(controllers=result.controllers, memory=result.memory), metrics
