"""Gaussian mixture by expectation maximisation, and the regression prior it gives.

Clusters run one after the other (`lax.map`): the products inside are large enough to fill the
machine, and [M, D] stays in cache where [K, M, D] would not.
"""

import dataclasses
import math
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer

from jgps.core import linalg
from jgps.core.checks import Config, Range
from jgps.core.estimation import kmeans
from jgps.core.estimation.regression import NormalInverseWishart, divisor, standardise
from jgps.core.types import NON_FINITE, NOT_PD, Status, first_failure, worst


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixtureConfig(Config):
    """How EM fits a Gaussian mixture to points.

    Attributes:
      max_iterations: upper bound on EM iterations.
      tolerance: stop when the log-likelihood per point changes by less than this, relative to
        1 + its magnitude.
      ridge: added to every cluster's variance, in units of the data's squared spread; for points
        of more than 200 dimensions in float32 as much more as rounding asks for, which
        `MixtureInfo.ridge_added` and the metric `mixture_ridge_added` say.
      starved_fraction: a cluster with at most this fraction of an equal share of the points is
        moved to a badly explained point, once in a fit and not in its last iteration.
    """

    max_iterations: Annotated[int, Range(">= 1", "usually 2 to 50: EM needs a step")] = 50
    tolerance: Annotated[float, Range(">= 0", "usually 0.001: 0 runs all max_iterations")] = 1e-3
    ridge: Annotated[
        float,
        Range("> 0", "usually 1e-4, which suits float32: a cluster of few points has a density"),
    ] = 1e-4
    starved_fraction: Annotated[
        float, Range("[0, 1)", "usually 0.05: 0 moves only empty clusters")
    ] = 0.05


class Mixture(NamedTuple):
    """Gaussian mixture in task units; only the first `sum(active)` of K clusters count."""

    weights: jax.Array  # [K], sum 1 over the active clusters, 0 elsewhere
    mean: jax.Array  # [K, D]
    cov: jax.Array  # [K, D, D], positive definite; the identity where not active
    active: jax.Array  # [K] bool
    count: jax.Array  # [], weight of the points it was fitted to; 0 before the first fit


class MixtureInfo(NamedTuple):
    """How a fit went."""

    log_likelihood: jax.Array  # [], per point, of the standardised data
    iterations: jax.Array  # [] int32
    converged: jax.Array  # [] bool
    reseeded: jax.Array  # [] int32, starved clusters moved
    ridge_added: jax.Array  # [], what the ridge was raised by, for rounding not to hide it
    status: Status  # NON_FINITE data, or NOT_PD: a cluster's covariance (raise the ridge)


def empty(max_clusters: int, dim: int, dtype) -> Mixture:
    """A mixture fitted to nothing; `to_prior` makes a prior of strength 0 of it."""
    return Mixture(
        weights=jnp.zeros(max_clusters, dtype),
        mean=jnp.zeros((max_clusters, dim), dtype),
        cov=jnp.tile(jnp.eye(dim, dtype=dtype), (max_clusters, 1, 1)),
        active=jnp.zeros(max_clusters, bool),
        count=jnp.zeros((), dtype),
    )


@linalg.full_precision
def initialise(
    key: jax.Array,
    data: jax.Array,
    weights: jax.Array,
    num_active: jax.Array | int,
    max_clusters: int,
    ridge: float = MixtureConfig.ridge,
) -> Mixture:
    """Seeds clusters by greedy k-means++ and gives every point to its nearest seed.

    Args:
      key: consumed.
      data: [M, D]; rows of weight zero may hold anything. weights: [M].
      num_active: clusters in use, between 1 and max_clusters = K; may be traced.
      ridge: as in `MixtureConfig`.

    Raises:
      ValueError: if num_active is out of range and known while tracing.
    """
    _check_num_active(num_active, max_clusters)
    points, weights, mean, scale, _ = standardise(data, weights)
    nearest, _ = kmeans.seed(key, points, weights, num_active, max_clusters)
    share = weights * (nearest == jnp.arange(max_clusters)[:, None])
    active = jnp.arange(max_clusters) < num_active
    count = jnp.sum(share, axis=1)
    clusters = _moments(points, share, count, ridge, active)
    return _restore(clusters, mean, scale)


