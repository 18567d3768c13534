"""The terms of Bregman ADMM: what makes controllers and one network agree, step by step.

Lagrangian: sum_c E_p[cost] + lambda'(E[mu_pi] - E[u]) + nu KL(p || pi), for the constraint that the
mean actions of controllers p and network pi are the same at every step.

The duals' step takes the gap in the metric of the divergence, C^-1 of the controllers: what lambda
moves the network's targets by, C lambda / nu, then sums the gaps up, and has the unit of an action
whatever the units of actions and cost. A step by the gap itself, as printed, multiplies an action's
gap by its variance; both rest where the gap is 0.

Lambda is bounded by what it moves the targets by, in standard deviations of the controllers: a gap
that no network can close would wind it up. With a bound the constraint is an exact penalty: it
holds where its price is within the bound, and gives way elsewhere.

Source: Wang & Banerjee (2014), "Bregman alternating direction method of multipliers"; Levine, Finn,
Darrell, Abbeel (2016), "End-to-end training of deep visuomotor policies", appendix A.
"""

import functools
import math

import jax
import jax.numpy as jnp

from jgps.core import linalg
from jgps.core.types import Controller, QuadraticCost

_ROUNDING = 1e-4  # of a mean over many steps in float32


@linalg.full_precision
def agreement_penalty(duals: jax.Array, weights: jax.Array, policy: Controller) -> QuadraticCost:
    """-u'lambda - nu log pi(u|x) as a quadratic in z = [x; u].

    Args:
      duals: lambda, [..., T, dU].
      weights: nu, [..., T].
      policy: pi, linearised; leaves [..., T, ...]. Where its C is not positive definite, the
        penalty is NaN.
    """
    dU, dX = policy.K.shape[-2:]
    precision, log_det, ok = linalg.inverse_psd(policy.C)
    precision = weights[..., None, None] * jnp.where(ok[..., None, None], precision, jnp.nan)
    # u - K x - k = M z - k
    eye = jnp.broadcast_to(jnp.eye(dU, dtype=policy.K.dtype), policy.C.shape)
    M = jnp.concatenate([-policy.K, eye], axis=-1)
    Pk = jnp.einsum("...ij,...j->...i", precision, policy.k)
    no_x = jnp.zeros((*duals.shape[:-1], dX), duals.dtype)
    return QuadraticCost(
        H=linalg.symmetrise(linalg.transpose(M) @ precision @ M),
        g=-jnp.einsum("...ij,...i->...j", M, Pk) - jnp.concatenate([no_x, duals], axis=-1),
        h=0.5 * (jnp.sum(policy.k * Pk, -1) + weights * (log_det + dU * math.log(2 * math.pi))),
    )


def augmented_cost(
    cost: QuadraticCost, duals: jax.Array, weights: jax.Array, policy: Controller
) -> QuadraticCost:
    """What the trajectory step minimises, less nu times the entropy: see `agreement_penalty`."""
    return jax.tree.map(jnp.add, cost, agreement_penalty(duals, weights, policy))


def dual_step(
    duals: jax.Array,
    weights: jax.Array,
    gap: jax.Array,
    cov: jax.Array,
    rate: float | jax.Array,
) -> jax.Array:
    """Lambda + alpha nu C^-1 (E[mu_pi] - E[u]), [..., T, dU].

    Args:
      duals: lambda, [..., T, dU].
      weights: nu, [..., T].
      gap: E[mu_pi] - E[u], [..., T, dU].
      cov: C of the controllers, [..., T, dU, dU]. Where it is not positive definite, the result
        is not finite.
      rate: alpha; 1 is the whole gap at once.
    """
    precision, _, ok = linalg.inverse_psd(cov)
    precision = jnp.where(ok[..., None, None], precision, jnp.nan)
    with jax.default_matmul_precision("highest"):
        step = jnp.einsum("...ij,...j->...i", precision, gap)
    return duals + rate * weights[..., None] * step


def bounded(
    duals: jax.Array, weights: jax.Array, cov: jax.Array, bound: float | jax.Array
) -> jax.Array:
    """The duals, shortened such that they move no target further than the bound.

    Targets move by C lambda / nu, which is sqrt(lambda' C lambda) / nu standard deviations.

    Args:
      duals: lambda, [..., T, dU].
      weights: nu, [..., T].
      cov: C of the controllers, [..., T, dU, dU].
      bound: standard deviations.
    """
    size = shift_size(duals, weights, cov)
    return duals * jnp.minimum(1, bound / jnp.maximum(size, bound))[..., None]


def shift_size(duals: jax.Array, weights: jax.Array, cov: jax.Array) -> jax.Array:
    """How far the duals move the targets: |C lambda / nu| in standard deviations of C, [..., T]."""
    with jax.default_matmul_precision("highest"):
        squared = jnp.einsum("...i,...ij,...j->...", duals, cov, duals)
    return jnp.sqrt(jnp.maximum(squared, 0)) / weights


