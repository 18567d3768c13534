"""Mirror descent guided policy search with PILQR: models first, then path integrals on the rest.

    repeat: roll out the local controllers p_c (off-policy) or the network pi (on-policy);
            fit linear-Gaussian dynamics to the samples, and pi as a controller there: pi_c;
            residual <- cost of every sample - what the models predict for its noise
            p1  <- argmin E[predicted cost]  s.t.  KL_t(p1 || pi_c) <= epsilon_t
                   (by default around a point between p_c and pi_c, see `GuidedConfig.agreement`)
            p_c <- fit of p1's k and C to the samples, weighted by their residual costs to go
            pi  <- argmin sum_c E[KL(pi || p_c)] over the visited states
            adapt epsilon_t to the share of the cost that the models explain

Source: Chebotar et al. (2017b), "Combining model-based and model-free updates for
trajectory-centric reinforcement learning", sections 4 and 5.
"""

import dataclasses
import functools

import jax

from jgps.algorithms.pilqr import first_memory, pilqr_step
from jgps.core.pilqr import PilqrStepConfig
from jgps.core.types import Controller
from jgps.optimise.algorithm import Algorithm, Metrics
from jgps.optimise.guided import loop as guided
from jgps.optimise.guided.projection import centre, divergence, sampled_with
from jgps.optimise.guided.state import GuidedConfig, GuidedState
from jgps.optimise.models import LocalModels, expected_cost
from jgps.simulation import SimulationRollouts
from jgps.tasks import Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class MdgpsPilqrConfig(GuidedConfig):
    """Settings of `mdgps_pilqr`.

    Attributes:
      update: of both stages of the trajectory step.
      hidden, sampling, linearisation, policy_covariance, policy_weighting, distil, window,
        policy_prior: see `GuidedConfig`, whose `step_size` and `trust_region` are not used: see
        `update` instead.
      num_samples, noise_smoothing, initial_variance, prior, fit, expand: see `LocalConfig`.
    """

    update: PilqrStepConfig = PilqrStepConfig()


def mdgps_pilqr(
    task: Task, config: MdgpsPilqrConfig = MdgpsPilqrConfig(), backend: str = "auto"
) -> Algorithm:
    """The algorithm on a task; see the file's head for what it does.

    Raises:
      ValueError: for an unknown backend, or where the task's initial controller does not fit its
        model.
    """
    parts = guided.make_parts(task, config, backend)
    improve = jax.jit(functools.partial(_improve, task, config))
    learn = guided.mirror_descent(config, parts, improve)
    return guided.make_algorithm(task, config, backend, parts, first_memory(task), learn)


def _improve(
    task: Task,
    config: MdgpsPilqrConfig,
    state: GuidedState,
    models: LocalModels,
    linearised: Controller,
    sampled: SimulationRollouts,
) -> tuple[GuidedState, Metrics]:
    """The trajectory step: both updates from the network, in every condition."""
    previous = state.controllers
    sampler = sampled_with(config, state, linearised)
    controllers, memory, metrics = pilqr_step(
        task, models, sampled.rollouts, centre(config, state, linearised), sampler, previous,
        state.memory, config.update,
    )  # fmt: skip
    metrics = {
        "cost_expected": expected_cost(previous, models),
        "policy_cost_expected": expected_cost(linearised, models),
        "policy_kl": divergence(previous, linearised, models),
        **metrics,
    }
    return state._replace(controllers=controllers, memory=memory), metrics
