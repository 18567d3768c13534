"""Which changes of a model between conditions would have no effect, or can't be in any world."""

import copy

import mujoco
import numpy as np

from jgps.mujoco_log import quiet_mujoco

SCALE = "body_mass_scale"  # no field of MjModel: a factor of mass and inertia together
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
_POSITIVE = ("body_mass", "body_inertia", SCALE)
_NOT_NEGATIVE = (
    "dof_armature", "dof_damping", "dof_frictionloss", "tendon_armature", "tendon_damping",
    "tendon_frictionloss", "geom_friction", "pair_friction", "geom_size", "geom_solmix",
)  # fmt: skip
_DIRECTIONS = ("jnt_axis", "light_dir")
_FREE, _BALL, _SLIDE = (
    int(getattr(mujoco.mjtJoint, f"mjJNT_{n}")) for n in ("FREE", "BALL", "SLIDE")
)
# How many of its three sizes a geom of these types has; planes may be infinite, which is 0.
_SIZES = {
    int(mujoco.mjtGeom.mjGEOM_SPHERE): 1,
    int(mujoco.mjtGeom.mjGEOM_CAPSULE): 2,
    int(mujoco.mjtGeom.mjGEOM_CYLINDER): 2,
    int(mujoco.mjtGeom.mjGEOM_ELLIPSOID): 3,
    int(mujoco.mjtGeom.mjGEOM_BOX): 3,
}
_OF_ASSETS = {
    int(mujoco.mjtGeom.mjGEOM_MESH): "mesh",
    int(mujoco.mjtGeom.mjGEOM_HFIELD): "height field",
    int(mujoco.mjtGeom.mjGEOM_SDF): "signed distance field",
}


def check_effect(model: mujoco.MjModel, key: str, changed: np.ndarray) -> None:
    """Refuses a change that MuJoCo would not look at, or not as a whole.

    Args:
      model: the model.
      key: of the change.
      changed: rows of the model's array in which numbers differ from the model's own.

    Raises:
      ValueError: names the key, and says what to change in its place.
    """
    field = key.partition(":")[0]
    if field == "body_gravcomp" and model.ngravcomp == 0 and len(changed):
        raise ValueError(
            f"conditions: {key!r} has no effect in a model without gravity compensation; give a "
            "body of it gravcomp"
        )
    flag = _APPLIES.get(field)
    for number in map(int, changed):
        if flag is not None and not getattr(model, flag)[number]:
            raise ValueError(
                f"conditions: {key!r} has no effect where the model does not limit it; set {flag} "
                "there"
            )
        if field.startswith("body_") and number == 0:
            raise ValueError(
                f"conditions: {key!r} has no effect on the world, which has no mass and does not "
                "move; change bodies in it"
            )
        if field in ("body_pos", "body_quat"):
            _check_placed(model, key, number)
        elif field in ("jnt_pos", "jnt_axis"):
            _check_joint(model, key, number)
        elif field == "geom_size" and int(model.geom_type[number]) in _OF_ASSETS:
            asset = _OF_ASSETS[int(model.geom_type[number])]
            raise ValueError(
                f"conditions: {key!r} has no effect on the geom of a {asset}, whose size is that "
                "of its asset; make a model for each size"
            )
        elif field == "tendon_armature" and model.tendon_armature[number] == 0:
            raise ValueError(
                f"conditions: {key!r} can't begin from 0, where MuJoCo's compiler leaves no room "
                "for it in the mass matrix; give the tendon some armature, such as 1e-9"
            )


def _check_joint(model: mujoco.MjModel, key: str, joint: int) -> None:
    kind, dof = int(model.jnt_type[joint]), int(model.jnt_dofadr[joint])
    if kind == _FREE or (kind == _BALL and key.startswith("jnt_axis")):
        raise ValueError(f"conditions: {key!r} has no effect on a free or ball joint")
    if kind == _SLIDE and key.startswith("jnt_pos"):
        raise ValueError(f"conditions: {key!r} has no effect on a slide joint; change jnt_axis")
    several = int(model.body_dofnum[model.jnt_bodyid[joint]]) > 1
    if model.dof_simplenum[dof] > 0 and several:
        body = model.body(model.jnt_bodyid[joint]).name
        raise ValueError(
            f"conditions: {key!r} can't be, because MuJoCo's compiler laid out the mass matrix for "
            f"joints of the body {body!r} that don't act on each other; make a model for each "
            "condition, or put the body's centre of mass beside its joints"
        )


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


