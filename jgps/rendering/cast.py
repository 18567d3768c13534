"""Pure-JAX ray caster: images of primitives without OpenGL, jitted, batched, differentiable."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jgps.rendering.camera import CameraPose, pixel_grid
from jgps.rendering.scene import Layer, Scene
from jgps.rendering.shade import RenderConfig, shade
from jgps.rendering.trace import Hit, View, nearest

_DEFAULT = RenderConfig()


class Image(NamedTuple):
    """What a camera sees."""

    rgb: jax.Array  # [..., H, W, 3] in [0, 1]
    depth: jax.Array  # [..., H, W] metres along the camera's axis, infinite in the sky
    geom_id: jax.Array  # [..., H, W] int32, the model's geom id, -1 in the sky


@partial(jax.jit, static_argnames=("width", "height", "config"))
def raycast(
    scene: Scene,
    geom_xpos: jax.Array,
    geom_xmat: jax.Array,
    camera: CameraPose,
    *,
    width: int,
    height: int,
    config: RenderConfig = _DEFAULT,
) -> Image:
    """Draws one image per set of geom poses.

    Args:
      scene: from `make_scene`.
      geom_xpos: world positions of all the model's geoms, [..., G, 3], metres.
      geom_xmat: their rotations, [..., G, 3, 3] or [..., G, 9].
      camera: pose with the same leading axes, or with none to share one camera.
      width, height: of the image, pixels.
      config: shading and quality.

    Returns:
      Image with leading axes `...`, in the dtype of `geom_xpos`. Depth and geom id belong to the
      pixel's centre; only rgb is supersampled.

    Raises:
      ValueError: while tracing, if shapes disagree.
    """
    scene, views, lead = _prepare(scene, geom_xpos, geom_xmat, camera, width, height)
    image = _map_views(
        partial(_centres, scene, width, height, config), views, width * height, config
    )
    rgb = image.rgb
    if config.supersample > 1:
        rgb = _supersampled(scene, views, width, height, config)
    return Image(
        rgb=jnp.moveaxis(rgb.reshape(*lead, 3, height, width), -3, -1),
        depth=image.depth.reshape(*lead, height, width),
        geom_id=image.geom_id.reshape(*lead, height, width),
    )


@partial(jax.jit, static_argnames=("width", "height", "config"))
def raycast_rgb(
    scene: Scene,
    geom_xpos: jax.Array,
    geom_xmat: jax.Array,
    camera: CameraPose,
    *,
    width: int,
    height: int,
    config: RenderConfig = _DEFAULT,
) -> jax.Array:
    """Only the colours of `raycast`, [..., height, width, 3]; saves a pass if supersampled."""
    scene, views, lead = _prepare(scene, geom_xpos, geom_xmat, camera, width, height)
    rgb = _supersampled(scene, views, width, height, config)
    return jnp.moveaxis(rgb.reshape(*lead, 3, height, width), -3, -1)


def _prepare(scene, geom_xpos, geom_xmat, camera, width, height):
    """Checks shapes and flattens the leading axes: scene, views [M, ...] and the leading axes."""
    if width < 1 or height < 1:
        raise ValueError(f"Image size {width} x {height}: both must be at least 1 pixel.")
    if geom_xpos.ndim < 2 or geom_xpos.shape[-1] != 3:
        raise ValueError(f"geom_xpos has shape {geom_xpos.shape}; expected [..., G, 3].")
    lead, num_geoms = geom_xpos.shape[:-2], geom_xpos.shape[-2]
    if geom_xmat.shape not in ((*lead, num_geoms, 3, 3), (*lead, num_geoms, 9)):
        raise ValueError(
            f"geom_xmat has shape {geom_xmat.shape}; expected {(*lead, num_geoms, 3, 3)}."
        )
    if jnp.shape(camera.position)[:-1] not in ((), lead):
        raise ValueError(
            f"The camera has leading axes {jnp.shape(camera.position)[:-1]}, the geoms {lead}; "
            "give one camera per image or one for all."
        )
    dtype, num_images = geom_xpos.dtype, math.prod(lead)
    scene, camera = jax.tree.map(
        lambda a: jnp.asarray(a, dtype if jnp.issubdtype(a.dtype, jnp.floating) else a.dtype),
        (scene, camera),
    )
    views = View(
        xpos=geom_xpos.reshape(num_images, num_geoms, 3),
        xmat=geom_xmat.reshape(num_images, num_geoms, 3, 3).astype(dtype),
        camera=CameraPose(
            position=jnp.broadcast_to(camera.position, (*lead, 3)).reshape(num_images, 3),
            rotation=jnp.broadcast_to(camera.rotation, (*lead, 3, 3)).reshape(num_images, 3, 3),
            fovy=jnp.broadcast_to(camera.fovy, lead).reshape(num_images),
        ),
    )
    return scene, views, lead


def _centres(scene: Scene, width: int, height: int, config: RenderConfig, view: View) -> Image:
    """One image from one ray per pixel, pixels flat and last; no colours if supersampled."""
    tangent = _tangent(view)

    def part(rays):
        opaque = nearest(scene.opaque, view, rays)
        translucent = nearest(scene.translucent, view, rays)
        geom_id = jnp.where(
            translucent.t < opaque.t,
            _geom_id(scene.translucent, translucent),
            _geom_id(scene.opaque, opaque),
        )
        rgb = jnp.zeros((0, rays.shape[1]), rays.dtype)
        if config.supersample == 1:
            footprint = 2 * tangent / height
            rgb = shade(scene, view, rays, opaque, translucent, footprint, config)
        return Image(rgb=rgb, depth=jnp.minimum(opaque.t, translucent.t), geom_id=geom_id)

    rays = pixel_grid(width, height, view.xpos.dtype) * tangent
    return _map_rays(part, rays, config.block)


def _supersampled(
    scene: Scene, views: View, width: int, height: int, config: RenderConfig
) -> jax.Array:
    """Colours [M, 3, H, W] averaged over a grid of rays in every pixel."""
    s = config.supersample

    def draw(view):
        tangent = _tangent(view)

        def part(rays):
            opaque = nearest(scene.opaque, view, rays)
            translucent = nearest(scene.translucent, view, rays)
            footprint = 2 * tangent / (s * height)
            return shade(scene, view, rays, opaque, translucent, footprint, config)

        rays = pixel_grid(s * width, s * height, view.xpos.dtype) * tangent
        rgb = _map_rays(part, rays, config.block)
        return rgb.reshape(3, height, s, width, s).mean((2, 4))

    return _map_views(draw, views, s * s * width * height, config)


def _tangent(view: View) -> jax.Array:
    return jnp.tan(jnp.deg2rad(view.camera.fovy) / 2)


def _geom_id(layer: Layer, hit: Hit) -> jax.Array:
    ids = jnp.concatenate([jnp.full(1, -1, jnp.int32), *(geoms.geom_id for geoms in layer)])
    return ids[hit.row + 1]


def _map_views(draw: Callable[[View], Any], views: View, num_rays: int, config: RenderConfig):
    """Maps over images, several small ones at a time, so that about `block` rays are in flight."""
    num_images = views.xpos.shape[0]
    at_once = max(1, min(num_images, config.block // num_rays))
    num_groups = -(-num_images // at_once)
    index = jnp.minimum(jnp.arange(num_groups * at_once), num_images - 1)  # the last one repeats
    groups = jax.tree.map(lambda a: a[index].reshape(num_groups, at_once, *a.shape[1:]), views)
    images = jax.lax.map(jax.vmap(draw), groups)
    count = num_groups * at_once
    return jax.tree.map(lambda a: a.reshape(count, *a.shape[2:])[:num_images], images)


def _map_rays(part: Callable[[jax.Array], Any], rays: jax.Array, block: int):
    """Maps over parts of one large image; results have the rays on their last axis."""
    num_rays = rays.shape[1]
    num_parts = -(-num_rays // block)
    if num_parts == 1:
        return part(rays)
    size = -(-num_rays // num_parts)
    rays = jnp.pad(rays, ((0, 0), (0, num_parts * size - num_rays)))
    parts = jax.lax.map(part, rays.reshape(2, num_parts, size).swapaxes(0, 1))
    return jax.tree.map(
        lambda a: jnp.moveaxis(a, 0, -2).reshape(*a.shape[1:-1], num_parts * size)[..., :num_rays],
        parts,
    )
