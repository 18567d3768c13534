"""From a MuJoCo model to the shapes the ray caster draws.

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

from jgps.core.host import to_device
from jgps.rendering.appearance import Appearance, appearance_of, geom_rgba, light_ids
from jgps.rendering.config import RenderConfig
from jgps.rendering.triangles import NotDrawableError, geom_name, geom_triangles, triangle_count

_KINDS = {
    int(mujoco.mjtGeom.mjGEOM_SPHERE): "ellipsoid",
    int(mujoco.mjtGeom.mjGEOM_ELLIPSOID): "ellipsoid",
    int(mujoco.mjtGeom.mjGEOM_CAPSULE): "capsule",
    int(mujoco.mjtGeom.mjGEOM_CYLINDER): "cylinder",
    int(mujoco.mjtGeom.mjGEOM_BOX): "box",
    int(mujoco.mjtGeom.mjGEOM_PLANE): "plane",
    int(mujoco.mjtGeom.mjGEOM_MESH): "mesh",
    int(mujoco.mjtGeom.mjGEOM_HFIELD): "mesh",
}
_INFINITE = 1e9  # metres; stands for MuJoCo's plane size 0, finite so that gradients are


class Geoms(NamedTuple):
    """The drawn geoms of one kind."""

    geom_id: jax.Array  # [n] int32, index into the model's geoms
    size: jax.Array  # [n, 3] half sizes in MuJoCo's order; spheres have three equal ones
    gloss: jax.Array  # [n] specular strength in [0, 1]
    emission: jax.Array  # [n] share of its own colour that a geom shines with
    haze: jax.Array  # [n] one where the geom fades into the horizon (infinite planes), else zero


class Triangles(NamedTuple):
    """The faces of all meshes and height fields of a layer."""

    corners: jax.Array  # [F, 3, 3] metres, geom frame, counter-clockwise seen from outside
    normal: jax.Array  # [F, 3] outward unit vectors, geom frame
    owner: jax.Array  # [F] int32, index into the layer's meshes


class Layer(NamedTuple):
    """Drawn geoms by kind. Kinds without a geom cost nothing."""

    ellipsoid: Geoms
    capsule: Geoms
    cylinder: Geoms
    box: Geoms
    plane: Geoms
    mesh: Geoms
    triangles: Triangles

    @property
    def kinds(self) -> dict[str, Geoms]:
        """Geoms by kind; rows of a layer count them in this order."""
        return {kind: getattr(self, kind) for kind in PRIMITIVES}

    @property
    def num_geoms(self) -> int:
        """How many geoms all kinds have together."""
        return sum(geoms.geom_id.shape[0] for geoms in self.kinds.values())


PRIMITIVES = tuple(field for field in Layer._fields if field != "triangles")


class Lights(NamedTuple):
    """What kinds the lights are; where they are and how bright is `Appearance`."""

    directional: jax.Array  # [L] one for parallel light, zero for light from a point
    shadow: jax.Array  # [L] one where the light casts shadows, else zero
    spot: jax.Array | None  # [L, 2] cosine of the cutoff and exponent; None if no light is a spot


class Scene(NamedTuple):
    """Everything the ray caster needs besides poses."""

    opaque: Layer
    translucent: Layer  # 0 < alpha < 1; the nearest one is blended over what lies behind
    lights: Lights
    appearance: Appearance  # the model's own, lights in the world frame of the model's qpos0
    center: jax.Array  # [3] middle of the model, metres
    extent: jax.Array  # [] size of the model, metres


def make_scene(
    model: mujoco.MjModel,
    *,
    geom_groups: Sequence[int] = (0, 1, 2),
    config: RenderConfig = RenderConfig(),
    dtype=jnp.float32,
) -> Scene:
    """Collects the visible geoms and the lights of a model; `appearance_of` says how they look.

    Args:
      model: compiled model.
      geom_groups: groups to draw, each in 0..5; MuJoCo's viewer shows 0, 1 and 2.
      config: its limit on the triangles of each mesh and height field, and whether those of more
        are drawn coarsely.
      dtype: of all floating-point leaves.

    Raises:
      NotDrawableError: a visible geom cannot be drawn (a signed distance field), or is a mesh or
        height field of too many triangles; or the model has a flex or a skin.
      ValueError: for a geom group that does not exist.
    """
    for what, count in (("flex", model.nflex), ("skin", model.nskin)):
        if count:
            raise NotDrawableError(
                f"The model has a {what}, which the ray caster does not draw; take it out, or put "
                "geoms in its place."
            )
    if any(group not in range(mujoco.mjNGROUP) for group in geom_groups):
        raise ValueError(f"geom_groups = {tuple(geom_groups)}: groups are integers from 0 to 5.")
    visible = _visible(model, geom_groups)
    for g in visible:
        if int(model.geom_type[g]) not in _KINDS:
            raise NotDrawableError(_unsupported(model, g))
    opaque = [g for g in visible if geom_rgba(model, g)[3] >= 1]
    translucent = [g for g in visible if geom_rgba(model, g)[3] < 1]
    scene = Scene(
        opaque=_layer(model, opaque, config),
        translucent=_layer(model, translucent, config),
        lights=_lights(model),
        appearance=_world_lights(model, appearance_of(model)),
        center=to_device(model.stat.center),
        extent=to_device(model.stat.extent),
    )
    return jax.tree.map(
        lambda a: jnp.asarray(a, dtype if jnp.issubdtype(a.dtype, jnp.floating) else a.dtype), scene
    )


def triangle_counts(model: mujoco.MjModel, geom_groups: Sequence[int] = (0, 1, 2)) -> np.ndarray:
    """How many triangles each visible geom has, 0 of a primitive."""
    return np.array([triangle_count(model, g) for g in _visible(model, geom_groups)], int)


def _visible(model: mujoco.MjModel, geom_groups: Sequence[int]) -> list[int]:
    """The geoms that are drawn."""
    return [
        g
        for g in range(model.ngeom)
        if model.geom_group[g] in geom_groups and geom_rgba(model, g)[3] > 0
    ]


def _unsupported(model: mujoco.MjModel, geom: int) -> str:
    kind = mujoco.mjtGeom(model.geom_type[geom]).name.removeprefix("mjGEOM_").lower()
    return (
        f"Geom {geom_name(model, geom)} is of type {kind}, which the ray caster cannot draw. Hide "
        "it by putting it in a group that is not drawn (geom_groups), or replace it by a mesh or a "
        "primitive: sphere, capsule, cylinder, box, ellipsoid or plane."
    )


def _layer(model: mujoco.MjModel, ids: Sequence[int], config: RenderConfig) -> Layer:
    by_kind = {k: [g for g in ids if _KINDS[int(model.geom_type[g])] == k] for k in PRIMITIVES}
    return Layer(
        **{kind: _geoms(model, members) for kind, members in by_kind.items()},
        triangles=_triangles(model, by_kind["mesh"], config),
    )


def _geoms(model: mujoco.MjModel, ids: Sequence[int]) -> Geoms:
    def column(values, *shape):
        return to_device(np.reshape(np.asarray(values, np.float64), (len(ids), *shape)))

    return Geoms(
        geom_id=to_device(ids, np.int32),
        size=column([_size(model, g) for g in ids], 3),
        gloss=column([_material(model, g, "mat_specular", 0.5) for g in ids]),
        emission=column([_material(model, g, "mat_emission", 0.0) for g in ids]),
        haze=column([_size(model, g)[0] == _INFINITE for g in ids]),
    )


def _triangles(model: mujoco.MjModel, ids: Sequence[int], config: RenderConfig) -> Triangles:
    parts = [geom_triangles(model, g, config.max_triangles, config.simplify) for g in ids]
    corners = np.concatenate([np.zeros((0, 3, 3)), *parts])
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-20)
    owner = np.repeat(np.arange(len(ids)), [len(part) for part in parts])
    return Triangles(
        corners=to_device(corners),
        normal=to_device(normal),
        owner=to_device(owner, np.int32),
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


def _lights(model: mujoco.MjModel) -> Lights:
    ids = light_ids(model)
    if not len(ids):
        return Lights(directional=to_device([1.0]), shadow=to_device([1.0]), spot=None)
    types = np.asarray(model.light_type)[ids]
    is_spot = types == int(mujoco.mjtLightType.mjLIGHT_SPOT)
    cutoff = np.cos(np.deg2rad(np.minimum(model.light_cutoff[ids], 180)))
    # OpenGL reads a cutoff of 180 degrees as light in all directions.
    narrow = is_spot & (model.light_cutoff[ids] < 180)
    spot = np.stack([np.where(narrow, cutoff, -2), np.where(narrow, model.light_exponent[ids], 0)])
    return Lights(
        directional=to_device(types == int(mujoco.mjtLightType.mjLIGHT_DIRECTIONAL), float),
        shadow=to_device(model.light_castshadow[ids], float),
        spot=to_device(spot.T) if narrow.any() else None,
    )


def _world_lights(model: mujoco.MjModel, appearance: Appearance) -> Appearance:
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    mujoco.mj_camlight(model, data)
    ids = light_ids(model)
    if not len(ids):
        return appearance
    return appearance._replace(
        light_position=to_device(data.light_xpos[ids]),
        light_direction=to_device(data.light_xdir[ids]),
    )
