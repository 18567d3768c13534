"""Guided policy search by Bregman ADMM: duals make local controllers and one network agree.

    repeat: roll out the local controllers p_c; fit linear-Gaussian dynamics to the samples
            once or several times:
                lambda_t <- lambda_t + alpha nu_t C_t^-1 (E[mu_pi] - E[u])               (duals)
                            shortened until sqrt(lambda_t' C_t lambda_t) / nu_t <= bound
                p_c <- argmin E[cost - u'lambda - nu log pi_c(u|x)] - nu entropy(p_c)
                       s.t.  KL(p_c || p_c as sampled) <= epsilon               (trajectory step)
                pi  <- argmin sum_c E[nu KL(pi || p_c) + lambda'mu_pi]              (policy step)
                pi_c <- pi as a controller in condition c
            nu_t doubles where KL_t(p_c || pi_c) is above its mean over t, and halves where it is
            two standard deviations below
            adapt epsilon

Lagrangian: sum_c E_p[cost] + lambda'(E[mu_pi] - E[u]) + nu KL, for the constraint that the mean
actions are the same at every step. So the trajectory step has -u'lambda, the policy step
+lambda'mu_pi.

Where it departs from the published form, and why:
- The gap E[mu_pi] - E[u] is taken at the sampled states, not where the controllers lead on the
  fitted model, which diverges now and then and spoils a condition's duals for good.
- The duals' step takes the gap in the metric of the divergence, C^-1: what lambda moves the
  network's targets by, C lambda / nu, then adds up alpha times the gaps. By the gap alone, every
  action's is multiplied by its own variance.
- Lambda is bounded by how far it moves the targets, by default 0.3 standard deviations of the
  controllers. One network can't close every gap, and the sum of what is left grows without end.
  With the bound the constraint is an exact penalty: it holds where its price is within the bound.
- Samples that went elsewhere than the others count little, for the gap and for the network: of a
  rollout that hits something and diverges, a controller asks for a hundred times the usual action.
- The network as a controller has the gains of the controllers that it was trained on, and its
  errors count by one precision, as in `mdgps`. Published are a regression and each step's own
  precision, which `RegressionConfig` and `policy_weighting` ask for.
- Epsilon follows how well the task's cost was predicted. The penalty is known exactly, and with it
  in the account steps grow to what the models do not bear. For the same reason epsilon's upper
  limit is lower than in `mdgps`.

Source: Levine, Finn, Darrell, Abbeel (2016), "End-to-end training of deep visuomotor policies",
section 4 and appendix A; Wang & Banerjee (2014), "Bregman ADMM".
"""

