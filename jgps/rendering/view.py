"""A camera for policies: images from the poses of bodies, inside jit, on any physics backend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jgps.core.one_program import one_program
from jgps.rendering.appearance import Appearance, appearance_of, light_ids
from jgps.rendering.camera import Camera, CameraPose, camera_id, framing, free_pose
from jgps.rendering.cast import Image, check_size, raycast, raycast_rgb
from jgps.rendering.config import RenderConfig
from jgps.rendering.scene import Scene, make_scene

_FIXED = int(mujoco.mjtCamLight.mjCAMLIGHT_FIXED)
_TRACK = int(mujoco.mjtCamLight.mjCAMLIGHT_TRACK)
_TRACKCOM = int(mujoco.mjtCamLight.mjCAMLIGHT_TRACKCOM)


class Mount(NamedTuple):
    """Where things are fixed to bodies."""

    body: jax.Array  # [n] int32
    position: jax.Array  # [n, 3] in the body's frame, metres
    rotation: jax.Array  # [n, 3, 3]
    turns: jax.Array  # [n] one where it turns with the body, zero where it only moves along


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["scene", "appearance", "geoms", "lights", "camera", "fovy"],
    meta_fields=["num_bodies", "width", "height", "config"],
)
@dataclass(frozen=True, kw_only=True)
class View:
    """One camera of one model; a pytree of constant arrays. Made by `make_view`."""

    scene: Scene
    appearance: Appearance  # the model's own
    geoms: Mount
    lights: Mount
    camera: Mount  # one
    fovy: jax.Array  # [] degrees
    num_bodies: int
    width: int
    height: int
    config: RenderConfig

    def draw(
        self,
        body_xpos: jax.Array | np.ndarray,
        body_xmat: jax.Array | np.ndarray,
        appearance: Appearance | None = None,
        *,
        as_uint8: bool = False,
    ) -> Image:
        """What the camera sees for given poses of all the model's bodies, in the world frame.

        Args:
          body_xpos: [..., B, 3] metres, the world first, as MuJoCo's `xpos`.
          body_xmat: [..., B, 3, 3] or [..., B, 9].
          appearance: each field with the leading axes of the poses, or with none; the model's own
            by default.
          as_uint8: colours as bytes.

        Returns:
          Image with leading axes `...`. Memory is bounded whatever their sizes: images are drawn
          in groups (`RenderConfig.block`). Under vmap all are drawn at once.

        Raises:
          ValueError: while tracing, if shapes disagree.
        """
        arguments = self._poses(body_xpos, body_xmat, appearance)
        size = {"width": self.width, "height": self.height}
        return raycast(self.scene, *arguments, **size, config=self.config, as_uint8=as_uint8)

    def draw_rgb(
        self,
        body_xpos: jax.Array | np.ndarray,
        body_xmat: jax.Array | np.ndarray,
        appearance: Appearance | None = None,
        *,
        as_uint8: bool = False,
    ) -> jax.Array:
        """Only the colours of `draw`, [..., height, width, 3]."""
        arguments = self._poses(body_xpos, body_xmat, appearance)
        size = {"width": self.width, "height": self.height}
        return raycast_rgb(self.scene, *arguments, **size, config=self.config, as_uint8=as_uint8)

    @one_program()
    def _poses(self, body_xpos, body_xmat, appearance):
        """Geom positions and rotations, camera, and appearance with lights in the world frame."""
        xpos, num = jnp.asarray(body_xpos), self.num_bodies
        lead = xpos.shape[:-2]
        if xpos.shape != (*lead, num, 3):
            raise ValueError(
                f"body_xpos has shape {xpos.shape}; expected [..., {num}, 3], all bodies of the "
                "model with the world first."
            )
        if jnp.shape(body_xmat) not in ((*lead, num, 3, 3), (*lead, num, 9)):
            raise ValueError(
                f"body_xmat has shape {jnp.shape(body_xmat)}; expected {(*lead, num, 3, 3)}."
            )
        xmat = jnp.asarray(body_xmat, xpos.dtype).reshape(*lead, num, 3, 3)
        appearance = self.appearance if appearance is None else appearance
        if appearance.blur.shape[:-1] not in ((), lead):
            raise ValueError(
                f"appearance has leading axes {appearance.blur.shape[:-1]} and the poses {lead}; "
                "repeat the poses, one for each appearance."
            )
        geom_xpos, geom_xmat = _place(self.geoms, xpos, xmat)
        light_xpos, light_xmat = _place(
            self.lights._replace(position=appearance.light_position), xpos, xmat
        )
        moved = appearance._replace(
            light_position=light_xpos, light_direction=_turn(light_xmat, appearance.light_direction)
        )
        position, axes = _place(self.camera, xpos, xmat)
        position, axes = position[..., 0, :], axes[..., 0, :, :]
        pose = CameraPose(
            position=position + _turn(axes, appearance.camera_offset),
            rotation=_product(axes, rotation_of(appearance.camera_turn)),
            fovy=jnp.broadcast_to(self.fovy + appearance.camera_fovy, lead),
        )
        return geom_xpos, geom_xmat, pose, moved


def make_view(
    model: mujoco.MjModel,
    camera: Camera | str | int | None = None,
    *,
    width: int = 64,
    height: int = 64,
    config: RenderConfig = RenderConfig(),
    geom_groups: Sequence[int] = (0, 1, 2),
) -> View:
    """Prepares a camera that draws from the poses of bodies alone.

    Args:
      camera: name or id of a camera of the model (fixed to a body, or moving along with one), a
        free `Camera`, or None for a view of the whole model.
      width, height: of each image, pixels.
      config: quality, and limits on memory and triangles.
      geom_groups: geom groups to draw.

    Raises:
      ValueError: an unknown camera, a camera or light that aims at a body, an image without
        pixels, or a visible geom that cannot be drawn (see `make_scene`).
    """
    check_size(width, height)
    if camera is None:
        camera = framing(model)
    if isinstance(camera, Camera):
        pose = free_pose(camera)
        mount = _mount(np.zeros(1), pose.position[None], pose.rotation[None], np.ones(1))
        fovy = camera.fovy
    else:
        index = camera_id(model, camera, (width, height))
        mount, fovy = _camera(model, index), model.cam_fovy[index]
    geom_xmat = _matrices(model.geom_quat)
    return View(
        scene=make_scene(model, geom_groups=geom_groups, config=config),
        appearance=appearance_of(model),
        geoms=_mount(model.geom_bodyid, model.geom_pos, geom_xmat, np.ones(model.ngeom)),
        lights=_lights(model),
        camera=mount,
        fovy=jnp.float32(fovy),
        num_bodies=model.nbody,
        width=width,
        height=height,
        config=config,
    )


def _mount(body, position, rotation, turns) -> Mount:
    return Mount(
        body=jnp.asarray(body, jnp.int32),
        position=jnp.asarray(position, jnp.float32),
        rotation=jnp.asarray(rotation, jnp.float32),
        turns=jnp.asarray(turns, jnp.float32),
    )


def _camera(model: mujoco.MjModel, index: int) -> Mount:
    mode, body = int(model.cam_mode[index]), model.cam_bodyid[index : index + 1]
    if mode == _FIXED:
        rotation = _matrices(model.cam_quat[index : index + 1])
        return _mount(body, model.cam_pos[index : index + 1], rotation, np.ones(1))
    if mode == _TRACK:
        rotation = model.cam_mat0[index].reshape(1, 3, 3)
        return _mount(body, model.cam_pos0[index : index + 1], rotation, np.zeros(1))
    raise ValueError(
        f"Camera {model.camera(index).name or index!r} follows a centre of mass or aims at a body, "
        "which a view cannot do: give it mode fixed or track, or draw with jgps.rendering.render."
    )


def _lights(model: mujoco.MjModel) -> Mount:
    ids = light_ids(model)
    if not len(ids):
        return _mount(np.zeros(1), np.zeros((1, 3)), np.eye(3)[None], np.zeros(1))
    for light in ids:
        if model.light_mode[light] not in (_FIXED, _TRACK, _TRACKCOM):
            raise ValueError(
                f"Light {model.light(light).name or light!r} aims at a body, which a view cannot "
                "do: give it mode fixed or track."
            )
    # A light that follows a centre of mass follows the body's origin here.
    turns = model.light_mode[ids] == _FIXED
    rotation = np.broadcast_to(np.eye(3), (len(ids), 3, 3))
    return _mount(model.light_bodyid[ids], np.zeros((len(ids), 3)), rotation, turns)


def _matrices(quaternions: np.ndarray) -> np.ndarray:
    """Rotation matrices [n, 3, 3] of unit quaternions [n, 4]."""
    matrices = np.empty((len(quaternions), 9))
    for matrix, quaternion in zip(matrices, quaternions, strict=True):
        mujoco.mju_quat2Mat(matrix, quaternion)
    return matrices.reshape(-1, 3, 3)


def _place(mount: Mount, xpos: jax.Array, xmat: jax.Array) -> tuple[jax.Array, jax.Array]:
    """World positions [..., n, 3] and rotations [..., n, 3, 3] of what is mounted."""
    turns = mount.turns[:, None, None] > 0
    frame = jnp.where(turns, xmat[..., mount.body, :, :], jnp.eye(3, dtype=xmat.dtype))
    return xpos[..., mount.body, :] + _turn(frame, mount.position), _product(frame, mount.rotation)


# Sums of products written out: they place what is seen, and accelerators round matrix products.
def _turn(rotation: jax.Array, vector: jax.Array) -> jax.Array:
    return jnp.sum(rotation * vector[..., None, :], axis=-1)


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.sum(a[..., :, :, None] * b[..., None, :, :], axis=-2)


def rotation_of(vector: jax.Array) -> jax.Array:
    """Rotation matrix [..., 3, 3] about a vector [..., 3] by its length in radians (Rodrigues)."""
    squared = jnp.sum(vector**2, axis=-1)[..., None, None]
    small = squared < 1e-8
    angle = jnp.sqrt(jnp.where(small, 1, squared))
    first = jnp.where(small, 1 - squared / 6, jnp.sin(angle) / angle)
    second = jnp.where(small, 0.5 - squared / 24, (1 - jnp.cos(angle)) / angle**2)
    x, y, z = (vector[..., i] for i in range(3))
    zero = jnp.zeros_like(x)
    rows = [jnp.stack(row, axis=-1) for row in ((zero, -z, y), (z, zero, -x), (-y, x, zero))]
    skew = jnp.stack(rows, axis=-2)
    return jnp.eye(3, dtype=vector.dtype) + first * skew + second * _product(skew, skew)
