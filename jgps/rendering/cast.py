"""Pure-JAX ray caster: images of primitives without OpenGL, jitted, batched, differentiable.

For every kind of primitive a `lax.scan` over its geoms keeps the nearest hit, so that only
[images x pixels] arrays exist and code is compiled once per kind. Shading happens afterwards, once
per pixel, in the frame of the geom that was hit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jgps.rendering import intersect
from jgps.rendering.camera import CameraPose, pixel_grid
from jgps.rendering.intersect import dot, normalise
from jgps.rendering.scene import Geoms, Layer, Scene

_GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))


@dataclass(frozen=True, kw_only=True)
class RenderConfig:
    """How images are shaded and how much memory they take.

    Attributes:
      ambient: light from the sky, in [0, 1]; surfaces that face down get half of it.
      headlight: light from the camera, in [0, 1].
      sun: light from the scene's directional light, in [0, 1].
      gloss: strength of highlights, in [0, 1]; multiplies each material's own.
      shadows: shadow rays per pixel, 0 for none; with more than one the edges are soft.
      sun_radius: half angle of the sun seen from the ground, degrees; the width of soft shadows.
      supersample: rays per pixel along each axis, at least 1; smooths edges.
      block: pixels cast at once, at least 1; bounds memory.
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


class Image(NamedTuple):
    """What a camera sees."""

    rgb: jax.Array  # [..., H, W, 3] in [0, 1]
    depth: jax.Array  # [..., H, W] metres along the camera's axis, infinite in the sky
    geom_id: jax.Array  # [..., H, W] int32, the model's geom id, -1 in the sky


class _View(NamedTuple):
    """One image's geom poses and camera."""

    xpos: jax.Array  # [G, 3]
    xmat: jax.Array  # [G, 3, 3]
    camera: CameraPose


class _Hit(NamedTuple):
    """Nearest surface on every ray; `row` counts a layer's geoms in the order of its fields."""

    t: jax.Array  # [P] depth along the camera axis, infinite where nothing is hit
    row: jax.Array  # [P] int32, -1 where nothing is hit


class _Hits(NamedTuple):
    """What the rays meet in both layers."""

    rays: jax.Array  # [2, P] x and y of directions whose z is -1, camera frame
    opaque: _Hit
    translucent: _Hit


@partial(jax.jit, static_argnames=("width", "height", "config"))
def raycast(
    scene: Scene,
    geom_xpos: jax.Array,
    geom_xmat: jax.Array,
    camera: CameraPose,
    *,
    width: int,
    height: int,
    config: RenderConfig = RenderConfig(),
) -> Image:
    """Draws one image per set of geom poses.

    Args:
      scene: from `make_scene`.
      geom_xpos: world positions of all the model's geoms, [..., G, 3], metres.
      geom_xmat: their rotations, [..., G, 3, 3] or [..., G, 9].
      camera: pose with the same leading axes, or with none to share one camera.
      width, height: of the image, pixels.
      config: shading.

    Returns:
      Image with leading axes `...`, in the dtype of `geom_xpos`. Depth and geom id belong to the
      pixel's centre; only rgb is supersampled.

    Raises:
      ValueError: while tracing, if shapes disagree.
    """
    _check_shapes(geom_xpos, geom_xmat, camera, width, height)
    dtype, lead, num_geoms = geom_xpos.dtype, geom_xpos.shape[:-2], geom_xpos.shape[-2]
    scene, camera = jax.tree.map(
        lambda a: a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a,
        jax.tree.map(jnp.asarray, (scene, camera)),
    )
    num_images = math.prod(lead)
    views = _View(
        xpos=geom_xpos.reshape(num_images, num_geoms, 3),
        xmat=geom_xmat.reshape(num_images, num_geoms, 3, 3).astype(dtype),
        camera=CameraPose(
            position=jnp.broadcast_to(camera.position, (*lead, 3)).reshape(-1, 3),
            rotation=jnp.broadcast_to(camera.rotation, (*lead, 3, 3)).reshape(-1, 3, 3),
            fovy=jnp.broadcast_to(camera.fovy, lead).reshape(-1),
        ),
    )
    image = _map_views(partial(_draw, scene, width, height, config), views, width * height, config)
    return Image(
        rgb=image.rgb.reshape(*lead, height, width, 3),
        depth=image.depth.reshape(*lead, height, width),
        geom_id=image.geom_id.reshape(*lead, height, width),
    )


