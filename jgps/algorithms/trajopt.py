"""Trajectory optimisation on fitted local models: one KL-constrained LQR step per iteration.

    repeat: roll out p(u|x) in every condition; fit linear-Gaussian dynamics to the samples;
            p <- argmin E[cost]  s.t.  KL(new || p) <= epsilon;  adapt epsilon

Every iteration also tries the controllers without noise, one rollout per condition that no model is
fitted to. The result is the best that was tried: what the last iteration made has not been, and
contact now and then spoils a step.

Source: Levine & Abbeel (2014), "Learning neural network policies with guided policy search under
unknown dynamics", sections 3 and 4.
"""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jgps import costs, dynamics
from jgps.algorithms import step_size
from jgps.algorithms.algorithm import Algorithm, Inspection, Metrics
from jgps.algorithms.step_size import StepSizeConfig
from jgps.controllers import exploration_noise, linear_gaussian
from jgps.controllers.linear_gaussian import FactoredController
from jgps.controllers.nearest import NearestController
from jgps.core import lqr
from jgps.core.trust_region import TrustRegionConfig
from jgps.core.types import (
    OK,
    Controller,
    Dynamics,
    Gaussian,
    QuadraticCost,
    Rollouts,
    Status,
    worst,
)
from jgps.dynamics import FitConfig, MixturePriorConfig, PriorConfig
from jgps.simulation import SimulationRollouts, make_sampler, resolve_backend
from jgps.tasks import Task
from jgps.tasks.start import initial_controllers, initial_states


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrajoptConfig:
    """Settings of `trajopt`.

    Attributes:
      num_samples: rollouts per condition and iteration, at least 2.
      noise_smoothing: standard deviation, in steps, of the kernel that smooths exploration noise;
        0 is white.
      initial_variance: least variance of the initial state's entries, squared units of the state.
      step_size: bound of the KL divergence and its adaptation.
      prior: of the fitted dynamics.
      fit, expand, trust_region: see those.
    """

    num_samples: int = 5
    noise_smoothing: float = 2.0
    initial_variance: float = 1e-6
    step_size: StepSizeConfig = StepSizeConfig()
    prior: PriorConfig = MixturePriorConfig()
    fit: FitConfig = FitConfig()
    expand: costs.ExpandConfig = costs.ExpandConfig()
    trust_region: TrustRegionConfig = TrustRegionConfig()

    def __post_init__(self) -> None:
        if not isinstance(self.num_samples, int) or self.num_samples < 2:
            raise ValueError(
                f"TrajoptConfig.num_samples is {self.num_samples}; fitting dynamics "
                "takes at least 2 rollouts per condition, usually 5 with the mixture prior"
            )
        if not 0 <= self.noise_smoothing < math.inf:
            raise ValueError(
                f"TrajoptConfig.noise_smoothing is {self.noise_smoothing}; it has to be >= 0 steps"
            )
        if not 0 < self.initial_variance < math.inf:
            raise ValueError(
                f"TrajoptConfig.initial_variance is {self.initial_variance}; it has to be > 0, "
                "usually 1e-6"
            )


class LocalModels(NamedTuple):
    """What one iteration learned of every condition; leaves [C, ...]."""

    dynamics: Dynamics
    cost: QuadraticCost
    initial: Gaussian
    status: Status


class TrajoptState(NamedTuple):
    """Everything that the next iteration needs."""

    key: jax.Array
    iteration: jax.Array  # [] int32
    controllers: Controller  # [C, ...], to be rolled out next
    policy: NearestController  # the best ones that were tried without noise so far
    policy_cost: jax.Array  # [C], what they cost then
    prior: Any
    eta: jax.Array  # [C], warm start of the search
    multiplier: jax.Array  # [C], of the KL bound
    cost_before: jax.Array  # [C], expected before the last step, on the models it was made with
    cost_predicted: jax.Array  # [C], expected after it, on the same models
    stepped: jax.Array  # [C] bool: the last step was taken


class Samples(NamedTuple):
    """One iteration's rollouts."""

    noisy: SimulationRollouts  # [C, N, ...], to fit models to
    trial: SimulationRollouts  # [C, 1, ...], without noise