import dataclasses
import functools
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from jgps.core import gaussian
from jgps.core.checks import OneOf, Range, Schedule, refuse
from jgps.core.lifted import shared_jit
from jgps.core.schedule import at_iteration
from jgps.core.types import OK, Controller
from jgps.optimise.algorithm import Algorithm, Metrics
from jgps.optimise.factory import factory
from jgps.optimise.guided import agreement as agree
from jgps.optimise.guided import loop as guided
from jgps.optimise.guided.agreement import Agreement
from jgps.optimise.guided.config import (
    WEIGHTINGS,
    GuidedConfig,
    OffsetConfig,
    RegressionConfig,
)
from jgps.optimise.guided.loop import Parts, joint_status
from jgps.optimise.guided.outliers import sample_weights
from jgps.optimise.guided.projection import pooled
from jgps.optimise.guided.rounds import over_rounds
from jgps.optimise.guided.state import GuidedState
from jgps.optimise.guided.weight_rules import (
    AscentWeightConfig,
    AverageWeightConfig,
    next_weights,
)
from jgps.optimise.models import (
    LocalModels,
    choose,
    default_dtype,
    expected_cost,
    predict,
    predicted_cost,
)
from jgps.optimise.step_size import StepMemory
from jgps.optimise.steps.bounded import BoundedStepConfig, make_solve
from jgps.optimise.steps.lqr import (
    LqrStepConfig,
    adapt_bound,
    explains,
    improve_within_bound,
    initial_memory,
)
from jgps.policies import Supervision
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
        The code release has 4. A network that trains for longer on a few samples knows them better
        than what lies between, and fails when it acts.
      dual_rate: alpha of the duals' step, in (0, 1]; 1 takes the whole gap at once. One number, or
        one per iteration, of which the last stays.
      gain_dual_rate: the same of duals on the gains, 0 without: they hold the covariance of action
        and state to be the same under controllers and network. They take a `RegressionConfig`,
        which tells what gains the network has.
      dual_bound: how far the duals may move what the network imitates, standard deviations of the
        controllers' actions, > 0.
      initial_weight: nu of the agreement to begin with, > 0, units of the cost per nat.
      min_weight, max_weight: limits of nu, around the initial one.
      weight_rule: how nu follows the divergence from one iteration to the next.
      policy_weighting: what the network's errors count, see `MirrorDescentConfig`; on top of it
        every step counts by its nu.
      policy: the network and how it is trained in one round.
      linearisation: how the network is written as a controller, from which the penalty on
        disagreement is made. `OffsetConfig.agreement` has no meaning here and stays as it is: nu
        says how strongly the controllers are held to the network.
      step: bound of the KL divergence, its adaptation, and the search for its multiplier.
      outlier_bound: as of `GuidedConfig`, here also for the gap that the duals step by.
      others: see `GuidedConfig`.
    """

    inner_rounds: Annotated[int, Range(">= 1")] = 1
    dual_rate: Annotated[float | tuple[float, ...], Schedule("(0, 1]")] = 0.1
    gain_dual_rate: Annotated[float, Range("[0, 1]", "usually 0 or 0.1")] = 0.0
    dual_bound: Annotated[float, Range("> 0", "usually 0.3 standard deviations")] = 0.3
    initial_weight: Annotated[float, Range("> 0", WITHOUT_WEIGHT)] = 0.01
    min_weight: Annotated[float, Range("> 0", WITHOUT_WEIGHT)] = 1e-3
    max_weight: Annotated[float, Range("> 0", WITHOUT_WEIGHT)] = 0.1
    weight_rule: AverageWeightConfig | AscentWeightConfig = AverageWeightConfig()
    policy_weighting: Annotated[str, OneOf(*WEIGHTINGS)] = "pooled"
    policy: NetworkPolicyConfig = MlpConfig()
    step: BoundedStepConfig = LqrStepConfig(min_multiplier=0.1, max_multiplier=3.0)
    outlier_bound: Annotated[float, Range("> 0", "usually 10 standard deviations")] = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.min_weight <= self.initial_weight <= self.max_weight:
            limits = f"from min_weight {self.min_weight} to max_weight {self.max_weight}"
            refuse(self, "initial_weight", limits)
        if self.step.inner_iterations != 1:
            refuse(
                self,
                "step.inner_iterations",
                "1: BADMM has rounds of its own, in which the network learns too; set inner_rounds",
            )
        settings = self.linearisation
        if self.gain_dual_rate > 0 and not isinstance(settings, RegressionConfig):
            refuse(
                self,
                "gain_dual_rate",
                "0 with an OffsetConfig, which takes the network's gains for the controllers', so "
                "that they never differ; set linearisation to a RegressionConfig",
            )
        if isinstance(settings, OffsetConfig) and settings.agreement != OffsetConfig().agreement:
            refuse(
                self,
                "linearisation.agreement",
                f"{OffsetConfig().agreement}, which BADMM does not read: the weight nu says how "
                "strongly controllers are held to the network; set initial_weight and max_weight",
            )


class Memory(NamedTuple):
    """What an iteration leaves to the next; leaves [C, ...]."""

    step: StepMemory
    agreement: Agreement


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
    num, T, dtype = task.train.num, task.horizon, default_dtype()
    gains = (num, T, task.action_dim, task.state_dim)
    return Memory(
        step=initial_memory(num),
        agreement=Agreement(
            duals=jnp.zeros((num, T, task.action_dim), dtype),
            weights=jnp.full((num, T), config.initial_weight, dtype),
            gain_duals=jnp.zeros(gains, dtype) if config.gain_dual_rate > 0 else None,
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
    as_sampled, cost_now = state.controllers, expected_cost(state.controllers, models)
    policy_cost = expected_cost(linearised, models)
    trusted = explains(models, cost_now, sampled.rollouts)
    usable = (models.status.code == OK) & trusted
    step = adapt_bound(state.memory.step, cost_now, usable, config.step)
    state = state._replace(memory=state.memory._replace(step=step))
    improve = functools.partial(_improve, task, config, as_sampled)

    def one_round(carry, key):
        state, linearised, status = carry
        state, metrics = improve(state, joint_status(models, status), linearised, sampled)
        state, more = parts.distil(state, _supervision(config, state, sampled), key)
        # By now the network is trained, in the first iteration too.
        trained = state._replace(iteration=state.iteration + 1)
        trained, linearised, status, regression = parts.linearise(trained, sampled)
        state = trained._replace(iteration=state.iteration)
        return (state, linearised, status), {**metrics, **more, **regression}

    keys = jax.random.split(key, config.inner_rounds)
    carry, metrics = jax.lax.scan(one_round, (state, linearised, models.status), keys)
    state, linearised, status = carry
    before = jnp.where(trusted, cost_now, jnp.nan)  # what such models promise counts for nothing
    state, more = _conclude(config, state, joint_status(models, status), linearised, before)
    first = {"cost_expected": cost_now, "policy_cost_expected": policy_cost}
    return state, {**first, **over_rounds(metrics), **more}


def _improve(
    task: Task,
    config: BadmmConfig,
    as_sampled: Controller,
    state: GuidedState,
    models: LocalModels,
    linearised: Controller,
    sampled: SimulationRollouts,
) -> tuple[GuidedState, Metrics]:
    """The duals' step, then the trajectory step; a condition that fails keeps everything."""
    controllers, (step, agreement) = state.controllers, state.memory
    seen = agree.seen(sampled.x, sample_weights(controllers, sampled, config.outlier_bound))
    gap = agree.gap_at(controllers, linearised, seen.mean)
    rate = at_iteration(config.dual_rate, state.iteration)
    entropy = at_iteration(config.step.entropy_weight, state.iteration)
    stepped = agree.step_duals(agreement, controllers, gap, rate, config.dual_bound)
    if config.gain_dual_rate > 0:
        stepped = agree.step_gain_duals(
            stepped, controllers, linearised, seen.cov, config.gain_dual_rate, config.dual_bound
        )
    result = improve_within_bound(
        make_solve(task, config.step), config.step, step,
        agree.penalised(models, stepped, linearised, seen.mean), as_sampled, controllers,
        entropy_weight=agreement.weights + entropy,
    )  # fmt: skip
    agreement = choose(result.memory.stepped, stepped, agreement)
    memory = Memory(step=result.memory, agreement=agreement)
    return state._replace(controllers=result.controllers, memory=memory), result.metrics


