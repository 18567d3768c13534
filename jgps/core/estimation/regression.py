"""Linear-Gaussian regression at one time step, with a normal-inverse-Wishart prior."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jgps.core import linalg
from jgps.core.one_program import one_program
from jgps.core.types import (
    NON_FINITE,
    NOT_PD,
    TOO_FEW_SAMPLES,
    Status,
    first_failure,
    worst,
)

_ATTEMPTS = 8  # at a ridge, each four times the last


class FitInfo(NamedTuple):
    """How a regression went."""

    status: Status
    # [...], what the ridge was raised by, in its own units; 0 where rounding does not hide it.
    ridge_added: jax.Array


class NormalInverseWishart(NamedTuple):
    """Prior over mean and covariance of y = [inputs; outputs]; D = dI + dO.

    Section 1 of Levine et al. (2016), A.3, writes mu0, s Phi, n0, s.
    """

    mean: jax.Array  # [D]
    scatter: jax.Array  # [D, D], strength times the prior covariance
    dof: jax.Array  # [], added to the number of samples
    strength: jax.Array  # [], samples that the prior mean is worth


@one_program()
def spread(points: jax.Array, weights: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Weighted mean and standard deviation of every dimension.

    Args:
      points: [M, D], finite.
      weights: [M], not negative; zero leaves a point out.

    Returns:
      mean [D] and scale [D]. A dimension that does not vary beyond rounding has scale 1, and so
      does every dimension where all weights are zero.
    """
    total = divisor(jnp.sum(weights))
    mean = weights @ points / total
    centred = points - mean
    # A second pass takes out the rounding error of a mean that is large against the spread.
    shift = weights @ centred / total
    scale = jnp.sqrt(weights @ jnp.square(centred - shift) / total)
    rounding = 8.0 * jnp.finfo(points.dtype).eps * jnp.abs(mean)
    return mean + shift, jnp.where(scale > rounding, scale, jnp.ones_like(scale))


def standardise(
    data: jax.Array, weights: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]:
    """Data of zero mean and unit spread.

    Args:
      data: [M, D]; rows of weight zero may hold anything.
      weights: [M], not negative.

    Returns:
      Points [M, D] and weights [M], finite everywhere and zero where they do not count, the mean
      and scale [D] that were taken out, and whether all data that count were finite [].
    """
    used = weights > 0
    finite = jnp.all(jnp.isfinite(data) | ~used[:, None]) & jnp.all(jnp.isfinite(weights))
    weights = jnp.where(used & jnp.isfinite(weights), weights, 0).astype(data.dtype)
    data = jnp.where(used[:, None] & jnp.isfinite(data), data, 0.0)
    mean, scale = spread(data, weights)
    return (data - mean) / scale, weights, mean, scale, finite


def divisor(total: jax.Array) -> jax.Array:
    """`total`, or 1 where it is not positive: a divisor for sums that are then zero."""
    return jnp.where(total > 0, total, jnp.ones_like(total))


