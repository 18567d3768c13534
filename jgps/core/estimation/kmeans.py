"""Points in groups, each around its mean: Lloyd's algorithm from greedy k-means++ seeds."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jgps.core import linalg
from jgps.core.estimation.regression import divisor, standardise
from jgps.core.types import NON_FINITE, TOO_FEW_SAMPLES, Status, first_failure, worst

# Draws for each seed, of which the one that leaves the least squared distance is kept.
SEED_CANDIDATES = 4


class Groups(NamedTuple):
    """A partition of M points into K groups."""

    label: jax.Array  # [M] int32, in 0..K-1; a point of weight zero has that of the nearest mean
    centroid: jax.Array  # [K, d], mean of the group's points, in their units
    count: jax.Array  # [K], weight of the group's points
    inertia: jax.Array  # [], weighted sum of squared distances to the centroids, standardised
    status: Status  # NON_FINITE data, or TOO_FEW_SAMPLES: fewer points of weight than groups


@linalg.full_precision
def initialise(key: jax.Array, data: jax.Array, weights: jax.Array, num_groups: int) -> jax.Array:
    """Centroids [K, d] to begin with: points drawn by greedy k-means++.

    Args:
      key: consumed.
      data, weights: as of `fit`.
      num_groups: K, from 1 to M.

    Raises:
      ValueError: while tracing, if shapes disagree or there are fewer points than groups.
    """
    _check_shapes(data, weights, num_groups)
    points, weights, mean, scale, _ = standardise(data, weights)
    _, chosen = seed(key, points, weights, num_groups, num_groups)
    return points[chosen] * scale + mean


@linalg.full_precision
def fit(
    data: jax.Array, weights: jax.Array, centroid: jax.Array, num_iterations: int = 20
) -> Groups:
    """Lloyd's algorithm on standardised data.

    A group that loses its last point takes the one that is farthest from its centroid, of a group
    that has more than one: no group is empty as long as there are as many points of weight.

    Args:
      data: [M, d], any units; rows of weight zero may hold anything, NaN included.
      weights: [M], not negative.
      centroid: [K, d] to begin with, from `initialise` or an earlier fit: a group that still has
        its centroid's points keeps its number.
      num_iterations: always run, >= 1.

    Returns:
      Groups. Points at equal distances go to the lower number.

    Raises:
      ValueError: while tracing, if shapes disagree, or there are fewer points than groups.

    Source: Lloyd (1982).
    """
    num_groups = centroid.shape[0]
    _check_shapes(data, weights, num_groups)
    if centroid.shape != (num_groups, data.shape[1]):
        raise ValueError(f"centroid must be [K, {data.shape[1]}] as data, got {centroid.shape}")
    if num_iterations < 1:
        raise ValueError(f"num_iterations is {num_iterations}; it has to be >= 1, usually 20")
    points, weights, mean, scale, finite = standardise(data, weights)

    def iteration(_, carry):
        centroid, _ = carry
        label = _assign(points, weights, centroid)
        return _means(points, weights, label, centroid)[0], label

    start = ((centroid - mean) / scale).astype(points.dtype)
    start = start, jnp.zeros(points.shape[0], jnp.int32)
    centroid, label = jax.lax.fori_loop(0, num_iterations, iteration, start)
    centroid, count = _means(points, weights, label, centroid)
    distance = jnp.sum(jnp.square(points - centroid[label]), axis=-1)
    few = jnp.sum(weights > 0) < num_groups
    return Groups(
        label=label,
        centroid=centroid * scale + mean,
        count=count,
        inertia=weights @ distance,
        status=worst(
            first_failure(~finite[None], NON_FINITE), first_failure(few[None], TOO_FEW_SAMPLES)
        ),
    )


def seed(
    key: jax.Array,
    points: jax.Array,
    weights: jax.Array,
    num_active: jax.Array | int,
    max_clusters: int,
) -> tuple[jax.Array, jax.Array]:
    """Greedy k-means++ on finite points [M, d] with weights [M].

    Args:
      num_active: seeds to place, may be traced; of static `max_clusters` = K.

    Returns:
      The number of every point's nearest seed [M], and the seeds' indices [K] (those beyond
      `num_active` mean nothing).

    Source: Arthur & Vassilvitskii (2007).
    """
    num_points = points.shape[0]
    size = jnp.sum(jnp.square(points), axis=-1)

    def place(k, carry):
        nearest, distance, chosen = carry
        # The first seed is drawn by weight alone: every distance starts equal.
        logits = jnp.log(weights * distance)
        drawn = jax.random.categorical(jax.random.fold_in(key, k), logits, shape=(SEED_CANDIDATES,))
        to_drawn = size[drawn, None] - 2 * points[drawn] @ points.T + size
        to_drawn = jnp.maximum(to_drawn, 0.0)
        left = jnp.where(k == 0, to_drawn, jnp.minimum(to_drawn, distance)) @ weights
        best = jnp.argmin(left)
        to_seed = to_drawn[best]
        closer = (k == 0) | ((to_seed < distance) & (k < num_active))
        nearest, distance = jnp.where(closer, k, nearest), jnp.where(closer, to_seed, distance)
        return nearest, distance, chosen.at[k].set(drawn[best].astype(jnp.int32))

    start = (
        jnp.zeros(num_points, jnp.int32),
        jnp.ones(num_points, points.dtype),
        jnp.zeros(max_clusters, jnp.int32),
    )
    nearest, _, chosen = jax.lax.fori_loop(0, max_clusters, place, start)
    return nearest, chosen


def _assign(points: jax.Array, weights: jax.Array, centroid: jax.Array) -> jax.Array:
    """The nearest centroid's number for every point [M], with no group left empty."""
    distance = jnp.sum(jnp.square(points[:, None] - centroid), axis=-1)  # [M, K]
    label = jnp.argmin(distance, axis=1).astype(jnp.int32)
    used = weights > 0

    def feed(k, label):
        """Gives group k, if it is empty, the worst point of a group that can spare it."""
        members = jnp.zeros(centroid.shape[0], jnp.int32).at[label].add(used.astype(jnp.int32))
        own = jnp.take_along_axis(distance, label[:, None], axis=1)[:, 0]
        spare = used & (members[label] > 1)
        worst_point = jnp.argmax(jnp.where(spare, own, -1))
        needs = (members[k] == 0) & jnp.any(spare)
        return label.at[worst_point].set(jnp.where(needs, k, label[worst_point]))

    return jax.lax.fori_loop(0, centroid.shape[0], feed, label)


def _means(
    points: jax.Array, weights: jax.Array, label: jax.Array, previous: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Mean [K, d] and weight [K] of every group; an empty one stays where it was."""
    share = weights * (label == jnp.arange(previous.shape[0])[:, None])
    count = jnp.sum(share, axis=1)
    mean = share @ points / divisor(count)[:, None]
    return jnp.where((count > 0)[:, None], mean, previous), count


def _check_shapes(data: jax.Array, weights: jax.Array, num_groups: int) -> None:
    if data.ndim != 2 or weights.shape != data.shape[:1]:
        raise ValueError(
            f"data must be [M, d] and weights [M], got {data.shape} and {weights.shape}"
        )
    if not 1 <= num_groups <= data.shape[0]:
        raise ValueError(
            f"there are {num_groups} groups for {data.shape[0]} points; there has to be at least "
            "1, and a point for each"
        )
