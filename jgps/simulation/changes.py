"""What may differ between conditions in the model: numbers of its physics, never its structure."""

import types
from collections.abc import Mapping
from typing import Any

import mujoco
import numpy as np

from jgps.core.checks import as_numbers
from jgps.core.names import did_you_mean, shown
from jgps.mujoco_log import quiet_mujoco
from jgps.simulation.change_checks import SCALE, check_effect, check_numbers, is_unit

_FIELDS_OF = {
    "body": "pos quat mass inertia mass_scale ipos iquat gravcomp",
    "jnt": "pos axis range stiffness margin actfrcrange solref solimp",
    "dof": "damping armature frictionloss solref solimp",
    "geom": "pos quat size friction margin solref solimp solmix rgba",
    "site": "pos quat rgba",
    "cam": "pos quat fovy",
    "light": "pos dir diffuse",
    "mat": "rgba",
    "tendon": "range stiffness damping armature frictionloss margin lengthspring actfrcrange "
    "solref_lim solimp_lim solref_fri solimp_fri rgba",
    "actuator": "ctrlrange forcerange actrange gear gainprm biasprm dynprm cranklength",
    "eq": "active0 data solref solimp",
    "pair": "friction margin solref solreffriction solimp",
}
# Fields of MjModel by the kind of object that they belong to, and `body_mass_scale`.
CHANGEABLE: Mapping[str, tuple[str, ...]] = types.MappingProxyType(
    {
        **{kind: tuple(f"{kind}_{f}" for f in names.split()) for kind, names in _FIELDS_OF.items()},
        "": ("qpos_spring",),
    }
)

_OBJECT = {
    "body": mujoco.mjtObj.mjOBJ_BODY,
    "jnt": mujoco.mjtObj.mjOBJ_JOINT,
    "dof": mujoco.mjtObj.mjOBJ_JOINT,
    "geom": mujoco.mjtObj.mjOBJ_GEOM,
    "site": mujoco.mjtObj.mjOBJ_SITE,
    "cam": mujoco.mjtObj.mjOBJ_CAMERA,
    "light": mujoco.mjtObj.mjOBJ_LIGHT,
    "mat": mujoco.mjtObj.mjOBJ_MATERIAL,
    "tendon": mujoco.mjtObj.mjOBJ_TENDON,
    "actuator": mujoco.mjtObj.mjOBJ_ACTUATOR,
    "eq": mujoco.mjtObj.mjOBJ_EQUALITY,
    "pair": mujoco.mjtObj.mjOBJ_PAIR,
}
_FREE, _BALL = int(mujoco.mjtJoint.mjJNT_FREE), int(mujoco.mjtJoint.mjJNT_BALL)


def as_arrays(changes: Any) -> dict[str, np.ndarray]:
    """Changes as they are given, as float64 arrays by key.

    Raises:
      ValueError: if they are no mapping of strings to numbers.
    """
    what = "it has to be a mapping of keys 'field:object' to numbers, such as "
    what += "{'body_mass:arm': [1, 2]} for two conditions"
    if not isinstance(changes, Mapping):
        raise ValueError(f"changes is {shown(changes)}; {what}, or left out")
    for key in changes:
        if not isinstance(key, str):
            raise ValueError(f"changes has the key {shown(key)}; {what}")
    return {key: as_numbers(f"changes[{key!r}]", value) for key, value in changes.items()}


def check_changes(model: mujoco.MjModel, num: int, changes: Any) -> dict[str, np.ndarray]:
    """Per-condition changes of `num` conditions as float64 arrays [C, ...] of checked numbers.

    Quaternions and axes are made unit. One number per object may come as [C].

    Raises:
      ValueError: if these are no mapping of strings to numbers; naming the key, if it is none of
        `CHANGEABLE`, if the model lacks the object, or if the change could not have an effect; and
        the condition, if a number can't be.
    """
    checked = {}
    for key, value in as_arrays(changes).items():
        rows = _rows(model, key)
        own = _own(model, key, rows)
        if value.shape == (num,) and own.shape == (1,):
            value = value.reshape(num, 1)
        if value.shape != (num, *own.shape):
            raise ValueError(
                f"conditions: {key} has shape {value.shape}, expected {(num, *own.shape)}"
            )
        if not np.all(np.isfinite(value)):
            raise ValueError(f"conditions: {key} has values that are not finite")
        count = len(range(model.nbody)[rows]) if key.startswith(SCALE) else None
        count = len(getattr(model, key.partition(":")[0])[rows]) if count is None else count
        numbers = (rows.start or 0) + np.arange(count)
        differs = np.any(value != own, axis=0).reshape(count, -1).any(axis=1)
        check_effect(model, key, numbers[differs])
        check_numbers(model, key, numbers, value, own)
        checked[key] = _unit(key, value)
    return checked


