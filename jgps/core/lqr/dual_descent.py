"""Descent on one multiplier per step, until the divergence meets its bound at each of them."""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jgps.core.lqr.dual_search import SEARCHING, SLACK, Limits, Search, select
from jgps.core.lqr.whitened import Candidate
from jgps.core.types import NON_FINITE, NOT_CONVERGED, OK, Status


class DescentProblem(NamedTuple):
    """What one descent works on: the divergence of every step as a function of all log eta."""

    evaluate: Callable[[jax.Array], Candidate]
    limits: Limits  # of every log eta
    bounds: jax.Array  # [T] nats
    tolerance: float  # done when |KL_t - bound_t| < tolerance * bound_t
    rounds: int  # after which the descent gives up
    rate: float  # Adam's learning rate on log eta


class Descent(NamedTuple):
    """Adam on log eta_t."""

    log_eta: jax.Array  # [T], to be evaluated next
    first_moment: jax.Array  # [T]
    second_moment: jax.Array  # [T]
    best: Candidate
    score: jax.Array  # [] mean |log KL_t / epsilon_t| of the best
    status: Status
    rounds: jax.Array


def descend(problem: DescentProblem, search: Search) -> Descent:
    """Moves every log eta_t from where a search ended until each step meets its bound."""
    limits, log_bounds = problem.limits, jnp.log(problem.bounds)
    tiny, tolerance = float(jnp.finfo(log_bounds.dtype).tiny), problem.tolerance
    upper, lower = math.log1p(tolerance), math.log1p(-tolerance)

    def one_round(state: Descent) -> Descent:
        found = problem.evaluate(state.log_eta)
        usable = jnp.isfinite(found.kl)
        excess = jnp.log(jnp.maximum(found.kl_per_step, tiny)) - log_bounds
        at_floor = (state.log_eta <= limits.low + SLACK) & (excess < 0)
        misses = jnp.where(at_floor, 0, excess)
        score = jnp.where(usable & jnp.all(misses < upper), jnp.mean(jnp.abs(misses)), jnp.inf)
        done = usable & jnp.all((misses < upper) & (misses > lower))
        rounds = state.rounds + 1
        step, log_eta = found.status.step, state.log_eta
        highest = jnp.where(step >= 0, log_eta[step], jnp.min(log_eta))
        stuck = ~usable & (highest >= limits.high - SLACK)
        stuck_code = jnp.where(found.status.code == OK, NON_FINITE, found.status.code)
        code = jnp.where(rounds >= problem.rounds, NOT_CONVERGED, SEARCHING)
        code = jnp.where(stuck, stuck_code, code)
        code = jnp.where(done, OK, code).astype(jnp.int32)
        better = score < state.score
        moved = _adam(state, jnp.clip(excess, -3, 3), rounds, problem.rate)
        # Not convex: only the step where the recursion failed is raised; all of them where it
        # passed and the divergence overflowed.
        to_raise = (step < 0) | (jnp.arange(log_eta.shape[0]) == step)
        raised = jnp.where(to_raise, log_eta + math.log(4.0), log_eta)
        kept = state._replace(log_eta=raised)
        state = jax.tree.map(functools.partial(jnp.where, usable), moved, kept)
        return state._replace(
            log_eta=jnp.clip(state.log_eta, limits.low, limits.high),
            best=select(better, found, state.best),
            score=jnp.where(better, score, state.score),
            status=Status(code=code, step=jnp.where(stuck, step, -1)),
            rounds=rounds,
        )

    log_eta = search.best.log_eta
    failed = ~jnp.isfinite(search.best.kl)
    initial = Descent(
        log_eta=log_eta,
        first_moment=jnp.zeros_like(log_eta),
        second_moment=jnp.zeros_like(log_eta),
        best=search.best._replace(kl=jnp.full_like(search.best.kl, jnp.inf)),
        score=jnp.full_like(search.best.kl, jnp.inf),
        status=Status(
            code=jnp.where(failed, search.status.code, SEARCHING), step=search.status.step
        ),
        rounds=jnp.asarray(0, jnp.int32),
    )
    return jax.lax.while_loop(lambda d: d.status.code == SEARCHING, one_round, initial)


def _adam(state: Descent, gradient: jax.Array, rounds: jax.Array, rate: float) -> Descent:
    """One step of Adam; a short memory of the scale, since the gradient shrinks by decades."""
    decay, scale_decay = 0.5, 0.9
    count = rounds.astype(gradient.dtype)
    first = decay * state.first_moment + (1 - decay) * gradient
    second = scale_decay * state.second_moment + (1 - scale_decay) * jnp.square(gradient)
    first_unbiased = first / (1 - decay**count)
    second_unbiased = second / (1 - scale_decay**count)
    # The floor of the scale makes the last steps proportional to the gradient.
    move = rate * first_unbiased / (jnp.sqrt(second_unbiased) + 0.3)
    return state._replace(log_eta=state.log_eta + move, first_moment=first, second_moment=second)
