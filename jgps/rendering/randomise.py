"""Random appearances, so that a policy does not depend on one (domain randomisation)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated

import jax
import jax.numpy as jnp

from jgps.core.checks import Config, Range, refuse
from jgps.core.one_program import one_program
from jgps.rendering.appearance import NO_CELL, Appearance
from jgps.rendering.view import rotation_of


@dataclass(frozen=True, kw_only=True)
class RandomiseConfig(Config):
    """How far appearances may differ from the model's; zero leaves a thing alone.

    Attributes:
      colour: largest share, in [0, 1], of a random colour in a geom's own.
      texture: probability, in [0, 1], that a geom gets a random texture instead of its own.
      cell: smallest and largest cell of random textures, positive, metres.
      light_turn: largest rotation of lights about the origin of their body, degrees in [0, 180].
      light_shift: largest shift of lights along each axis, metres, at least 0; directional ones
        look the same.
      light_range: smallest and largest factor of each light's brightness, at least 0.
      sky: largest share, in [0, 1], of a random colour in the sky's.
      camera_shift: largest shift of the camera along each of its axes, metres, at least 0.
      camera_turn: largest rotation about each of its axes, degrees in [0, 180].
      camera_fovy: largest change of the field of view, degrees, at least 0.
    """

    colour: Annotated[float, Range("[0, 1]")] = 0.3
    texture: Annotated[float, Range("[0, 1]")] = 0.3
    cell: Annotated[tuple[float, float], Range("> 0", "usually (0.02, 0.2) metres")] = (0.02, 0.2)
    light_turn: Annotated[float, Range("[0, 180]", "usually 30 degrees")] = 30.0
    light_shift: Annotated[float, Range(">= 0", "usually 0.2 metres")] = 0.2
    light_range: Annotated[tuple[float, float], Range(">= 0")] = (0.6, 1.4)
    sky: Annotated[float, Range("[0, 1]")] = 0.3
    camera_shift: Annotated[float, Range(">= 0", "usually 0.02 metres")] = 0.02
    camera_turn: Annotated[float, Range("[0, 180]", "usually 2 degrees")] = 2.0
    camera_fovy: Annotated[float, Range(">= 0", "usually 1 degree")] = 1.0

    def __post_init__(self) -> None:
        for name in ("cell", "light_range"):
            smallest, largest = getattr(self, name)
            if smallest > largest:
                refuse(self, name, "the smallest and the largest value, in this order")


@one_program("config")
def randomise(
    key: jax.Array, appearance: Appearance, config: RandomiseConfig | None = None
) -> Appearance:
    """Draws one appearance per key about a given one.

    Args:
      key: [...] random keys; all fields of the result have these leading axes.
      appearance: without leading axes, such as `appearance_of(model)`.
    """
    draw = partial(_draw, appearance=appearance, config=config or RandomiseConfig())
    for _ in range(key.ndim):
        draw = jax.vmap(draw)
    return draw(key)


def _draw(key: jax.Array, appearance: Appearance, config: RandomiseConfig) -> Appearance:
    colours, textures, lights, sky, camera = jax.random.split(key, 5)
    rgba, rgb2 = appearance.rgba, appearance.rgb2
    share, one, two = jax.random.split(colours, 3)
    mix = config.colour * jax.random.uniform(share, (rgba.shape[0], 1))
    rgb = rgba[:, :3] + mix * (jax.random.uniform(one, rgb2.shape) - rgba[:, :3])
    rgb2 = rgb2 + mix * (jax.random.uniform(two, rgb2.shape) - rgb2)
    appearance = appearance._replace(rgba=jnp.concatenate([rgb, rgba[:, 3:]], axis=1), rgb2=rgb2)
    appearance = _draw_textures(textures, appearance, config)
    appearance = _draw_lights(lights, appearance, config)
    share, up, down = jax.random.split(sky, 3)
    mix = config.sky * jax.random.uniform(share)
    shift, turn, fovy = jax.random.split(camera, 3)
    angle = jnp.deg2rad(config.camera_turn)
    return appearance._replace(
        zenith=appearance.zenith + mix * (jax.random.uniform(up, (3,)) - appearance.zenith),
        horizon=appearance.horizon + mix * (jax.random.uniform(down, (3,)) - appearance.horizon),
        camera_offset=appearance.camera_offset + config.camera_shift * _signed(shift, (3,)),
        camera_turn=appearance.camera_turn + angle * _signed(turn, (3,)),
        camera_fovy=appearance.camera_fovy + config.camera_fovy * _signed(fovy, ()),
    )


def _draw_textures(key: jax.Array, appearance: Appearance, config: RandomiseConfig) -> Appearance:
    """Stripes, checkers and gradients, with hard or soft edges, along x, y or both, and maybe z."""
    n = appearance.rgba.shape[0]
    which, colour, size, axes, blur = jax.random.split(key, 5)
    drawn = jax.random.uniform(which, (n,)) < config.texture
    low, high = config.cell
    cell = low * (high / low) ** jax.random.uniform(size, (n, 3))
    level, upright = jax.random.split(axes)
    one = jax.random.randint(level, (n,), 0, 3)  # x alone, y alone, or both
    used = jnp.stack([one != 1, one != 0, jax.random.bernoulli(upright, 0.6, (n,))], axis=1)
    cell = jnp.where(used, cell, NO_CELL)
    soft = 0.5 * jax.random.uniform(blur, (n,))
    return appearance._replace(
        rgb2=jnp.where(drawn[:, None], jax.random.uniform(colour, (n, 3)), appearance.rgb2),
        cell=jnp.where(drawn[:, None], cell, appearance.cell),
        blur=jnp.where(drawn, soft, appearance.blur),
    )


def _draw_lights(key: jax.Array, appearance: Appearance, config: RandomiseConfig) -> Appearance:
    count = appearance.light_rgb.shape[0]
    turn, angle, shift, bright = jax.random.split(key, 4)
    axis = jax.random.normal(turn, (count, 3))
    axis /= jnp.maximum(jnp.linalg.norm(axis, axis=1, keepdims=True), 1e-6)
    turned = jnp.deg2rad(config.light_turn) * jax.random.uniform(angle, (count, 1))
    rotation = rotation_of(axis * turned)
    low, high = config.light_range
    factor = low + (high - low) * jax.random.uniform(bright, (count, 1))
    moved = config.light_shift * _signed(shift, (count, 3))
    return appearance._replace(
        light_position=jnp.einsum("lij,lj->li", rotation, appearance.light_position) + moved,
        light_direction=jnp.einsum("lij,lj->li", rotation, appearance.light_direction),
        light_rgb=appearance.light_rgb * factor,
    )


def _signed(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jax.random.uniform(key, shape, minval=-1, maxval=1)
