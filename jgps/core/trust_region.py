"""The linear-quadratic problem with a bound on the divergence from the previous controller.

    minimise E[cost] - sum_t e_t entropy(u_t | x_t)   subject to   sum_t KL_t(new || previous) <= epsilon

KL_t is the expected divergence of the actions under the NEW state distribution. For a multiplier eta the
minimiser is one Riccati recursion on `cost - eta log previous(u | x)` with entropy weight eta + e_t.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jgps.core import linalg, riccati
from jgps.core.types import (
    NON_FINITE,
    NOT_CONVERGED,
    NOT_PD,
    OK,
    Controller,
    Dynamics,
    Gaussian,
    QuadraticCost,
    Status,
    first_failure,
    ok_status,
    worst,
)

# Assumed slope of log KL against -log eta until two points are known: it runs from 0 (eta too small
# to matter) to 2 (a small step of the mean).
_TYPICAL_SLOPE = 1.5

_SEARCHING = -1


@dataclass(frozen=True, kw_only=True)
class TrustRegionConfig:
    """How the multiplier eta is searched for.

    Attributes:
      tolerance: done when |KL - epsilon| < tolerance * epsilon.
      eta_min, eta_max: the search's limits.
      num_candidates: how many eta are evaluated side by side in one round.
      max_rounds: rounds after which the search gives up.
    """

    tolerance: float = 0.1
    eta_min: float = 1e-8
    eta_max: float = 1e16
    num_candidates: int = 4
    max_rounds: int = 20

    def __post_init__(self):
        if not 0 < self.tolerance < 1:
            raise ValueError(f"tolerance must be between 0 and 1 (try 0.1), got {self.tolerance}")
        if not 0 < self.eta_min < self.eta_max <= 1e20:
            raise ValueError(
                "eta_min and eta_max must satisfy 0 < eta_min < eta_max <= 1e20 (try 1e-8 and 1e16),"
                f" got {self.eta_min} and {self.eta_max}"
            )
        if not 2 <= self.num_candidates <= 64:
            raise ValueError(
                f"num_candidates must be between 2 and 64 (try 4), got {self.num_candidates}"
            )
        if self.max_rounds < 1:
            raise ValueError(f"max_rounds must be at least 1 (try 20), got {self.max_rounds}")


class TrustRegionInfo(NamedTuple):
    """What the search found, for the returned controller."""

    eta: jax.Array  # [] or, per step, [T]: the multiplier, to warm-start the next search
    kl: jax.Array  # [] nats, summed over the steps
    kl_per_step: jax.Array  # [T] nats
    cost: jax.Array  # [] expected cost on the given dynamics, without the entropy term
    cost_previous: jax.Array  # [] the same for the previous controller
    rounds: jax.Array  # [] int32, sequential rounds of evaluation
    status: Status


class _Shifted(NamedTuple):
    """The problem in v, where u = u_mean + K (x - x_mean) + chol(C) v around the previous controller.

    There the previous controller is v ~ N(0, I) whatever x: nothing large has to cancel when eta is
    large, and divergences do not subtract nearly equal gains.
    """

    dynamics: Dynamics
    cost: QuadraticCost
    initial: Gaussian
    previous: Controller
    x_mean: jax.Array  # [T, dX]
    chol: jax.Array  # [T, dU, dU]
    cost_previous: jax.Array  # []
    status: Status


class _Candidate(NamedTuple):
    """One evaluated eta, in the shifted coordinates."""

    log_eta: jax.Array
    policy: Controller
    kl_per_step: jax.Array  # [T]
    kl: jax.Array  # []; infinity where some Q_uu is not positive definite
    status: Status


class _Search(NamedTuple):
    """Bracket on log eta: `low` is too low (KL too large or not convex), `high` is not."""

    low: jax.Array
    low_log_kl: jax.Array  # infinity: not convex, or not evaluated
    low_known: jax.Array
    high: jax.Array
    high_log_kl: jax.Array
    high_known: jax.Array
    best: _Candidate
    status: Status  # its code is _SEARCHING until the search ends
    rounds: jax.Array


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
      cost: of length T; need not be convex in u, the search raises eta until Q_uu is.
      previous: controller to stay close to, C positive definite.
      initial: distribution of the first state.
      epsilon: bound on the KL summed over the steps, nats, > 0.
      entropy_weight: e >= 0, a scalar or [T], on top of eta.
      eta: where the search starts, usually the last iteration's.
      config: limits and effort of the search.

    Returns:
      The controller and what is known of it. Where no eta meets the bound, the previous controller and
      status NOT_PD (still not convex at the largest eta, or `previous.C` is singular), NON_FINITE (an
      input or result is not finite) or NOT_CONVERGED (the bound is not met at the largest eta).
      Where the bound holds but the tolerance was not reached within `max_rounds`, the best
      controller within the bound and NOT_CONVERGED.

    Raises:
      ValueError: while tracing, if shapes disagree.

    Source: Levine & Abbeel (2014), section 3.1; Levine et al. (2016), appendix A.
    """
    T, dX, dU = riccati.check_problem(dynamics, cost)
    dtype = cost.H.dtype
    weights = riccati.per_step(entropy_weight, T, dtype, "entropy_weight")
    shifted = _shift(dynamics, cost, previous, initial)
    target = jnp.log(jnp.asarray(epsilon, dtype))

    def evaluate(log_eta: jax.Array) -> _Candidate:
        return _evaluate(shifted, jnp.broadcast_to(jnp.exp(log_eta), (T,)), weights, log_eta)

    def one_round(search: _Search) -> _Search:
        log_etas = _propose(search, start, target, config)
        return _update(search, jax.vmap(evaluate)(log_etas), target, config)

    low, high = math.log(config.eta_min), math.log(config.eta_max)
    start = jnp.clip(jnp.log(jnp.asarray(eta, dtype)), low, high)
    start = jnp.where(jnp.isfinite(start), start, 0)
    search = jax.lax.while_loop(
        lambda search: search.status.code == _SEARCHING,
        one_round,
        _initial_search(start, shifted, config),
    )
    best = search.best
    return _finish(dynamics, cost, initial, shifted, best, search.status, search.rounds)


