"""Initial states and per-condition changes of the model."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import mujoco
import numpy as np

from jgps.core.checks import as_numbers
from jgps.core.names import shown
from jgps.mujoco_log import quiet_mujoco
from jgps.simulation.changes import apply_changes, check_changes
from jgps.simulation.features import quaternion_addresses, unit_quaternions

_OPTIONAL = ("act", "mocap_pos", "mocap_quat", "ctrl")
_PLACES = ("mocap_pos", "mocap_quat")  # of these, what belongs to the condition's model


class Conditions(NamedTuple):
    """Where trajectories start and what is special about the model there.

    The keys of `changes` are `"field:object"`, with the name of an MjModel array and of the object
    whose row is replaced, for instance `"body_pos:table"` or `"geom_friction:peg"`; `"field"`
    alone replaces the whole array. These fields are numbers of the physics or of looks, and may
    differ; the model's structure may not:

    - `body_`: pos, quat, mass, inertia, mass_scale, ipos, iquat, gravcomp
    - `jnt_`: pos, axis, range, stiffness, margin, actfrcrange, solref, solimp; and `qpos_spring`
    - `dof_` of a joint: damping, armature, frictionloss, solref, solimp
    - `geom_`: pos, quat, size, friction, margin, solref, solimp, solmix, rgba
    - `site_`: pos, quat, rgba
    - `tendon_`: range, stiffness, damping, armature, frictionloss, margin, lengthspring,
      actfrcrange, solref_lim, solimp_lim, solref_fri, solimp_fri, rgba
    - `actuator_`: ctrlrange, forcerange, actrange, gear, gainprm, biasprm, dynprm, cranklength
    - `eq_`: active0, data, solref, solimp
    - `pair_`: friction, margin, solref, solreffriction, solimp
    - `cam_`: pos, quat, fovy; `light_`: pos, dir, diffuse; `mat_`: rgba

    What MuJoCo derives of them (`mj_setConst`) follows: where an equality holds a body, too, unless
    a weld has a `relpose`. What its compiler alone derives stays, such as the rest lengths of
    tendons, the length ranges of muscles, gains by damping ratios, and masses and inertias by the
    size and place of geoms. Quaternions and directions are made unit; what would have no effect
    and what is not physical, such as a size of 0, is refused. The place of a mesh's geom is that of
    the mesh's own frame of inertia, as in the model's array. Controls are clipped to the
    `actuator_ctrlrange` of their condition.

    `body_mass` leaves the inertia as it was; `"body_mass_scale:object"` is a factor of both, as of
    another density. A body with a free joint starts where qpos says, not `body_pos`. A mocap body
    starts at `mocap_pos` and `mocap_quat`, and pulls along what is welded to it.

    What starts as the model says is None: activations at zero, mocap bodies where `body_pos` and
    `body_quat` put them. Mocap bodies are in the order of their `mocapid`.

    `ctrl` are controls that hold the start, where they are known: the mean of the default initial
    controller, and what actuators with a delay still remember. None takes what statics says for the
    former, and zeros for the latter.

    `params` are for the task's functions alone and change no simulation: what they have to know of
    a condition that is not in the state, such as its target or its weights. A network does not
    read them, only the observation. See `jgps.tasks.functions`.
    """

    qpos: np.ndarray  # [C, nq]
    qvel: np.ndarray  # [C, nv]
    changes: Mapping[str, np.ndarray] = {}
    act: np.ndarray | None = None  # [C, na]
    mocap_pos: np.ndarray | None = None  # [C, nmocap, 3] metres, world frame
    mocap_quat: np.ndarray | None = None  # [C, nmocap, 4] (w, x, y, z)
    ctrl: np.ndarray | None = None  # [C, nu] in the actuators' units
    params: Any = None  # a pytree with leaves [C, ...], or None

    @property
    def num(self) -> int:
        """Number of conditions C."""
        return self.qpos.shape[0]

    @property
    def optional(self) -> dict[str, np.ndarray]:
        """Those of act, mocap_pos, mocap_quat and ctrl that are given, [C, ...] each."""
        given = {name: getattr(self, name) for name in _OPTIONAL}
        return {name: value for name, value in given.items() if value is not None}

    def select(self, rows: Any) -> "Conditions":
        """The conditions of these indices [M], which may repeat."""
        return Conditions(
            self.qpos[rows],
            self.qvel[rows],
            {key: value[rows] for key, value in self.changes.items()},
            **{name: value[rows] for name, value in self.optional.items()},
            params=jax.tree.map(lambda leaf: leaf[rows], self.params),
        )


class Starts(NamedTuple):
    """Where every single rollout starts, in place of its condition's pose.

    Quaternions are made unit; a rollout whose start is not finite is not valid. Activations that
    are None are those of the condition; what else a rollout starts with is always the condition's.
    """

    qpos: Any  # [C, N, nq]
    qvel: Any  # [C, N, nv]
    act: Any = None  # [C, N, na]


def check_starts(
    model: mujoco.MjModel, starts: Starts, num_conditions: int, num_samples: int
) -> None:
    """Raises a ValueError if the shapes do not fit; they may be those of traced arrays."""
    sizes = {"qpos": model.nq, "qvel": model.nv, "act": model.na}
    if starts.act is None:
        del sizes["act"]
    for name, size in sizes.items():
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
    qpos = np.atleast_2d(as_numbers("conditions: qpos", conditions.qpos))
    num = qpos.shape[0]
    qvel = as_numbers("conditions: qvel", conditions.qvel)
    if qvel.size == model.nv and num == 1:
        qvel = qvel.reshape(1, model.nv)
    changes = check_changes(model, num, conditions.changes)
    qpos = _unit_quaternions(model, qpos)
    optional = _optional(model, conditions, num)
    for name, value, shape in [
        ("qpos", qpos, (num, model.nq)),
        ("qvel", qvel, (num, model.nv)),
        *((name, optional[name], shape) for name, shape in _shapes(model, num, optional)),
    ]:
        if value.shape != shape:
            raise ValueError(f"conditions: {name} has shape {value.shape}, expected {shape}")
        if not np.all(np.isfinite(value)):
            raise ValueError(f"conditions: {name} has values that are not finite")
    params = check_params(conditions.params, num)
    return Conditions(qpos, qvel, changes, **_unit_mocap(optional), params=params)


def check_params(params: Any, num: int | None = None) -> Any:
    """The pytree with leaves that are arrays of numbers, [C, ...].

    Raises:
      ValueError: naming a leaf that holds something else, or has no row for each of `num`
        conditions.
    """

    def check(path: Any, leaf: Any) -> np.ndarray:
        name = f"params{jax.tree_util.keystr(path)}"
        try:
            array = np.asarray(leaf)
        except ValueError as error:
            raise ValueError(f"{name} has rows of different lengths: {error}") from None
        except TypeError:  # a key of jax.random, say
            array = np.asarray(None)
        if array.dtype.kind not in "fiub":
            raise ValueError(f"{name} is {shown(leaf)}; it has to be an array of numbers")
        if array.dtype.kind == "f":
            array = np.asarray(array, np.float64)
            if not np.all(np.isfinite(array)):
                raise ValueError(f"{name} has values that are not finite")
        _check_precision(name, array)
        if array.ndim == 0 or (num is not None and len(array) != num):
            each = "each condition" if num is None else f"each of the {num} conditions"
            raise ValueError(
                f"{name} has shape {array.shape}; it has to have a row for {each} along its first "
                "axis"
            )
        return array

    # A list is rows of numbers, not a tree of them.
    return jax.tree_util.tree_map_with_path(check, params, is_leaf=lambda n: isinstance(n, list))


def _check_precision(name: str, array: np.ndarray) -> None:
    """Refuses numbers that JAX, as it computes now, can't hold.

    Raises:
      ValueError: naming the type that it computes with.
    """
    dtype = jax.dtypes.canonicalize_dtype(array.dtype)
    with np.errstate(over="ignore"):
        held = array.astype(dtype)
    kept = np.isfinite(held) if array.dtype.kind == "f" else held == array
    if not np.all(kept):
        raise ValueError(f"{name} has numbers beyond those of {dtype}, with which JAX computes")


def _optional(model: mujoco.MjModel, conditions: Conditions, num: int) -> dict[str, np.ndarray]:
    """What is given of act and mocap poses, in float64; one row alone may lack its first axis."""
    given = {
        name: as_numbers(f"conditions: {name}", value)
        for name, value in conditions.optional.items()
    }
    for name, shape in _shapes(model, num, given):
        if num == 1 and given[name].shape == shape[1:]:
            given[name] = given[name][None]
    key = changed_mocap(model, conditions)
    if key is not None and ("mocap_pos" in given or "mocap_quat" in given):
        raise ValueError(
            f"conditions: mocap poses are given, and {key!r} in changes places a mocap body as "
            "well; give one of them"
        )
    return given


def changed_mocap(model: mujoco.MjModel, conditions: Conditions) -> str | None:
    """The first key of `changes` that places a mocap body; None without one."""
    for key in conditions.changes:
        field, _, name = key.partition(":")
        body = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, name) if name else -1
        placed = model.body_mocapid[body] >= 0 if body >= 0 else not name and model.nmocap > 0
        if field in ("body_pos", "body_quat") and placed:
            return key
    return None


def _shapes(
    model: mujoco.MjModel, num: int, given: Mapping[str, Any]
) -> list[tuple[str, tuple[int, ...]]]:
    shapes = {
        "act": (num, int(model.na)),
        "mocap_pos": (num, int(model.nmocap), 3),
        "mocap_quat": (num, int(model.nmocap), 4),
        "ctrl": (num, int(model.nu)),
    }
    return [(name, shape) for name, shape in shapes.items() if name in given]


def _unit_mocap(optional: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same with mocap quaternions at unit length."""
    if "mocap_quat" not in optional:
        return dict(optional)
    length = np.linalg.norm(optional["mocap_quat"], axis=-1, keepdims=True)
    if np.any(length < 1e-6):
        raise ValueError(
            "conditions: mocap_quat has a quaternion of zeros; no rotation is (1, 0, 0, 0)"
        )
    length = np.where(np.abs(length - 1) <= 8 * np.finfo(float).eps, 1, length)
    return {**optional, "mocap_quat": optional["mocap_quat"] / length}


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
    """One compiled model per condition; the same object where nothing changes, or the same.

    Mocap poses are written to `body_pos` and `body_quat` of the mocap bodies, from where
    `mj_resetData` takes them: whatever simulates or draws with these models starts there.
    """
    poses = {k: v for k, v in conditions.optional.items() if k in _PLACES}
    if not conditions.changes and not poses:
        return [model] * conditions.num
    bodies = mocap_bodies(model)
    models: dict[bytes, mujoco.MjModel] = {}
    found = []
    for c in range(conditions.num):
        rows = [value[c] for value in (*conditions.changes.values(), *poses.values())]
        key = b"".join(np.ascontiguousarray(row).tobytes() for row in rows)
        if key not in models:
            changed = copy.copy(model)
            apply_changes(changed, conditions.changes, c)
            # Afterwards, because constants belong to the model's reference, not to the start.
            for name, value in poses.items():
                getattr(changed, name.replace("mocap", "body"))[bodies] = value[c]
            models[key] = changed
        found.append(models[key])
    return found


