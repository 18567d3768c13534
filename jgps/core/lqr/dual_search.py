"""Search for the one number that makes a divergence meet its bound, by rounds of candidates."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jgps.core.lqr.whitened import Candidate, Whitened
from jgps.core.types import NOT_CONVERGED, OK, Status

# Assumed slope of log KL against -log eta until two points are known: it runs from 0 (eta too small
# to matter) to 2 (a small step of the mean).
_TYPICAL_SLOPE = 1.5

SEARCHING = -1
SLACK = 1e-4  # of log eta, when compared with a limit


class Search(NamedTuple):
    """Bracket on log eta: `low` is too low (KL too large or not convex), `high` is not."""

    low: jax.Array
    low_log_kl: jax.Array  # infinity: not convex, or not evaluated
    low_known: jax.Array
    high: jax.Array
    high_log_kl: jax.Array
    high_known: jax.Array
    best: Candidate
    status: Status  # its code is SEARCHING until the search ends
    rounds: jax.Array


class Limits(NamedTuple):
    """Where the search stops."""

    low: jax.Array  # [] log eta
    high: jax.Array


class Problem(NamedTuple):
    """What one search works on: divergence as a function of one number on a log scale."""

    evaluate: Callable[[jax.Array], Candidate]
    limits: Limits
    target: jax.Array  # [] log of the bound
    tolerance: float  # done when |KL - bound| < tolerance * bound
    num_candidates: int  # evaluated side by side in one round
    max_rounds: int  # after which the search gives up


def log_start(eta: jax.Array, limits: Limits) -> jax.Array:
    """Log eta within the limits; 0 where the caller's eta is not a positive number."""
    log_eta = jnp.clip(jnp.log(eta), limits.low, limits.high)
    return jnp.where(jnp.isfinite(log_eta), log_eta, 0)


def search_scale(problem: Problem, start: jax.Array, shifted: Whitened) -> Search:
    """Rounds of candidates side by side until the bound is met."""

    def one_round(search: Search) -> Search:
        points = _propose(search, start, problem)
        return _update(search, points, jax.vmap(problem.evaluate)(points), problem)

    return jax.lax.while_loop(
        lambda search: search.status.code == SEARCHING,
        one_round,
        _initial_search(shifted, problem.limits, jnp.broadcast_to(start, shifted.cost.h.shape)),
    )


def _no_candidate(shifted: Whitened, log_eta: jax.Array) -> Candidate:
    """A placeholder that any usable candidate beats."""
    return Candidate(
        log_eta=log_eta,
        policy=jax.tree.map(jnp.zeros_like, shifted.previous),
        kl_per_step=jnp.zeros_like(log_eta),
        kl=jnp.asarray(jnp.inf, log_eta.dtype),
        status=shifted.status,
    )


def _searching(shifted: Whitened) -> Status:
    """The status a search starts with: over at once where the problem itself is unusable."""
    code = jnp.where(shifted.status.code == OK, SEARCHING, shifted.status.code)
    return Status(code=code, step=shifted.status.step)


def _initial_search(shifted: Whitened, limits: Limits, log_eta: jax.Array) -> Search:
    dtype, unknown = log_eta.dtype, jnp.asarray(False)
    return Search(
        low=limits.low,
        low_log_kl=jnp.asarray(jnp.inf, dtype),
        low_known=unknown,
        high=limits.high,
        high_log_kl=jnp.asarray(-jnp.inf, dtype),
        high_known=unknown,
        best=_no_candidate(shifted, log_eta),
        status=_searching(shifted),
        rounds=jnp.asarray(0, jnp.int32),
    )


def _propose(search: Search, start: jax.Array, problem: Problem) -> jax.Array:
    """Log eta of the next round's candidates, [num_candidates].

    First points around the start; while one side of the bracket is unknown, steps that grow until
    the limit; then interpolation of log KL against log eta, points around it, and the midpoint.
    """
    n, target = problem.num_candidates, problem.target
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
    return jnp.clip(proposal, problem.limits.low, problem.limits.high)


def _update(search: Search, points: jax.Array, found: Candidate, problem: Problem) -> Search:
    """Narrows the bracket by the candidates evaluated at `points` and decides whether to stop."""
    target, limits = problem.target, problem.limits
    tiny = float(jnp.finfo(target.dtype).tiny)
    log_kl = jnp.log(jnp.maximum(found.kl, tiny))
    too_low = log_kl > target
    low_index = jnp.argmax(jnp.where(too_low, points, -jnp.inf))
    high_index = jnp.argmin(jnp.where(too_low, jnp.inf, points))
    raises = jnp.any(too_low) & (~search.low_known | (points[low_index] > search.low))
    lowers = jnp.any(~too_low) & (~search.high_known | (points[high_index] < search.high))

    best_index = jnp.argmin(_badness(log_kl, problem))
    candidate = jax.tree.map(lambda a: a[best_index], found)
    best_log_kl = jnp.log(jnp.maximum(search.best.kl, tiny))
    best = select(
        _badness(log_kl[best_index], problem) < _badness(best_log_kl, problem),
        candidate,
        search.best,
    )
    rounds = search.rounds + 1
    in_tolerance = jnp.abs(best.kl - jnp.exp(target)) < problem.tolerance * jnp.exp(target)
    at_floor = jnp.any(~too_low & (points <= limits.low + SLACK))
    at_limit = too_low & (points >= limits.high - SLACK)
    limit = jax.tree.map(lambda a: a[jnp.argmax(at_limit)], found.status)
    code = jnp.where(rounds >= problem.max_rounds, NOT_CONVERGED, SEARCHING)
    limit_code = jnp.where(limit.code == OK, NOT_CONVERGED, limit.code)
    code = jnp.where(jnp.any(at_limit), limit_code, code)
    code = jnp.where(in_tolerance | at_floor, OK, code).astype(jnp.int32)
    step = jnp.where(jnp.any(at_limit) & (code != OK), limit.step, -1)
    return Search(
        low=jnp.where(raises, points[low_index], search.low),
        low_log_kl=jnp.where(raises, log_kl[low_index], search.low_log_kl),
        low_known=search.low_known | jnp.any(too_low),
        high=jnp.where(lowers, points[high_index], search.high),
        high_log_kl=jnp.where(lowers, log_kl[high_index], search.high_log_kl),
        high_known=search.high_known | jnp.any(~too_low),
        best=best,
        status=Status(code=code, step=step),
        rounds=rounds,
    )


def _badness(log_kl: jax.Array, problem: Problem) -> jax.Array:
    """Distance from the bound in log KL; infinite beyond the bound and its tolerance."""
    beyond = log_kl >= problem.target + math.log1p(problem.tolerance)
    return jnp.where(beyond, jnp.inf, jnp.abs(log_kl - problem.target))


def select(condition: jax.Array, yes: Candidate, no: Candidate) -> Candidate:
    """`yes` where `condition` [] holds."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)
