"""From joint positions to pictures in one call."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import mujoco
import numpy as np

from jgps.rendering.appearance import Appearance, appearance_of, light_ids
from jgps.rendering.camera import Camera, CameraPose, camera_id, framing, free_pose
from jgps.rendering.cast import raycast_rgb
from jgps.rendering.config import RenderConfig
from jgps.rendering.scene import make_scene


class Poses(NamedTuple):
    """What places the bodies of a model in frames [...]."""

    qpos: np.ndarray  # joint positions, [..., nq]
    mocap_pos: np.ndarray  # of the mocap bodies, [..., nmocap, 3], metres
    mocap_quat: np.ndarray  # [..., nmocap, 4] (w, x, y, z)


_VIDEO = RenderConfig(shadows=4, supersample=2)
_PIXELS_AT_ONCE = 2**21  # images are drawn, converted and copied out in groups of this many pixels


def render(
    model: mujoco.MjModel,
    qpos: np.ndarray | jax.Array | Poses,
    camera: Camera | str | int | None = None,
    *,
    width: int = 320,
    height: int = 240,
    config: RenderConfig = _VIDEO,
    geom_groups: Sequence[int] = (0, 1, 2),
) -> np.ndarray:
    """Draws a model in given joint positions, without OpenGL.

    Args:
      model: compiled model; geom colours, camera and sky are its own.
      qpos: joint positions, [..., nq], or these with poses of mocap bodies, which are otherwise
        where the model has them.
      camera: name or id of a camera of the model, a free `Camera`, or None for a view of all of it.
      width, height: of each image, pixels.
      config: quality; `RenderConfig()` is the fastest.
      geom_groups: geom groups to draw.

    Returns:
      uint8 images, [..., height, width, 3].

    Raises:
      ValueError: wrong shape of `qpos`, non-finite positions, an unknown camera, or a visible geom
        that cannot be drawn (see `make_scene`).
    """
    lead, frames = frames_of(model, qpos)
    num, finite = len(frames.qpos), np.isfinite(frames.qpos).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"qpos of frame {int(np.argmin(finite))} of {num} is not finite; "
            "leave invalid rollouts out."
        )
    scene = make_scene(model, geom_groups=geom_groups, config=config)
    poses = _kinematics(model, frames, camera, scene.appearance)
    images = np.empty((num, height, width, 3), np.uint8)
    group = max(1, min(num, _PIXELS_AT_ONCE // (width * height)))
    for start in range(0, num, group):
        # The last group repeats its last frame, so that every group has one shape.
        index = np.minimum(np.arange(start, start + group), num - 1)
        part = raycast_rgb(
            scene,
            *jax.tree.map(partial(_group, index), poses),
            width=width,
            height=height,
            config=config,
            as_uint8=True,
        )
        images[start : start + group] = np.asarray(part)[: num - start]
    return images.reshape(*lead, height, width, 3)


def frames_of(
    model: mujoco.MjModel, qpos: np.ndarray | jax.Array | Poses
) -> tuple[tuple[int, ...], Poses]:
    """The shape of the frames, and what places bodies in them in a row, in float64.

    Raises:
      ValueError: a shape does not fit the model.
    """
    given = qpos if isinstance(qpos, Poses) else None
    qpos = np.asarray(qpos if given is None else given.qpos, np.float64)
    if qpos.ndim < 1 or qpos.shape[-1] != model.nq:
        raise ValueError(f"qpos has shape {qpos.shape}; this model needs [..., {model.nq}].")
    lead, num, own = qpos.shape[:-1], math.prod(qpos.shape[:-1]), mujoco.MjData(model)
    mocap = []
    for name in ("mocap_pos", "mocap_quat"):
        place = getattr(own, name)
        value = np.asarray(place if given is None else getattr(given, name), np.float64)
        if given is not None and value.shape != (*lead, *place.shape):
            raise ValueError(
                f"{name} has shape {value.shape}; these frames need {(*lead, *place.shape)}."
            )
        mocap.append(np.broadcast_to(value, (*lead, *place.shape)).reshape(num, *place.shape))
    return lead, Poses(qpos.reshape(num, model.nq), *mocap)


def scene_poses(
    model: mujoco.MjModel, qpos: np.ndarray | Poses, camera: Camera | str | int | None = None
) -> tuple[np.ndarray, np.ndarray, CameraPose]:
    """Geom and camera poses of every frame, by MuJoCo's own kinematics.

    Args:
      qpos: [M, nq], or these with poses of mocap bodies.
      camera: as in `render`.

    Returns:
      geom positions [M, G, 3], rotations [M, G, 3, 3], and camera poses with a leading axis M.
    """
    frames = frames_of(model, qpos)[1]
    xpos, xmat, pose, _ = _kinematics(model, frames, camera, appearance_of(model))
    return xpos, xmat, pose


def _kinematics(
    model: mujoco.MjModel,
    frames: Poses,
    camera: Camera | str | int | None,
    appearance: Appearance,
) -> tuple[np.ndarray, np.ndarray, CameraPose, Appearance]:
    """As `scene_poses`, and appearances with the lights where they are in every frame."""
    count, lights = len(frames.qpos), light_ids(model)
    place = np.empty((2, count, *appearance.light_position.shape))
    if not len(lights):
        place[0], place[1] = appearance.light_position, appearance.light_direction
    free = framing(model) if camera is None else camera if isinstance(camera, Camera) else None
    index = -1 if free else camera_id(model, camera)  # pyright: ignore[reportArgumentType]
    xpos, xmat = np.empty((count, model.ngeom, 3)), np.empty((count, model.ngeom, 9))
    position, axes = np.empty((count, 3)), np.empty((count, 9))
    data = mujoco.MjData(model)
    for i in range(count):
        for name, values in frames._asdict().items():
            getattr(data, name)[:] = values[i]
        mujoco.mj_kinematics(model, data)
        xpos[i], xmat[i] = data.geom_xpos, data.geom_xmat
        mujoco.mj_comPos(model, data)  # tracking cameras and lights follow centres of mass
        mujoco.mj_camlight(model, data)
        if len(lights):
            place[0, i], place[1, i] = data.light_xpos[lights], data.light_xdir[lights]
        if free is None:
            position[i], axes[i] = data.cam_xpos[index], data.cam_xmat[index]
    if free is None:
        pose = CameraPose(position, axes.reshape(-1, 3, 3), np.full(count, model.cam_fovy[index]))
    else:
        pose = jax.tree.map(lambda a: np.broadcast_to(a, (count, *a.shape)), free_pose(free))
    fields = {k: np.broadcast_to(v, (count, *v.shape)) for k, v in appearance._asdict().items()}
    fields |= {"light_position": place[0], "light_direction": place[1]}
    appearances = Appearance(**fields)  # pyright: ignore[reportArgumentType]
    return xpos, xmat.reshape(count, -1, 3, 3), pose, appearances


def _group(index: np.ndarray, values: np.ndarray | jax.Array) -> np.ndarray:
    """Those of `values` [M, ...] that are drawn together, in the ray caster's precision."""
    return np.asarray(values)[index].astype(np.float32)
