"""MuJoCo's own OpenGL renderer for videos, where it works."""

from __future__ import annotations

import mujoco
import numpy as np

from jgps.mujoco_log import quiet_mujoco
from jgps.rendering.frames import Poses, frames_of


@quiet_mujoco()
def render_opengl(
    model: mujoco.MjModel,
    qpos: np.ndarray | Poses,
    camera: str | int | None = None,
    *,
    width: int = 320,
    height: int = 240,
) -> np.ndarray:
    """As `render`, by `mujoco.Renderer`.

    Args:
      model: compiled model.
      qpos: joint positions, [..., nq], or these with poses of mocap bodies.
      camera: name or id of a camera of the model, or None for MuJoCo's view of all of it.
      width, height: of each image, pixels.

    Returns:
      uint8 images, [..., height, width, 3].

    Raises:
      ValueError: wrong shape of `qpos`, an unknown camera, or no OpenGL on this machine.
    """
    lead, frames = frames_of(model, qpos)
    view: mujoco.MjvCamera | str | int
    if camera is None:
        view = mujoco.MjvCamera()
        mujoco.mjv_defaultFreeCamera(model, view)
    else:
        view = camera
    data = mujoco.MjData(model)
    images = np.empty((len(frames.qpos), height, width, 3), np.uint8)
    with _renderer(model, width, height) as renderer:
        for i, image in enumerate(images):
            for name, values in frames._asdict().items():
                getattr(data, name)[:] = values[i]
            mujoco.mj_forward(model, data)
            renderer.update_scene(data, view)
            renderer.render(out=image)
    return images.reshape(*lead, height, width, 3)


def _renderer(model: mujoco.MjModel, width: int, height: int) -> mujoco.Renderer:
    try:
        return mujoco.Renderer(model, height, width)
    except Exception as error:  # every backend fails in its own way
        raise ValueError(
            f"MuJoCo's OpenGL renderer does not work on this machine ({error}); set MUJOCO_GL to "
            "egl, osmesa or glfw, or draw with the ray caster"
        ) from error
