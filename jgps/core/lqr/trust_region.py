"""The linear-quadratic problem with a bound on the divergence from the previous controller.

    minimise E[cost] - sum_t e_t entropy(u_t | x_t)   subject to   sum_t KL_t <= epsilon
    or, with one bound for each step,                              KL_t <= epsilon_t

KL_t is the expected divergence of the actions from the previous controller's, under the NEW state
distribution. For a multiplier eta the minimiser is one Riccati recursion on
`cost - eta log previous(u | x)` with entropy weight eta + e_t.
"""

import functools
import math
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from jgps.core import linalg
from jgps.core.checks import Config, Range, refuse
from jgps.core.lqr import riccati
from jgps.core.lqr.dual_descent import Descent, DescentProblem, descend
from jgps.core.lqr.dual_search import Limits, Problem, Search, log_start, search_scale
from jgps.core.lqr.whitened import Whitened, evaluate, whiten_problem
from jgps.core.types import (
    NON_FINITE,
    Controller,
    Dynamics,
    Gaussian,
    QuadraticCost,
    Status,
    first_failure,
    promote,
    worst,
)

__all__ = [
    "PerStepTrustRegionConfig",
    "TrustRegionConfig",
    "TrustRegionInfo",
    "solve_kl_constrained",
    "solve_kl_constrained_per_step",
]


@dataclass(frozen=True, kw_only=True)
class TrustRegionConfig(Config):
    """How the multiplier eta is searched for.

    Attributes:
      tolerance: done when |KL - epsilon| < tolerance * epsilon.
      eta_min, eta_max: the search's limits.
      num_candidates: how many eta are evaluated side by side in one round.
      max_rounds: rounds after which the search gives up.
    """

    tolerance: Annotated[float, Range("(0, 1)")] = 0.1
    eta_min: Annotated[float, Range("> 0")] = 1e-8
    eta_max: Annotated[float, Range("(0, 1e20]")] = 1e16
    num_candidates: Annotated[int, Range("[2, 64]")] = 4
    max_rounds: Annotated[int, Range(">= 1")] = 20

    def __post_init__(self) -> None:
        if not self.eta_min < self.eta_max:
            refuse(self, "eta_min", f"below eta_max = {self.eta_max:g}, usually 1e-8")


@dataclass(frozen=True, kw_only=True)
class PerStepTrustRegionConfig(Config):
    """How one multiplier eta per step is searched for: a factor of all first, then a descent.

    Attributes:
      search: how the common factor is searched for; its tolerance and its limits hold at every
        step.
      rounds: rounds after which the descent gives up.
      rate: Adam's learning rate on log eta.
    """

    search: TrustRegionConfig = TrustRegionConfig()
    rounds: Annotated[int, Range(">= 1")] = 200
    rate: Annotated[float, Range("(0, 2]")] = 0.3


class TrustRegionInfo(NamedTuple):
    """What the search found, for the returned controller."""

    eta: jax.Array  # [] or, per step, [T]: the multiplier, to warm-start the next search
    kl: jax.Array  # [] nats, summed over the steps
    kl_per_step: jax.Array  # [T] nats
    # [] expected cost on the given dynamics, without the entropy term; 0 where it is not finite
    cost: jax.Array
    cost_previous: jax.Array  # [] the same for the previous controller
    rounds: jax.Array  # [] int32, sequential rounds of evaluation
    status: Status


