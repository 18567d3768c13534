"""Colours: sky light, headlight and the model's lights on matt and glossy surfaces."""

from __future__ import annotations

import math
from itertools import accumulate, pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jgps.rendering.appearance import NO_CELL, Appearance
from jgps.rendering.config import RenderConfig
from jgps.rendering.intersect import NormalForm, dot, normal_form, normalise
from jgps.rendering.lighting import light_up
from jgps.rendering.scene import Geoms, Scene
from jgps.rendering.trace import Hit, Shot

_HAZE_EXTENTS = 8.0  # an infinite plane has faded to 1/e at so many times the model's size

Vector = list[jax.Array]


class _Surface(NamedTuple):
    """Properties of the geom seen on every ray; components lead, so that pixels are contiguous."""

    position: jax.Array  # [3, P]
    rotation: jax.Array  # [9, P] row-major
    gain: jax.Array  # [3, P] and the next four: see NormalForm
    core: jax.Array  # [3, P]
    ring: jax.Array  # [1, P]
    rim: jax.Array  # [1, P]
    up: jax.Array  # [1, P]
    rgba: jax.Array  # [4, P]
    rgb2: jax.Array  # [3, P]
    frequency: jax.Array  # [3, P] texture cells per metre, 0 where there are none
    blur: jax.Array  # [1, P]
    gloss: jax.Array  # [1, P]
    emission: jax.Array  # [1, P]
    haze: jax.Array  # [1, P]


_ENDS = (0, *accumulate((3, 9, 3, 3, 1, 1, 1, 4, 3, 3, 1, 1, 1, 1)))  # of its columns in a table


def shade(
    scene: Scene,
    shot: Shot,
    rays: jax.Array,
    opaque: Hit,
    translucent: Hit,
    footprint: jax.Array,
    config: RenderConfig,
) -> Vector:
    """Colours, three [P]: the sky, the nearest opaque surface, the nearest translucent one over it.

    Args:
      rays: [2, P] as in `trace.nearest`, which also gives the hits.
      footprint: [] width of a ray at depth one, metres; textures are averaged over it.
    """
    sky = _sky(shot, _world(shot, rays))
    num_opaque, num_translucent = scene.opaque.num_geoms, scene.translucent.num_geoms
    if not num_opaque + num_translucent:
        return sky
    if not num_translucent:
        surface, _ = _shade_hits(scene, shot, rays, opaque, footprint, config)
        return _where(opaque.row >= 0, surface, sky)
    # Both layers in one pass over twice the pixels, so that shading is compiled once.
    both = _join(opaque, translucent, num_opaque)
    rgb, alpha = _shade_hits(scene, shot, jnp.tile(rays, 2), both, footprint, config)
    count = opaque.row.shape[0]
    behind = _where(opaque.row >= 0, [channel[:count] for channel in rgb], sky)
    alpha = jnp.where(translucent.t < opaque.t, alpha[count:], 0)
    return _mix(behind, [channel[count:] for channel in rgb], alpha)


def _join(opaque: Hit, translucent: Hit, num_opaque: int) -> Hit:
    normal = None
    if opaque.normal is not None or translucent.normal is not None:
        none = [jnp.zeros_like(opaque.t)] * 3
        pairs = zip(opaque.normal or none, translucent.normal or none, strict=True)
        normal = [jnp.concatenate(pair) for pair in pairs]
    return Hit(
        t=jnp.concatenate([opaque.t, translucent.t]),
        row=jnp.concatenate([opaque.row, translucent.row + num_opaque]),
        normal=normal,
    )


def _world(shot: Shot, rays: jax.Array) -> Vector:
    """Directions of rays in the world frame, not normalised."""
    rotation, (x, y) = shot.camera.rotation, rays
    return [rotation[i, 0] * x + rotation[i, 1] * y - rotation[i, 2] for i in range(3)]


def _sky(shot: Shot, direction: Vector) -> Vector:
    height = jnp.maximum(normalise(direction)[2], 0)
    return _mix(shot.appearance.horizon, shot.appearance.zenith, 1 - (1 - height) ** 3)