def policy_targets(
    mean: jax.Array, cov: jax.Array, duals: jax.Array, weights: jax.Array
) -> jax.Array:
    """Minimisers mu_p - C lambda / nu of nu/2 |mu_pi - mu_p|^2 (by C^-1) + lambda'mu_pi.

    Args:
      mean: mu_p, the controllers' actions at the samples, [C, N, T, dU].
      cov: C of the controllers, [C, T, dU, dU].
      duals: lambda, [C, T, dU].
      weights: nu, [C, T].
    """
    with jax.default_matmul_precision("highest"):
        shift = jnp.einsum("ctij,ctj->cti", cov, duals) / weights[..., None]
    return mean - shift[:, None]


def adapt_weights(
    weights: jax.Array,
    kl: jax.Array,
    *,
    increase: float = 2.0,
    decrease: float = 0.5,
    upper: float = 0.0,
    lower: float = 2.0,
) -> jax.Array:
    """Nu [..., T], multiplied where KL_t is above its mean over t, and where it is far below it.

    By default it doubles above the mean, and halves 2 deviations below. KL_t has a heavy tail
    upwards, so that nu hardly ever falls.

    Args:
      weights: nu.
      kl: divergence of the controllers from the network at every step, [..., T].
      increase, decrease: what nu is multiplied by.
      upper, lower: how far from the mean, standard deviations of KL_t over t.

    Source: Levine et al. (2016), section 4; the numbers are settings in its code release.
    """
    mean = jnp.mean(kl, axis=-1, keepdims=True)
    spread = jnp.std(kl, axis=-1, keepdims=True)
    # Entries that are all alike are neither above nor below.
    above = kl > (mean + upper * spread) * (1 + _ROUNDING)
    below = kl < (mean - lower * spread) * (1 - _ROUNDING)
    factor = jnp.where(above, increase, jnp.where(below, decrease, 1.0))
    return (weights * factor).astype(weights.dtype)


def gain_penalty(gain_duals: jax.Array, centre: jax.Array) -> QuadraticCost:
    """-u'Lambda (x - centre) as a quadratic in z = [x; u].

    Args:
      gain_duals: Lambda, [..., T, dU, dX], of the constraint that the covariances of action and
        state are the same under controllers and network.
      centre: mean state, [..., T, dX].
    """
    *lead, dU, dX = gain_duals.shape
    zeros = functools.partial(jnp.zeros, dtype=gain_duals.dtype)
    at_centre = jnp.einsum("...ij,...j->...i", gain_duals, centre)
    upper = jnp.concatenate([zeros((*lead, dX, dX)), -linalg.transpose(gain_duals)], axis=-1)
    lower = jnp.concatenate([-gain_duals, zeros((*lead, dU, dU))], axis=-1)
    return QuadraticCost(
        H=jnp.concatenate([upper, lower], axis=-2),
        g=jnp.concatenate([zeros((*lead, dX)), at_centre], axis=-1),
        h=zeros(tuple(lead)),
    )


def gain_dual_step(
    gain_duals: jax.Array,
    weights: jax.Array,
    gap: jax.Array,
    cov: jax.Array,
    rate: float | jax.Array,
) -> jax.Array:
    """Lambda + alpha nu C^-1 (K_pi - K), [..., T, dU, dX]; see `dual_step`.

    Source: Levine et al. (2016), code release.
    """
    precision, _, ok = linalg.inverse_psd(cov)
    precision = jnp.where(ok[..., None, None], precision, jnp.nan)
    with jax.default_matmul_precision("highest"):
        return gain_duals + rate * weights[..., None, None] * (precision @ gap)


def gain_bounded(
    gain_duals: jax.Array,
    weights: jax.Array,
    cov: jax.Array,
    spread: jax.Array,
    bound: float | jax.Array,
) -> jax.Array:
    """Lambda, shortened such that it moves no target further than the bound; see `bounded`.

    Targets move by C Lambda (x - centre) / nu; of that the root mean square counts.

    Args:
      gain_duals: Lambda, [..., T, dU, dX].
      weights: nu, [..., T].
      cov: C of the controllers, [..., T, dU, dU].
      spread: covariance of the states, [..., T, dX, dX].
      bound: standard deviations.
    """
    with jax.default_matmul_precision("highest"):
        squared = jnp.einsum("...ij,...jk,...lk,...li->...", gain_duals, spread, gain_duals, cov)
    size = jnp.sqrt(jnp.maximum(squared, 0)) / weights
    return gain_duals * jnp.minimum(1, bound / jnp.maximum(size, bound))[..., None, None]
