"""Nearest hits and shadows of many rays.

For every kind of primitive a `lax.scan` over its geoms keeps the nearest hit, so that only arrays
as large as the rays exist and code is compiled once per kind, however many geoms there are.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jgps.rendering.camera import CameraPose
from jgps.rendering.intersect import ENTER, dot
from jgps.rendering.scene import Geoms, Layer


class View(NamedTuple):
    """Geom poses and camera of one image."""

    xpos: jax.Array  # [G, 3]
    xmat: jax.Array  # [G, 3, 3]
    camera: CameraPose


class Hit(NamedTuple):
    """The nearest surface on every ray; a row counts a layer's geoms in the order of its fields."""

    t: jax.Array  # [P] depth along the camera's axis, infinite where nothing is hit
    row: jax.Array  # [P] int32, -1 where nothing is hit


def nearest(layer: Layer, view: View, rays: jax.Array) -> Hit:
    """Follows `rays` [2, P], the x and y of directions whose z is -1 in the camera's frame."""
    x, y = rays
    hit = Hit(t=jnp.full(x.shape, jnp.inf, x.dtype), row=jnp.full(x.shape, -1, jnp.int32))
    for kind, geoms, rows in by_kind(layer):
        xpos, xmat = view.xpos[geoms.geom_id], view.xmat[geoms.geom_id]
        # The camera in every geom's frame. Full precision: these products place the images.
        rotation = jnp.einsum("gji,jk->gik", xmat, view.camera.rotation, precision="highest")
        origin = jnp.einsum("gji,gj->gi", xmat, view.camera.position - xpos, precision="highest")

        # The comparison lags one geom behind: both its results need t, and XLA would otherwise
        # compute t once for each.
        def step(carry, geom, enter=ENTER[kind]):
            r, o, size, row = geom
            t = enter(o, [r[i, 0] * x + r[i, 1] * y - r[i, 2] for i in range(3)], size)
            return (_nearer(*carry), t, row), None

        start = hit, jnp.full_like(hit.t, jnp.inf), jnp.int32(-1)
        last, _ = jax.lax.scan(step, start, (rotation, origin, geoms.size, rows))
        hit = _nearer(*last)
    return hit


def _nearer(hit: Hit, t: jax.Array, row: jax.Array) -> Hit:
    nearer = t < hit.t
    return Hit(t=jnp.where(nearer, t, hit.t), row=jnp.where(nearer, row, hit.row))


def unoccluded(
    layer: Layer, view: View, points: list[jax.Array], own: jax.Array, direction: jax.Array
) -> jax.Array:
    """Whether nothing lies between points (three arrays [P]) and the sky in a direction [3].

    `own` [P] is the row of the geom that each point is on: geoms are convex, so none shades itself.
    """
    clear = jnp.ones(own.shape, bool)
    for kind, geoms, rows in by_kind(layer):

        def step(clear, geom, enter=ENTER[kind]):
            xpos, xmat, size, row = geom
            offset = [points[i] - xpos[i] for i in range(3)]
            o = [dot(xmat[:, i], offset) for i in range(3)]
            t = enter(o, [dot(xmat[:, i], direction) for i in range(3)], size)
            return clear & (jnp.isinf(t) | (row == own)), None

        poses = view.xpos[geoms.geom_id], view.xmat[geoms.geom_id]
        clear, _ = jax.lax.scan(step, clear, (*poses, geoms.size, rows))
    return clear


def by_kind(layer: Layer) -> list[tuple[str, Geoms, jax.Array]]:
    """Kind, geoms and rows of every kind that has geoms."""
    result, start = [], 0
    for kind, geoms in zip(Layer._fields, layer, strict=True):
        count = geoms.geom_id.shape[0]
        if count:
            result.append((kind, geoms, jnp.arange(start, start + count, dtype=jnp.int32)))
        start += count
    return result
