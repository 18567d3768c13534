"""The terms of Bregman ADMM: what makes controllers and one network agree, step by step.

Lagrangian: sum_c E_p[cost] + lambda'(E[mu_pi] - E[u]) + nu KL(p || pi), for the constraint that the
mean actions of controllers p and network pi are the same at every step.

Source: Wang & Banerjee (2014), "Bregman alternating direction method of multipliers"; Levine, Finn,
Darrell, Abbeel (2016), "End-to-end training of deep visuomotor policies", appendix A.
"""

import math

import jax
import jax.numpy as jnp

from jgps.core import linalg
from jgps.core.types import Controller, QuadraticCost


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
    policy_mean: jax.Array,
    action_mean: jax.Array,
    rate: float | jax.Array,
) -> jax.Array:
    """Lambda + alpha nu (E[mu_pi] - E[u]), [..., T, dU], from nu [..., T]."""
    return duals + rate * weights[..., None] * (policy_mean - action_mean)


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
    weights: jax.Array, kl: jax.Array, band: float, low: float, high: float
) -> jax.Array:
    """Nu [..., T], doubled where KL_t is above `band` times its mean over t, halved as far below.

    Args:
      weights: nu.
      kl: divergence of the controllers from the network at every step, [..., T].
      band: > 1.
      low, high: limits of nu.
    """
    mean = jnp.mean(kl, axis=-1, keepdims=True)
    factor = jnp.where(kl > band * mean, 2.0, jnp.where(kl < mean / band, 0.5, 1.0))
    return jnp.clip(weights * factor, low, high).astype(weights.dtype)