def _shade_hits(
    scene: Scene,
    shot: Shot,
    rays: jax.Array,
    hit: Hit,
    footprint: jax.Array,
    config: RenderConfig,
) -> tuple[Vector, jax.Array]:
    """Colours, three [P], and alpha [P] of the surfaces hit; finite where there is none."""
    t = jnp.where(jnp.isinf(hit.t), 1, hit.t)
    direction = _world(shot, rays)
    point = [shot.camera.position[i] + t * direction[i] for i in range(3)]
    surface = _lookup(shot.table, hit.row)
    local = _to_local(surface, [point[i] - surface.position[i] for i in range(3)])
    local_normal = _normal(surface, local)
    if hit.normal is not None:
        local_normal = [a + b for a, b in zip(local_normal, hit.normal, strict=True)]
    normal = normalise([dot(list(surface.rotation[3 * i :]), local_normal) for i in range(3)])
    to_eye = normalise([-a for a in direction])
    frontal = jnp.maximum(dot(normal, to_eye), 0)
    width = t * footprint / jnp.maximum(frontal, 0.01)
    base = _base_colour(surface, local, width)
    diffuse, highlight = light_up(scene, shot, point, normal, to_eye, hit.row, config)
    matt = config.ambient * (0.75 + 0.25 * normal[2]) + config.headlight * frontal
    matt += surface.emission[0]
    glossy = config.gloss * surface.gloss[0]
    rgb = [
        jnp.clip(base[i] * (matt + config.sun * diffuse[i]) + glossy * highlight[i], 0, 1)
        for i in range(3)
    ]
    distance = t * jnp.sqrt(dot(direction, direction))
    fade = 1 - jnp.exp(-((distance / (_HAZE_EXTENTS * scene.extent)) ** 2))
    return _mix(rgb, shot.appearance.horizon, surface.haze[0] * fade), surface.rgba[3]


def surface_table(
    scene: Scene, xpos: jax.Array, xmat: jax.Array, appearance: Appearance
) -> jax.Array:
    """Columns of `_Surface` for every drawn geom, [C, n], opaque ones first, by kind."""
    layers = [*scene.opaque.kinds.items(), *scene.translucent.kinds.items()]
    geoms: Geoms = jax.tree.map(lambda *a: jnp.concatenate(a), *(g for _, g in layers))
    forms = [normal_form(kind, g.size) for kind, g in layers]
    form: NormalForm = jax.tree.map(lambda *a: jnp.concatenate(a), *forms)
    ids, cell = geoms.geom_id, appearance.cell[geoms.geom_id]
    # A plane lies where cells along its normal meet: half of each would be all grey.
    normal = (form.up[:, None] > 0) & (jnp.arange(3) == 2)
    table = _Surface(
        position=xpos[ids],
        rotation=xmat[ids],
        **form._asdict(),
        rgba=appearance.rgba[ids],
        rgb2=appearance.rgb2[ids],
        frequency=jnp.where((cell < NO_CELL) & ~normal, 1 / cell, 0),
        blur=appearance.blur[ids],
        gloss=geoms.gloss,
        emission=geoms.emission,
        haze=geoms.haze,
    )
    # The number of columns is given: without rows there is nothing to tell it from.
    return jnp.concatenate([a.reshape(ids.shape[0], math.prod(a.shape[1:])).T for a in table])


def _lookup(table: jax.Array, row: jax.Array) -> _Surface:
    """Properties of the geoms in given rows of the table."""
    # Column by column: as one gather XLA's CPU compiler puts the columns of a pixel side by side.
    row = jnp.maximum(row, 0)
    pixels = jax.lax.map(lambda column: jnp.take(column, row, mode="clip"), table)
    return _Surface(*(pixels[a:b] for a, b in pairwise(_ENDS)))


def _to_local(surface: _Surface, vector: Vector) -> Vector:
    return [dot(list(surface.rotation[i::3]), vector) for i in range(3)]


def _normal(surface: _Surface, local: Vector) -> Vector:
    """Outward normal in the local frame, not normalised."""
    core = [a - jnp.clip(a, -c, c) for a, c in zip(local, surface.core, strict=True)]
    normal = [g * a for g, a in zip(surface.gain, core, strict=True)]
    inverse_radius = jax.lax.rsqrt(jnp.maximum(local[0] ** 2 + local[1] ** 2, 1e-12))
    around = jnp.maximum(surface.ring[0] - surface.rim[0] * inverse_radius, 0)
    return [
        normal[0] + around * local[0],
        normal[1] + around * local[1],
        normal[2] + surface.up[0],
    ]


def _base_colour(surface: _Surface, local: Vector, width: jax.Array) -> Vector:
    """Colours before lighting, three [P]; a texture is averaged over squares of `width` [P].

    Source: the box filter is the closed form of Quilez, "Filtering procedural patterns" (2010).
    """
    square = jnp.ones_like(width)
    for i in range(3):
        frequency = surface.frequency[i]
        centre, half = local[i] * frequency, width * frequency / 2 + surface.blur[0] + 1e-3
        wave = (_triangle(centre - half) - _triangle(centre + half)) / half
        square *= jnp.where(frequency > 0, wave, 1)
    return _mix(list(surface.rgb2), list(surface.rgba[:3]), 0.5 + 0.5 * square)


def _triangle(x: jax.Array) -> jax.Array:
    """Integral of the square wave of period two."""
    return jnp.abs(x / 2 - jnp.floor(x / 2) - 0.5)


def _mix(a, b, share: jax.Array) -> Vector:
    return [x + share * (y - x) for x, y in zip(a, b, strict=True)]


def _where(condition: jax.Array, a: Vector, b: Vector) -> Vector:
    return [jnp.where(condition, x, y) for x, y in zip(a, b, strict=True)]
