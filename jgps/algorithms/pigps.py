"""Path-integral guided policy search: a network learns from controllers improved without models.

    repeat: roll out the local controllers p_c (off-policy) or the network pi (on-policy);
            fit pi as a controller to the samples: pi_c
            S_t <- every sample's cost from step t to the end;
            weights_t <- softmax(-S_t / eta_t), epsilon nats from uniform;
            p_c <- fit to the weighted noise around pi_c            (trajectory step; by default
                   around a point between p_c and pi_c, see `GuidedConfig.agreement`)
            pi  <- argmin sum_c E[KL(pi || p_c)] over the visited states   (policy step)

It is mirror descent, where the trajectory step needs no derivative of the cost and no smooth
motion, but more samples. The models that are fitted along serve metrics and figures only.

Source: Chebotar et al. (2017a), "Path integral guided policy search".
"""

import dataclasses
import functools

import jax

from jgps.algorithms.pi2 import pi2_step
from jgps.core.path_integral import Pi2StepConfig
from jgps.core.types import OK, Controller
from jgps.optimise.algorithm import Algorithm, Metrics
from jgps.optimise.guided import loop as guided
from jgps.optimise.guided.projection import centre, divergence, sampled_with
from jgps.optimise.guided.state import GuidedConfig, GuidedState
from jgps.optimise.models import LocalModels, choose, expected_cost
from jgps.simulation import SimulationRollouts
from jgps.tasks import Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class PigpsConfig(GuidedConfig):
    """Settings of `pigps`.

    Attributes:
      path_integral: how far one trajectory step moves.
      hidden, sampling, linearisation, policy_covariance, policy_weighting, distil, window,
        policy_prior: see `GuidedConfig`, whose `step_size` and `trust_region` are not used.
      num_samples, noise_smoothing: see `LocalConfig`; 5 samples are few here, 20 usual.
      initial_variance, prior, fit, expand: of the models fitted for metrics and figures only.
    """

    path_integral: Pi2StepConfig = Pi2StepConfig()


def pigps(task: Task, config: PigpsConfig = PigpsConfig(), backend: str = "auto") -> Algorithm:
    """The algorithm on a task; see the file's head for what it does.

    Raises:
      ValueError: for an unknown backend, or where the task's initial controller does not fit its
        model.
    """
    parts = guided.make_parts(task, config, backend)
    improve = jax.jit(functools.partial(_improve, task, config))
    learn = guided.mirror_descent(config, parts, improve)
    return guided.make_algorithm(task, config, backend, parts, (), learn)


def _improve(
    task: Task,
    config: PigpsConfig,
    state: GuidedState,
    models: LocalModels,
    linearised: Controller,
    sampled: SimulationRollouts,
) -> tuple[GuidedState, Metrics]:
    """The trajectory step: what cost least around the network, in every condition."""
    previous = state.controllers
    sampler = sampled_with(config, state, linearised)
    updated, metrics = pi2_step(task, sampled.rollouts, sampler, sampler, config.path_integral)
    # The noise that cost little is added to what the controllers are held to.
    around = centre(config, state, linearised)
    moved = Controller(K=around.K, k=around.k + updated.k - sampler.k, C=updated.C)
    stepped = (metrics["status"] == OK) & (models.status.code == OK)
    metrics = {
        "cost_expected": expected_cost(previous, models),
        "policy_cost_expected": expected_cost(linearised, models),
        "policy_kl": divergence(previous, linearised, models),
        **metrics,
    }
    return state._replace(controllers=choose(stepped, moved, previous)), metrics
