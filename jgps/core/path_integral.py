"""Path-integral policy improvement: a controller from weighted samples, without a model.

At every step the samples get the weights that minimise the expected cost to go S within a bound on
their divergence from uniform,

    minimise sum_i w_i S_i   subject to   KL(w || 1/N) <= epsilon,    so w = softmax(-S / eta),

and the controller is fitted to the weighted actions. The temperature eta minimises the dual
eta epsilon + eta log mean exp(-S / eta) + constant, whose slope in eta is epsilon - KL(w || 1/N).

Source: Chebotar et al. (2017a), "Path integral guided policy search", section III; the bound is
that of Peters et al. (2010), "Relative entropy policy search".
"""

import dataclasses
import math
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from jgps.core import linalg
from jgps.core.checks import Config, Range
from jgps.core.one_program import one_program
from jgps.core.types import (
    NON_FINITE,
    NOT_PD,
    TOO_FEW_SAMPLES,
    Controller,
    Rollouts,
    Status,
    first_failure,
    promote,
    worst,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pi2StepConfig(Config):
    """How far the PI2 step moves the controllers.

    Attributes:
      epsilon: bound at every step on the divergence of the samples' weights from uniform, nats.
        N samples allow up to log N.
      covariance_damping: the covariance is multiplied by the weighted samples' mean squared
        deviation, relative to it, to the power 1 / covariance_damping. Above 1 exploration
        shrinks more slowly.
      min_covariance_factor: least factor of the covariance in one update.
      eta_min: least temperature, as a fraction of the range of the costs to go.
      min_temperature: least temperature in units of the cost, whatever their range; where all
        rollouts cost almost the same, it leaves their weights almost equal.
    """

    epsilon: Annotated[float, Range(">= 1e-4", "usually 0.5 to 2 nats")] = 1.0
    covariance_damping: Annotated[float, Range("> 0", "usually 1 to 3")] = 2.0
    min_covariance_factor: Annotated[float, Range("(0, 1]")] = 0.1
    eta_min: Annotated[float, Range("[1e-12, 1)")] = 1e-6
    min_temperature: Annotated[float, Range(">= 0")] = 0.0


class PathIntegralInfo(NamedTuple):
    """What one update did."""

    eta: jax.Array  # [T], units of the cost
    kl: jax.Array  # [T] nats, of the weights from uniform
    status: Status


@one_program("config")
def improve(
    previous: Controller, rollouts: Rollouts, costs: jax.Array, config: Pi2StepConfig
) -> tuple[Controller, PathIntegralInfo]:
    """One update of the controller that the rollouts were sampled with.

    Args:
      previous: of T steps.
      rollouts: of one condition, x [N, T, dX], u [N, T, dU], valid [N].
      costs: of every step, [N, T].

    Returns:
      The controller and what is known of it; the status is that of `temperature`, or NOT_PD where
      the new covariance is not positive definite.

    Raises:
      ValueError: shapes disagree.
    """
    to_go = cost_to_go(costs)
    eta, status = temperature(to_go, rollouts.valid, config)
    weight = weights(to_go, eta, rollouts.valid)
    controller = update(previous, rollouts.x, rollouts.u, weight, config)
    return controller, PathIntegralInfo(
        eta=eta,
        kl=divergence(weight, rollouts.valid),
        status=worst(status, covariance_status(controller)),
    )


@one_program()
def covariance_status(controller: Controller) -> Status:
    """NOT_PD with the first step at which C is not positive definite, or has vanished."""
    _, positive = linalg.cholesky(controller.C)
    return first_failure(~positive, NOT_PD)


def cost_to_go(costs: jax.Array) -> jax.Array:
    """Sum of this and all later steps' costs, [N, T]."""
    return jax.lax.cumsum(costs, axis=1, reverse=True)


@one_program("config")
def temperature(
    cost_to_go: jax.Array, valid: jax.Array, config: Pi2StepConfig
) -> tuple[jax.Array, Status]:
    """The temperature at which the weights are `config.epsilon` nats from uniform, at every step.

    Args:
      cost_to_go: S [N, T]. Samples that are not valid may hold anything.
      valid: [N] bool.

    Returns:
      eta [T] in units of the cost, at its floor where even that does not reach the bound (best
      costs that are equal, or an epsilon above log N), 1 where all costs are equal; and a status:
      TOO_FEW_SAMPLES below two valid samples, NON_FINITE with the first step at which a valid cost
      is not finite. eta is finite and positive in any case.

    Raises:
      ValueError: shapes disagree.
    """
    cost_to_go, valid = _check_samples(cost_to_go, valid)
    usable = valid[:, None] & jnp.isfinite(cost_to_go)
    excess = _excess(cost_to_go, usable)
    span = jnp.max(excess, axis=0)  # range of the costs, [T]
    relative = excess / jnp.where(span > 0, span, 1)

    # Below, on log(eta / span): KL falls as eta rises, and is at most span^2 / (8 eta^2).
    low = jnp.full_like(span, math.log(config.eta_min))
    high = jnp.maximum(jnp.full_like(span, -0.5 * math.log(8 * config.epsilon)), low)

    def halve(_, bracket: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bracket
        middle = 0.5 * (low + high)
        weight = _softmax(relative, jnp.exp(middle), usable)
        too_far = divergence(weight, usable) > config.epsilon
        return jnp.where(too_far, middle, low), jnp.where(too_far, high, middle)

    # The bracket is at most a few tens wide: after these rounds what is left is rounding.
    rounds = jnp.finfo(span.dtype).nmant + 5
    _, log_eta = jax.lax.fori_loop(0, rounds, halve, (low, high))
    tiny = float(jnp.finfo(span.dtype).tiny)
    least = max(tiny, config.min_temperature)
    eta = jnp.where(span > 0, jnp.maximum(span * jnp.exp(log_eta), least), 1)
    too_few = jnp.sum(valid) < 2
    not_finite = jnp.any(valid[:, None] & ~jnp.isfinite(cost_to_go), axis=0)
    none = Status(
        code=jnp.where(too_few, TOO_FEW_SAMPLES, 0).astype(jnp.int32),
        step=jnp.asarray(-1, jnp.int32),
    )
    return eta, worst(none, first_failure(not_finite, NON_FINITE))


@one_program()
def weights(cost_to_go: jax.Array, eta: jax.Array, valid: jax.Array) -> jax.Array:
    """softmax(-S / eta) over the valid samples.

    Args:
      cost_to_go: S [N, T]. Samples that are not valid may hold anything, NaN included.
      eta: > 0, [T] or a scalar, units of the cost.
      valid: [N] bool.

    Returns:
      [N, T], 0 for samples that are not valid; sums over samples to 1, or to 0 where none is valid.
      A valid sample whose cost is not finite has weight 0.

    Raises:
      ValueError: shapes disagree.
    """
    cost_to_go, valid = _check_samples(cost_to_go, valid)
    eta = jnp.asarray(eta, cost_to_go.dtype)
    if eta.shape not in ((), cost_to_go.shape[1:]):
        raise ValueError(f"eta must be [] or {cost_to_go.shape[1:]}, got {eta.shape}")
    usable = valid[:, None] & jnp.isfinite(cost_to_go)
    return _softmax(_excess(cost_to_go, usable), eta, usable)


@one_program()
def divergence(weights: jax.Array, valid: jax.Array) -> jax.Array:
    """KL in nats of weights [N, T] from uniform ones on the valid samples [N] or [N, T]; [T]."""
    valid = jnp.broadcast_to(valid if valid.ndim == 2 else valid[:, None], weights.shape)
    count = jnp.maximum(jnp.sum(valid, axis=0), 1).astype(weights.dtype)
    ratio = jnp.where(weights > 0, weights * count, 1)
    return jnp.maximum(jnp.sum(weights * jnp.log(ratio), axis=0), 0)  # rounding


@one_program("config")
@linalg.full_precision
def update(
    previous: Controller,
    x: jax.Array,
    u: jax.Array,
    weights: jax.Array,
    config: Pi2StepConfig,
) -> Controller:
    """Fits offset and covariance to the weighted actions; the gains stay.

    k is the weighted mean of u - K x. C is the previous one times a factor, whose undamped value
    is the most likely one: the weighted mean of d' C^-1 d / dU over the samples' deviations d from
    k. One number takes few samples, and C stays positive definite.

    Args:
      previous: the controller that the actions were sampled with, of T steps, C positive definite.
      x, u: [N, T, dX] and [N, T, dU]. Samples of weight 0 may hold anything, NaN included.
      weights: [N, T], with sum 1 at every step. Where all are 0 the controller stays.

    Returns:
      The controller; C is NaN at steps where `previous.C` is not positive definite.

    Raises:
      ValueError: shapes disagree.

    Source: Chebotar et al. (2017a), section III and code release.
    """
    previous, x, u, weights = promote(previous, x, u, weights)
    _check_update(previous, x, u, weights)
    used = weights > 0
    noise = u - (jnp.einsum("tij,ntj->nti", previous.K, x) + previous.k)
    noise = jnp.where(used[..., None], noise, 0)
    shift = jnp.einsum("nt,nti->ti", weights, noise)
    chol, positive = linalg.cholesky(previous.C)
    deviation = jnp.where(used[..., None], noise - shift, 0)
    whitened = jnp.einsum("tij,ntj->nti", linalg.inverse_triangular(chol), deviation)
    ratio = jnp.einsum("nt,nti->t", weights, jnp.square(whitened)) / u.shape[-1]
    factor = ratio ** (1 / config.covariance_damping)
    factor = jnp.maximum(factor, config.min_covariance_factor)
    factor = jnp.where(jnp.any(used, axis=0), factor, 1)
    factor = jnp.where(positive, factor, jnp.nan)
    return Controller(K=previous.K, k=previous.k + shift, C=factor[:, None, None] * previous.C)


def _excess(cost_to_go: jax.Array, usable: jax.Array) -> jax.Array:
    """Costs to go above the best usable sample's; 0 for those that are not usable."""
    best = jnp.min(jnp.where(usable, cost_to_go, jnp.inf), axis=0)
    return jnp.where(usable, cost_to_go - best, 0)


def _softmax(excess: jax.Array, eta: jax.Array, usable: jax.Array) -> jax.Array:
    """Weights [N, T]; the best usable sample has excess 0, so that the sum is at least 1."""
    unscaled = jnp.where(usable, jnp.exp(-excess / eta), 0)
    return unscaled / jnp.maximum(jnp.sum(unscaled, axis=0), 1)


def _check_samples(cost_to_go: jax.Array, valid: jax.Array) -> tuple[jax.Array, jax.Array]:
    (cost_to_go,) = promote(cost_to_go)
    if cost_to_go.ndim != 2 or valid.shape != cost_to_go.shape[:1]:
        raise ValueError(
            f"cost_to_go must be [N, T] and valid [N], got {cost_to_go.shape} and {valid.shape}; "
            "use jax.vmap over conditions"
        )
    return cost_to_go, valid.astype(bool)


def _check_update(previous: Controller, x: jax.Array, u: jax.Array, weights: jax.Array) -> None:
    if previous.K.ndim != 3:
        raise ValueError(
            f"previous.K must be [T, dU, dX], got {previous.K.shape}; use jax.vmap for batches"
        )
    T, dU, dX = previous.K.shape
    shapes = (previous.k.shape, previous.C.shape, x.shape, u.shape, weights.shape)
    N = weights.shape[0]
    expected = ((T, dU), (T, dU, dU), (N, T, dX), (N, T, dU), (N, T))
    names = ("previous.k", "previous.C", "x", "u", "weights")
    for name, shape, wanted in zip(names, shapes, expected, strict=True):
        if shape != wanted:
            raise ValueError(f"{name} must have shape {wanted}, got {shape}")
