"""What may differ between conditions in the model: numbers of its physics, never its structure."""

import copy
import types
from collections.abc import Mapping

import mujoco
import numpy as np

from jgps.mujoco_log import quiet_mujoco

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

_SCALE = "body_mass_scale"  # no field of MjModel: a factor of mass and inertia together
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
# Ranges say nothing where the model does not apply them.
_APPLIES = {
    "jnt_range": "jnt_limited",
    "jnt_actfrcrange": "jnt_actfrclimited",
    "tendon_range": "tendon_limited",
    "tendon_actfrcrange": "tendon_actfrclimited",
    "actuator_ctrlrange": "actuator_ctrllimited",
    "actuator_forcerange": "actuator_forcelimited",
    "actuator_actrange": "actuator_actlimited",
}
_POSITIVE = ("body_mass", "body_inertia", _SCALE)
_NOT_NEGATIVE = (
    "dof_armature", "dof_damping", "dof_frictionloss", "tendon_armature", "tendon_damping",
    "tendon_frictionloss", "geom_friction", "pair_friction", "geom_size",
)  # fmt: skip
_DIRECTIONS = ("jnt_axis", "light_dir")
_FREE, _BALL = int(mujoco.mjtJoint.mjJNT_FREE), int(mujoco.mjtJoint.mjJNT_BALL)


def check_changes(
    model: mujoco.MjModel, num: int, changes: Mapping[str, object]
) -> dict[str, np.ndarray]:
    """Per-condition changes of `num` conditions as float64 arrays [C, ...] of checked numbers.

    Quaternions and axes are made unit. One number per object may come as [C].

    Raises:
      ValueError: naming the key, if it is none of `CHANGEABLE`, if the model lacks the object, or
        if the change could not have an effect; and the condition, if a number can't be.
    """
    checked = {}
    for key, given in changes.items():
        rows = _rows(model, key)
        own = _own(model, key, rows)
        value = np.asarray(given, np.float64)
        if value.shape == (num,) and own.shape == (1,):
            value = value.reshape(num, 1)
        if value.shape != (num, *own.shape):
            raise ValueError(
                f"conditions: {key} has shape {value.shape}, expected {(num, *own.shape)}"
            )
        if not np.all(np.isfinite(value)):
            raise ValueError(f"conditions: {key} has values that are not finite")
        _check_effect(model, key, rows, np.any(value != own, axis=0))
        _check_numbers(key, value, own)
        checked[key] = _unit(key, value)
    return checked


@quiet_mujoco()
def apply_changes(model: mujoco.MjModel, changes: Mapping[str, np.ndarray], condition: int) -> None:
    """Writes what one condition changes into the model, and what MuJoCo derives of it."""
    for key in sorted(changes, key=lambda key: key.startswith(_SCALE)):  # a scale comes last
        rows, value = _rows(model, key), changes[key][condition]
        if key.startswith(_SCALE):
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
        raise ValueError(f"conditions: the model has no object {name!r} (key {key!r})")
    start, size = number, 1
    if kind == "dof":  # one row per degree of freedom of the joint
        start = int(model.jnt_dofadr[number])
        size = {_FREE: 6, _BALL: 3}.get(int(model.jnt_type[number]), 1)
    elif field == "actuator_ctrlrange":  # one row per control of the actuator
        start, size = int(model.actuator_ctrladr[number]), int(model.actuator_ctrlnum[number])
    elif field == "actuator_gear":  # one row per force that it puts out
        start, size = int(model.actuator_outadr[number]), int(model.actuator_outnum[number])
    return slice(start, start + size)


def _refusal(model: mujoco.MjModel, field: str, key: str) -> str:
    if not isinstance(getattr(model, field, None), np.ndarray):
        return f"conditions: the model has no array {field!r} (key {key!r})"
    fields = CHANGEABLE.get(field.partition("_")[0], ())
    same = f"; of its kind there are {', '.join(fields)}" if fields else ""
    return (
        f"conditions: {field!r} is no number of the physics, so it can't differ between conditions"
        f"{same} (key {key!r})"
    )


def _own(model: mujoco.MjModel, key: str, rows: slice) -> np.ndarray:
    """The model's own numbers, of the shape that a condition's have."""
    field, _, name = key.partition(":")
    own = np.ones(model.nbody)[rows] if field == _SCALE else getattr(model, field)[rows]
    if name and len(own) == 1:
        return own.reshape(own.shape[1:] or (1,))
    return own