def check_numbers(
    model: mujoco.MjModel, key: str, rows: np.ndarray, value: np.ndarray, own: np.ndarray
) -> None:
    """Refuses numbers that are not physical, as MuJoCo's compiler does, and some that it takes.

    Args:
      model: the model.
      key: of the change.
      rows: of the model's array [M] that it replaces.
      value: what replaces them, [C, M, ...] or [C, ...] where M = 1.
      own: the model's own numbers, of the shape of a condition's.

    Raises:
      ValueError: names the key and the first condition in which a number can't be.
    """
    field = key.partition(":")[0]

    def refuse(bad: np.ndarray, what: str) -> None:
        """Names the first condition in which a number is bad [C, ...]."""
        if bad.any():
            condition, *place = np.argwhere(bad)[0]
            number = value[(condition, *place)]
            raise ValueError(f"conditions: {key} is {number:g} in condition {condition}; {what}")

    def whole(bad: np.ndarray) -> np.ndarray:
        """The same [C, ..., n] of what is bad as a whole [C, ...], at its first number."""
        return np.concatenate([bad[..., None], np.zeros((*bad.shape, value.shape[-1] - 1), bool)],
                              axis=-1)  # fmt: skip

    if field in _POSITIVE:  # a body without mass stays without
        what = "a scale" if field == SCALE else "a mass" if field == "body_mass" else "an inertia"
        refuse((value < 0) | ((value == 0) & (own > 0)), f"{what} has to be positive")
    if field == "body_inertia":
        largest = value == value.max(axis=-1, keepdims=True)
        over = value > (1 + 1e-9) * (value.sum(axis=-1, keepdims=True) - value)
        refuse(largest & over & np.any(value != own, axis=-1, keepdims=True),
               "no moment of inertia may be larger than the two others together")  # fmt: skip
    if field in _NOT_NEGATIVE:
        refuse(value < 0, "it has to be at least 0")
    if field == "geom_size":
        used = np.array([_SIZES.get(int(model.geom_type[row]), 0) for row in rows])
        counts = np.arange(3) < used.reshape(-1, 1)
        empty = (value <= 0) & counts.reshape(own.shape) & (value != own)
        refuse(empty, "a size has to be positive")
    if field == "eq_active0":
        refuse((value != 0) & (value != 1), "it has to be 0 (off) or 1 (on)")
    if field == "cam_fovy":
        refuse((value <= 0) | (value >= 180), "a field of view has to be within 0 and 180 degrees")
    if field.endswith(("_rgba", "_diffuse")):
        refuse(((value < 0) | (value > 1)) & (value != own), "a colour has to be within 0 and 1")
    if "solref" in field:
        mixed = (value[..., 0] > 0) != (value[..., 1] > 0)
        refuse(whole(mixed & np.any(value != own, axis=-1)),
               "both of its numbers have to be positive, or both at most 0")  # fmt: skip
    if field in _APPLIES:
        upside_down = (value[..., 0] >= value[..., 1]) & np.any(value != own, axis=-1)
        refuse(whole(upside_down), "a range has to begin below its end")
    if is_unit(field):
        what = "no rotation is (1, 0, 0, 0)" if field.endswith("quat") else "it has no direction"
        zero = np.linalg.norm(value, axis=-1) < 1e-6
        refuse(whole(zero), f"all of its numbers are 0; {what}")


def is_unit(field: str) -> bool:
    """Whether its numbers are a quaternion or a direction, made unit as MuJoCo's compiler does."""
    return field.endswith("quat") or field in _DIRECTIONS