def _shift(
    dynamics: Dynamics, cost: QuadraticCost, previous: Controller, initial: Gaussian
) -> _Shifted:
    """Writes the problem around the previous controller's mean trajectory."""
    T, dX, dU = riccati.check_problem(dynamics, cost)
    riccati.check_controller("previous", previous, T, dX, dU)
    marginals = riccati.forward(previous, dynamics, initial)
    mean = marginals.mean
    chol, ok = linalg.cholesky(previous.C)
    eye = jnp.broadcast_to(jnp.eye(dX, dtype=chol.dtype), (T, dX, dX))
    basis = jnp.block([[eye, jnp.zeros((T, dX, dU), chol.dtype)], [previous.K, chol]])
    gradient = jnp.einsum("tij,tj->ti", cost.H, mean) + cost.g
    finite = jnp.isfinite(jnp.sum(mean, -1) + jnp.sum(chol, (-2, -1)) + jnp.sum(gradient, -1))
    return _Shifted(
        dynamics=Dynamics(F=dynamics.F @ basis[:-1], f=jnp.zeros_like(dynamics.f), W=dynamics.W),
        cost=QuadraticCost(
            H=linalg.symmetrise(linalg.transpose(basis) @ cost.H @ basis),
            g=jnp.einsum("tij,ti->tj", basis, gradient),
            h=jnp.zeros_like(cost.h),
        ),
        initial=Gaussian(mean=jnp.zeros_like(initial.mean), cov=initial.cov),
        previous=previous,
        x_mean=mean[:, :dX],
        chol=chol,
        cost_previous=jnp.sum(riccati.expected_cost(marginals, cost)),
        status=worst(first_failure(~finite, NON_FINITE), first_failure(~ok, NOT_PD)),
    )