@linalg.full_precision
def fit(
    data: jax.Array,
    weights: jax.Array,
    init: Mixture,
    num_active: jax.Array | int,
    config: MixtureConfig = MixtureConfig(),
) -> tuple[Mixture, MixtureInfo]:
    """Expectation maximisation from `init`.

    Args:
      data: [M, D], task units; rows of weight zero may hold anything, NaN included.
      weights: [M], not negative.
      init: of K clusters, from `initialise` or an earlier fit (a warm start). A cluster that
        becomes active for the first time starts like a starved one.
      num_active: clusters in use, between 1 and K; may be traced.

    Returns:
      Mixture and MixtureInfo. The ridge makes each step a step of EM on data blurred by it, so
      the log-likelihood may fall by about the ridge's size, and by a re-seeding.

    Raises:
      ValueError: while tracing, if the shapes disagree or num_active is known and out of range.
    """
    _check_shapes(data, weights, init)
    _check_num_active(num_active, init.active.shape[0])
    points, weights, mean, scale, finite = standardise(data, weights)
    active = jnp.arange(init.active.shape[0]) < num_active
    start = _enter(init, mean, scale, active)
    used = weights > 0
    num_points = divisor(jnp.sum(weights))

    def is_running(carry):
        _, _, iteration, converged, _, _ = carry
        return (iteration < config.max_iterations) & ~converged

    def step(carry):
        mixture, previous, iteration, _, was_moved, had_chol = carry
        joint, ok = _log_joint(mixture, points)
        log_density = jnp.where(used, jax.nn.logsumexp(joint, axis=0), 0.0)
        log_likelihood = weights @ log_density / num_points
        share = jnp.where(used, weights * jnp.exp(joint - log_density), 0.0)
        # A cluster that starves where it was moved to, at an outlier, would be moved there for
        # ever; one moved in the last iteration would never be seen by an E-step.
        movable = active & ~was_moved & (iteration + 1 < config.max_iterations)
        mixture, moved = _maximise(points, weights, share, log_density, active, movable, config)
        change = jnp.abs(log_likelihood - previous)
        # Relative to 1 + |value|: the log-likelihood may have either sign, or be 0.
        settled = change <= config.tolerance * (1 + jnp.abs(log_likelihood))
        converged = (settled & ~jnp.any(moved) & (iteration > 0)) | ~jnp.any(used)
        return mixture, log_likelihood, iteration + 1, converged, was_moved | moved, had_chol & ok

    zero = jnp.zeros((), jnp.int32)
    first = jnp.zeros((), points.dtype)
    no = jnp.zeros((), bool)
    carry = start, first, zero, no, jnp.zeros_like(active), ~no
    mixture, log_likelihood, iterations, converged, was_moved, had_chol = jax.lax.while_loop(
        is_running, step, carry
    )
    status = worst(
        first_failure(~finite[None] | ~jnp.isfinite(log_likelihood)[None], NON_FINITE),
        first_failure(~had_chol[None], NOT_PD),
    )
    info = MixtureInfo(
        log_likelihood=log_likelihood,
        iterations=iterations,
        converged=converged,
        reseeded=jnp.sum(was_moved, dtype=jnp.int32),
        ridge_added=jnp.asarray(_ridge(points, config.ridge) - config.ridge, points.dtype),
        status=status,
    )
    return _restore(mixture, mean, scale), info


@linalg.full_precision
def log_joint(mixture: Mixture, points: jax.Array) -> jax.Array:
    """log(weight_k N(point; mean_k, cov_k)) for finite points [n, D]: [K, n], -inf if inactive."""
    return _log_joint(mixture, points)[0]


@linalg.full_precision
def to_prior(
    mixture: Mixture, points: jax.Array, weights: jax.Array, strength: float | jax.Array
) -> NormalInverseWishart:
    """Prior for a regression on `points`: the mixture seen from where they lie.

    Args:
      points: [n, D], the samples of one time step; rows of weight zero may hold anything.
      weights: [n], not negative.
      strength: samples that the prior is worth.

    Returns:
      Mean and covariance of the clusters weighted by their mean responsibility w_k for the
      points (law of total covariance), as a prior of that strength. Its dof is
      strength (M - 2 - D) / M for a mixture of M points, at least 0. All zero where the mixture
      is empty or every weight is zero.

    Source: Levine & Abbeel (2014), section 3; Levine et al. (2016), A.3.
    """
    used = weights > 0
    joint, _ = _log_joint(mixture, jnp.where(used[:, None], points, 0.0))
    responsibility = jax.nn.softmax(jnp.where(mixture.active[:, None], joint, -jnp.inf), axis=0)
    known = (mixture.count > 0) & jnp.any(used)
    responsibility = jnp.where(used & known, responsibility, 0.0)
    w = responsibility @ weights / divisor(jnp.sum(weights))
    mean = w @ mixture.mean
    offset = mixture.mean - mean
    cov = jnp.tensordot(w, mixture.cov, 1) + (w[:, None] * offset).T @ offset
    strength = jnp.where(known, jnp.asarray(strength, mean.dtype), 0.0)
    share = (mixture.count - 2 - mean.shape[0]) / divisor(mixture.count)
    return NormalInverseWishart(
        mean=mean,
        scatter=strength * linalg.symmetrise(cov),
        dof=strength * jnp.maximum(share, 0.0),
        strength=strength,
    )