def _check_effect(model: mujoco.MjModel, key: str, rows: slice, changed: np.ndarray) -> None:
    """Refuses a change that MuJoCo would not look at; `changed` are the numbers that differ."""
    field = key.partition(":")[0]
    if field == "body_gravcomp" and model.ngravcomp == 0:
        raise ValueError(
            f"conditions: {key!r} has no effect in a model without gravity compensation; give a "
            "body of it gravcomp"
        )
    count = rows.stop - rows.start if rows.start is not None else len(changed)
    numbers = np.arange(rows.start or 0, (rows.start or 0) + count)
    per_object = changed.reshape(count, -1).any(axis=1)
    flag = _APPLIES.get(field)
    for number in numbers[per_object]:
        if flag is not None and not getattr(model, flag)[number]:
            raise ValueError(
                f"conditions: {key!r} has no effect where the model does not limit it; set {flag} "
                "there"
            )
        if field in ("body_pos", "body_quat"):
            _check_placed(model, key, int(number))
        elif field in ("jnt_pos", "jnt_axis"):
            kind = int(model.jnt_type[number])
            if kind == _FREE or (kind == _BALL and field == "jnt_axis"):
                raise ValueError(f"conditions: {key!r} has no effect on a free or ball joint")


def _check_placed(model: mujoco.MjModel, key: str, body: int) -> None:
    name = model.body(body).name
    if model.body_mocapid[body] >= 0 and _holds(model, body):
        raise ValueError(
            f"conditions: {key!r} has no effect, because {name!r} is a mocap body and what an "
            "equality holds to it would not follow: MuJoCo computes anew where it holds it; give "
            "mocap_pos or mocap_quat, or a weld its relpose"
        )
    joint = int(model.body_jntadr[body])
    if joint < 0 or int(model.jnt_type[joint]) != _FREE:
        return
    start = int(model.jnt_qposadr[joint])
    raise ValueError(
        f"conditions: {key!r} has no effect, because the body {name!r} has a free joint; "
        f"where it starts is in qpos[{start}:{start + 7}], position and quaternion"
    )


@quiet_mujoco()
def _holds(model: mujoco.MjModel, body: int) -> bool:
    """Whether an equality follows from where the body is in the model."""
    moved = copy.copy(model)
    moved.body_pos[body] += 1
    mujoco.mj_setConst(moved, mujoco.MjData(moved))
    return not np.array_equal(moved.eq_data, model.eq_data)


def _check_numbers(key: str, value: np.ndarray, own: np.ndarray) -> None:
    field = key.partition(":")[0]

    def refuse(bad: np.ndarray, what: str) -> None:
        """Names the first condition in which a number is bad [C, ...]."""
        if bad.any():
            condition, *place = np.argwhere(bad)[0]
            number = value[(condition, *place)]
            raise ValueError(f"conditions: {key} is {number:g} in condition {condition}; {what}")

    if field in _POSITIVE:  # a body without mass stays without
        what = "a scale" if field == _SCALE else "a mass" if field == "body_mass" else "an inertia"
        refuse((value < 0) | ((value == 0) & (own > 0)), f"{what} has to be positive")
    if field in _NOT_NEGATIVE:
        refuse(value < 0, "it has to be at least 0")
    if field == "eq_active0":
        refuse((value != 0) & (value != 1), "it has to be 0 (off) or 1 (on)")
    if field in _APPLIES:
        upside_down = np.zeros(value.shape, bool)
        upside_down[..., 0] = (value[..., 0] >= value[..., 1]) & np.any(value != own, axis=-1)
        refuse(upside_down, "a range has to begin below its end")
    if _is_unit(field):
        zero = np.zeros(value.shape, bool)
        zero[..., 0] = np.linalg.norm(value, axis=-1) < 1e-6
        what = "no rotation is (1, 0, 0, 0)" if field.endswith("quat") else "it has no direction"
        refuse(zero, f"all of its numbers are 0; {what}")


def _is_unit(field: str) -> bool:
    return field.endswith("quat") or field in _DIRECTIONS


def _unit(key: str, value: np.ndarray) -> np.ndarray:
    """The same with quaternions and directions at unit length, those that are not."""
    if not _is_unit(key.partition(":")[0]):
        return value
    length = np.linalg.norm(value, axis=-1, keepdims=True)
    return np.where(np.abs(length - 1) < 1e-12, value, value / length)
