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
    if model.nq == model.nv:  # no rotation has more numbers than its change
        return qpos + change
    parts = []
    for q, v, rotates in _runs(model):
        if rotates:
            parts.append(_turned(qpos[..., q], change[..., v], xp))
        else:
            parts.append(qpos[..., q] + change[..., v])
    return xp.concatenate(parts, axis=-1) if parts else qpos


def _runs(model: mujoco.MjModel) -> list[tuple[slice, slice, bool]]:
    """Places in qpos and in its change, one after the other: a rotation, or all up to the next."""
    runs, q, v = [], 0, 0
    kinds = model.jnt_type
    for joint in np.flatnonzero((kinds == _FREE) | (kinds == _BALL)):
        shift = 3 if kinds[joint] == _FREE else 0
        turn_q, turn_v = int(model.jnt_qposadr[joint]) + shift, int(model.jnt_dofadr[joint]) + shift
        if turn_q > q:
            runs.append((slice(q, turn_q), slice(v, turn_v), False))
        q, v = turn_q + 4, turn_v + 3
        runs.append((slice(turn_q, q), slice(turn_v, v), True))
    if model.nq > q:
        runs.append((slice(q, model.nq), slice(v, model.nv), False))
    return runs


def _turned(quat: Any, turn: Any, xp: types.ModuleType) -> Any:
    """The quaternion times that of a rotation about `turn` [..., 3] by its length."""
    squared = xp.sum(turn * turn, axis=-1, keepdims=True)
    # Without a turn the root has no derivative, and what follows needs none of it.
    angle = xp.where(squared > 0, xp.sqrt(xp.where(squared > 0, squared, 1)), 0)
    # sin(angle / 2) / angle, which is 1/2 at no rotation.
    share = 0.5 * xp.sinc(angle / (2 * np.pi))
    w, v = xp.cos(0.5 * angle), share * turn
    a, b = quat[..., :1], quat[..., 1:]
    product = [
        a * w - xp.sum(b * v, axis=-1, keepdims=True),
        a * v + w * b + xp.cross(b, v),
    ]
    return xp.concatenate(product, axis=-1)


def difference(model: mujoco.MjModel, qpos: Any, start: Any, xp: types.ModuleType = jnp) -> Any:
    """The change [..., nv] that moves joint positions from `start` to `qpos`, both [..., nq].

    The inverse of `moved`, as `mj_differentiatePos` has it.
    """
    if model.nq == model.nv:  # no rotation has more numbers than its change
        return qpos - start
    qpos, start = xp.broadcast_arrays(qpos, start)
    parts = []
    for q, _, rotates in _runs(model):
        if rotates:
            parts.append(_turn_between(qpos[..., q], start[..., q], xp))
        else:
            parts.append(qpos[..., q] - start[..., q])
    return xp.concatenate(parts, axis=-1) if parts else qpos


def change_of_state(model: mujoco.MjModel, states: np.ndarray, start: np.ndarray) -> np.ndarray:
    """What changes simulators' states `start` to `states`, [..., dS].

    Both are [..., nstate] of mjSTATE_INTEGRATION, of which positions, velocities and activations
    count.
    """
    q, rest = slice(1, 1 + model.nq), slice(1 + model.nq, 1 + model.nq + model.nv + model.na)
    dq = difference(model, states[..., q], start[..., q], np)
    return np.concatenate([dq, states[..., rest] - start[..., rest]], axis=-1)


def _turn_between(quat: Any, start: Any, xp: types.ModuleType) -> Any:
    """The rotation [..., 3] in the body's frame that turns `start` into `quat`."""
    a, b = start[..., :1], -start[..., 1:]
    w, v = quat[..., :1], quat[..., 1:]
    real = a * w - xp.sum(b * v, axis=-1, keepdims=True)
    imaginary = a * v + w * b + xp.cross(b, v)
    # The shorter way round; sin of half the angle is the length of the imaginary part. Without a
    # turn its root has no derivative, and what follows needs none of it.
    sign = xp.where(real < 0, -1.0, 1.0)
    squared = xp.sum(imaginary * imaginary, axis=-1, keepdims=True)
    small = squared < 1e-24
    sine = xp.sqrt(xp.where(small, 1.0, squared))
    share = xp.where(small, 2.0, 2 * xp.arctan2(sine, sign * real) / sine)
    return sign * share * imaginary
