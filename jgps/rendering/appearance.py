"""What a model looks like: colours, textures, lights, sky; per image where it differs."""

from __future__ import annotations

from typing import NamedTuple

import jax
import mujoco
import numpy as np

from jgps.core.host import to_device

_DEFAULT_SUN = (0.45, -0.55, 1.0)
_DEFAULT_ZENITH, _DEFAULT_HORIZON = (0.42, 0.60, 0.82), (0.86, 0.91, 0.96)
NO_CELL = 1e9  # metres; cells so large that the texture does not change along that axis


class Appearance(NamedTuple):
    """Everything seen that physics does not know.

    Every field may have leading axes (those of the images) or none (the same in all of them).
    A texture has two colours: squares of `cell` that alternate from the geom's origin, along those
    of its axes where the cell is not `NO_CELL`. With one axis they are stripes, with two a
    checker, and softened by half a cell a gradient.
    """

    rgba: jax.Array  # [..., G, 4]; alpha is read for geoms that the model makes translucent
    rgb2: jax.Array  # [..., G, 3] second colour of the texture; not seen without a cell
    cell: jax.Array  # [..., G, 3] size of its cells along the geom's axes, metres
    blur: jax.Array  # [..., G] in cells, 0 (hard edges) to 0.5 (a gradient)
    light_position: jax.Array  # [..., L, 3] metres, frame of the light's body (world in `raycast`)
    light_direction: jax.Array  # [..., L, 3] along the light, same frame, any length
    light_rgb: jax.Array  # [..., L, 3] share of `RenderConfig.sun`
    zenith: jax.Array  # [..., 3] rgb of the sky overhead
    horizon: jax.Array  # [..., 3] rgb of the sky at and below the horizon
    camera_offset: jax.Array  # [..., 3] added to the camera's place, its own frame, metres
    camera_turn: jax.Array  # [..., 3] rotation vector in its own frame, radians
    camera_fovy: jax.Array  # [...] added to its vertical field of view, degrees


def light_ids(model: mujoco.MjModel) -> np.ndarray:
    """The lights that are on, [L]; empty where one sun stands in for them."""
    return np.flatnonzero(model.light_active)


def appearance_of(model: mujoco.MjModel) -> Appearance:
    """The appearance of a model as it is, float32 leaves without leading axes.

    Colours follow MuJoCo: a geom's own rgba unless it is the default and there is a material.
    A 2d texture that is a checker is drawn as one, a cube texture from one colour above to another
    below as a gradient along the geom's z; any other texture as its average colour. Lights are
    those that are on, or a default sun if there are none. They share `RenderConfig.sun` in
    proportion to their diffuse colours. The sky is the model's skybox, if any.
    """
    surfaces = [_surface(model, geom) for geom in range(model.ngeom)]
    alpha = [geom_rgba(model, geom)[3] for geom in range(model.ngeom)]
    ids = light_ids(model)
    diffuse = np.asarray(model.light_diffuse[ids], np.float64)
    zenith, horizon = _sky(model)

    def array(values, *shape):
        return to_device(np.reshape(np.asarray(values, np.float64), shape), np.float32)

    n, mode = model.ngeom, model.light_mode[ids][:, None]
    follows = mode == int(mujoco.mjtCamLight.mjCAMLIGHT_FIXED)
    position = np.where(follows, model.light_pos[ids], model.light_pos0[ids])
    direction = np.where(follows, model.light_dir[ids], model.light_dir0[ids])
    return Appearance(
        rgba=array([(*s.rgb, a) for s, a in zip(surfaces, alpha, strict=True)], n, 4),
        rgb2=array([s.rgb2 for s in surfaces], n, 3),
        cell=array([s.cell for s in surfaces], n, 3),
        blur=array([s.blur for s in surfaces], n),
        light_position=array(position if len(ids) else _DEFAULT_SUN, -1, 3),
        light_direction=array(direction if len(ids) else -np.array(_DEFAULT_SUN), -1, 3),
        light_rgb=array(_shares(diffuse) if len(ids) else np.ones(3), -1, 3),
        zenith=array(zenith, 3),
        horizon=array(horizon, 3),
        camera_offset=array(np.zeros(3), 3),
        camera_turn=array(np.zeros(3), 3),
        camera_fovy=array(0),
    )


def _shares(diffuse: np.ndarray) -> np.ndarray:
    return diffuse / max(float(diffuse.max(axis=1).sum()), 1e-6)


def geom_rgba(model: mujoco.MjModel, geom: int) -> np.ndarray:
    """Colour and alpha [4] of a geom without its texture."""
    own, material = model.geom_rgba[geom], model.geom_matid[geom]
    is_default = np.array_equal(own, np.array([0.5, 0.5, 0.5, 1.0], own.dtype))
    return model.mat_rgba[material] if material >= 0 and is_default else own


