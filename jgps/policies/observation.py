"""What a network reads: a vector, or named arrays of which "configuration" is the vector.

A network of pixels reads {"image": [..., H, W, 3] uint8, "configuration": [..., dq]}, or
{"features": [..., dF], "configuration"} where its trunk has been computed before. The entries are
the arguments of its methods. Only the vector is disturbed in training; controllers know its gains.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jgps.core.estimation.regression import spread
from jgps.core.one_program import one_program

Observation = jax.Array | Mapping[str, jax.Array]
# observe(o [dO]) -> (image [H, W, 3], configuration [dq]), pure: renders what the robot sees; or
# the part of o alone that a network reads as a vector
Observe = Callable[[jax.Array], tuple[jax.Array, jax.Array] | jax.Array]
# observe(key, o [dO]), pure: the same of a scene that the key makes look another way
RandomisedObserve = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]

VECTOR = "configuration"
CHUNK = 64  # images computed at once where no gradient is taken


def vector(o: Observation) -> jax.Array:
    """The vector of an observation, [..., d]."""
    return o[VECTOR] if isinstance(o, Mapping) else o


def with_vector(o: Observation, new: jax.Array) -> Observation:
    """The observation with another vector."""
    return {**o, VECTOR: new} if isinstance(o, Mapping) else new


def evaluate(network: nn.Module, variables: Any, o: Observation) -> jax.Array:
    """The network's output for an observation of any kind."""
    if not isinstance(o, Mapping):
        return jnp.asarray(network.apply(variables, o))
    arguments: dict[str, Any] = dict(o)
    method = "act_on_features" if "features" in o else None
    return jnp.asarray(network.apply(variables, **arguments, method=method))


def flat(o: Observation, leading: int = 3) -> Observation:
    """The observation with its leading axes in one, [M, ...]."""
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[leading:]), o)


def in_chunks(function: Callable[[Any], Any], rows: Any, size: int = CHUNK) -> Any:
    """`function` of every row, never of more than `size` at once."""
    return jax.lax.map(function, rows, batch_size=size)


def finite(o: Observation, leading: int = 3) -> jax.Array:
    """Which rows are finite in all entries; leading axes."""
    checks = [
        jnp.isfinite(leaf).all(tuple(range(leading, leaf.ndim)))
        for leaf in jax.tree.leaves(o)
        if jnp.issubdtype(leaf.dtype, jnp.floating)
    ]
    return jnp.stack(checks).all(0)


def keep_rows(o: Observation, keep: jax.Array) -> Observation:
    """Zero in rows that don't count and might not be finite; `keep` has the leading axes."""

    def masked(leaf: jax.Array) -> jax.Array:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf  # images are large, and whatever they hold is finite
        return jnp.where(keep.reshape(*keep.shape, *[1] * (leaf.ndim - keep.ndim)), leaf, 0)

    return jax.tree.map(masked, o)


def spreads(o: Observation, weight: jax.Array) -> tuple[Any, Any]:
    """Mean and standard deviation of every entry that is a vector, in the form of `o`."""
    if not isinstance(o, Mapping):
        return spread(o, weight)
    each = {name: spread(leaf, weight) for name, leaf in o.items() if leaf.ndim == 2}
    return {k: mean for k, (mean, _) in each.items()}, {k: scale for k, (_, scale) in each.items()}


@one_program("network")
def cache_features(network: nn.Module, variables: Any, o: Observation) -> dict[str, jax.Array]:
    """The observation with its images replaced by what the network's trunk makes of them.

    Args:
      network: has a method `features`.
      o: {"image": [..., H, W, 3], "configuration": [..., dq]}; what has "features" stays as it is.

    Raises:
      ValueError: if there are no images, or the network has no trunk.
    """
    if isinstance(o, Mapping) and "features" in o:
        return dict(o)
    if not isinstance(o, Mapping) or "image" not in o or not hasattr(network, "features"):
        raise ValueError(
            "only a network with a trunk, on observations with an image, has features to cache; "
            'train another with frozen="none"'
        )
    image = o["image"]
    rows = image.reshape(-1, *image.shape[-3:])
    features = in_chunks(lambda one: network.apply(variables, one, method="features"), rows)
    others = {name: leaf for name, leaf in o.items() if name != "image"}
    return {**others, "features": features.reshape(*image.shape[:-3], -1)}


def observe_all(observe: Observe, o: jax.Array) -> Observation:
    """What `observe` sees in all of o [..., dO], in chunks; leaves have the same leading axes."""
    seen = in_chunks(lambda one: observed(observe, one), o.reshape(-1, o.shape[-1]))
    return _with_axes_of(o, seen)


def observe_all_randomised(observe: RandomisedObserve, o: jax.Array, key: jax.Array) -> Observation:
    """As `observe_all`, with a key derived from `key` for every o [dO]."""
    rows = o.reshape(-1, o.shape[-1])
    keys = jax.random.split(key, rows.shape[0])
    seen = in_chunks(lambda row: observed(functools.partial(observe, row[0]), row[1]), (keys, rows))
    return _with_axes_of(o, seen)


def _with_axes_of(o: jax.Array, seen: Observation) -> Observation:
    """Leaves [M, ...] with the leading axes of o [..., dO] instead of M."""
    return jax.tree.map(lambda leaf: leaf.reshape(*o.shape[:-1], *leaf.shape[1:]), seen)


def observed(observe: Observe, o: jax.Array) -> Observation:
    """What `observe` sees in one o [dO], by name where there is an image."""
    seen = observe(o)
    if isinstance(seen, jax.Array):
        return seen
    image, configuration = seen
    return {"image": image, VECTOR: configuration}
