"""The KL-constrained problem of controllers whose mean actions keep within limits.

    minimise E[cost] - sum_t e_t entropy(u_t | x_t)
    such that sum_t KL_t <= epsilon, and lower <= E[u_t] <= upper at every step

For a multiplier eta the covariances are (eta + e_t) Q_uu^-1, whatever the means are, given which
controls are at a limit. The means follow a quadratic program in time: boxed backward passes about a
trajectory that keeps within the limits, until no control comes to a limit or leaves one. A control
that is at a limit has no gains: beyond it nothing would come of them. For the same reason the
previous controller counts as acting at the limit where its mean lies beyond.

Actions are written as u = u_mean + K (x - x_mean) + D y about the previous controller, D the
diagonal of its standard deviations; so limits are limits of y, and the previous controller is
y ~ N(0, R) with the correlations R.

Source: Levine & Abbeel (2014), section 3.1, for the bound; Tassa, Mansard & Todorov (2014),
"Control-limited differential dynamic programming", for the limits.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jgps.core import linalg
from jgps.core.lqr import boxed, riccati
from jgps.core.lqr.dual_search import Problem, log_start, search_scale
from jgps.core.lqr.trust_region import (
    TrustRegionConfig,
    TrustRegionInfo,
    check_values,
    conclude,
    log_limits,
    scalar,
)
from jgps.core.lqr.whitened import Candidate, Whitened, whiten_problem
from jgps.core.types import (
    NOT_PD,
    OK,
    Controller,
    Dynamics,
    Gaussian,
    QuadraticCost,
    Status,
    first_failure,
    promote,
    worst,
)


class KlProblem(NamedTuple):
    """What is optimised and what it stays near to, as `jgps.lqr.solve_kl_constrained` takes it."""

    dynamics: Dynamics
    cost: QuadraticCost
    previous: Controller
    initial: Gaussian


class ControlLimits(NamedTuple):
    """Least and greatest mean action, lower <= upper, infinite where there is none."""

    lower: jax.Array  # [dU]
    upper: jax.Array  # [dU]


class _Scaled(NamedTuple):
    """The problem in y, and what limits of y are made of."""

    shifted: Whitened
    u_mean: jax.Array  # [T, dU], of the previous controller within the limits
    scale: jax.Array  # [T, dU], standard deviations
    precision: jax.Array  # [T, dU, dU], of y under the previous controller
    log_det: jax.Array  # [T], of the correlations
    limits: ControlLimits


class _Mean(NamedTuple):
    """A trajectory within the limits, deviations from the previous one, and gains about it."""

    x: jax.Array  # [T, dX]
    y: jax.Array  # [T, dU]
    u: jax.Array  # [T, dU], the actions themselves
    held: jax.Array  # [T, dU] bool, at a limit
    K: jax.Array  # [T, dU, dX], of y
    C: jax.Array  # [T, dU, dU], of y
    objective: jax.Array  # [], of the mean, with the multiplier's part
    status: Status


@functools.partial(jax.jit, static_argnames=("config", "passes"))
@linalg.full_precision
def solve_kl_constrained_within(
    given: KlProblem,
    epsilon: float | jax.Array,
    limits: ControlLimits,
    *,
    entropy_weight: float | jax.Array = 0.0,
    eta: float | jax.Array = 1.0,
    config: TrustRegionConfig = TrustRegionConfig(),
    passes: int = 4,
) -> tuple[Controller, TrustRegionInfo]:
    """Best controller within `epsilon` nats of the previous one and with means within limits.

    Args:
      given: the problem.
      epsilon: see `jgps.lqr.solve_kl_constrained`.
      limits: of the actions, the same at every step.
      passes: how many boxed backward passes a multiplier takes at most, >= 0; without any the means
        are those of `solve_kl_constrained`, clipped. None is needed where no limit is touched.
      The others are those of `jgps.lqr.solve_kl_constrained`, whose result this is where no mean
      touches a limit.

    Returns:
      The controller and what is known of it, as `solve_kl_constrained` returns it. At the mean
      trajectory of the given dynamics its actions are within the limits; those at a limit have rows
      of zeros in K. `cost_previous` and the divergence are those of the previous controller within
      the limits.

    Raises:
      ValueError: shapes disagree.
    """
    (dynamics, cost, previous, initial), limits = promote(given, limits)
    T, dtype = cost.h.shape[0], cost.h.dtype
    riccati.check_controller("previous", previous, *riccati.check_problem(dynamics, cost))
    within, u_mean = keep_within(previous, dynamics, initial.mean, limits)
    shifted = whiten_problem(dynamics, cost, within, initial, _scales)
    bound = scalar(epsilon, dtype, "epsilon")
    shifted, weights = check_values(shifted, bound, entropy_weight)
    scale = jnp.diagonal(shifted.chol, axis1=-2, axis2=-1)
    correlations = previous.C / (scale[:, :, None] * scale[:, None])
    precision, log_det, _ = linalg.inverse_psd(correlations)
    scaled = _Scaled(shifted, u_mean, scale, precision, log_det, limits)
    search_limits = log_limits(config, dtype)
    problem = Problem(
        evaluate=lambda log_eta: _evaluate(
            scaled, jnp.broadcast_to(log_eta, (T,)), weights, passes
        ),
        limits=search_limits,
        target=jnp.log(bound),
        tolerance=config.tolerance,
        num_candidates=config.num_candidates,
        max_rounds=config.max_rounds,
    )
    search = search_scale(problem, log_start(scalar(eta, dtype, "eta"), search_limits), shifted)
    controller, info = conclude(search.best.policy, dynamics, cost, initial, shifted, search)
    return controller, info._replace(eta=info.eta[0])


def keep_within(
    controller: Controller, dynamics: Dynamics, start: jax.Array, limits: ControlLimits
) -> tuple[Controller, jax.Array]:
    """The controller as it acts within the limits, and its mean actions [T, dU].

    Where a mean lies beyond a limit it is the limit, and does not follow the state.
    """
    dX, dU = start.shape[0], controller.k.shape[1]
    ends = riccati.at_least_one_step(dynamics, dX, dU, start.dtype)
    F, f = (jnp.concatenate([a, a[-1:]])[: len(controller.k)] for a in (ends.F, ends.f))

    def step(x: jax.Array, at) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        K, k, F, f = at
        wanted = K @ x + k
        u = jnp.clip(wanted, *limits)
        return F @ jnp.concatenate([x, u]) + f, (u, wanted != u)

    _, (u, beyond) = jax.lax.scan(step, start, (controller.K, controller.k, F, f))
    K = jnp.where(beyond[..., None], 0, controller.K)
    return controller._replace(K=K, k=jnp.where(beyond, u, controller.k)), u


def _scales(cov: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Diagonal matrices of standard deviations, and whether covariances are positive definite."""
    _, ok = linalg.cholesky(cov)
    deviations = jnp.sqrt(jnp.diagonal(cov, axis1=-2, axis2=-1))
    return deviations[..., None] * jnp.eye(cov.shape[-1], dtype=cov.dtype), ok