class Stages(NamedTuple):
    """The parts of one iteration, for timing and for algorithms that build on this one."""

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
    predict = jax.jit(jax.vmap(lqr.forward))

    def step(state: TrajoptState) -> tuple[TrajoptState, Metrics]:
        key, noise_key = jax.random.split(state.key)
        state = state._replace(key=key)
        samples = stages.sample(state.controllers, noise_key)
        state, trial_metrics = stages.judge(state, samples.trial.rollouts)
        prior, models, fit_metrics = stages.fit(state.prior, samples.noisy.rollouts)
        state, metrics = stages.optimise(state._replace(prior=prior), models)
        return state, {**metrics, **fit_metrics, **trial_metrics}

    if resolve_backend(backend) == "mjx":
        step = jax.jit(step)  # one program; on native only the sampling leaves JAX

    def inspect(state: TrajoptState) -> Inspection:
        sampled = stages.sample(state.policy.controllers, state.key).noisy
        _, models, _ = stages.fit(state.prior, sampled.rollouts)
        marginals = predict(state.policy.controllers, models.dynamics, models.initial)
        return Inspection(sampled, marginals)

    return Algorithm(
        init=jax.jit(functools.partial(_init, task, config, initial_states(task, task.train))),
        step=step,
        inspect=inspect,
        rollouts_per_step=task.train.num * (config.num_samples + 1),
    )


def make_stages(task: Task, config: TrajoptConfig, backend: str) -> Stages:
    """The three parts of an iteration, jitted as far as the backend allows."""
    sampler = make_sampler(task.system, task.train, NearestController.act, resolve_backend(backend))
    roll_out = jax.jit(sampler.sample) if sampler.jittable else sampler.sample
    num, samples = task.train.num, config.num_samples
    factor = jax.jit(jax.vmap(linear_gaussian.factor))

    def draw(key: jax.Array) -> jax.Array:
        noise = exploration_noise(
            key, num * samples, task.horizon, task.action_dim, config.noise_smoothing,
            dtype=_dtype(),
        )  # fmt: skip
        noise = noise.reshape(num, samples, task.horizon, task.action_dim)
        return jnp.concatenate([noise, jnp.zeros_like(noise[:, :1])], axis=1)

    draw = jax.jit(draw)

    def sample(controllers: Controller, key: jax.Array) -> Samples:
        params: FactoredController = factor(controllers)[0]
        together = roll_out(params, draw(key))
        return Samples(
            noisy=jax.tree.map(lambda leaf: leaf[:, :samples], together),
            trial=jax.tree.map(lambda leaf: leaf[:, samples:], together),
        )

    prior = _prior(task, config)
    return Stages(
        sample=sample,
        judge=jax.jit(functools.partial(_judge, task)),
        fit=jax.jit(functools.partial(_fit, task, config, prior)),
        optimise=jax.jit(functools.partial(_optimise, task, config)),
    )


def _dtype() -> Any:
    return jnp.zeros(()).dtype


def _prior(task: Task, config: TrajoptConfig) -> dynamics.Prior:
    return dynamics.make_prior(
        config.prior, task.state_dim, task.action_dim, task.train.num, config.num_samples,
        task.horizon, _dtype(),
    )  # fmt: skip


def _init(task: Task, config: TrajoptConfig, x0: jax.Array, key: jax.Array) -> TrajoptState:
    key, prior_key = jax.random.split(key)
    num, dtype = task.train.num, _dtype()
    controllers = initial_controllers(task, x0)
    return TrajoptState(
        key=key,
        iteration=jnp.zeros((), jnp.int32),
        controllers=controllers,
        policy=NearestController(controllers=controllers, x0=x0),
        policy_cost=jnp.full(num, jnp.inf, dtype),
        prior=_prior(task, config).init(prior_key),
        eta=jnp.ones(num, dtype),
        multiplier=jnp.ones(num, dtype),
        cost_before=jnp.zeros(num, dtype),
        cost_predicted=jnp.zeros(num, dtype),
        stepped=jnp.zeros(num, bool),
    )


def _fit(
    task: Task, config: TrajoptConfig, prior: dynamics.Prior, prior_state: Any, rollouts: Rollouts
) -> tuple[Any, LocalModels, Metrics]:
    """Local models of every condition from rollouts [C, N, T, ...]."""
    prior_state, prior_metrics = prior.update(prior_state, rollouts)
    niw = prior.evaluate(prior_state, rollouts)
    fitted, fit_status = jax.vmap(
        lambda r, p: dynamics.fit(r, p, config.fit), in_axes=(0, None if niw is None else 0)
    )(rollouts, niw)
    initial = jax.vmap(lambda r: dynamics.fit_initial(r.x[:, 0], r.valid, config.initial_variance))(
        rollouts
    )
    cost, info = jax.vmap(lambda r: costs.expand(task.cost, r, config.expand))(rollouts)
    models = LocalModels(
        dynamics=fitted,
        cost=cost,
        initial=initial,
        status=jax.vmap(worst)(fit_status, info.status),
    )
    metrics = {
        **_sample_metrics(task, rollouts),
        **prior_metrics,
        "hessians_projected": info.num_projected,
        "hessian_smallest_eigenvalue": info.smallest_eigenvalue,
    }
    return prior_state, models, metrics


