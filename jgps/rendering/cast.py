"""Pure-JAX ray caster: images of primitives without OpenGL, jitted, batched, differentiable."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jgps.rendering.appearance import Appearance
from jgps.rendering.camera import CameraPose, pixel_grid
from jgps.rendering.config import RenderConfig
from jgps.rendering.scene import Layer, Scene
from jgps.rendering.shade import shade, surface_table
from jgps.rendering.trace import Hit, Shot, nearest

_DEFAULT = RenderConfig()


class Image(NamedTuple):
    """What a camera sees."""

    rgb: jax.Array  # [..., H, W, 3] in [0, 1], or uint8
    depth: jax.Array  # [..., H, W] metres along the camera's axis, infinite in the sky
    geom_id: jax.Array  # [..., H, W] int32, the model's geom id, -1 in the sky


@partial(jax.jit, static_argnames=("width", "height", "config", "as_uint8"))
def raycast(
    scene: Scene,
    geom_xpos: jax.Array,
    geom_xmat: jax.Array,
    camera: CameraPose,
    appearance: Appearance | None = None,
    *,
    width: int,
    height: int,
    config: RenderConfig = _DEFAULT,
    as_uint8: bool = False,
) -> Image:
    """Draws one image per set of geom poses.

    Args:
      scene: from `make_scene`.
      geom_xpos: world positions of all the model's geoms, [..., G, 3], metres.
      geom_xmat: their rotations, [..., G, 3, 3] or [..., G, 9].
      camera: pose with the same leading axes, or with none to share one camera.
      appearance: colours, textures, lights (in the world frame) and sky; each field has the same
        leading axes or none. The scene's own by default. Its camera fields are not read.
      width, height: of the image, pixels.
      config: shading and quality.
      as_uint8: colours as bytes, a quarter of the memory and without gradients.

    Returns:
      Image with leading axes `...`, in the dtype of `geom_xpos`. Depth and geom id belong to the
      pixel's centre; only rgb is supersampled.

    Raises:
      ValueError: while tracing, if shapes disagree.
    """
    scene, shots, lead = _prepare(scene, geom_xpos, geom_xmat, camera, appearance, width, height)
    image = _map_shots(
        partial(_centres, scene, width, height, config, as_uint8), shots, width * height, config
    )
    rgb = image.rgb
    if config.supersample > 1:
        rgb = _supersampled(scene, shots, width, height, config, as_uint8)
    return Image(
        rgb=_stack(rgb, (*lead, height, width)),
        depth=image.depth.reshape(*lead, height, width),
        geom_id=image.geom_id.reshape(*lead, height, width),
    )


@partial(jax.jit, static_argnames=("width", "height", "config", "as_uint8"))
def raycast_rgb(
    scene: Scene,
    geom_xpos: jax.Array,
    geom_xmat: jax.Array,
    camera: CameraPose,
    appearance: Appearance | None = None,
    *,
    width: int,
    height: int,
    config: RenderConfig = _DEFAULT,
    as_uint8: bool = False,
) -> jax.Array:
    """Only the colours of `raycast`, [..., height, width, 3]; saves a pass if supersampled."""
    scene, shots, lead = _prepare(scene, geom_xpos, geom_xmat, camera, appearance, width, height)
    rgb = _supersampled(scene, shots, width, height, config, as_uint8)
    return _stack(rgb, (*lead, height, width))


def _stack(rgb, shape: tuple[int, ...]) -> jax.Array:
    """Makes channels the last axis, here and nowhere before.

    As one array with that layout they would keep XLA's CPU compiler from vectorising everything
    that they are made of.
    """
    return jnp.stack([channel.reshape(shape) for channel in rgb], axis=-1)


def _bytes(rgb, as_uint8: bool):
    return [jnp.round(channel * 255).astype(jnp.uint8) for channel in rgb] if as_uint8 else rgb


def check_size(width: int, height: int) -> None:
    """Raises ValueError for an image without pixels."""
    if width < 1 or height < 1:
        raise ValueError(f"Image size {width} x {height}: both must be at least 1 pixel.")


def _prepare(scene, geom_xpos, geom_xmat, camera, appearance, width, height):
    """Checks shapes and flattens the leading axes: scene, shots [M, ...] and the leading axes."""
    check_size(width, height)
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
    appearance = scene.appearance if appearance is None else appearance
    scene, camera, appearance = jax.tree.map(
        lambda a: jnp.asarray(a, dtype if jnp.issubdtype(a.dtype, jnp.floating) else a.dtype),
        (scene, camera, appearance),
    )

    def per_image(value, name, *shape):
        if jnp.shape(value) not in (shape, (*lead, *shape)):
            raise ValueError(
                f"{name} has shape {jnp.shape(value)}; expected {shape}, or {(*lead, *shape)} for "
                "one per image."
            )
        return jnp.broadcast_to(value, (*lead, *shape)).reshape(num_images, *shape)

    model_appearance = scene.appearance
    appearance = Appearance(
        **{
            field: per_image(value, f"appearance.{field}", *getattr(model_appearance, field).shape)
            for field, value in appearance._asdict().items()
        }
    )
    xpos = geom_xpos.reshape(num_images, num_geoms, 3)
    xmat = geom_xmat.reshape(num_images, num_geoms, 3, 3).astype(dtype)
    shots = Shot(
        xpos=xpos,
        xmat=xmat,
        camera=CameraPose(
            position=per_image(camera.position, "camera.position", 3),
            rotation=per_image(camera.rotation, "camera.rotation", 3, 3),
            fovy=per_image(camera.fovy, "camera.fovy"),
        ),
        appearance=appearance,
        # Outside the loop over images: XLA would otherwise make these tables anew in every pixel.
        table=jax.vmap(partial(surface_table, scene))(xpos, xmat, appearance),
    )
    return scene, shots, lead


def _centres(
    scene: Scene, width: int, height: int, config: RenderConfig, as_uint8: bool, shot: Shot
) -> Image:
    """One image from one ray per pixel, pixels flat; rgb by channel, none if supersampled."""
    tangent = _tangent(shot)

    def part(rays):
        opaque = nearest(scene.opaque, shot, rays)
        translucent = nearest(scene.translucent, shot, rays)
        geom_id = jnp.where(
            translucent.t < opaque.t,
            _geom_id(scene.translucent, translucent),
            _geom_id(scene.opaque, opaque),
        )
        rgb = []
        if config.supersample == 1:
            footprint = 2 * tangent / height
            rgb = shade(scene, shot, rays, opaque, translucent, footprint, config)
        depth = jnp.minimum(opaque.t, translucent.t)
        channels = _bytes(rgb, as_uint8)
        return Image(channels, depth, geom_id)  # pyright: ignore[reportArgumentType]

    rays = pixel_grid(width, height, shot.xpos.dtype) * tangent
    return _map_rays(part, rays, config.rays_at_once)


def _supersampled(
    scene: Scene, shots: Shot, width: int, height: int, config: RenderConfig, as_uint8: bool
) -> list[jax.Array]:
    """Channels [M, H W] averaged over a grid of rays in every pixel."""
    s = config.supersample

    def draw(shot):
        tangent = _tangent(shot)

        def part(rays):
            opaque = nearest(scene.opaque, shot, rays)
            translucent = nearest(scene.translucent, shot, rays)
            footprint = 2 * tangent / (s * height)
            return shade(scene, shot, rays, opaque, translucent, footprint, config)

        rays = pixel_grid(s * width, s * height, shot.xpos.dtype) * tangent
        rgb = _map_rays(part, rays, config.rays_at_once)
        if s > 1:  # a mean over axes of length one would keep XLA from vectorising, too
            rgb = [c.reshape(height, s, width, s).mean((1, 3)).ravel() for c in rgb]
        return _bytes(rgb, as_uint8)

    return _map_shots(draw, shots, s * s * width * height, config)


def _tangent(shot: Shot) -> jax.Array:
    return jnp.tan(jnp.deg2rad(shot.camera.fovy) / 2)


def _geom_id(layer: Layer, hit: Hit) -> jax.Array:
    geom_ids = (geoms.geom_id for geoms in layer.kinds.values())
    ids = jnp.concatenate([jnp.full(1, -1, jnp.int32), *geom_ids])
    return ids[hit.row + 1]


def _map_shots(draw: Callable[[Shot], Any], shots: Shot, num_rays: int, config: RenderConfig):
    """Maps over images, several small ones at a time: about `rays_at_once` are in flight."""
    num_images = shots.xpos.shape[0]
    at_once = max(1, min(num_images, config.rays_at_once // num_rays))
    num_groups = -(-num_images // at_once)
    count = num_groups * at_once
    if count > num_images:
        index = jnp.minimum(jnp.arange(count), num_images - 1)  # the last one repeats
        shots = jax.tree.map(lambda a: a[index], shots)
    groups = jax.tree.map(lambda a: a.reshape(num_groups, at_once, *a.shape[1:]), shots)
    images = _map(jax.vmap(draw), groups)
    return jax.tree.map(lambda a: a.reshape(count, *a.shape[2:])[:num_images], images)


def _map(function: Callable[[Any], Any], xs: Any) -> Any:
    """`lax.map`, whose inputs are read one step early and whose results are written one step late.

    XLA fuses what a loop computes with slicing the loop's inputs and writing its outputs, and does
    not vectorise such fusions on a CPU: images were several times slower. What a step carries to
    the next is not fused.
    """
    # Traced once, for its shapes and for the loop.
    function = jax.jit(function, inline=True)
    first = jax.tree.map(lambda a: a[0], xs)
    count = jax.tree.leaves(xs)[0].shape[0]
    if count == 1:
        return jax.tree.map(lambda a: a[None], function(first))

    def step(carry, i):
        current, previous = carry
        following = jax.tree.map(lambda a: a[i], xs)
        return (following, function(current)), previous

    none = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(function, first))
    ahead = jnp.minimum(jnp.arange(1, count + 1), count - 1)  # after the last nothing follows
    (_, last), late = jax.lax.scan(step, (first, none), ahead)
    return jax.tree.map(lambda a, b: jnp.concatenate([a[1:], b[None]]), late, last)


def _map_rays(part: Callable[[jax.Array], Any], rays: jax.Array, block: int):
    """Maps over parts of one large image; results have the rays on their last axis."""
    num_rays = rays.shape[1]
    num_parts = -(-num_rays // block)
    if num_parts == 1:
        return part(rays)
    size = -(-num_rays // num_parts)
    rays = jnp.pad(rays, ((0, 0), (0, num_parts * size - num_rays)))
    parts = _map(part, rays.reshape(2, num_parts, size).swapaxes(0, 1))
    return jax.tree.map(
        lambda a: jnp.moveaxis(a, 0, -2).reshape(*a.shape[1:-1], num_parts * size)[..., :num_rays],
        parts,
    )
