"""From a MuJoCo model to the primitives the ray caster draws.

A `Scene` holds everything that does not move. Geom poses come separately, as MuJoCo's
`geom_xpos` and `geom_xmat`, so that any physics backend can supply them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

_KINDS = {
    int(mujoco.mjtGeom.mjGEOM_SPHERE): "ellipsoid",
    int(mujoco.mjtGeom.mjGEOM_ELLIPSOID): "ellipsoid",
    int(mujoco.mjtGeom.mjGEOM_CAPSULE): "capsule",
    int(mujoco.mjtGeom.mjGEOM_CYLINDER): "cylinder",
    int(mujoco.mjtGeom.mjGEOM_BOX): "box",
    int(mujoco.mjtGeom.mjGEOM_PLANE): "plane",
}
_INFINITE = 1e9  # metres; stands for MuJoCo's plane size 0, finite so that gradients are
_DEFAULT_SUN = (0.45, -0.55, 1.0)
_DEFAULT_ZENITH, _DEFAULT_HORIZON = (0.42, 0.60, 0.82), (0.86, 0.91, 0.96)


class Geoms(NamedTuple):
    """The drawn geoms of one kind."""

    geom_id: jax.Array  # [n] int32, index into the model's geoms
    size: jax.Array  # [n, 3] half sizes in MuJoCo's order; spheres have three equal ones
    rgba: jax.Array  # [n, 4]
    rgb2: jax.Array  # [n, 3] second checker colour; equals rgba[:, :3] where there is no checker
    cell: jax.Array  # [n, 2] checker cell along local x and y, metres
    gloss: jax.Array  # [n] specular strength in [0, 1]
    emission: jax.Array  # [n] share of its own colour that a geom shines with
    haze: jax.Array  # [n] one where the geom fades into the horizon (infinite planes), else zero


class Layer(NamedTuple):
    """Drawn geoms by kind. Kinds without a geom cost nothing."""

    ellipsoid: Geoms
    capsule: Geoms
    cylinder: Geoms
    box: Geoms
    plane: Geoms

    @property
    def num_geoms(self) -> int:
        """How many geoms all kinds have together."""
        return sum(geoms.geom_id.shape[0] for geoms in self)


class Scene(NamedTuple):
    """Everything the ray caster needs besides poses."""

    opaque: Layer
    translucent: Layer  # 0 < alpha < 1; the nearest one is blended over what lies behind
    sun: jax.Array  # [3] unit vector towards the directional light, world frame
    zenith: jax.Array  # [3] rgb of the sky overhead
    horizon: jax.Array  # [3] rgb of the sky at and below the horizon
    extent: jax.Array  # [] size of the model, metres


def make_scene(
    model: mujoco.MjModel, *, geom_groups: Sequence[int] = (0, 1, 2), dtype=jnp.float32
) -> Scene:
    """Collects the visible primitives of a model.

    Colours follow MuJoCo: a geom's own rgba unless it is the default and there is a material.
    A checker texture is drawn as a checker; any other texture as its average colour. The sun is
    the model's first light (its direction if directional, else its position seen from the model's
    centre). The sky is the model's skybox, if any.

    Args:
      model: compiled model.
      geom_groups: groups to draw, each in 0..5; MuJoCo's viewer shows 0, 1 and 2.
      dtype: of all floating-point leaves.

    Raises:
      ValueError: a visible geom is not a primitive (mesh, height field, signed distance field).
    """
    if any(group not in range(mujoco.mjNGROUP) for group in geom_groups):
        raise ValueError(f"geom_groups = {tuple(geom_groups)}: groups are integers from 0 to 5.")
    visible = [
        g
        for g in range(model.ngeom)
        if model.geom_group[g] in geom_groups and _rgba(model, g)[3] > 0
    ]
    for g in visible:
        if int(model.geom_type[g]) not in _KINDS:
            raise ValueError(_unsupported(model, g))
    opaque = [g for g in visible if _rgba(model, g)[3] >= 1]
    translucent = [g for g in visible if _rgba(model, g)[3] < 1]
    zenith, horizon = _sky(model)
    return Scene(
        opaque=_layer(model, opaque, dtype),
        translucent=_layer(model, translucent, dtype),
        sun=jnp.asarray(_sun(model), dtype),
        zenith=jnp.asarray(zenith, dtype),
        horizon=jnp.asarray(horizon, dtype),
        extent=jnp.asarray(model.stat.extent, dtype),
    )


def _unsupported(model: mujoco.MjModel, geom: int) -> str:
    kind = mujoco.mjtGeom(model.geom_type[geom]).name.removeprefix("mjGEOM_").lower()
    name = (
        f"{model.geom(geom).name!r} (id {geom}, body {model.body(model.geom_bodyid[geom]).name!r})"
    )
    return (
        f"Geom {name} is of type {kind}, which the ray caster cannot draw. Hide it by putting it "
        "in a group that is not drawn (geom_groups), or replace it by a primitive: sphere, "
        "capsule, cylinder, box, ellipsoid or plane."
    )


def _layer(model: mujoco.MjModel, ids: Sequence[int], dtype) -> Layer:
    return Layer(
        **{
            kind: _geoms(model, [g for g in ids if _KINDS[int(model.geom_type[g])] == kind], dtype)
            for kind in Layer._fields
        }
    )


def _geoms(model: mujoco.MjModel, ids: Sequence[int], dtype) -> Geoms:
    rows = [_surface(model, g) for g in ids]

    def column(values, *shape):
        return jnp.asarray(np.reshape(np.asarray(values, np.float64), (len(ids), *shape)), dtype)

    return Geoms(
        geom_id=jnp.asarray(np.asarray(ids, np.int32)),
        size=column([_size(model, g) for g in ids], 3),
        rgba=column([(*row[0], _rgba(model, g)[3]) for g, row in zip(ids, rows, strict=True)], 4),
        rgb2=column([row[1] for row in rows], 3),
        cell=column([row[2] for row in rows], 2),
        gloss=column([_material(model, g, "mat_specular", 0.5) for g in ids]),
        emission=column([_material(model, g, "mat_emission", 0.0) for g in ids]),
        haze=column([_size(model, g)[0] == _INFINITE for g in ids]),
    )


def _size(model: mujoco.MjModel, geom: int) -> np.ndarray:
    size = np.array(model.geom_size[geom])
    if model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_SPHERE:
        return np.full(3, size[0])
    if model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_PLANE:
        return np.where(size > 0, size, _INFINITE)
    return np.where(size > 0, size, 1.0)  # entries that the kind does not use


def _material(model: mujoco.MjModel, geom: int, field: str, default: float) -> float:
    material = model.geom_matid[geom]
    return default if material < 0 else float(getattr(model, field)[material])


def _rgba(model: mujoco.MjModel, geom: int) -> np.ndarray:
    own, material = model.geom_rgba[geom], model.geom_matid[geom]
    is_default = np.array_equal(own, np.array([0.5, 0.5, 0.5, 1.0], own.dtype))
    return model.mat_rgba[material] if material >= 0 and is_default else own


def _surface(model: mujoco.MjModel, geom: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First and second colour and cell size [2] of a geom's checker, if its texture is one."""
    rgb, material = np.array(_rgba(model, geom)[:3], np.float64), model.geom_matid[geom]
    no_cell = np.ones(2)
    if material < 0:
        return rgb, rgb, no_cell
    texture = model.mat_texid[material, mujoco.mjtTextureRole.mjTEXROLE_RGB]
    if texture < 0:
        return rgb, rgb, no_cell
    image = _texture(model, texture)
    quadrants = _checker_colours(image)
    if quadrants is None or model.tex_type[texture] != mujoco.mjtTexture.mjTEXTURE_2D:
        average = rgb * image.reshape(-1, 3).mean(0)
        return average, average, no_cell
    # A texture spans two units of the geom's frame scaled to half size one, or two metres if
    # texuniform, divided by texrepeat; one cell is half of it.
    size = np.array(model.geom_size[geom, :2])
    relative = (size > 0) & ~np.array(model.mat_texuniform[material], bool)
    cell = np.where(relative, size, 1.0) / np.maximum(model.mat_texrepeat[material], 1e-6)
    return rgb * quadrants[0], rgb * quadrants[1], cell