def mocap_bodies(model: mujoco.MjModel) -> np.ndarray:
    """Bodies [nmocap] in the order of their mocap poses."""
    bodies = np.flatnonzero(model.body_mocapid >= 0)
    return bodies[np.argsort(model.body_mocapid[bodies])]


def concatenate_conditions(model: mujoco.MjModel, sets: Sequence[Conditions]) -> Conditions:
    """All of these conditions, which have the same keys of `changes` and of `params`, in a row.

    What only some give of act and mocap poses is the model's own in the others; controls that only
    some give are left out.
    """
    names = [name for name in _OPTIONAL if any(name in each.optional for each in sets)]
    if any(each.ctrl is None for each in sets):
        names = [name for name in names if name != "ctrl"]
    complete = [_complete(model, each) for each in sets] if names else sets
    return Conditions(
        np.concatenate([each.qpos for each in sets]),
        np.concatenate([each.qvel for each in sets]),
        {key: np.concatenate([each.changes[key] for each in sets]) for key in sets[0].changes},
        **{name: np.concatenate([getattr(each, name) for each in complete]) for name in names},
        params=jax.tree.map(lambda *rows: np.concatenate(rows), *(each.params for each in sets)),
    )


def _complete(model: mujoco.MjModel, conditions: Conditions) -> Conditions:
    """The same with the model's own act and mocap poses written out."""
    models, bodies = condition_models(model, conditions), mocap_bodies(model)
    act = initial_act(model, conditions)
    return conditions._replace(
        act=act,
        mocap_pos=np.stack([each.body_pos[bodies] for each in models]),
        mocap_quat=np.stack([each.body_quat[bodies] for each in models]),
    )


def initial_act(model: mujoco.MjModel, conditions: Conditions) -> np.ndarray:
    """Activations [C, na] at the start."""
    return np.zeros((conditions.num, model.na)) if conditions.act is None else conditions.act


@quiet_mujoco()
def initial_history(models: Sequence[mujoco.MjModel], conditions: Conditions) -> np.ndarray | None:
    """What delayed actuators and sensors remember at the start [C, nhistory].

    Actuators remember that the controls have long been those of the conditions. None where that is
    what a reset gives: no controls.
    """
    delayed = np.flatnonzero(models[0].actuator_delay > 0)
    if conditions.ctrl is None or not len(delayed):
        return None
    rows = []
    for model, ctrl in zip(models, conditions.ctrl, strict=True):
        data = mujoco.MjData(model)
        for actuator in delayed:
            first, count = model.actuator_ctrladr[actuator], model.actuator_ctrlnum[actuator]
            samples = int(model.actuator_history[actuator, 0])
            values = np.tile(ctrl[first : first + count], (samples, 1))
            mujoco.mj_initCtrlHistory(model, data, int(actuator), None, values)
        rows.append(data.history.copy())
    return np.stack(rows)