@functools.partial(jax.jit, static_argnames="config")
@linalg.full_precision
def solve_kl_constrained(
    dynamics: Dynamics,
    cost: QuadraticCost,
    previous: Controller,
    initial: Gaussian,
    epsilon: float | jax.Array,
    *,
    entropy_weight: float | jax.Array = 0.0,
    eta: float | jax.Array = 1.0,
    config: TrustRegionConfig = TrustRegionConfig(),
) -> tuple[Controller, TrustRegionInfo]:
    """Best controller within `epsilon` nats of the previous one, with one multiplier eta.

    Ends when |KL - epsilon| < tolerance * epsilon, or with eta at its floor and KL below epsilon.

    Args:
      dynamics: of length T - 1.
      cost: of length T; need not be convex in u, the search raises eta until Q_uu is. The
        symmetric part of H counts.
      previous: controller to stay close to, C positive definite.
      initial: distribution of the first state.
      epsilon: bound on the KL summed over the steps, nats, > 0.
      entropy_weight: e >= 0, a scalar or [T], on top of eta.
      eta: where the search starts, usually the last iteration's; 1 where it is not positive.
      config: limits and effort of the search.

    Returns:
      The controller and what is known of it. Where no eta meets the bound, the previous controller
      and status NOT_PD (still not convex at the largest eta, `previous.C` is singular, or W is no
      covariance), NON_FINITE (an input or result is not finite, or epsilon or e is out of range) or
      NOT_CONVERGED (the bound is not met at the largest eta). Where the bound holds but the
      tolerance was not reached within `max_rounds`, the best controller within the bound and
      NOT_CONVERGED.

    Raises:
      ValueError: shapes disagree.

    Source: Levine & Abbeel (2014), section 3.1; Levine et al. (2016), appendix A.
    """
    dynamics, cost, previous, initial = promote(dynamics, cost, previous, initial)
    shifted = whiten_problem(dynamics, cost, previous, initial)
    T, dtype = cost.h.shape[0], cost.h.dtype
    bound = scalar(epsilon, dtype, "epsilon")
    shifted, weights = check_values(shifted, bound, entropy_weight)
    limits = log_limits(config, dtype)
    start = log_start(scalar(eta, dtype, "eta"), limits)
    problem = Problem(
        evaluate=lambda log_eta: evaluate(shifted, jnp.broadcast_to(log_eta, (T,)), weights),
        limits=limits,
        target=jnp.log(bound),
        tolerance=config.tolerance,
        num_candidates=config.num_candidates,
        max_rounds=config.max_rounds,
    )
    search = search_scale(problem, start, shifted)
    controller, info = _finish(dynamics, cost, initial, shifted, search)
    return controller, info._replace(eta=info.eta[0])


@functools.partial(jax.jit, static_argnames="config")
@linalg.full_precision
def solve_kl_constrained_per_step(
    dynamics: Dynamics,
    cost: QuadraticCost,
    previous: Controller,
    initial: Gaussian,
    epsilon: jax.Array,
    *,
    entropy_weight: float | jax.Array = 0.0,
    eta: float | jax.Array = 1.0,
    config: PerStepTrustRegionConfig = PerStepTrustRegionConfig(),
) -> tuple[Controller, TrustRegionInfo]:
    """Best controller whose every step is within its own bound, with one multiplier per step.

    The given eta are scaled in common until the summed divergence meets the summed bound (the
    search of `solve_kl_constrained`), then Adam moves every log eta_t by log(epsilon_t / KL_t).
    Ends when at every step |KL_t - epsilon_t| < tolerance * epsilon_t, or eta_t is at its floor
    with KL_t below epsilon_t.

    Args:
      epsilon: bound on the KL of every step, nats, > 0, [T] or a scalar.
      eta: where the search starts, [T] or a scalar.
      The other arguments are those of `solve_kl_constrained`.

    Returns:
      The controller and what is known of it, eta [T]. After `rounds` without convergence the
      status is NOT_CONVERGED and the controller the one closest to the bounds among those that
      exceed none by more than the tolerance, or the previous one where there was none. Other
      failures are those of `solve_kl_constrained`.

      Range: on random problems of 12 steps, bounds of up to 1 nat per step always converged; from 5
      nats per step on, strongly non-convex costs often end NOT_CONVERGED, within the bounds.

    Raises:
      ValueError: shapes disagree.

    Source: Chebotar et al. (2017b), section 4.
    """
    dynamics, cost, previous, initial = promote(dynamics, cost, previous, initial)
    shifted = whiten_problem(dynamics, cost, previous, initial)
    T, dtype = cost.h.shape[0], cost.h.dtype
    bounds = riccati.per_step(epsilon, T, dtype, "epsilon")
    shifted, weights = check_values(shifted, bounds, entropy_weight)
    limits = log_limits(config.search, dtype)
    start = log_start(riccati.per_step(eta, T, dtype, "eta"), limits)

    def scaled(log_scale: jax.Array) -> jax.Array:
        return jnp.clip(start + log_scale, limits.low, limits.high)

    problem = Problem(
        evaluate=lambda log_scale: evaluate(shifted, scaled(log_scale), weights),
        limits=Limits(low=limits.low - jnp.max(start), high=limits.high - jnp.min(start)),
        target=jnp.log(jnp.sum(bounds)),
        tolerance=config.search.tolerance,
        num_candidates=config.search.num_candidates,
        max_rounds=config.search.max_rounds,
    )
    search = search_scale(problem, jnp.zeros((), dtype), shifted)
    each = DescentProblem(
        evaluate=functools.partial(evaluate, shifted, weights=weights),
        limits=limits,
        bounds=bounds,
        tolerance=config.search.tolerance,
        rounds=config.rounds,
        rate=config.rate,
    )
    descent = descend(each, search)
    descent = descent._replace(rounds=search.rounds + descent.rounds)
    return _finish(dynamics, cost, initial, shifted, descent)