def _enter(init: Mixture, mean, scale, active) -> Mixture:
    """`init` in standardised units; newly active clusters weigh nothing, so they starve."""
    was_active = active & init.active
    eye = jnp.eye(mean.shape[0], dtype=mean.dtype)
    return Mixture(
        weights=jnp.where(was_active, init.weights, 0.0),
        mean=jnp.where(was_active[:, None], (init.mean - mean) / scale, 0.0),
        cov=jnp.where(was_active[:, None, None], init.cov / (scale[:, None] * scale), eye),
        active=active,
        count=init.count,
    )


def _restore(mixture: Mixture, mean, scale) -> Mixture:
    """A standardised mixture back in task units."""
    active = mixture.active[:, None]
    return mixture._replace(
        mean=jnp.where(active, mixture.mean * scale + mean, 0.0),
        cov=jnp.where(active[..., None], mixture.cov * scale[:, None] * scale, mixture.cov),
    )


def _log_joint(mixture: Mixture, points):
    """log(weight_k N(point; k)) as [K, n], and whether every active covariance has a factor."""
    L, ok = linalg.cholesky(mixture.cov)
    whiten = linalg.inverse_triangular(L)
    log_norm = -0.5 * (linalg.log_det(L) + points.shape[1] * math.log(2 * math.pi))

    def squared_distance(cluster):
        mean, whiten = cluster
        return jnp.sum(jnp.square((points - mean) @ whiten.T), axis=-1)

    distance = jax.lax.map(squared_distance, (mixture.mean, whiten))
    joint = (jnp.log(mixture.weights) + log_norm)[:, None] - 0.5 * distance
    return joint, jnp.all(ok | ~mixture.active)


def _moments(points, share, count, ridge, active) -> Mixture:
    """Weights, means and centred covariances of the points shared out as `share` [K, M]."""
    mean = share @ points / divisor(count)[:, None]
    eye = jnp.eye(points.shape[1], dtype=points.dtype)
    ridge = _ridge(points, ridge)

    def covariance(cluster):
        share, count, mean = cluster
        offset = points - mean
        return (offset * share[:, None]).T @ offset / divisor(count) + ridge * eye

    cov = jax.lax.map(covariance, (share, count, mean))
    total = jnp.sum(count)
    return Mixture(
        weights=count / divisor(total),
        mean=mean,
        cov=jnp.where(active[:, None, None], linalg.symmetrise(cov), eye),
        active=active,
        count=total,
    )


def _ridge(points: jax.Array, given: float) -> float:
    """The ridge that is taken: what Cholesky's check calls zero grows with the size.

    A singular cluster has to stay above it.
    """
    return max(given, 4 * points.shape[1] * float(jnp.finfo(points.dtype).eps))


def _maximise(points, weights, share, log_density, active, movable, config):
    """The M-step, with starved clusters that may move put at the points explained worst."""
    count = jnp.sum(share, axis=1)
    clusters = _moments(points, share, count, config.ridge, active)
    fair_share = jnp.sum(weights) / jnp.sum(active)
    starved = movable & (count <= config.starved_fraction * fair_share)
    num_candidates = min(active.shape[0], points.shape[0])
    badness = jnp.where(weights > 0, -log_density, -jnp.inf)
    _, worst_points = jax.lax.top_k(badness, num_candidates)
    rank = jnp.cumsum(starved) - 1
    seed = points[worst_points[jnp.clip(rank, 0, num_candidates - 1)]]
    # The shape of a typical cluster: the data's own would cover its neighbours.
    fed = jnp.where(starved, 0.0, clusters.weights)
    eye = jnp.eye(points.shape[1], dtype=points.dtype)
    typical = jnp.tensordot(fed, clusters.cov, 1) / divisor(jnp.sum(fed))
    typical = jnp.where(jnp.any(fed > 0), typical, eye)
    new_weights = jnp.where(starved, 1 / jnp.sum(active).astype(fed.dtype), fed)
    moved = clusters._replace(
        weights=new_weights / divisor(jnp.sum(new_weights)),
        mean=jnp.where(starved[:, None], seed, clusters.mean),
        cov=jnp.where(starved[:, None, None], typical, clusters.cov),
    )
    return moved, starved


def _check_shapes(data, weights, init) -> None:
    num_clusters, dim = init.mean.shape
    if data.ndim != 2 or data.shape[1] != dim:
        raise ValueError(f"data must be [M, D] with D = {dim} as in init, got {data.shape}")
    if weights.shape != data.shape[:1]:
        raise ValueError(f"weights must be [{data.shape[0]}] as data, got {weights.shape}")
    if init.cov.shape != (num_clusters, dim, dim):
        raise ValueError(f"init.cov must be [{num_clusters}, {dim}, {dim}], got {init.cov.shape}")


def _check_num_active(num_active, max_clusters: int) -> None:
    if not isinstance(num_active, Tracer) and not 1 <= int(num_active) <= max_clusters:
        raise ValueError(
            f"num_active is {num_active}; it has to be in 1..{max_clusters}, the number of clusters"
        )