def _evaluate(
    shifted: _Shifted, eta: jax.Array, weights: jax.Array, log_eta: jax.Array
) -> _Candidate:
    """The optimal policy for multipliers `eta` [T] and its divergence from the previous one."""
    weights = weights + eta
    policy, _, status = riccati.recursion(shifted.dynamics, shifted.cost, weights, eta)
    states = riccati.propagate(riccati.closed_loop(policy, shifted.dynamics), shifted.initial)
    shift = jnp.einsum("tij,tj->ti", policy.K, states.mean) + policy.k
    trace = jnp.trace(policy.C, axis1=-2, axis2=-1) + jnp.sum(
        (policy.K @ states.cov) * policy.K, axis=(-2, -1)
    )
    chol, positive = linalg.cholesky(policy.C)
    dU = shift.shape[-1]
    kl = 0.5 * (trace + jnp.sum(jnp.square(shift), axis=-1) - dU - linalg.log_det(chol))
    kl = jnp.maximum(kl, 0)  # rounding
    total = jnp.sum(kl)
    usable = (status.code == OK) & jnp.all(positive) & jnp.isfinite(total)
    return _Candidate(
        log_eta=log_eta,
        policy=policy,
        kl_per_step=kl,
        kl=jnp.where(usable, total, jnp.inf),
        status=status,
    )


def _initial_search(start: jax.Array, shifted: _Shifted, config: TrustRegionConfig) -> _Search:
    dtype = start.dtype
    unknown = jnp.asarray(False)
    T = shifted.x_mean.shape[0]
    best = _Candidate(
        log_eta=start,
        policy=jax.tree.map(jnp.zeros_like, shifted.previous),
        kl_per_step=jnp.zeros(T, dtype),
        kl=jnp.asarray(jnp.inf, dtype),
        status=ok_status(),
    )
    failed = shifted.status.code != OK
    searching = Status(
        code=jnp.where(failed, shifted.status.code, _SEARCHING), step=shifted.status.step
    )
    return _Search(
        low=jnp.asarray(math.log(config.eta_min), dtype),
        low_log_kl=jnp.asarray(jnp.inf, dtype),
        low_known=unknown,
        high=jnp.asarray(math.log(config.eta_max), dtype),
        high_log_kl=jnp.asarray(-jnp.inf, dtype),
        high_known=unknown,
        best=best,
        status=searching,
        rounds=jnp.asarray(0, jnp.int32),
    )


def _propose(
    search: _Search, start: jax.Array, target: jax.Array, config: TrustRegionConfig
) -> jax.Array:
    """Log eta of the next round's candidates, [num_candidates].

    First a spread around the start; while one side of the bracket is unknown, steps that grow until the
    limit; then interpolation of log KL against log eta, a spread around it, and the midpoint.
    """
    n = config.num_candidates
    index = jnp.arange(n, dtype=start.dtype)
    around = start + math.log(3.0) * (index - (n - 1) / 2)

    width = search.high - search.low
    known_log_kl = jnp.where(search.low_known, search.low_log_kl, search.high_log_kl)
    gap = jnp.where(jnp.isfinite(known_log_kl), jnp.abs(known_log_kl - target), math.log(10.0))
    nearest = jnp.clip(1.2 * gap / _TYPICAL_SLOPE, 0.2, 7.0)
    reach = jnp.minimum(nearest, width) * jnp.maximum(width / nearest, 1) ** (index / (n - 1))
    outside = jnp.where(search.low_known, search.low + reach, search.high - reach)

    fraction = (search.low_log_kl - target) / (search.low_log_kl - search.high_log_kl)
    by_slope = search.high - (target - search.high_log_kl) / _TYPICAL_SLOPE
    both_finite = jnp.isfinite(search.low_log_kl)
    root = jnp.where(both_finite, search.low + fraction * width, by_slope)
    root = jnp.clip(root, search.low + 0.02 * width, search.high - 0.02 * width)
    # 0, 1, -1, 2, -2, ... times an eighth of the bracket
    steps = jnp.ceil(index / 2) * jnp.where(index % 2 == 1, 1, -1) / 8
    inside = jnp.clip(root + steps * width, search.low, search.high)
    inside = inside.at[-1].set(search.low + 0.5 * width)

    proposal = jnp.where(search.low_known & search.high_known, inside, outside)
    proposal = jnp.where(search.low_known | search.high_known, proposal, around)
    return jnp.clip(proposal, math.log(config.eta_min), math.log(config.eta_max))


