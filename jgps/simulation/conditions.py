"""Initial states and per-condition changes of the model."""

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple

import mujoco
import numpy as np

from jgps.simulation.layout import quaternion_addresses, unit_quaternions

_OBJECT_OF_PREFIX = {
    "body": mujoco.mjtObj.mjOBJ_BODY,
    "geom": mujoco.mjtObj.mjOBJ_GEOM,
    "site": mujoco.mjtObj.mjOBJ_SITE,
    "jnt": mujoco.mjtObj.mjOBJ_JOINT,
    "dof": mujoco.mjtObj.mjOBJ_JOINT,
    "actuator": mujoco.mjtObj.mjOBJ_ACTUATOR,
}


class Conditions(NamedTuple):
    """Where trajectories start and what is special about the model there.

    The keys of `changes` are `"field:object"`, with the name of an MjModel array and of the object
    whose row is replaced, for instance `"body_pos:table"` or `"geom_friction:peg"`; `"field"`
    alone replaces the whole array. Derived constants (`mj_setConst`) are recomputed.
    """

    qpos: np.ndarray  # [C, nq]
    qvel: np.ndarray  # [C, nv]
    changes: Mapping[str, np.ndarray] = {}

    @property
    def num(self) -> int:
        """Number of conditions C."""
        return self.qpos.shape[0]


class Starts(NamedTuple):
    """Where every single rollout starts, in place of its condition's pose.

    Quaternions are made unit; a rollout whose start is not finite is not valid.
    """

    qpos: Any  # [C, N, nq]
    qvel: Any  # [C, N, nv]


def check_starts(
    model: mujoco.MjModel, starts: Starts, num_conditions: int, num_samples: int
) -> None:
    """Raises a ValueError if the shapes do not fit; they may be those of traced arrays."""
    for name, size in (("qpos", model.nq), ("qvel", model.nv)):
        shape, expected = np.shape(getattr(starts, name)), (num_conditions, num_samples, size)
        if shape != expected:
            raise ValueError(
                f"starts: {name} has shape {shape}, expected {expected} for {num_conditions} "
                f"conditions and noise for {num_samples} samples"
            )


def check_conditions(model: mujoco.MjModel, conditions: Conditions) -> Conditions:
    """Conditions as float64 arrays of checked shapes.

    Raises:
      ValueError: if a shape, a field or a name does not fit the model, or a number is not finite.
    """
    qpos = np.atleast_2d(np.asarray(conditions.qpos, np.float64))
    num = qpos.shape[0]
    qvel = np.asarray(conditions.qvel, np.float64)
    if qvel.size == model.nv and num == 1:
        qvel = qvel.reshape(1, model.nv)
    changes = {
        # One number per object may come as [C].
        key: np.asarray(value, np.float64).reshape(
            (num, 1)
            if np.shape(value) == (num,) and _row(model, key).shape == (1,)
            else np.shape(value)
        )
        for key, value in conditions.changes.items()
    }
    qpos = _unit_quaternions(model, qpos)
    for name, value, shape in [
        ("qpos", qpos, (num, model.nq)),
        ("qvel", qvel, (num, model.nv)),
        *((key, value, (num, *_row(model, key).shape)) for key, value in changes.items()),
    ]:
        if value.shape != shape:
            raise ValueError(f"conditions: {name} has shape {value.shape}, expected {shape}")
        if not np.all(np.isfinite(value)):
            raise ValueError(f"conditions: {name} has values that are not finite")
    return Conditions(qpos=qpos, qvel=qvel, changes=changes)


def _row(model: mujoco.MjModel, key: str) -> np.ndarray:
    """The view into the model's array that a key of `changes` names."""
    field, _, name = key.partition(":")
    array = getattr(model, field, None)
    if not isinstance(array, np.ndarray):
        raise ValueError(f"conditions: the model has no array {field!r} (key {key!r})")
    if not name:
        return array
    prefix = field.partition("_")[0]
    if prefix not in _OBJECT_OF_PREFIX:
        raise ValueError(
            f"conditions: {key!r} names an object, which works for fields that begin with "
            f"{', '.join(_OBJECT_OF_PREFIX)}"
        )
    number = mujoco.mj_name2id(model, _OBJECT_OF_PREFIX[prefix], name)
    if number < 0:
        raise ValueError(f"conditions: the model has no object {name!r} (key {key!r})")
    if prefix == "dof":  # one row per degree of freedom of the joint
        free, ball = int(mujoco.mjtJoint.mjJNT_FREE), int(mujoco.mjtJoint.mjJNT_BALL)
        rows = {free: 6, ball: 3}.get(int(model.jnt_type[number]), 1)
        start = int(model.jnt_dofadr[number])
        return array[start : start + rows]
    return array[number : number + 1].reshape(array.shape[1:] or (1,))


def _unit_quaternions(model: mujoco.MjModel, qpos: np.ndarray) -> np.ndarray:
    """The same qpos [C, nq] with quaternions of free and ball joints at unit length."""
    if qpos.shape[-1] != model.nq:
        return qpos  # refused by the check of shapes
    for address in quaternion_addresses(model):
        if np.any(np.linalg.norm(qpos[:, address : address + 4], axis=1) < 1e-6):
            raise ValueError(
                f"conditions: qpos has a quaternion of zeros at {address}; "
                "no rotation is (1, 0, 0, 0)"
            )
    return unit_quaternions(model, qpos)


def condition_models(model: mujoco.MjModel, conditions: Conditions) -> list[mujoco.MjModel]:
    """One compiled model per condition; the same object where nothing changes."""
    if not conditions.changes:
        return [model] * conditions.num
    models = []
    for c in range(conditions.num):
        changed = copy.copy(model)
        for key, value in conditions.changes.items():
            _row(changed, key)[...] = value[c]
        mujoco.mj_setConst(changed, mujoco.MjData(changed))
        models.append(changed)
    return models