def _texture(model: mujoco.MjModel, texture: int) -> np.ndarray:
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


def _sun(model: mujoco.MjModel) -> np.ndarray:
    direction = np.array(_DEFAULT_SUN)
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    mujoco.mj_camlight(model, data)
    for light in np.flatnonzero(model.light_active)[:1]:
        directional = model.light_type[light] == int(mujoco.mjtLightType.mjLIGHT_DIRECTIONAL)
        position, axis = data.light_xpos[light], data.light_xdir[light]
        towards = -axis if directional else position - model.stat.center
        if np.linalg.norm(towards) > 1e-6:
            direction = towards
    return direction / np.linalg.norm(direction)


def _sky(model: mujoco.MjModel) -> tuple[np.ndarray, np.ndarray]:
    """Zenith and horizon rgb, from the faces right, left, up, down, front, back of a skybox."""
    for texture in np.flatnonzero(model.tex_type == mujoco.mjtTexture.mjTEXTURE_SKYBOX)[:1]:
        image = _texture(model, texture)
        faces = image.reshape(-1, image.shape[1], image.shape[1], 3)
        side = faces[4 % len(faces)]
        return faces[2 % len(faces)].mean((0, 1)), side[side.shape[0] // 2].mean(0)
    return np.array(_DEFAULT_ZENITH), np.array(_DEFAULT_HORIZON)
