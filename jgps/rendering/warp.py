"""MuJoCo Warp's batched renderer, where it is installed: a third way to draw the same scenes."""

from __future__ import annotations

import copy
import functools
import importlib
from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np

from jgps.mujoco_log import quiet_mujoco
from jgps.rendering.camera import camera_id

# As MJX ships it; its renderer in JAX (`mjx.render`) needs CUDA, this one works on a CPU too.
_MUJOCO_WARP = "mujoco.mjx.third_party.mujoco_warp"


@functools.cache
def warp_available() -> bool:
    """Whether MuJoCo Warp can be imported: the extra `warp` installs it."""
    try:
        importlib.import_module(_MUJOCO_WARP)
    except (ImportError, AttributeError):  # the latter of a Warp that does not suit it
        return False
    return True


@quiet_mujoco()
def warp_renderer(
    model: mujoco.MjModel,
    camera: str | int,
    num: int,
    *,
    width: int = 64,
    height: int = 64,
    shadows: bool = False,
) -> Callable[[np.ndarray], np.ndarray]:
    """A function that draws a batch of poses, on Warp's default device: a GPU where there is one.

    Materials and lights are drawn in its own way: colours differ from those of `render`.

    Args:
      model: compiled model.
      camera: name or id of a camera of the model.
      num: images in a batch.
      width, height: of each image, pixels.
      shadows: hard ones, where some light is left.

    Returns:
      draw(qpos [num, nq]) -> uint8 images [num, height, width, 3].

    Raises:
      ValueError: without MuJoCo Warp, for an unknown camera or a model that it doesn't draw; from
        `draw` for another shape.
    """
    if not warp_available():
        raise ValueError(
            "MuJoCo Warp is not installed; pip install 'jgps[warp]', or draw with the ray caster"
        )
    wp, mjw = importlib.import_module("warp"), importlib.import_module(_MUJOCO_WARP)
    chosen = camera_id(model, camera)
    model = copy.copy(model)
    # Warp refuses to be without this reset of diverged simulations; nothing is simulated here.
    model.opt.disableflags &= ~int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    device = wp.get_device()
    with wp.ScopedDevice(device):
        try:
            scene, worlds = mjw.put_model(model), mjw.put_data(model, data, nworld=num)
            context: Any = mjw.create_render_context(
                model, nworld=num, cam_res=(width, height), render_rgb=True, render_depth=False,
                render_seg=False, cam_active=[i == chosen for i in range(model.ncam)],
                use_shadows=shadows,
            )  # fmt: skip
        except NotImplementedError as error:
            raise ValueError(f"MuJoCo Warp does not draw this model: {error}") from error

    def draw(qpos: np.ndarray) -> np.ndarray:
        qpos = np.asarray(qpos, np.float32)
        if qpos.shape != (num, model.nq):
            raise ValueError(f"qpos has shape {qpos.shape}; this needs {(num, model.nq)}")
        with wp.ScopedDevice(device):
            worlds.qpos.assign(qpos)
            mjw.kinematics(scene, worlds)
            mjw.com_pos(scene, worlds)  # which some cameras and lights follow
            mjw.camlight(scene, worlds)
            mjw.refit_bvh(scene, worlds, context)
            mjw.render(scene, worlds, context)
            packed = context.rgb_data.numpy().view(np.uint8)  # blue, green, red, alpha
        return np.ascontiguousarray(packed.reshape(num, height, width, 4)[..., 2::-1])

    return draw