def scalar(value: float | jax.Array, dtype, name: str) -> jax.Array:
    array = jnp.asarray(value, dtype)
    if array.shape != ():
        raise ValueError(f"{name} must be a scalar, got shape {array.shape}")
    return array


def check_values(
    shifted: Whitened, bounds: jax.Array, entropy_weight: float | jax.Array
) -> tuple[Whitened, jax.Array]:
    """The problem, its status NON_FINITE where a bound or a weight is unusable, and the weights.

    The status has a step only where one step is to blame: not for one bound on the sum.
    """
    dtype = bounds.dtype
    weights = riccati.per_step(entropy_weight, shifted.x_mean.shape[0], dtype, "entropy_weight")
    bad_bounds = first_failure(~((bounds > 0) & (bounds < jnp.inf)), NON_FINITE)
    if bounds.ndim == 0:
        bad_bounds = bad_bounds._replace(step=jnp.asarray(-1, jnp.int32))
    bad_weights = first_failure(~((weights >= 0) & (weights < jnp.inf)), NON_FINITE)
    return shifted._replace(status=worst(bad_bounds, bad_weights, shifted.status)), weights


def log_limits(config: TrustRegionConfig, dtype) -> Limits:
    """The configured limits on a log scale."""
    return Limits(
        low=jnp.asarray(math.log(config.eta_min), dtype),
        high=jnp.asarray(math.log(config.eta_max), dtype),
    )


def _finish(
    dynamics: Dynamics,
    cost: QuadraticCost,
    initial: Gaussian,
    shifted: Whitened,
    ended: Search | Descent,
) -> tuple[Controller, TrustRegionInfo]:
    """The best candidate for the caller; the previous controller where there is none."""
    policy, previous, chol = ended.best.policy, shifted.previous, shifted.chol
    offset = policy.k - jnp.einsum("tij,tj->ti", policy.K, shifted.x_mean)
    controller = Controller(
        K=previous.K + chol @ policy.K,
        k=previous.k + jnp.einsum("tij,tj->ti", chol, offset),
        C=linalg.symmetrise(chol @ policy.C @ linalg.transpose(chol)),
    )
    return conclude(controller, dynamics, cost, initial, shifted, ended)


def conclude(
    controller: Controller,
    dynamics: Dynamics,
    cost: QuadraticCost,
    initial: Gaussian,
    shifted: Whitened,
    ended: Search | Descent,
) -> tuple[Controller, TrustRegionInfo]:
    """The best candidate's controller, and what is known; the previous one where there is none."""
    best = ended.best
    found = jnp.isfinite(best.kl)
    controller = jax.tree.map(lambda a, b: jnp.where(found, a, b), controller, shifted.previous)
    marginals = riccati.forward(controller, dynamics, initial)
    kl = jnp.where(found, best.kl_per_step, 0)
    costs = jnp.stack([jnp.sum(riccati.expected_cost(marginals, cost)), shifted.cost_previous])
    beyond = first_failure(~jnp.isfinite(costs), NON_FINITE)  # what float32 can hold
    status = worst(ended.status, beyond._replace(step=jnp.full_like(beyond.step, -1)))
    known = jnp.where(jnp.isfinite(costs), costs, 0)
    return controller, TrustRegionInfo(
        eta=jnp.exp(best.log_eta),
        kl=jnp.sum(kl),
        kl_per_step=kl,
        cost=known[0],
        cost_previous=known[1],
        rounds=ended.rounds,
        status=status,
    )
