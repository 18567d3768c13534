"""Normal distributions: conditioning, entropy and divergences."""

import math

import jax
import jax.numpy as jnp

from jgps.core import linalg
from jgps.core.one_program import one_program
from jgps.core.types import Controller, Gaussian, Marginals


@linalg.full_precision
def condition(
    mean: jax.Array, cov: jax.Array, num_given: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Distribution of the last entries y given the first `num_given` entries z.

    Args:
      mean: [..., d].
      cov: [..., d, d], symmetric, its leading block positive definite.
      num_given: how many leading entries are given, between 1 and d - 1.

    Returns:
      F [..., d - num_given, num_given], f [..., d - num_given] and W such that
      y | z ~ N(F z + f, W); NaN where the leading block is not positive definite.

    Raises:
      ValueError: `num_given` is out of range or the shapes disagree.
    """
    d = mean.shape[-1]
    if cov.shape[-2:] != (d, d):
        raise ValueError(f"cov must end in ({d}, {d}) to match mean {mean.shape}, got {cov.shape}")
    if not 0 < num_given < d:
        raise ValueError(f"num_given must be between 1 and {d - 1}, got {num_given}")
    given, rest = slice(0, num_given), slice(num_given, d)
    chol, ok = linalg.cholesky(cov[..., given, given])
    cross = cov[..., given, rest]
    gain = linalg.transpose(linalg.solve_psd(chol, cross))
    gain = jnp.where(ok[..., None, None], gain, jnp.nan)
    offset = mean[..., rest] - jnp.einsum("...ij,...j->...i", gain, mean[..., given])
    return gain, offset, linalg.symmetrise(cov[..., rest, rest] - gain @ cross)


@one_program()
def entropy(cov: jax.Array) -> jax.Array:
    """Entropy in nats of a normal with covariance `cov` [..., d, d]; NaN where it is singular."""
    chol, ok = linalg.cholesky(cov)
    d = cov.shape[-1]
    nats = 0.5 * (d * (1 + math.log(2 * math.pi)) + linalg.log_det(chol))
    return jnp.where(ok, nats, jnp.nan)


@one_program()
@linalg.full_precision
def kl(p: Gaussian, q: Gaussian) -> jax.Array:
    """KL(p || q) in nats, [...]; NaN where a covariance is not positive definite."""
    chol_p, ok_p = linalg.cholesky(p.cov)
    chol_q, ok_q = linalg.cholesky(q.cov)
    inverse_q = linalg.inverse_triangular(chol_q)
    root = inverse_q @ chol_p
    shift = jnp.einsum("...ij,...j->...i", inverse_q, p.mean - q.mean)
    nats = 0.5 * (
        jnp.sum(jnp.square(root), axis=(-2, -1))
        + jnp.sum(jnp.square(shift), axis=-1)
        - p.cov.shape[-1]
        + linalg.log_det(chol_q)
        - linalg.log_det(chol_p)
    )
    return jnp.where(ok_p & ok_q, nats, jnp.nan)


@one_program()
@linalg.full_precision
def controller_kl(new: Controller, old: Controller, marginals: Marginals) -> jax.Array:
    """Expected KL between two controllers' actions at every step.

    Args:
      new, old: controllers of T steps.
      marginals: of the NEW controller; only their state part is read.

    Returns:
      KL [T] in nats: E over x of KL(new(u|x) || old(u|x)). NaN where a covariance is singular.
    """
    dX = new.K.shape[-1]
    x_mean, x_cov = marginals.mean[:, :dX], marginals.cov[:, :dX, :dX]
    dK = new.K - old.K
    shift = jnp.einsum("tij,tj->ti", dK, x_mean) + new.k - old.k
    # The expected squared distance of the means, measured by the old precision.
    of_cov = linalg.solve_psd(linalg.cholesky(old.C)[0], dK @ x_cov @ linalg.transpose(dK))
    at_mean = kl(Gaussian(mean=shift, cov=new.C), Gaussian(mean=jnp.zeros_like(shift), cov=old.C))
    return at_mean + 0.5 * jnp.trace(of_cov, axis1=-2, axis2=-1)