class _Texture(NamedTuple):
    rgb: np.ndarray
    rgb2: np.ndarray
    cell: tuple[float, ...] = (NO_CELL,) * 3
    blur: float = 0.0


def _surface(model: mujoco.MjModel, geom: int) -> _Texture:
    rgb, material = np.array(geom_rgba(model, geom)[:3], np.float64), model.geom_matid[geom]
    texture = -1
    if material >= 0:
        texture = model.mat_texid[material, mujoco.mjtTextureRole.mjTEXROLE_RGB]
    if texture < 0:
        return _Texture(rgb, rgb)
    image = _pixels(model, texture)
    if model.tex_type[texture] == mujoco.mjtTexture.mjTEXTURE_2D:
        pair = _checker_colours(image)
        if pair is not None:
            return _Texture(rgb * pair[1], rgb * pair[0], _checker_cell(model, geom, material))
    elif model.tex_type[texture] == mujoco.mjtTexture.mjTEXTURE_CUBE:
        pair = _gradient_colours(image)
        if pair is not None:
            height = 2 * float(model.geom_aabb[geom, 5]) or 1.0
            return _Texture(rgb * pair[0], rgb * pair[1], (NO_CELL, NO_CELL, height), 0.5)
    average = rgb * image.reshape(-1, 3).mean(0)
    return _Texture(average, average)


def _checker_cell(model: mujoco.MjModel, geom: int, material: int) -> tuple[float, ...]:
    # A texture spans two units of the geom's frame scaled to half size one, or two metres if
    # texuniform, divided by texrepeat; one cell is half of it.
    size = np.array(model.geom_size[geom, :2])
    relative = (size > 0) & ~np.array(model.mat_texuniform[material], bool)
    cell = np.where(relative, size, 1.0) / np.maximum(model.mat_texrepeat[material], 1e-6)
    return float(cell[0]), float(cell[1]), NO_CELL


def _pixels(model: mujoco.MjModel, texture: int) -> np.ndarray:
    """Pixels [H, W, 3] in [0, 1]."""
    height, width = model.tex_height[texture], model.tex_width[texture]
    channels, start = model.tex_nchannel[texture], model.tex_adr[texture]
    pixels = model.tex_data[start : start + height * width * channels]
    pixels = pixels.reshape(height, width, channels)[:, :, : 3 if channels >= 3 else 1]
    return np.broadcast_to(pixels, (height, width, 3)) / 255.0


def _checker_colours(image: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Colours of a two-by-two checker; None if the image is not one (edge marks are ignored)."""
    height, width = image.shape[:2]
    if height < 8 or width < 8:
        return None
    quarters = [
        image[y * height // 2 : (y + 1) * height // 2, x * width // 2 : (x + 1) * width // 2]
        for y, x in ((0, 0), (0, 1), (1, 0), (1, 1))
    ]
    inner = [
        q[q.shape[0] // 4 : -(q.shape[0] // 4), q.shape[1] // 4 : -(q.shape[1] // 4)]
        for q in quarters
    ]
    if any(np.ptp(q, axis=(0, 1)).max() > 0 for q in inner):
        return None
    a, b, c, d = (q[0, 0] for q in inner)
    if not (np.array_equal(a, d) and np.array_equal(b, c)) or np.array_equal(a, b):
        return None
    return a, b


def _gradient_colours(image: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Colours of the upper and lower faces of a cube whose sides lead from one to the other."""
    width = image.shape[1]
    faces = image.reshape(-1, width, width, 3)  # right, left, up, down, front, back
    if len(faces) != 6 or width < 4:
        return None
    sides = faces[[0, 1, 4, 5]]
    down_the_sides = np.diff(sides.mean((0, 2)), axis=0)
    monotonic = np.all(down_the_sides >= 0, axis=0) | np.all(down_the_sides <= 0, axis=0)
    if np.ptp(sides, axis=2).max() > 0.08 or not monotonic.all() or not down_the_sides.any():
        return None
    up, down = faces[2].mean((0, 1)), faces[3].mean((0, 1))
    return up, down


def _sky(model: mujoco.MjModel) -> tuple[np.ndarray, np.ndarray]:
    """Zenith and horizon rgb, from the faces right, left, up, down, front, back of a skybox."""
    for texture in np.flatnonzero(model.tex_type == mujoco.mjtTexture.mjTEXTURE_SKYBOX)[:1]:
        image = _pixels(model, texture)
        faces = image.reshape(-1, image.shape[1], image.shape[1], 3)
        side = faces[4 % len(faces)]
        return faces[2 % len(faces)].mean((0, 1)), side[side.shape[0] // 2].mean(0)
    return np.array(_DEFAULT_ZENITH), np.array(_DEFAULT_HORIZON)
