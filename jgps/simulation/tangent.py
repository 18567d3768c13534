"""Small changes of joint positions, in which a rotation has three numbers."""

import types
from typing import Any

import jax.numpy as jnp
import mujoco
import numpy as np

_FREE, _BALL = int(mujoco.mjtJoint.mjJNT_FREE), int(mujoco.mjtJoint.mjJNT_BALL)


def moved(model: mujoco.MjModel, qpos: Any, change: Any, xp: types.ModuleType = jnp) -> Any:
    """Joint positions [..., nq] after a change [..., nv], as `mj_integratePos` has it.

    Hinges and slides are moved by their own entry, in rad and metres, free joints first by three
    metres; free and ball joints are then turned about an axis in their body's frame, by its length
    in rad.
    """
    parts = []
    for joint in range(model.njnt):
        kind = int(model.jnt_type[joint])
        q, v = int(model.jnt_qposadr[joint]), int(model.jnt_dofadr[joint])
        shift = {_FREE: 3, _BALL: 0}.get(kind, 1)
        parts.append(qpos[..., q : q + shift] + change[..., v : v + shift])
        if kind in (_FREE, _BALL):
            turn = change[..., v + shift : v + shift + 3]
            parts.append(_turned(qpos[..., q + shift : q + shift + 4], turn, xp))
    return xp.concatenate(parts, axis=-1) if parts else qpos


def _turned(quat: Any, turn: Any, xp: types.ModuleType) -> Any:
    """The quaternion times that of a rotation about `turn` [..., 3] by its length."""
    angle = xp.sqrt(xp.sum(turn * turn, axis=-1, keepdims=True))
    # sin(angle / 2) / angle, which is 1/2 at no rotation.
    share = 0.5 * xp.sinc(angle / (2 * np.pi))
    w, v = xp.cos(0.5 * angle), share * turn
    a, b = quat[..., :1], quat[..., 1:]
    product = [
        a * w - xp.sum(b * v, axis=-1, keepdims=True),
        a * v + w * b + xp.cross(b, v),
    ]
    return xp.concatenate(product, axis=-1)
