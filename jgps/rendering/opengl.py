"""MuJoCo's own OpenGL renderer for videos, where it works."""

from __future__ import annotations

import math

import mujoco
import numpy as np

from jgps.mujoco_log import quiet_mujoco


@quiet_mujoco()
def render_opengl(
    model: mujoco.MjModel,
    qpos: np.ndarray,
    camera: str | int | None = None,
    *,
    width: int = 320,
    height: int = 240,
) -> np.ndarray:
    """As `render`, by `mujoco.Renderer`.

    Args:
      model: compiled model.
      qpos: joint positions, [..., nq].
      camera: name or id of a camera of the model, or None for MuJoCo's view of all of it.
      width, height: of each image, pixels.

    Returns:
      uint8 images, [..., height, width, 3].

    Raises:
      ValueError: wrong shape of `qpos`, an unknown camera, or no OpenGL on this machine.
    """
    qpos = np.asarray(qpos, np.float64)
    if qpos.ndim < 1 or qpos.shape[-1] != model.nq:
        raise ValueError(f"qpos has shape {qpos.shape}; this model needs [..., {model.nq}].")
    view: mujoco.MjvCamera | str | int
    if camera is None:
        view = mujoco.MjvCamera()
        mujoco.mjv_defaultFreeCamera(model, view)
    else:
        view = camera
    data, frames = mujoco.MjData(model), qpos.reshape(math.prod(qpos.shape[:-1]), model.nq)
    images = np.empty((len(frames), height, width, 3), np.uint8)
    with _renderer(model, width, height) as renderer:
        for image, frame in zip(images, frames, strict=True):
            data.qpos[:] = frame
            mujoco.mj_forward(model, data)
            renderer.update_scene(data, view)
            renderer.render(out=image)
    return images.reshape(*qpos.shape[:-1], height, width, 3)


def _renderer(model: mujoco.MjModel, width: int, height: int) -> mujoco.Renderer:
    try:
        return mujoco.Renderer(model, height, width)
    except Exception as error:  # every backend fails in its own way
        raise ValueError(
            f"MuJoCo's OpenGL renderer does not work on this machine ({error}); set MUJOCO_GL to "
            "egl, osmesa or glfw, or draw with the ray caster"
        ) from error
