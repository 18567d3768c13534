"""What the network learns from: where recent episodes went, and what the teacher says there."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jgps.core import linalg
from jgps.optimise.models import default_dtype
from jgps.optimise.teaching.config import TeachingConfig
from jgps.optimise.teaching.episode import Done
from jgps.policies import Supervision
from jgps.tasks import Task


class Lessons(NamedTuple):
    """Episodes of the last iterations, a ring of `length` slots, and what the teacher says.

    What is not valid is zero. `x` and `u` are what was really done while the network was learning.
    """

    x: jax.Array  # [length, C, N, T, dX]
    u: jax.Array  # [length, C, N, T, dU]
    o: jax.Array  # [length, C, N, T, dO]
    label: jax.Array  # [length, C, N, T, dU]
    valid: jax.Array  # [length, C, N]
    curvature: jax.Array  # [length, dU, dU], the mean of the label's over all that is valid


def empty_lessons(task: Task, length: int, samples: int) -> Lessons:
    """What there is before the first iteration."""
    lead, dtype = (length, task.train.num, samples), default_dtype()
    dU = task.action_dim

    def zeros(size: int) -> jax.Array:
        return jnp.zeros((*lead, task.horizon, size), dtype)

    return Lessons(
        x=zeros(task.state_dim),
        u=zeros(dU),
        o=zeros(task.observation_dim),
        label=zeros(dU),
        valid=jnp.zeros(lead, bool),
        curvature=jnp.zeros((length, dU, dU), dtype),
    )


def taught(config: TeachingConfig, state: Any, done: Done, label: jax.Array) -> Lessons:
    """The lessons with those of this iteration, `done` and `label` being [C, N, T, ...]."""
    slot = state.iteration % config.iterations_kept
    used = done.valid[..., None, None]
    inside = used[..., None] & jnp.isfinite(done.curvature)
    count = jnp.maximum(jnp.sum(done.valid) * done.u.shape[2], 1)
    curvature = jnp.sum(jnp.where(inside, done.curvature, 0), axis=(0, 1, 2)) / count
    new = Lessons(
        x=jnp.where(used, done.x, 0),
        u=jnp.where(used, done.u, 0),
        o=jnp.where(used, done.o, 0),
        label=jnp.where(used, label, 0),
        valid=done.valid,
        curvature=linalg.symmetrise(curvature),
    )
    return jax.tree.map(lambda old, leaf: old.at[slot].set(leaf), state.lessons, new)


def learned_from(temperature: jax.Array, lessons: Lessons) -> Supervision:
    """All of them, each of which counts the same: labels differ by decades in how firm they are."""

    def join(leaf: jax.Array) -> jax.Array:
        return jnp.moveaxis(leaf, 0, 1).reshape(leaf.shape[1], -1, *leaf.shape[3:])

    valid = join(lessons.valid)
    there = jnp.any(lessons.valid, axis=(1, 2))
    total = jnp.sum(jnp.where(there[:, None, None], lessons.curvature, 0), axis=0)
    precision = total / (jnp.maximum(jnp.sum(there), 1) * temperature)
    eye = jnp.eye(precision.shape[-1], dtype=precision.dtype)
    firm = jnp.trace(precision) / len(eye)
    # What no label says how firmly to do would be noise without bounds.
    precision = precision + 1e-4 * jnp.where(firm > 0, firm, 1) * eye
    C, _, T, dU = join(lessons.label).shape
    return Supervision(
        o=join(lessons.o),
        target=join(lessons.label),
        precision=jnp.broadcast_to(precision, (C, T, dU, dU)),
        weight=jnp.broadcast_to(valid[..., None], (*valid.shape, T)).astype(precision.dtype),
    )
