"""Colours: sky light, headlight and one sun with soft shadows on matt and glossy surfaces."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jgps.rendering.intersect import NormalForm, dot, normal_form, normalise
from jgps.rendering.scene import Geoms, Layer, Scene
from jgps.rendering.trace import Hit, View, unoccluded

_GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))
_HAZE_EXTENTS = 8.0  # an infinite plane has faded to 1/e at so many times the model's size
_HIGHLIGHT_POWER = 32

Vector = list[jax.Array]


@dataclass(frozen=True, kw_only=True)
class RenderConfig:
    """How images are shaded and how much memory they take.

    Attributes:
      ambient: light from the sky, in [0, 1]; surfaces that face down get half of it.
      headlight: light from the camera, in [0, 1].
      sun: light from the scene's directional light, in [0, 1].
      gloss: strength of highlights, in [0, 1]; multiplies each material's own.
      shadows: shadow rays per ray, 0 for none; with more than one the edges are soft.
      sun_radius: half angle of the sun seen from the ground, in [0, 45] degrees; the width of soft
        shadows.
      supersample: rays per pixel along each axis, at least 1; smooths edges.
      block: rays cast at once, at least 1; bounds memory.
    """

    ambient: float = 0.5
    headlight: float = 0.15
    sun: float = 0.5
    gloss: float = 0.3
    shadows: int = 0
    sun_radius: float = 3.0
    supersample: int = 1
    block: int = 65536

    def __post_init__(self):
        for name in ("ambient", "headlight", "sun", "gloss"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"RenderConfig.{name} = {value}: must be in [0, 1].")
        if not 0 <= self.sun_radius <= 45:
            raise ValueError(
                f"RenderConfig.sun_radius = {self.sun_radius}: must be in [0, 45] degrees."
            )
        for name, least in (("shadows", 0), ("supersample", 1), ("block", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise ValueError(
                    f"RenderConfig.{name} = {value}: must be a whole number, at least {least}."
                )


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
    cell: jax.Array  # [2, P]
    gloss: jax.Array  # [1, P]
    emission: jax.Array  # [1, P]
    haze: jax.Array  # [1, P]


def shade(
    scene: Scene,
    view: View,
    rays: jax.Array,
    opaque: Hit,
    translucent: Hit,
    footprint: jax.Array,
    config: RenderConfig,
) -> jax.Array:
    """Colours [3, P]: the sky, the nearest opaque surface, the nearest translucent one over it.

    Args:
      rays: [2, P] as in `trace.nearest`, which also gives the hits.
      footprint: [] width of a ray at depth one, metres; textures are averaged over it.
    """
    sky = _sky(scene, _world(view, rays))
    num_opaque, num_translucent = scene.opaque.num_geoms, scene.translucent.num_geoms
    if not num_opaque + num_translucent:
        return sky
    if not num_translucent:
        surface, _ = _shade_hits(scene, view, rays, opaque, footprint, config)
        return jnp.where(opaque.row >= 0, surface, sky)
    # Both layers in one pass over twice the pixels, so that shading is compiled once.
    both = Hit(
        t=jnp.concatenate([opaque.t, translucent.t]),
        row=jnp.concatenate([opaque.row, translucent.row + num_opaque]),
    )
    rgb, alpha = _shade_hits(scene, view, jnp.tile(rays, 2), both, footprint, config)
    behind, front = jnp.split(rgb, 2, axis=1)
    behind = jnp.where(opaque.row >= 0, behind, sky)
    alpha = jnp.where(translucent.t < opaque.t, alpha[opaque.row.shape[0] :], 0)
    return _mix(behind, front, alpha)


def _world(view: View, rays: jax.Array) -> Vector:
    """Directions of rays in the world frame, not normalised."""
    rotation, (x, y) = view.camera.rotation, rays
    return [rotation[i, 0] * x + rotation[i, 1] * y - rotation[i, 2] for i in range(3)]


def _sky(scene: Scene, direction: Vector) -> jax.Array:
    height = jnp.maximum(normalise(direction)[2], 0)
    return _mix(scene.horizon[:, None], scene.zenith[:, None], 1 - (1 - height) ** 3)


def _shade_hits(
    scene: Scene,
    view: View,
    rays: jax.Array,
    hit: Hit,
    footprint: jax.Array,
    config: RenderConfig,
) -> tuple[jax.Array, jax.Array]:
    """Colours [3, P] and alpha [P] of the surfaces hit; any finite value where there is none."""
    t = jnp.where(jnp.isinf(hit.t), 1, hit.t)
    direction = _world(view, rays)
    point = [view.camera.position[i] + t * direction[i] for i in range(3)]
    surface = _gather(scene, view, hit.row)
    local = _to_local(surface, [point[i] - surface.position[i] for i in range(3)])
    local_normal = _normal(surface, local)
    normal = normalise([dot(list(surface.rotation[3 * i :]), local_normal) for i in range(3)])
    to_eye, to_sun = normalise([-a for a in direction]), list(scene.sun)

    facing = jnp.maximum(dot(normal, to_sun), 0)
    halfway = normalise([a + b for a, b in zip(to_sun, to_eye, strict=True)])
    highlight = jnp.maximum(dot(normal, halfway), 0) ** _HIGHLIGHT_POWER
    if config.shadows:
        sunlit = _sunlit(scene, view, point, hit.row, config)
        facing, highlight = facing * sunlit, highlight * sunlit
    frontal = jnp.maximum(dot(normal, to_eye), 0)
    light = (
        config.ambient * (0.75 + 0.25 * normal[2])
        + config.headlight * frontal
        + config.sun * facing
        + surface.emission[0]
    )
    base = _base_colour(surface, local, t * footprint / jnp.maximum(frontal, 0.01))
    rgb = jnp.clip(base * light + config.gloss * surface.gloss * highlight, 0, 1)
    distance = t * jnp.sqrt(dot(direction, direction))
    fade = 1 - jnp.exp(-((distance / (_HAZE_EXTENTS * scene.extent)) ** 2))
    return _mix(rgb, scene.horizon[:, None], surface.haze * fade), surface.rgba[3]


def _gather(scene: Scene, view: View, row: jax.Array) -> _Surface:
    layers = *scene.opaque, *scene.translucent
    geoms: Geoms = jax.tree.map(lambda *a: jnp.concatenate(a), *layers)
    forms = [normal_form(k, a.size) for k, a in zip(2 * Layer._fields, layers, strict=True)]
    form: NormalForm = jax.tree.map(lambda *a: jnp.concatenate(a), *forms)
    table = _Surface(
        position=view.xpos[geoms.geom_id],
        rotation=view.xmat[geoms.geom_id],
        **form._asdict(),
        rgba=geoms.rgba,
        rgb2=geoms.rgb2,
        cell=geoms.cell,
        gloss=geoms.gloss,
        emission=geoms.emission,
        haze=geoms.haze,
    )
    columns = [a.reshape(geoms.geom_id.shape[0], -1).T for a in table]
    pixels = jnp.take(jnp.concatenate(columns), jnp.maximum(row, 0), axis=1, mode="clip")
    ends = [0]
    for column in columns:
        ends.append(ends[-1] + column.shape[0])
    return _Surface(*(pixels[a:b] for a, b in pairwise(ends)))


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


def _sunlit(
    scene: Scene, view: View, point: Vector, row: jax.Array, config: RenderConfig
) -> jax.Array:
    """Share of the sun that every point sees, [P]. Planes and translucent geoms cast no shadow."""
    no_planes = jax.tree.map(lambda a: a[:0], scene.opaque.plane)
    casters = scene.opaque._replace(plane=no_planes)

    def add(total, direction):
        clear = unoccluded(casters, view, point, row, direction)
        return total + clear.astype(total.dtype), None

    total, _ = jax.lax.scan(add, jnp.zeros_like(point[0]), _sun_directions(scene.sun, config))
    return total / config.shadows


def _sun_directions(sun: jax.Array, config: RenderConfig) -> jax.Array:
    """Unit vectors [shadows, 3] spread evenly over the sun's disc; its centre if there is one."""
    if config.shadows == 1:
        return sun[None]
    i = jnp.arange(config.shadows, dtype=sun.dtype)[:, None]
    radius = jnp.tan(jnp.deg2rad(config.sun_radius)) * jnp.sqrt((i + 0.5) / config.shadows)
    least = jax.nn.one_hot(jnp.argmin(jnp.abs(sun)), 3, dtype=sun.dtype)
    side = jnp.cross(sun, least)
    side = side / jnp.linalg.norm(side)
    angle = _GOLDEN_ANGLE * i
    directions = sun + radius * (jnp.cos(angle) * side + jnp.sin(angle) * jnp.cross(sun, side))
    return directions / jnp.linalg.norm(directions, axis=-1, keepdims=True)


def _base_colour(surface: _Surface, local: Vector, width: jax.Array) -> jax.Array:
    """Colours before lighting, [3, P]; a checker is averaged over squares of `width` [P].

    Source: the box filter is the closed form of Quilez, "Filtering procedural patterns" (2010).
    """
    square = jnp.ones_like(width)
    for i in range(2):
        scale = 1 / surface.cell[i]
        centre, half = local[i] * scale, width * scale / 2 + 1e-3
        square *= (_triangle(centre - half) - _triangle(centre + half)) / half
    return _mix(surface.rgba[:3], surface.rgb2, 0.5 + 0.5 * square)


def _triangle(x: jax.Array) -> jax.Array:
    """Integral of the square wave of period two."""
    return jnp.abs(x / 2 - jnp.floor(x / 2) - 0.5)


def _mix(a: jax.Array, b: jax.Array, share: jax.Array) -> jax.Array:
    return a + share * (b - a)
