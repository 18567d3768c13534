"""What the network learns from: what it saw in recent iterations, and what plans say there."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jgps.core import linalg
from jgps.core.host import to_device
from jgps.optimise.labelling.config import MpcDaggerConfig
from jgps.optimise.models import default_dtype
from jgps.policies import Supervision
from jgps.tasks import Task


class Labels(NamedTuple):
    """Of states that were visited; leaves [M, ...]."""

    o: Any  # [M, dO]
    target: Any  # [M, dU], what the plan does there
    gain: Any  # [M, dU, dO] in half precision, how that changes with o; [M, dU, 0] unless learned
    weight: Any  # [M], 0 where there is no label


class Replay(NamedTuple):
    """A ring of the labels of recent iterations, and the mean curvature of their cost."""

    labels: Labels
    curvature: jax.Array  # [dU, dU], by the controls, mean of all labels so far
    count: jax.Array  # [], how many labels there were
    iterations: jax.Array  # [] int32, in how many iterations


def rows_of(config: MpcDaggerConfig) -> tuple[int, int]:
    """How many labels an iteration makes, and how many iterations are kept."""
    each = config.episodes * config.steps
    return each, config.labels_kept // each


def empty(task: Task, config: MpcDaggerConfig) -> Replay:
    """What there is before the first iteration."""
    each, kept = rows_of(config)
    rows, dU, dO, dtype = each * kept, task.action_dim, task.observation_dim, default_dtype()
    width = dO if config.learns_gains else 0
    labels = Labels(
        o=jnp.zeros((rows, dO), dtype),
        target=jnp.zeros((rows, dU), dtype),
        gain=jnp.zeros((rows, dU, width), jnp.float16),
        weight=jnp.zeros(rows, dtype),
    )
    return Replay(
        labels, jnp.zeros((dU, dU), dtype), jnp.zeros((), dtype), jnp.zeros((), jnp.int32)
    )


def on_device(labels: Labels) -> Labels:
    """Labels of the host as the ring holds them."""
    dtype = default_dtype()
    o, target, gain, weight = labels
    o, target, weight = (to_device(a, dtype) for a in (o, target, weight))
    return Labels(o, target, to_device(gain), weight)


def added(replay: Replay, labels: Labels, curvature: jax.Array) -> Replay:
    """The ring with the labels of an iteration [n, ...] in the place of the oldest.

    Args:
      replay: as it was.
      labels: those of the iteration.
      curvature: [dU, dU], the sum of the cost's over those that have weight.
    """
    n, rows = labels.weight.shape[0], replay.labels.weight.shape[0]
    first = (replay.iterations % (rows // n)) * n

    def put(ring: jax.Array, new: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_slice_in_dim(ring, new.astype(ring.dtype), first, 0)

    new = jnp.sum(labels.weight > 0).astype(replay.count.dtype)
    count = replay.count + new
    mean = replay.curvature + (curvature - new * replay.curvature) / jnp.maximum(count, 1)
    kept = jax.tree.map(put, replay.labels, labels)
    return Replay(kept, mean, count, replay.iterations + 1)


def learned_from(replay: Replay, temperature: jax.Array) -> Supervision:
    """All labels, each of which counts the same: they differ by decades in how firm they are."""
    labels = _in_place_of_none(replay.labels)
    precision = linalg.symmetrise(replay.curvature) / temperature
    eye = jnp.eye(precision.shape[-1], dtype=precision.dtype)
    firm = jnp.trace(precision) / len(eye)
    # What no label says how firmly to do would be noise without bounds.
    precision = precision + 1e-3 * jnp.where(firm > 0, firm, 1) * eye
    gain = labels.gain[None, :, None] if labels.gain.shape[-1] else None
    # What no plan reacts to, such as a command, has no gain that anybody knew.
    known = None if gain is None else jnp.any(labels.gain != 0, axis=(0, 1))
    return Supervision(
        o=labels.o[None, :, None],
        target=labels.target[None, :, None],
        precision=precision[None, None],
        weight=labels.weight[None, :, None],
        gain=gain,
        known=known,
    )


def _in_place_of_none(labels: Labels) -> Labels:
    """The same with labels that there are, in turn, where there is none: minibatches draw any."""
    there = labels.weight > 0
    order = jnp.argsort(~there, stable=True)
    rows = order[jnp.arange(len(order)) % jnp.maximum(jnp.sum(there), 1)]
    return jax.tree.map(lambda a: a[rows], labels)