def _supervision(
    config: BadmmConfig, state: GuidedState, sampled: SimulationRollouts
) -> Supervision:
    """What the policy step imitates, and what errors count."""
    weight = sample_weights(state.controllers, sampled, config.outlier_bound)
    found = agree.supervise(state.memory.agreement, state, sampled, weight, config.dual_bound)
    return pooled(found, state.controllers.C) if config.policy_weighting == "pooled" else found


def _conclude(
    config: BadmmConfig,
    state: GuidedState,
    models: LocalModels,
    linearised: Controller,
    cost_before: jax.Array,
) -> tuple[GuidedState, Metrics]:
    """What the next iteration needs: the task's cost that the models promise, and nu."""
    step, agreement = state.memory
    marginals = predict(state.controllers, models)
    promised = predicted_cost(marginals, models)
    stepped = step.stepped & jnp.isfinite(cost_before) & jnp.isfinite(promised)
    step = step._replace(
        cost_before=choose(stepped, cost_before, step.cost_before),
        cost_predicted=choose(stepped, promised, step.cost_predicted),
        stepped=stepped,
    )
    kl = jax.vmap(gaussian.controller_kl)(state.controllers, linearised, marginals)
    # Before its first training the controllers stand for the network, and nothing disagrees.
    trains = state.iteration >= config.trajectory_iterations
    usable = (models.status.code == OK) & trains
    shift = agree.mean_shift(agreement, state.controllers)
    weights = next_weights(agreement.weights, kl, config.weight_rule, state.iteration)
    limits = (config.min_weight, config.max_weight)
    agreement = agree.adapt(agreement, kl, weights, usable, limits)
    metrics = {
        "policy_kl": jnp.sum(kl, axis=-1),
        "dual_shift": shift,
        "weight": jnp.mean(agreement.weights, axis=-1),
    }
    return state._replace(memory=Memory(step, agreement)), metrics
