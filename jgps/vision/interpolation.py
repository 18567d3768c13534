"""Scenes between the training conditions, and what is done there.

Where an object stands a little elsewhere, what to do is a little different too: to first order the
best actions, and the states that they lead through, are means of those nearby. So a network that
sees may learn from images of means of scenes, drawn as any other, and does not have to guess what
lies between the few places that it was trained in. Nor does it keep to the way there as closely as
controllers would, and it learns from states a little off it.
"""

import jax
import jax.numpy as jnp

from jgps.policies import Supervision
from jgps.tasks.policy_camera import Vision, orthonormal

OTHERS = 2  # rows of other rollouts in a mean


def interpolate(
    key: jax.Array, supervision: Supervision, vision: Vision, share: float, spread: float = 0.0
) -> Supervision:
    """The supervision with some rows replaced by random means of rows of the same step.

    A row counts as much as the least of those that it is a mean of, and keeps its own condition's
    precision and gain.

    Args:
      supervision: of vectors o [C, N, T, dO].
      vision: where o has the poses of bodies, whose means are made rotations again.
      share: of the rows, in [0, 1].
      spread: standard deviation of how far those are moved off, in that of a condition's rollouts.
        Controllers are linear, so that their actions move along, exactly; images and places do to
        first order. With one rollout per condition nothing moves.
    """
    if share == 0:
        return supervision
    num, samples, horizon = shape = supervision.weight.shape
    which_key, row_key, mix_key, pair_key = jax.random.split(key, 4)
    step = jnp.arange(horizon)
    dtype = supervision.target.dtype
    own = jnp.broadcast_to(jnp.arange(num * samples).reshape(num, samples, 1), shape)
    others = jax.random.randint(row_key, (OTHERS, *shape), 0, num * samples)
    rows = jnp.concatenate([own[None], others])
    mix = jnp.moveaxis(jax.random.dirichlet(mix_key, jnp.ones(1 + OTHERS, dtype), shape), -1, 0)
    weights = _at(supervision.weight, rows, step)
    least = jnp.min(weights, axis=0)
    # Whatever a row without weight holds, it is left alone.
    mixed = jax.random.bernoulli(which_key, share, shape) & (least > 0)
    # Along differences of two rollouts of each one's condition: as far out as rollouts go, not as
    # products of random numbers, whose few large ones no image or place would follow.
    pairs = jax.random.randint(pair_key, (2, *rows.shape), 0, samples) + rows // samples * samples
    usable = jnp.all(_at(supervision.weight, pairs, step) > 0, axis=0)
    first, second = jnp.where(usable, pairs, rows)
    far = spread * mix / jnp.sqrt(2 * jnp.sum(jnp.square(mix), axis=0))

    def mean(leaf: jax.Array) -> jax.Array:
        total = jnp.sum(mix[..., None] * _at(leaf, rows, step), axis=0)
        if spread > 0:
            off = _at(leaf, first, step) - _at(leaf, second, step)
            total += jnp.sum(far[..., None] * off, axis=0)
        return jnp.where(mixed[..., None], total, leaf)

    o = mean(supervision.o)
    straight = orthonormal(o[..., vision.rotation])
    straight = jnp.where(mixed[..., None, None], straight, o[..., vision.rotation])
    return supervision._replace(
        o=o.at[..., vision.rotation].set(straight),
        target=mean(supervision.target),
        weight=jnp.where(mixed, least, supervision.weight),
    )


def _at(leaf: jax.Array, rows: jax.Array, step: jax.Array) -> jax.Array:
    """Of leaf [C, N, T, ...] those of rollouts `rows` [..., T] (of all C N) at the same steps."""
    return leaf.reshape(-1, *leaf.shape[2:])[rows, step]