def _check_shapes(geom_xpos, geom_xmat, camera, width, height):
    if width < 1 or height < 1:
        raise ValueError(f"Image size {width} x {height}: both must be at least 1 pixel.")
    lead = geom_xpos.shape[:-2]
    if geom_xpos.ndim < 2 or geom_xpos.shape[-1] != 3:
        raise ValueError(f"geom_xpos has shape {geom_xpos.shape}; expected [..., G, 3].")
    rows = (*lead, geom_xpos.shape[-2])
    if geom_xmat.shape not in ((*rows, 3, 3), (*rows, 9)):
        raise ValueError(f"geom_xmat has shape {geom_xmat.shape}; expected {(*rows, 3, 3)}.")
    if jnp.shape(camera.position)[:-1] not in ((), lead):
        raise ValueError(
            f"The camera has leading axes {jnp.shape(camera.position)[:-1]}, the geoms {lead}; "
            "give one camera per image or one for all."
        )


def _map_views(draw, views: _View, num_pixels: int, config: RenderConfig) -> Image:
    """Draws `block` pixels at a time: several small images at once, or a large one in parts."""
    num_images = views.xpos.shape[0]
    at_once = max(1, min(num_images, config.block // num_pixels))
    num_blocks = -(-num_images // at_once)
    index = jnp.minimum(jnp.arange(num_blocks * at_once), num_images - 1)  # the last one repeats
    blocks = jax.tree.map(lambda a: a[index].reshape(num_blocks, at_once, *a.shape[1:]), views)
    images = jax.lax.map(jax.vmap(draw), blocks)
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[:num_images], images)


def _draw(scene: Scene, width: int, height: int, config: RenderConfig, view: _View) -> Image:
    """One image with flat pixels: rgb [P, 3], depth [P], geom id [P]."""
    dtype, num_pixels = view.xpos.dtype, width * height
    tangent = jnp.tan(jnp.deg2rad(view.camera.fovy) / 2)
    footprint = 2 * tangent / (height * config.supersample)  # of one ray, at depth one
    num_parts = -(-num_pixels // config.block)
    part_size = -(-num_pixels // num_parts)
    offsets = [(2 * i + 1) / config.supersample - 1 for i in range(config.supersample)]
    subpixels = jnp.asarray([(x, y) for y in offsets for x in offsets], dtype) / height

    def part(pixels):  # [2, part_size]
        centre = _trace(scene, view, pixels * tangent)

        def add(total, offset):
            hits = _trace(scene, view, (pixels + offset[:, None]) * tangent)
            return total + _shade(scene, view, hits, footprint, config), None

        if config.supersample == 1:
            rgb = _shade(scene, view, centre, footprint, config)
        else:
            rgb, _ = jax.lax.scan(add, jnp.zeros((3, part_size), dtype), subpixels)
        geom_id = jnp.where(
            centre.translucent.t < centre.opaque.t,
            _geom_id(scene.translucent, centre.translucent.row),
            _geom_id(scene.opaque, centre.opaque.row),
        )
        depth = jnp.minimum(centre.opaque.t, centre.translucent.t)
        return Image(rgb=rgb.T / len(subpixels), depth=depth, geom_id=geom_id)

    pixels = pixel_grid(width, height, dtype)
    if num_parts == 1:
        return part(pixels)
    pixels = jnp.pad(pixels, ((0, 0), (0, num_parts * part_size - num_pixels)))
    image = jax.lax.map(part, pixels.reshape(2, num_parts, part_size).swapaxes(0, 1))
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[:num_pixels], image)


def _trace(scene: Scene, view: _View, rays: jax.Array) -> _Hits:
    """Nearest surfaces along `rays` [2, P], the x and y of directions whose z is -1."""
    rotation = jnp.einsum("gji,jk->gik", view.xmat, view.camera.rotation, precision="highest")
    origin = jnp.einsum(
        "gji,gj->gi", view.xmat, view.camera.position - view.xpos, precision="highest"
    )
    x, y = rays

    def nearest(layer: Layer) -> _Hit:
        hit = _Hit(t=jnp.full(x.shape, jnp.inf, x.dtype), row=jnp.full(x.shape, -1, jnp.int32))
        for kind, geoms, rows in _by_kind(layer):

            def step(hit, geom, enter=intersect.ENTER[kind]):
                r, o, size, row = geom
                t = enter(o, [r[i, 0] * x + r[i, 1] * y - r[i, 2] for i in range(3)], size)
                nearer = t < hit.t
                return _Hit(
                    t=jnp.where(nearer, t, hit.t), row=jnp.where(nearer, row, hit.row)
                ), None

            ids = geoms.geom_id
            hit, _ = jax.lax.scan(step, hit, (rotation[ids], origin[ids], geoms.size, rows))
        return hit

    return _Hits(rays=rays, opaque=nearest(scene.opaque), translucent=nearest(scene.translucent))


def _by_kind(layer: Layer) -> list[tuple[str, Geoms, jax.Array]]:
    """Kind, geoms and rows of every kind that has geoms."""
    result, start = [], 0
    for kind, geoms in zip(Layer._fields, layer, strict=True):
        count = geoms.geom_id.shape[0]
        if count:
            result.append((kind, geoms, jnp.arange(start, start + count, dtype=jnp.int32)))
        start += count
    return result


def _geom_id(layer: Layer, row: jax.Array) -> jax.Array:
    ids = jnp.concatenate([jnp.full(1, -1, jnp.int32), *(geoms.geom_id for geoms in layer)])
    return ids[row + 1]


def _shade(
    scene: Scene, view: _View, hits: _Hits, footprint: jax.Array, config: RenderConfig
) -> jax.Array:
    """Colours [3, P]: sky, the nearest opaque surface over it, a translucent one over that."""
    rotation, (x, y) = view.camera.rotation, hits.rays
    direction = [rotation[i, 0] * x + rotation[i, 1] * y - rotation[i, 2] for i in range(3)]
    rgb = _sky(scene, direction)
    if scene.opaque.num_geoms:
        surface, _ = _shade_layer(
            scene, scene.opaque, view, direction, hits.opaque, footprint, config
        )
        rgb = jnp.where(hits.opaque.row >= 0, surface, rgb)
    if scene.translucent.num_geoms:
        surface, alpha = _shade_layer(
            scene, scene.translucent, view, direction, hits.translucent, footprint, config
        )
        in_front = hits.translucent.t < hits.opaque.t
        rgb = jnp.where(in_front, alpha * surface + (1 - alpha) * rgb, rgb)
    return rgb


def _sky(scene: Scene, direction: list[jax.Array]) -> jax.Array:
    height = jnp.maximum(normalise(direction)[2], 0)
    return _mix(scene.horizon[:, None], scene.zenith[:, None], 1 - (1 - height) ** 3)


def _mix(a, b, share):
    return a + share * (b - a)


class _Surface(NamedTuple):
    """Properties of the geom seen on every ray, gathered by pixel; components lead."""

    position: jax.Array  # [3, P]
    rotation: jax.Array  # [9, P] row-major
    size: jax.Array  # [3, P]
    rgba: jax.Array  # [4, P]
    rgb2: jax.Array  # [3, P]
    cell: jax.Array  # [2, P]
    gloss: jax.Array  # [1, P]
    emission: jax.Array  # [1, P]
    haze: jax.Array  # [1, P]


def _gather(layer: Layer, view: _View, row: jax.Array) -> _Surface:
    ids = jnp.concatenate([geoms.geom_id for geoms in layer])
    parts = _Surface(
        position=view.xpos[ids],
        rotation=view.xmat[ids].reshape(-1, 9),
        **{
            name: jnp.concatenate([getattr(geoms, name) for geoms in layer]).reshape(len(ids), -1)
            for name in _Surface._fields[2:]
        },
    )
    table = jnp.concatenate(parts, axis=1).T  # [F, rows]
    columns = jnp.take(table, jnp.maximum(row, 0), axis=1)
    ends = [0]
    for part in parts:
        ends.append(ends[-1] + part.shape[1])
    return _Surface(*(columns[a:b] for a, b in zip(ends[:-1], ends[1:], strict=True)))


def _shade_layer(
    scene: Scene,
    layer: Layer,
    view: _View,
    direction: list[jax.Array],
    hit: _Hit,
    footprint: jax.Array,
    config: RenderConfig,
) -> tuple[jax.Array, jax.Array]:
    """Colours [3, P] and alpha [P] of a layer's nearest surfaces; any value where there is none."""
    found = hit.row >= 0
    t = jnp.where(found, hit.t, 1)
    surface = _gather(layer, view, hit.row)
    point = [view.camera.position[i] + t * direction[i] for i in range(3)]
    local = _to_local(surface, [point[i] - surface.position[i] for i in range(3)])
    local_normal = _normal(layer, hit.row, local, surface.size)
    normal = normalise(
        [dot(surface.rotation[3 * i : 3 * i + 3], local_normal) for i in range(3)]  # pyright: ignore
    )
    to_eye = [-a for a in normalise(direction)]
    to_sun = list(scene.sun)

    facing_sun = jnp.maximum(dot(normal, to_sun), 0)
    highlight = jnp.maximum(dot(normal, normalise([a + b for a, b in zip(to_sun, to_eye)])), 0)
    if config.shadows:
        own = hit.row if layer is scene.opaque else jnp.full_like(hit.row, -1)
        sunlit = _sunlit(scene, view, point, own, config)
        facing_sun, highlight = facing_sun * sunlit, highlight * sunlit
    light = (
        config.ambient * (0.75 + 0.25 * normal[2])
        + config.headlight * jnp.maximum(dot(normal, to_eye), 0)
        + config.sun * facing_sun
        + surface.emission[0]
    )
    base = _albedo(view, surface, local, local_normal, direction, t * footprint)
    rgb = jnp.clip(base * light + config.gloss * surface.gloss * highlight**32, 0, 1)
    distance = t * jnp.sqrt(dot(direction, direction))
    haze = surface.haze[0] * (1 - jnp.exp(-((distance / (8 * scene.extent)) ** 2)))
    return _mix(rgb, scene.horizon[:, None], haze), surface.rgba[3]


def _to_local(surface: _Surface, vector: list[jax.Array]) -> list[jax.Array]:
    return [dot(surface.rotation[i::3], vector) for i in range(3)]  # pyright: ignore


def _normal(layer: Layer, row: jax.Array, local: list[jax.Array], size: jax.Array):
    """Outward normal in the local frame, by the kind of geom that every ray hit."""
    normal = [jnp.zeros_like(local[0])] * 3
    for kind, _, rows in _by_kind(layer):
        this = (row >= rows[0]) & (row <= rows[-1])
        candidate = intersect.NORMAL[kind](local, list(size))
        normal = [jnp.where(this, a, b) for a, b in zip(candidate, normal, strict=True)]
    return normal


def _sunlit(
    scene: Scene, view: _View, point: list[jax.Array], own: jax.Array, config: RenderConfig
) -> jax.Array:
    """Share of the sun seen from every point, [P]. Planes and translucent geoms cast no shadow.

    `own` is each point's row among the opaque geoms: primitives are convex, so none shades itself.
    """

    def unoccluded(direction):
        lit = jnp.ones(own.shape, bool)
        for kind, geoms, rows in _by_kind(scene.opaque._replace(plane=_none(scene.opaque.plane))):

            def step(lit, geom, enter=intersect.ENTER[kind]):
                xpos, xmat, size, row = geom
                offset = [point[i] - xpos[i] for i in range(3)]
                o = [dot(xmat[:, i], offset) for i in range(3)]
                t = enter(o, [dot(xmat[:, i], direction) for i in range(3)], size)
                return lit & (jnp.isinf(t) | (row == own)), None

            ids = geoms.geom_id
            lit, _ = jax.lax.scan(step, lit, (view.xpos[ids], view.xmat[ids], geoms.size, rows))
        return lit.astype(point[0].dtype)

    total, _ = jax.lax.scan(
        lambda total, direction: (total + unoccluded(direction), None),
        jnp.zeros_like(point[0]),
        _sun_directions(scene.sun, config),
    )
    return total / config.shadows


def _none(geoms: Geoms) -> Geoms:
    return jax.tree.map(lambda a: a[:0], geoms)


def _sun_directions(sun: jax.Array, config: RenderConfig) -> jax.Array:
    """Unit vectors [shadows, 3] spread evenly over the sun's disc."""
    i = jnp.arange(config.shadows, dtype=sun.dtype)
    radius = jnp.tan(jnp.deg2rad(config.sun_radius)) * jnp.sqrt((i + 0.5) / config.shadows)
    radius = radius if config.shadows > 1 else jnp.zeros_like(radius)
    least = jax.nn.one_hot(jnp.argmin(jnp.abs(sun)), 3, dtype=sun.dtype)
    side = jnp.stack(normalise(list(jnp.cross(sun, least))))
    angle = _GOLDEN_ANGLE * i[:, None]
    disc = jnp.cos(angle) * side + jnp.sin(angle) * jnp.cross(sun, side)
    directions = sun + radius[:, None] * disc
    return directions / jnp.linalg.norm(directions, axis=-1, keepdims=True)


def _albedo(
    view: _View,
    surface: _Surface,
    local: list[jax.Array],
    normal: list[jax.Array],
    direction: list[jax.Array],
    width: jax.Array,
) -> jax.Array:
    """Base colours [3, P]; a checker is averaged over the ray's footprint `width` [P].

    The box filter is the closed form of Quilez, "Filtering procedural patterns" (2010).
    """
    along = _to_local(surface, direction)
    slope = dot(along, normal)
    slope = jnp.where(jnp.abs(slope) < 1e-6, 1e-6, slope)
    spread = []
    for axis in range(2):  # how far the hit moves per pixel along the image's x and y
        camera_axis = _to_local(surface, list(view.camera.rotation[:, axis, None]))
        share = dot(camera_axis, normal) / slope
        spread.append([width * jnp.abs(camera_axis[i] - share * along[i]) for i in range(2)])
    square = 1.0
    for i in range(2):
        filter_width = jnp.maximum(spread[0][i], spread[1][i]) / surface.cell[i] + 1e-3
        centre = local[i] / surface.cell[i]
        square *= (
            jnp.abs(_saw(centre - filter_width / 2)) - jnp.abs(_saw(centre + filter_width / 2))
        ) / (filter_width / 2)
    return _mix(surface.rgba[:3], surface.rgb2, 0.5 + 0.5 * square)


def _saw(x: jax.Array) -> jax.Array:
    x = x / 2
    return x - jnp.floor(x) - 0.5