@one_program()
@linalg.full_precision
def fit_linear_gaussian(
    inputs: jax.Array,
    outputs: jax.Array,
    prior: NormalInverseWishart | None = None,
    weights: jax.Array | None = None,
    ridge: float | jax.Array = 0.0,
    scale: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array, FitInfo]:
    """Fits outputs ~ N(F inputs + f, W).

    Args:
      inputs: [N, dI]. outputs: [N, dO]. Rows of weight zero may hold anything, NaN included.
      prior: over y = [inputs; outputs], task units; its strength acts as extra samples.
      weights: [N], not negative, each the number of samples that a row is worth; None is all 1.
      ridge: added to the variance of every input, in units of its squared scale; one that is hidden
        by rounding is raised until it is not, which `FitInfo.ridge_added` says.
      scale: [dI + dO] > 0, the unit of each dimension; None takes the standard deviation of
        these samples. Only the ridge depends on it; pass one over all time steps where a
        dimension stands still at some of them.

    Returns:
      F [dO, dI], f [dO], W [dO, dO] in task units, and a FitInfo, whose status is TOO_FEW_SAMPLES
      below two rows of positive weight, NON_FINITE where such a row, the prior or the result is
      not finite, NOT_PD where the input covariance is not positive definite and the ridge is 0.
      After a failure the arrays are finite and mean nothing.

    Raises:
      ValueError: while tracing, if the shapes disagree.

    Source: Levine & Abbeel (2014), section 3. The ridge is on the input block only, and W is a
    sum of residual outer products, so that small noise does not cancel in float32.
    """
    _check_shapes(inputs, outputs, prior, weights, scale)
    num_inputs = inputs.shape[-1]
    y = jnp.concatenate([inputs, outputs], axis=-1)
    w = jnp.ones(y.shape[:1], y.dtype) if weights is None else weights.astype(y.dtype)
    used = w > 0
    bad_data = jnp.any(~jnp.isfinite(y) & used[:, None]) | ~jnp.all(jnp.isfinite(w))
    y = jnp.where(used[:, None] & jnp.isfinite(y), y, 0.0)
    w = jnp.where(used & jnp.isfinite(w), w, 0.0)

    mean, own_scale = spread(y, w)
    scale = own_scale if scale is None else scale.astype(y.dtype)
    count = jnp.sum(w)
    # Rows whose Gram matrix is the data's share of the posterior scatter.
    rows = jnp.sqrt(w)[:, None] * (y - mean) / scale
    total = count
    if prior is not None:
        shrink = jnp.sqrt(count * prior.strength / divisor(count + prior.strength))
        gap = shrink * (mean - prior.mean) / scale
        rows = jnp.concatenate([rows, gap[None]])
        total = count + prior.dof
    total = divisor(total)
    cov = rows.T @ rows / total
    if prior is not None:
        prior_cov = linalg.symmetrise(prior.scatter) / (scale[:, None] * scale * total)
        cov = cov + prior_cov

    given = jnp.asarray(ridge, cov.dtype)
    L, ridge, positive_definite = factor_with_ridge(cov[:num_inputs, :num_inputs], given)
    F = linalg.solve_psd(L, cov[:num_inputs, num_inputs:]).T
    residual = rows[:, num_inputs:] - rows[:, :num_inputs] @ F.T
    W = residual.T @ residual / total + ridge * F @ F.T
    if prior is not None:
        project = jnp.concatenate([-F, jnp.eye(F.shape[0], dtype=y.dtype)], axis=1)
        W = W + project @ prior_cov @ project.T

    in_scale, out_scale = scale[:num_inputs], scale[num_inputs:]
    F = F * out_scale[:, None] / in_scale
    W = linalg.symmetrise(W * (out_scale[:, None] * out_scale))
    f = mean[num_inputs:] - F @ mean[:num_inputs]
    finite = jnp.all(jnp.isfinite(F)) & jnp.all(jnp.isfinite(f)) & jnp.all(jnp.isfinite(W))
    status = worst(
        _fails(jnp.sum(used) < 2, TOO_FEW_SAMPLES),
        _fails(bad_data | ~finite, NON_FINITE),
        _fails(~positive_definite, NOT_PD),
    )
    F, f, W = (jnp.where(finite, array, 0) for array in (F, f, W))
    return F, f, W, FitInfo(status=status, ridge_added=ridge - given)


def factor_with_ridge(cov: jax.Array, given: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Cholesky factor of cov + given I, the ridge that it took [], and whether there is one [].

    Fewer samples than inputs leave a singular matrix, whose rounding grows with its size: above
    some hundred inputs a ridge that suits small problems is below it. It is raised until it is not,
    from rounding's own size, and only where it has to be. Without a ridge nothing is raised.
    """
    eye = jnp.eye(cov.shape[0], dtype=cov.dtype)
    rounding = jnp.finfo(cov.dtype).eps * jnp.trace(cov)

    def attempt(ridge: jax.Array) -> tuple[jax.Array, jax.Array]:
        return linalg.cholesky(cov + ridge * eye)

    def is_failing(state) -> jax.Array:
        _, _, positive, attempts = state
        return ~positive & (given > 0) & (attempts < _ATTEMPTS)

    def raise_ridge(state):
        _, ridge, _, attempts = state
        raised = jnp.maximum(4 * ridge, rounding)
        L, positive = attempt(raised)
        return L, raised, positive, attempts + 1

    L, positive = attempt(given)
    start = (L, given, positive, jnp.zeros((), jnp.int32))
    L, used, positive, _ = jax.lax.while_loop(is_failing, raise_ridge, start)
    return L, used, positive


def _fails(failed: jax.Array, code: int) -> Status:
    return first_failure(failed[None], code)


def _check_shapes(inputs, outputs, prior, weights, scale) -> None:
    if inputs.ndim != 2 or outputs.ndim != 2 or inputs.shape[0] != outputs.shape[0]:
        raise ValueError(
            f"inputs must be [N, dI] and outputs [N, dO], got {inputs.shape} and {outputs.shape}"
        )
    if 0 in (*inputs.shape, outputs.shape[1]):
        raise ValueError(
            f"there has to be at least one sample, input and output, got inputs {inputs.shape} and "
            f"outputs {outputs.shape}"
        )
    num_samples = inputs.shape[0]
    dim = inputs.shape[1] + outputs.shape[1]
    if weights is not None and weights.shape != (num_samples,):
        raise ValueError(f"weights must be [{num_samples}], got {weights.shape}")
    if scale is not None and scale.shape != (dim,):
        raise ValueError(f"scale must be [dI + dO] = [{dim}], got {scale.shape}")
    if prior is not None and (prior.mean.shape != (dim,) or prior.scatter.shape != (dim, dim)):
        raise ValueError(
            f"prior must have mean [{dim}] and scatter [{dim}, {dim}] over [inputs; outputs], "
            f"got {prior.mean.shape} and {prior.scatter.shape}"
        )
