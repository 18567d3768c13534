"""Pinhole cameras in MuJoCo's convention: x right, y up, looking along -z."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jgps.core.checks import Config, Range
from jgps.core.names import did_you_mean


class CameraPose(NamedTuple):
    """Where a camera is; what the ray caster reads."""

    position: jax.Array | np.ndarray  # [..., 3] metres, world frame
    rotation: (
        jax.Array | np.ndarray
    )  # [..., 3, 3] columns are the camera's right, up and backward axes
    fovy: jax.Array | np.ndarray  # [...] vertical field of view, degrees


@dataclass(frozen=True, kw_only=True)
class Camera(Config):
    """A free camera that looks at a point, as in MuJoCo's viewer.

    Attributes:
      lookat: point in the middle of the image, metres.
      distance: from `lookat`, metres, positive.
      azimuth: heading of the view direction about world z, degrees; 90 looks along +y.
      elevation: degrees in [-90, 90], negative looks down.
      fovy: vertical field of view, degrees, in (0, 180).
    """

    lookat: Annotated[tuple[float, float, float], Range()] = (0.0, 0.0, 0.0)
    distance: Annotated[float, Range("> 0", "usually 2 metres")] = 2.0
    azimuth: Annotated[float, Range()] = 135.0
    elevation: Annotated[float, Range("[-90, 90]")] = -25.0
    fovy: Annotated[float, Range("(0, 180)")] = 45.0


def framing(model: mujoco.MjModel, *, azimuth: float = 135.0, elevation: float = -25.0) -> Camera:
    """A free camera that shows the whole model, from its compiled centre and extent."""
    center = model.stat.center
    return Camera(
        lookat=(float(center[0]), float(center[1]), float(center[2])),
        distance=1.25 * float(model.stat.extent),
        azimuth=azimuth,
        elevation=elevation,
        fovy=float(model.vis.global_.fovy),
    )


def free_pose(camera: Camera) -> CameraPose:
    """Pose of a free camera, float64 NumPy leaves without batch axes."""
    azimuth, elevation = math.radians(camera.azimuth), math.radians(camera.elevation)
    ca, sa, ce, se = math.cos(azimuth), math.sin(azimuth), math.cos(elevation), math.sin(elevation)
    forward = np.array([ce * ca, ce * sa, se])
    up = np.array([-se * ca, -se * sa, ce])
    right = np.cross(forward, up)
    return CameraPose(
        position=np.asarray(camera.lookat) - camera.distance * forward,
        rotation=np.stack([right, up, -forward], axis=-1),
        fovy=np.asarray(camera.fovy),
    )


def camera_id(model: mujoco.MjModel, camera: str | int, size: tuple[int, int] | None = None) -> int:
    """Id of a model camera, for images of a size (width, height).

    Raises:
      ValueError: no such camera, or one that is not a plain pinhole.
    """
    names = [model.camera(i).name for i in range(model.ncam)]
    index = names.index(camera) if camera in names else camera
    if not isinstance(index, (int, np.integer)) or not 0 <= index < model.ncam:
        known = ", ".join(repr(n) if n else str(i) for i, n in enumerate(names)) or "none"
        raise ValueError(
            f"The model has no camera {camera!r}; its cameras: {known}. "
            "Pass one of them, a Camera(...), or None to frame the model"
            f"{did_you_mean(camera, names) or '.'}"
        )
    if model.cam_projection[index] != mujoco.mjtProjection.mjPROJ_PERSPECTIVE:
        raise ValueError(f"Camera {camera!r} is orthographic; only perspective cameras are drawn.")
    if model.cam_sensorsize[index].all() and model.cam_intrinsic[index, 2:].any():
        raise ValueError(
            f"Camera {camera!r} has a principal point off the image centre, which is not drawn; "
            "set principal to 0 0 or give fovy."
        )
    if model.cam_sensorsize[index].all():
        focal, sensor = model.cam_intrinsic[index, :2], model.cam_sensorsize[index]
        if abs(focal[0] - focal[1]) > 1e-6 * focal[1]:
            raise ValueError(
                f"Camera {camera!r} has other focal lengths across ({focal[0]:g}) and up "
                f"({focal[1]:g}), which is not drawn; make them equal or give fovy."
            )
        if size is not None and abs(sensor[0] / sensor[1] * size[1] / size[0] - 1) > 1e-3:
            raise ValueError(
                f"Camera {camera!r} has a sensor of {sensor[0]:g} by {sensor[1]:g}, and images are "
                f"{size[0]} by {size[1]}; give both the same aspect, or the camera fovy."
            )
    return int(index)


def pixel_grid(width: int, height: int, dtype) -> jax.Array:
    """Pixel centres [2, height * width], row by row from the top left.

    Units are half image heights: y spans [-1, 1] upwards, x spans the aspect ratio.
    """
    x = (2 * jnp.arange(width, dtype=dtype) + 1 - width) / height
    y = (height - 1 - 2 * jnp.arange(height, dtype=dtype)) / height
    x, y = jnp.meshgrid(x, y)
    return jnp.stack([x.ravel(), y.ravel()]).astype(dtype)
