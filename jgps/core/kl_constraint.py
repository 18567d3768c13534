"""The terms of constrained guided policy search: a KL divergence of zero as the constraint.

    minimise E_q[cost] - w sum_t entropy(q(u_t | x_t))
    such that KL_t = E_q(x_t)[KL(pi(u_t | x_t) || q(u_t | x_t))] = 0 at every step

with multipliers lambda_t of the divergence, nats per nat: the Lagrangian is the objective plus
w sum_t lambda_t KL_t. In the mean of q a multiplier is a quadratic pull w lambda_t A_t^-1 to the
mean of pi, for A_t the covariance of q; given the pull, A_t has a closed form.

Source: Levine & Koltun (2014), "Learning complex neural network policies with trajectory
optimization".
"""

import jax
import jax.numpy as jnp

from jgps.core import lapack, linalg


@linalg.full_precision
def pull(multipliers: jax.Array, cov: jax.Array, entropy_weight: float | jax.Array) -> jax.Array:
    """The Hessian w lambda_t A_t^-1 of the multipliers' terms by actions, [..., T, dU, dU].

    Args:
      multipliers: lambda, [..., T], >= 0.
      cov: A, [..., T, dU, dU]. Where it is not positive definite, the result is NaN.
      entropy_weight: w, cost per nat, > 0.
    """
    precision, _, ok = linalg.inverse_psd(cov)
    precision = jnp.where(ok[..., None, None], precision, jnp.nan)
    return entropy_weight * multipliers[..., None, None] * precision


@linalg.full_precision
def constrained_cov(
    curvature: jax.Array,
    multipliers: jax.Array,
    moment: jax.Array,
    entropy_weight: float | jax.Array,
) -> jax.Array:
    """The covariances A [..., T, dU, dU] that are best where the multipliers hold q to pi.

    A' of A' Q A' - w A' - w lambda M = 0. With Q the curvature of the cost to go and of the pull
    with the last A together, A' = A is where A Q_0 A + w (lambda - 1) A - w lambda M = 0, the
    published equation, in which Q_0 is the cost's own curvature. This form has nothing to subtract,
    and a positive definite solution whatever lambda is; taken again and again with the pull of its
    own result it converges to that of the published equation where 2 a q_0 / w + lambda > 1 in
    every direction.

    Args:
      curvature: Q, [..., T, dU, dU], positive definite.
      multipliers: lambda, [..., T], >= 0; with 0 the result is w Q^-1.
      moment: M, [..., T, dU, dU]: the covariance of pi and the mean square of how far the means of
        pi and q are apart.
      entropy_weight: w, cost per nat, > 0.

    Returns:
      The covariances; NaN where Q is not positive definite or M not finite.
    """
    chol, ok = linalg.cholesky(curvature / entropy_weight)
    root = linalg.symmetrise(linalg.transpose(chol) @ moment @ chol)
    finite = ok & jnp.all(jnp.isfinite(root), axis=(-2, -1))
    # eigh may not return on NaN
    values, vectors = lapack.eigh(jnp.where(finite[..., None, None], root, 0))
    size = multipliers[..., None] * jnp.maximum(values, 0)  # rounding
    scaled = 0.5 * (1 + jnp.sqrt(1 + 4 * size))
    scaled = (vectors * scaled[..., None, :]) @ linalg.transpose(vectors)
    inverse = linalg.inverse_triangular(chol)
    found = linalg.symmetrise(linalg.transpose(inverse) @ scaled @ inverse)
    return jnp.where(finite[..., None, None], found, jnp.nan)


@linalg.full_precision
def divergence(cov: jax.Array, moment: jax.Array, policy_cov: jax.Array) -> jax.Array:
    """KL_t [..., T] in nats, the mean of KL(pi(u|x) || q(u|x)) over x.

    Args:
      cov: A of q, [..., T, dU, dU].
      moment: M of pi about the mean of q, see `constrained_cov`, [..., T, dU, dU].
      policy_cov: of pi, [dU, dU].

    Returns:
      The divergence; NaN where a covariance is not positive definite.
    """
    precision, log_det, ok = linalg.inverse_psd(cov)
    chol, ok_policy = linalg.cholesky(policy_cov)
    spread = jnp.sum(precision * moment, axis=(-2, -1))
    nats = 0.5 * (spread - cov.shape[-1] + log_det - linalg.log_det(chol))
    return jnp.where(ok & ok_policy, jnp.maximum(nats, 0), jnp.nan)  # rounding