@quiet_mujoco()
def apply_changes(model: mujoco.MjModel, changes: Mapping[str, np.ndarray], condition: int) -> None:
    """Writes what one condition changes into the model, and what MuJoCo derives of it."""
    for key in sorted(changes, key=lambda key: key.startswith(SCALE)):  # a scale comes last
        rows, value = _rows(model, key), changes[key][condition]
        if key.startswith(SCALE):
            model.body_mass[rows] *= value
            model.body_inertia[rows] *= value.reshape(-1, 1)
        else:
            array = getattr(model, key.partition(":")[0])
            array[rows] = value.reshape(array[rows].shape)
    try:
        mujoco.mj_setConst(model, mujoco.MjData(model))
    except mujoco.FatalError as error:
        raise ValueError(
            f"conditions: MuJoCo can't make condition {condition} of {', '.join(changes)}: "
            f"{' '.join(str(error).split())}"
        ) from None


def _rows(model: mujoco.MjModel, key: str) -> slice:
    """Where in the model's array that is which a key of `changes` names."""
    field, _, name = key.partition(":")
    kind = next((kind for kind, fields in CHANGEABLE.items() if field in fields), None)
    if kind is None:
        raise ValueError(_refusal(model, field, key))
    if not name:
        return slice(None)
    if kind not in _OBJECT:
        raise ValueError(f"conditions: {field!r} has no names; write {field!r} for all of it")
    number = mujoco.mj_name2id(model, _OBJECT[kind], name)
    if number < 0:
        known = _names(model, kind)
        raise ValueError(
            f"conditions: the model has no object {name!r} (key {key!r}); of its kind there are: "
            f"{', '.join(known) or 'none with a name'}{did_you_mean(name, known)}"
        )
    start, size = number, 1
    if kind == "dof":  # one row per degree of freedom of the joint
        start = int(model.jnt_dofadr[number])
        size = {_FREE: 6, _BALL: 3}.get(int(model.jnt_type[number]), 1)
    elif field == "actuator_ctrlrange":  # one row per control of the actuator
        start, size = int(model.actuator_ctrladr[number]), int(model.actuator_ctrlnum[number])
    elif field == "actuator_gear":  # one row per force that it puts out
        start, size = int(model.actuator_outadr[number]), int(model.actuator_outnum[number])
    return slice(start, start + size)


def _names(model: mujoco.MjModel, kind: str) -> list[str]:
    """The names that objects of a kind have."""
    count = {"body": model.nbody, "jnt": model.njnt, "dof": model.njnt, "geom": model.ngeom,
             "site": model.nsite, "cam": model.ncam, "light": model.nlight, "mat": model.nmat,
             "tendon": model.ntendon, "actuator": model.nactuator, "eq": model.neq,
             "pair": model.npair}[kind]  # fmt: skip
    names = (mujoco.mj_id2name(model, _OBJECT[kind], number) for number in range(count))
    return [name for name in names if name]


def _refusal(model: mujoco.MjModel, field: str, key: str) -> str:
    fields = CHANGEABLE.get(field.partition("_")[0], ())
    same = f"; of its kind there are {', '.join(fields)}" if fields else ""
    if not isinstance(getattr(model, field, None), np.ndarray):
        every = [each for group in CHANGEABLE.values() for each in group]
        meant = did_you_mean(field, every)
        return f"conditions: the model has no array {field!r} (key {key!r}){meant or same}"
    return (
        f"conditions: {field!r} is no number of the physics, so it can't differ between conditions"
        f"{same} (key {key!r})"
    )


def _own(model: mujoco.MjModel, key: str, rows: slice) -> np.ndarray:
    """The model's own numbers, of the shape that a condition's have."""
    field, _, name = key.partition(":")
    own = np.ones(model.nbody)[rows] if field == SCALE else getattr(model, field)[rows]
    if name and len(own) == 1:
        return own.reshape(own.shape[1:] or (1,))
    return own


def _unit(key: str, value: np.ndarray) -> np.ndarray:
    """The same with quaternions and directions at unit length, those that are not."""
    if not is_unit(key.partition(":")[0]):
        return value
    length = np.linalg.norm(value, axis=-1, keepdims=True)
    return np.where(np.abs(length - 1) < 1e-12, value, value / length)
