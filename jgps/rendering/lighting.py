"""What the model's lights give to every point, with hard or soft shadows."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from jgps.rendering.config import RenderConfig
from jgps.rendering.intersect import dot, normalise
from jgps.rendering.scene import Scene
from jgps.rendering.trace import Shot, unoccluded

_GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))
_HIGHLIGHT_POWER = 32
_GRAZING = 0.1  # cosine to the light, from which on highlights are whole
_MARGIN = 1e-4  # of the model's extent: triangles so close to a point do not shade it

Vector = list[jax.Array]


def light_up(
    scene: Scene,
    shot: Shot,
    point: Vector,
    normal: Vector,
    to_eye: Vector,
    row: jax.Array,
    config: RenderConfig,
) -> tuple[Vector, Vector]:
    """Matt and glossy light, three [P] each, of all lights together, before the config's strengths.

    Args:
      point, normal, to_eye: three arrays [P] each, world frame, the last two of unit length.
      row: [P] the geom that the point is on, -1 for none.
    """
    # Where lights are, homogeneously: a position and one, or a direction and zero.
    point_like = 1 - scene.lights.directional
    axis = _unit(shot.appearance.light_direction)
    place = jnp.where(point_like[:, None] > 0, shot.appearance.light_position, -axis)
    lights = (
        place,
        point_like,
        axis,
        shot.appearance.light_rgb,
        scene.lights.shadow,
        scene.lights.spot,
    )

    def add(total, light):
        place, point_like, axis, rgb, shadow, spot = light
        to_light = normalise([place[i] - point_like * point[i] for i in range(3)])
        strength = jnp.ones_like(point[0]) if spot is None else _spot(spot, axis, to_light)
        if config.shadows:
            lit = _lit(scene, shot, point, row, place, point_like, config)
            strength = strength * (1 - shadow * (1 - lit))
        halfway = normalise([a + b for a, b in zip(to_light, to_eye, strict=True)])
        facing = jnp.maximum(dot(normal, to_light), 0)
        highlight = jnp.maximum(dot(normal, halfway), 0) ** _HIGHLIGHT_POWER
        # None on surfaces that the light only grazes, where rounding decides who is in the shade.
        highlight *= strength * jnp.minimum(facing / _GRAZING, 1)
        facing *= strength
        matt, glossy = total
        matt = [a + rgb[i] * facing for i, a in enumerate(matt)]
        return (matt, [a + rgb[i] * highlight for i, a in enumerate(glossy)]), None

    dark = [jnp.zeros_like(point[0])] * 3
    if point_like.shape[0] == 1:
        return add((dark, dark), jax.tree.map(lambda a: a[0], lights))[0]
    return jax.lax.scan(add, (dark, dark), lights)[0]


def _unit(vectors: jax.Array) -> jax.Array:
    squared = jnp.sum(vectors**2, axis=-1, keepdims=True)
    return vectors * jax.lax.rsqrt(jnp.maximum(squared, 1e-20))


def _spot(spot: jax.Array, axis: jax.Array, to_light: Vector) -> jax.Array:
    """OpenGL's cone: the cosine to the axis to a power, nothing outside the cutoff."""
    cosine = -dot(axis, to_light)
    power = jnp.exp(spot[1] * jnp.log(jnp.maximum(cosine, 1e-6)))
    return jnp.where(cosine > spot[0], jnp.where(spot[1] > 0, power, 1), 0)


def _lit(
    scene: Scene,
    shot: Shot,
    point: Vector,
    row: jax.Array,
    place: jax.Array,
    point_like: jax.Array,
    config: RenderConfig,
) -> jax.Array:
    """Share of a light that every point sees, [P]. Translucent geoms cast no shadow."""

    def add(total, target):
        margin = _MARGIN * scene.extent
        clear = unoccluded(scene.opaque, shot, point, row, target, point_like, margin)
        return total + clear.astype(total.dtype), None

    targets = _targets(place, point_like, scene.center, config)
    if config.shadows == 1:
        return add(jnp.zeros_like(point[0]), targets[0])[0]
    return jax.lax.scan(add, jnp.zeros_like(point[0]), targets)[0] / config.shadows


def _targets(
    place: jax.Array, point_like: jax.Array, center: jax.Array, config: RenderConfig
) -> jax.Array:
    """Places [shadows, 3] spread evenly over a light's disc, its centre if there is one.

    The disc faces the middle of the scene, from which it has the config's radius.
    """
    if config.shadows == 1:
        return place[None]
    towards = place - point_like * center
    distance = jnp.maximum(jnp.linalg.norm(towards), 1e-6)
    towards = towards / distance
    i = jnp.arange(config.shadows, dtype=place.dtype)[:, None]
    radius = jnp.tan(jnp.deg2rad(config.sun_radius)) * jnp.sqrt((i + 0.5) / config.shadows)
    least = jax.nn.one_hot(jnp.argmin(jnp.abs(towards)), 3, dtype=place.dtype)
    side = _unit(jnp.cross(towards, least))
    angle = _GOLDEN_ANGLE * i
    around = jnp.cos(angle) * side + jnp.sin(angle) * jnp.cross(towards, side)
    return place + distance * radius * around