def _evaluate(scaled: _Scaled, log_eta: jax.Array, weights: jax.Array, passes: int) -> Candidate:
    """The best controller for multipliers exp(log_eta) [T], and its divergence."""
    shifted, eta = scaled.shifted, jnp.exp(log_eta)
    dX = shifted.x_mean.shape[1]
    bend = eta[:, None, None] * scaled.precision
    cost = shifted.cost._replace(H=shifted.cost.H.at[:, dX:, dX:].add(bend))
    weights = weights + eta
    mean = _search_mean(scaled, cost, weights, passes)
    policy = Controller(mean.K, mean.y - jnp.einsum("tij,tj->ti", mean.K, mean.x), mean.C)
    states = riccati.propagate(riccati.closed_loop(policy, shifted.dynamics), shifted.initial)
    spread = mean.C + mean.K @ states.cov @ linalg.transpose(mean.K)
    spread = spread + mean.y[:, :, None] * mean.y[:, None]
    chol, positive = linalg.cholesky(mean.C)
    nats = jnp.sum(scaled.precision * spread, axis=(-2, -1)) - mean.y.shape[1]
    nats = 0.5 * (nats + scaled.log_det - linalg.log_det(chol))
    nats = jnp.maximum(nats, 0)  # rounding
    total = jnp.sum(nats)
    usable = (mean.status.code == OK) & jnp.all(positive) & jnp.isfinite(total)
    return Candidate(
        log_eta=log_eta,
        policy=_absolute(scaled, mean),
        kl_per_step=nats,
        kl=jnp.where(usable, total, jnp.inf),
        status=mean.status,
    )


def _absolute(scaled: _Scaled, mean: _Mean) -> Controller:
    """The controller of actions and states themselves."""
    scale = scaled.scale[..., None]
    K = jnp.where(mean.held[..., None], 0, scaled.shifted.previous.K + scale * mean.K)
    x = scaled.shifted.x_mean + mean.x
    C = linalg.symmetrise(scale * mean.C * scaled.scale[:, None])
    return Controller(K, mean.u - jnp.einsum("tij,tj->ti", K, x), C)