def _update(
    search: _Search, found: _Candidate, target: jax.Array, config: TrustRegionConfig
) -> _Search:
    """Narrows the bracket by the evaluated candidates and decides whether to stop."""
    tiny = float(jnp.finfo(target.dtype).tiny)
    log_kl = jnp.log(jnp.maximum(found.kl, tiny))
    too_low = log_kl > target
    low_index = jnp.argmax(jnp.where(too_low, found.log_eta, -jnp.inf))
    high_index = jnp.argmin(jnp.where(too_low, jnp.inf, found.log_eta))
    raises = jnp.any(too_low) & (~search.low_known | (found.log_eta[low_index] > search.low))
    lowers = jnp.any(~too_low) & (~search.high_known | (found.log_eta[high_index] < search.high))

    best_index = jnp.argmin(_badness(log_kl, target, config))
    candidate = jax.tree.map(lambda a: a[best_index], found)
    best_log_kl = jnp.log(jnp.maximum(search.best.kl, tiny))
    best = _select(
        _badness(log_kl[best_index], target, config) < _badness(best_log_kl, target, config),
        candidate,
        search.best,
    )
    rounds = search.rounds + 1
    in_tolerance = jnp.abs(best.kl - jnp.exp(target)) < config.tolerance * jnp.exp(target)
    slack = 1e-4
    at_floor = jnp.any(~too_low & (found.log_eta <= math.log(config.eta_min) + slack))
    at_limit = too_low & (found.log_eta >= math.log(config.eta_max) - slack)
    limit = jax.tree.map(lambda a: a[jnp.argmax(at_limit)], found.status)
    code = jnp.where(rounds >= config.max_rounds, NOT_CONVERGED, _SEARCHING)
    limit_code = jnp.where(limit.code == OK, NOT_CONVERGED, limit.code)
    code = jnp.where(jnp.any(at_limit), limit_code, code)
    code = jnp.where(in_tolerance | at_floor, OK, code).astype(jnp.int32)
    step = jnp.where(jnp.any(at_limit) & (code != OK), limit.step, -1)
    return _Search(
        low=jnp.where(raises, found.log_eta[low_index], search.low),
        low_log_kl=jnp.where(raises, log_kl[low_index], search.low_log_kl),
        low_known=search.low_known | jnp.any(too_low),
        high=jnp.where(lowers, found.log_eta[high_index], search.high),
        high_log_kl=jnp.where(lowers, log_kl[high_index], search.high_log_kl),
        high_known=search.high_known | jnp.any(~too_low),
        best=best,
        status=Status(code=code, step=step),
        rounds=rounds,
    )


def _badness(log_kl: jax.Array, target: jax.Array, config: TrustRegionConfig) -> jax.Array:
    """Distance from the bound in log KL; infinite beyond the bound and its tolerance."""
    beyond = log_kl >= target + math.log1p(config.tolerance)
    return jnp.where(beyond, jnp.inf, jnp.abs(log_kl - target))


def _select(condition: jax.Array, yes: _Candidate, no: _Candidate) -> _Candidate:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)


def _finish(
    dynamics: Dynamics,
    cost: QuadraticCost,
    initial: Gaussian,
    shifted: _Shifted,
    best: _Candidate,
    status: Status,
    rounds: jax.Array,
) -> tuple[Controller, TrustRegionInfo]:
    """The best candidate in the caller's coordinates; the previous controller where there is none."""
    policy, previous, chol = best.policy, shifted.previous, shifted.chol
    found = jnp.isfinite(best.kl)
    offset = policy.k - jnp.einsum("tij,tj->ti", policy.K, shifted.x_mean)
    controller = Controller(
        K=previous.K + chol @ policy.K,
        k=previous.k + jnp.einsum("tij,tj->ti", chol, offset),
        C=linalg.symmetrise(chol @ policy.C @ linalg.transpose(chol)),
    )
    controller = jax.tree.map(lambda a, b: jnp.where(found, a, b), controller, previous)
    marginals = riccati.forward(controller, dynamics, initial)
    kl = jnp.where(found, best.kl_per_step, 0)
    return controller, TrustRegionInfo(
        eta=jnp.exp(best.log_eta),
        kl=jnp.sum(kl),
        kl_per_step=kl,
        cost=jnp.sum(riccati.expected_cost(marginals, cost)),
        cost_previous=shifted.cost_previous,
        rounds=rounds,
        status=status,
    )
