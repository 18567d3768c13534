"""Scenes between the training conditions, and what is done there.

Where an object stands a little elsewhere, what to do is a little different too: to first order the
best actions, and the states that they lead through, are means of those nearby. So a network that
sees may learn from images of means of scenes, drawn as any other, and does not have to guess what
lies between the few places that it was trained in.
"""

import jax
import jax.numpy as jnp

from jgps.policies import Supervision
from jgps.tasks.vision import Vision, orthonormal

OTHERS = 2  # rows of other rollouts in a mean


def between(key: jax.Array, supervision: Supervision, vision: Vision, share: float) -> Supervision:
    """The supervision with some rows replaced by random means of rows of the same step.

    A row counts as much as the least of those that it is a mean of, and keeps its own condition's
    precision and gain.

    Args:
      supervision: of vectors o [C, N, T, dO].
      vision: where o has the poses of bodies, whose means are made rotations again.
      share: of the rows, in [0, 1].
    """
    if share == 0:
        return supervision
    num, samples, horizon = supervision.weight.shape
    which_key, row_key, mix_key = jax.random.split(key, 3)
    rows = jax.random.randint(row_key, (OTHERS, num, samples, horizon), 0, num * samples)
    step = jnp.arange(horizon)
    dtype = supervision.target.dtype
    mix = jax.random.dirichlet(mix_key, jnp.ones(1 + OTHERS, dtype), (num, samples, horizon))
    mixed = jax.random.bernoulli(which_key, share, (num, samples, horizon))
    weights = [supervision.weight, *(_at(supervision.weight, each, step) for each in rows)]
    least = jnp.min(jnp.stack(weights), axis=0)
    # Whatever a row without weight holds, it is left alone.
    mixed &= least > 0

    def mean(leaf: jax.Array) -> jax.Array:
        leaves = [leaf, *(_at(leaf, each, step) for each in rows)]
        total = sum(mix[..., i, None] * each for i, each in enumerate(leaves))
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
    """Of leaf [C, N, T, ...] those of rollouts `rows` [C, N, T] (of all C N) at the same steps."""
    return leaf.reshape(-1, *leaf.shape[2:])[rows, step]