def _optimise(
    task: Task, config: TrajoptConfig, state: TrajoptState, models: LocalModels
) -> tuple[TrajoptState, Metrics]:
    """One KL-constrained step in every condition; a failing condition keeps its controller."""

    def expected_cost(controller, model):
        marginals = lqr.forward(controller, model.dynamics, model.initial)
        return jnp.sum(lqr.expected_cost(marginals, model.cost))

    previous = state.controllers
    actual = jax.vmap(expected_cost)(previous, models)
    known = state.stepped & (models.status.code == OK) & jnp.isfinite(actual)
    adapted = step_size.adapt(
        state.multiplier,
        state.cost_before - state.cost_predicted,
        state.cost_before - actual,
        config.step_size,
    )
    multiplier = jnp.where(known, adapted, state.multiplier)
    epsilon = task.horizon * config.step_size.kl_step * multiplier

    def solve(model: LocalModels, controller: Controller, epsilon, eta):
        return lqr.solve_kl_constrained(
            model.dynamics, model.cost, controller, model.initial, epsilon,
            eta=eta, config=config.trust_region,
        )  # fmt: skip

    controllers, info = jax.vmap(solve)(models, previous, epsilon, state.eta)
    status = jax.vmap(worst)(models.status, info.status)
    stepped = status.code == OK

    def keep(new, old):
        return _choose(stepped, new, old)

    new_state = state._replace(
        iteration=state.iteration + 1,
        controllers=jax.tree.map(keep, controllers, previous),
        eta=keep(info.eta, state.eta),
        multiplier=multiplier,
        cost_before=keep(info.cost_previous, state.cost_before),
        cost_predicted=keep(info.cost, state.cost_predicted),
        stepped=stepped,
    )
    metrics = {
        "cost_expected": actual,
        "cost_predicted": info.cost,
        "kl": info.kl,
        "kl_bound": epsilon,
        "eta": info.eta,
        "step_multiplier": multiplier,
        "search_rounds": info.rounds,
        "status": status.code,
        "status_step": status.step,
    }
    return new_state, metrics


def _judge(task: Task, state: TrajoptState, trial: Rollouts) -> tuple[TrajoptState, Metrics]:
    """Keeps the controllers that the trial [C, 1, ...] shows to be better than the best so far."""
    metrics = _sample_metrics(task, trial)
    better = trial.valid[:, 0] & (metrics["cost"] < state.policy_cost)
    best = jax.tree.map(
        functools.partial(_choose, better), state.controllers, state.policy.controllers
    )
    state = state._replace(
        policy=state.policy._replace(controllers=best),
        policy_cost=jnp.where(better, metrics["cost"], state.policy_cost),
    )
    kept = ("cost", "distance", "success")
    return state, {f"trial_{name}": metrics[name] for name in kept if name in metrics}


def _choose(flags: jax.Array, yes: jax.Array, no: jax.Array) -> jax.Array:
    """`yes` in conditions where flags [C] hold, `no` elsewhere."""
    return jnp.where(flags.reshape(-1, *[1] * (yes.ndim - 1)), yes, no)


def _sample_metrics(task: Task, rollouts: Rollouts) -> Metrics:
    """What the samples cost and how close they came, over the valid ones of every condition [C]."""
    valid = rollouts.valid
    count = jnp.maximum(jnp.sum(valid, axis=1), 1)

    def mean(values):
        return jnp.sum(jnp.where(valid, values, 0), axis=1) / count

    total = jnp.sum(costs.evaluate(task.cost, rollouts.x, rollouts.u), axis=-1)
    average = mean(total)
    metrics = {
        "cost": average,
        "cost_std": jnp.sqrt(mean(jnp.square(total - average[:, None]))),
        "samples_valid": jnp.sum(valid, axis=1, dtype=jnp.int32),
    }
    if task.distance is not None:
        metrics["distance"] = mean(jax.vmap(jax.vmap(task.distance))(rollouts.x))
    if task.success is not None:
        reached = jax.vmap(jax.vmap(task.success))(rollouts.x, rollouts.u)
        metrics["success"] = mean(reached.astype(average.dtype))
    return metrics
