"""What numbers a state or an observation may be put together from, and where each of them lies.

That is all of [qpos, qvel, act, sensordata, rotations of the quaternions, phases, ctrl, image].
"""

import types
from typing import Any, NamedTuple

import mujoco
import numpy as np


class FeaturePlaces(NamedTuple):
    """Where the parts of the features begin; each ends where the next one begins."""

    qvel: int
    act: int
    sensors: int
    rotations: int
    phases: int
    ctrl: int
    image: int


def feature_places(model: mujoco.MjModel, num_phases: int) -> FeaturePlaces:
    """Places in the features of a model with so many phases."""
    sizes = (
        *(model.nq, model.nv, model.na, model.nsensordata),
        *(6 * len(quaternion_addresses(model)), 2 * num_phases, model.nu),
    )
    return FeaturePlaces(*(int(end) for end in np.cumsum(sizes)))


def quaternion_addresses(model: mujoco.MjModel) -> list[int]:
    """Where in qpos the quaternions of free and ball joints begin."""
    free, ball = int(mujoco.mjtJoint.mjJNT_FREE), int(mujoco.mjtJoint.mjJNT_BALL)
    return [
        int(model.jnt_qposadr[j]) + (3 if int(model.jnt_type[j]) == free else 0)
        for j in range(model.njnt)
        if int(model.jnt_type[j]) in (free, ball)
    ]


def unit_quaternions(model: mujoco.MjModel, qpos: Any, xp: types.ModuleType = np) -> Any:
    """The same qpos [..., nq] with quaternions of free and ball joints at unit length.

    Those that are, up to rounding, stay as they are to the last bit.
    """
    for address in quaternion_addresses(model):
        end = address + 4
        quat = qpos[..., address:end]
        length = xp.sqrt(xp.sum(quat * quat, axis=-1, keepdims=True))
        rounding = 8 * float(xp.finfo(length.dtype).eps)
        quat = quat / xp.where(xp.abs(length - 1) <= rounding, 1, length)
        qpos = xp.concatenate([qpos[..., :address], quat, qpos[..., end:]], axis=-1)
    return qpos


def first_two_columns(quat: Any, xp: types.ModuleType) -> Any:
    """Columns x and y of the rotation matrix of a quaternion (w, x, y, z): [..., 4] -> [..., 6]."""
    w, x, y, z = (quat[..., i] for i in range(4))
    columns = (
        w * w + x * x - y * y - z * z,
        2 * (x * y + w * z),
        2 * (x * z - w * y),
        2 * (x * y - w * z),
        w * w - x * x + y * y - z * z,
        2 * (y * z + w * x),
    )
    return xp.stack(columns, axis=-1)


def phase(time: Any, period: float, xp: types.ModuleType) -> Any:
    """Cosine and sine of 2 pi time / period, [...] -> [..., 2]; both in seconds.

    Whole turns are taken off first, so that float32 keeps the rest.
    """
    turns = time / period
    angle = 2 * np.pi * (turns - xp.floor(turns))
    return xp.stack([xp.cos(angle), xp.sin(angle)], axis=-1)