def _search_mean(scaled: _Scaled, cost: QuadraticCost, weights: jax.Array, passes: int) -> _Mean:
    """The best trajectory within the limits: without them at first, then by boxed passes."""
    dynamics, still = scaled.shifted.dynamics, jnp.zeros_like
    free, _, status = riccati.recursion(dynamics, cost, weights, still(weights))
    x, y = still(scaled.shifted.x_mean), still(scaled.u_mean)
    nobody = jnp.zeros(y.shape, bool)
    first = _Mean(x, y, scaled.u_mean, nobody, free.K, free.C, jnp.zeros((), y.dtype), status)
    start, done = _follow(scaled, cost, first, free.k, (nobody, nobody))

    def once(carry):
        best, now, done, count = carry
        after, arrived = _boxed_pass(scaled, cost, weights, now)
        sound = after.status.code == OK
        lower = (after.objective < best.objective) | jnp.isnan(best.objective)
        better = sound & lower
        best = jax.tree.map(lambda a, b: jnp.where(better, a, b), after, best)
        return best, after, arrived | ~sound, count + 1

    done = done | (status.code != OK)
    best, *_ = jax.lax.while_loop(
        lambda carry: ~carry[2] & (carry[3] < passes), once, (start, start, done, 0)
    )
    return best


def _boxed_pass(
    scaled: _Scaled, cost: QuadraticCost, weights: jax.Array, now: _Mean
) -> tuple[_Mean, jax.Array]:
    """A backward pass about a trajectory within the limits, and where it leads."""
    previous, scale = scaled.shifted.previous, scaled.scale
    z = jnp.concatenate([now.x, now.y], axis=1)
    g = cost.g + jnp.einsum("tij,tj->ti", cost.H, z)
    lower, upper = ((limit - now.u) / scale for limit in scaled.limits)
    plan = boxed.backward(
        scaled.shifted.dynamics.F, cost.H, g, (lower, upper), jnp.zeros((), g.dtype),
        held=-previous.K / scale[..., None],
    )  # fmt: skip
    inverse, _, positive = linalg.inverse_psd(plan.Quu)
    status = worst(plan.status, first_failure(~positive, NOT_PD))
    at = now._replace(K=plan.K, C=weights[:, None, None] * inverse, status=status)
    held = ~plan.free
    return _follow(scaled, cost, at, plan.k, (held & (plan.k <= lower), held & (plan.k >= upper)))


def _follow(
    scaled: _Scaled,
    cost: QuadraticCost,
    about: _Mean,
    k: jax.Array,
    at_limits: tuple[jax.Array, jax.Array],
) -> tuple[_Mean, jax.Array]:
    """Where y = about.y + k + K (x - about.x) leads within the limits; whether that is the best.

    It is where nothing was clipped and the same controls are at limits as before.
    """
    shifted, limits = scaled.shifted, scaled.limits
    dX, dU = about.x.shape[1], about.y.shape[1]
    F = riccati.at_least_one_step(shifted.dynamics, dX, dU, k.dtype).F
    F = jnp.concatenate([F, F[-1:]])[: len(k)]
    base = (scaled.u_mean, shifted.previous.K, scaled.scale)

    def step(x: jax.Array, at):
        F, about_x, about_y, K, k, low, high, (u_mean, K_before, scale) = at
        y = about_y + k + K @ (x - about_x)
        own = u_mean + K_before @ x
        wanted = own + scale * y
        u = jnp.where(low, limits.lower, jnp.where(high, limits.upper, jnp.clip(wanted, *limits)))
        clipped = ~(low | high) & ((wanted < limits.lower) | (wanted > limits.upper))
        y = jnp.where(clipped | low | high, (u - own) / scale, y)
        return F @ jnp.concatenate([x, y]), (x, y, u, clipped)

    inputs = (F, about.x, about.y, about.K, k, *at_limits, base)
    _, (x, y, u, clipped) = jax.lax.scan(step, jnp.zeros_like(about.x[0]), inputs)
    held = clipped | at_limits[0] | at_limits[1]
    z = jnp.concatenate([x, y], axis=1)
    bent = jnp.einsum("tij,tj->ti", cost.H, z)
    gains = jnp.where(held[..., None], -shifted.previous.K / scaled.scale[..., None], about.K)
    found = about._replace(
        x=x, y=y, u=u, held=held, K=gains, objective=jnp.sum((0.5 * bent + cost.g) * z)
    )
    return found, ~jnp.any(clipped) & jnp.all(held == about.held)
