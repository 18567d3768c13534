"""What every algorithm learns of every condition: dynamics, cost and where it starts."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from jgps import costs, dynamics
from jgps.core import lqr
from jgps.core.checks import Config, Range
from jgps.core.lifted import shared_jit
from jgps.core.types import (
    Controller,
    Dynamics,
    Gaussian,
    Marginals,
    QuadraticCost,
    Rollouts,
    Status,
    worst,
)
from jgps.dynamics import FitConfig, MixturePriorConfig, PriorConfig
from jgps.dynamics.fit import ridge_metrics
from jgps.optimise.algorithm import Metrics
from jgps.tasks import Task
from jgps.tasks.functions import (
    fallen,
    over_rollouts,
    params_of,
    step_costs,
    succeeded,
    with_params,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FittedModelsConfig(Config):
    """How local models are fitted to rollouts.

    Attributes:
      prior: what is known of the dynamics before they are fitted.
      fit: how the regression at every step runs.
      expand: how the cost becomes quadratic.
      initial_variance: least variance of the initial state's entries, squared units of the state.
    """

    prior: PriorConfig = MixturePriorConfig()
    fit: FitConfig = FitConfig()
    expand: costs.ExpandConfig = costs.ExpandConfig()
    initial_variance: Annotated[float, Range("> 0")] = 1e-6


class LocalModels(NamedTuple):
    """What one iteration learned of every condition; leaves [C, ...]."""

    dynamics: Dynamics
    cost: QuadraticCost
    initial: Gaussian
    status: Status


def default_dtype() -> Any:
    """float32, or float64 where the user enabled it."""
    return jax.dtypes.canonicalize_dtype(float)


class Models(NamedTuple):
    """One way to learn local models from rollouts; its functions are pure.

    `init(key)` is what is remembered before any rollouts. `fit(memory, rollouts, seen)` returns the
    memory, the models of rollouts [C, N, T, ...] (None where nothing is learned) and metrics. The
    memory learns from the rollouts that are `seen`, in which each counts once; None for the same.
    """

    init: Callable[[jax.Array], Any]
    fit: Callable[[Any, Rollouts, Rollouts | None], tuple[Any, LocalModels | None, Metrics]]


def fitted_models(task: Task, config: FittedModelsConfig, shape: tuple[int, int]) -> Models:
    """Linear-Gaussian dynamics and quadratic costs about the rollouts.

    Args:
      task: says what is fitted.
      config: says how.
      shape: leading axes of the rollouts that are seen.
    """
    prior = dynamics.make_prior(
        config.prior, task.state_dim, task.action_dim, *shape, task.horizon, default_dtype()
    )
    return Models(init=prior.init, fit=functools.partial(_fit, task, config, prior))


def no_models() -> Models:
    """Nothing is learned."""
    return Models(init=lambda key: (), fit=lambda memory, rollouts, seen: (memory, None, {}))


def _fit(
    task: Task,
    config: FittedModelsConfig,
    prior: dynamics.Prior,
    prior_state: Any,
    rollouts: Rollouts,
    seen: Rollouts | None = None,
) -> tuple[Any, LocalModels, Metrics]:
    prior_state, prior_metrics = prior.update(prior_state, rollouts if seen is None else seen)
    niw = prior.evaluate(prior_state, rollouts)
    fitted, fit_info = jax.vmap(
        lambda r, p: dynamics.fit(r, p, config.fit), in_axes=(0, None if niw is None else 0)
    )(rollouts, niw)
    models, metrics = with_costs(task, config.expand, config.initial_variance, rollouts, fitted)
    status = jax.vmap(worst)(fit_info.status, models.status)
    metrics = {**metrics, **prior_metrics, **ridge_metrics(fit_info.ridge_added)}
    return prior_state, models._replace(status=status), metrics


def with_costs(
    task: Task,
    expand: costs.ExpandConfig,
    initial_variance: float,
    rollouts: Rollouts,
    known: Dynamics,
) -> tuple[LocalModels, Metrics]:
    """Local models of these dynamics, with the cost about the rollouts and where those start.

    The status says whether the cost could be expanded.
    """
    initial = jax.vmap(lambda r: dynamics.fit_initial(r.x[:, 0], r.valid, initial_variance))(
        rollouts
    )
    cost, info = jax.vmap(
        lambda params, r: costs.expand(with_params(task.cost, params), r, expand)
    )(params_of(task.train), rollouts)
    metrics = {
        **sample_metrics(task, rollouts),
        "hessians_projected": info.num_projected,
        "hessian_smallest_eigenvalue": info.smallest_eigenvalue,
    }
    return LocalModels(dynamics=known, cost=cost, initial=initial, status=info.status), metrics


def predict(controllers: Controller, models: LocalModels) -> Marginals:
    """Where every condition's controller leads on its models; leaves [C, T, ...]."""
    return _forward(controllers, models.dynamics, models.initial)


# A program of its own, compiled once for all controllers that are looked at.
_forward = shared_jit(jax.vmap(lqr.forward))


def expected_cost(controllers: Controller, models: LocalModels) -> jax.Array:
    """Expected cost of every condition's controller on its models, [C]."""
    return predicted_cost(predict(controllers, models), models)


def predicted_cost(marginals: Marginals, models: LocalModels) -> jax.Array:
    """The same from where the controllers lead, see `predict`."""
    costs_at_steps = jax.vmap(lqr.expected_cost)(marginals, models.cost)
    return jnp.sum(costs_at_steps, axis=-1)


def choose(flags: jax.Array, yes: Any, no: Any) -> Any:
    """Leaves [C, ...] of `yes` in conditions where flags [C] hold, of `no` elsewhere."""

    def select(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.where(flags.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    return jax.tree.map(select, yes, no)


def sampled_costs(task: Task, rollouts: Rollouts) -> jax.Array:
    """What every step of rollouts of the training conditions costs, [C, N, T]."""
    return step_costs(params_of(task.train), task.cost, rollouts.x, rollouts.u)


def sample_metrics(task: Task, rollouts: Rollouts) -> Metrics:
    """What the samples cost and how close they came, over the valid ones of every condition [C]."""
    valid, params = rollouts.valid, params_of(task.train)
    count = jnp.maximum(jnp.sum(valid, axis=1), 1)

    def mean(values):
        return jnp.sum(jnp.where(valid, values, 0), axis=1) / count

    total = jnp.sum(sampled_costs(task, rollouts), axis=-1)
    average = mean(total)
    metrics = {
        "cost": average,
        "cost_std": jnp.sqrt(mean(jnp.square(total - average[:, None]))),
        "samples_valid": jnp.sum(valid, axis=1, dtype=jnp.int32),
    }
    if task.distance is not None:
        metrics["distance"] = mean(over_rollouts(params, task.distance, rollouts.x))
    if task.success is not None:
        reached = succeeded(params, task.success, task.fall, rollouts.x, rollouts.u)
        metrics["success"] = mean(reached.astype(average.dtype))
    if task.fall is not None:
        down = fallen(params, task.fall, rollouts.x)[..., -1]
        metrics["falls"] = mean(down.astype(average.dtype))
    return metrics


def noise_free_metrics(task: Task, noise_free: Rollouts) -> Metrics:
    """The same of rollouts without noise, under names that say so."""
    metrics = sample_metrics(task, noise_free)
    kept = ("cost", "distance", "success", "falls")
    return {f"noise_free_{name}": metrics[name] for name in kept if name in metrics}
