"""What acts on a simulation from outside over time: where mocap bodies are, forces on bodies."""

import types
from collections.abc import Mapping, Sequence
from typing import Any

import mujoco
import numpy as np

from jgps.core.checks import as_numbers
from jgps.core.names import did_you_mean, shown
from jgps.mujoco_log import quiet_mujoco

_STATE = mujoco.mjtState
# The numbers that a body has of each kind, and where a simulator's state has them.
WIDTHS: Mapping[str, int] = types.MappingProxyType(
    {"mocap_pos": 3, "mocap_quat": 4, "xfrc_applied": 6}
)
_PARTS = {
    "mocap_pos": _STATE.mjSTATE_MOCAP_POS,
    "mocap_quat": _STATE.mjSTATE_MOCAP_QUAT,
    "xfrc_applied": _STATE.mjSTATE_XFRC_APPLIED,
}
_PLACED_BY = {"mocap_pos": "body_pos", "mocap_quat": "body_quat"}  # fields of `changes`


class Inputs:
    """The inputs of C conditions, as numbers of states of the simulator.

    A state is a row of mjSTATE_INTEGRATION. Rows are held to the longest of the inputs, and the
    last row from there on.

    Attributes:
      columns: where in a state the numbers are, [n].
      length: number L of rows, at least 1.
    """

    def __init__(self, model: mujoco.MjModel, inputs: Mapping[str, np.ndarray]):
        """Lays out `Conditions.inputs` that have been checked; there is at least one."""
        self.length = max(rows.shape[1] for rows in inputs.values())
        parts = [held(rows, self.length) for rows in inputs.values()]
        self.columns = np.concatenate([_columns(model, key) for key in inputs])
        self._rows = np.ascontiguousarray(np.concatenate(parts, axis=2).swapaxes(0, 1))  # [L, C, n]

    def at(self, t: int) -> np.ndarray:
        """The numbers [C, n] that hold during control step t."""
        return self._rows[min(t, self.length - 1)]

    def write(self, states: np.ndarray, t: int) -> None:
        """Writes what holds during control step t into states [C N, nstate].

        The N states of a condition, one or more, follow one another.
        """
        rows = self.at(t)
        states[:, self.columns] = np.repeat(rows, len(states) // len(rows), axis=0)

    @quiet_mujoco()
    def write_data(self, model: mujoco.MjModel, data: mujoco.MjData, row: np.ndarray) -> None:
        """Writes what `at` says of one condition, [n], into the data of one simulation."""
        state = np.empty(mujoco.mj_stateSize(model, _STATE.mjSTATE_INTEGRATION))
        mujoco.mj_getState(model, data, state, _STATE.mjSTATE_INTEGRATION)
        state[self.columns] = row
        mujoco.mj_setState(model, data, state, _STATE.mjSTATE_INTEGRATION)


def _columns(model: mujoco.MjModel, key: str) -> np.ndarray:
    """Where in a row of mjSTATE_INTEGRATION the numbers of an input are."""
    kind, place = _place(model, key)
    before = int(_STATE.mjSTATE_INTEGRATION) & (int(_PARTS[kind]) - 1)
    first = mujoco.mj_stateSize(model, before) + place * WIDTHS[kind]
    return first + np.arange(WIDTHS[kind])


def _place(model: mujoco.MjModel, key: str) -> tuple[str, int]:
    """The field of MjData that an input is written to, and the row of it."""
    kind, _, name = key.partition(":")
    body = model.body(name).id
    return kind, body if kind == "xfrc_applied" else int(model.body_mocapid[body])


def held(rows: np.ndarray, length: int) -> np.ndarray:
    """Rows [C, L, ...] over so many steps, of which the last one stays."""
    return rows[:, np.minimum(np.arange(length), rows.shape[1] - 1)]


# The field of MjData and rows of it that inputs are written to; hashable.
Places = tuple[tuple[str, tuple[int, ...]], ...]


def fields_over_time(
    model: mujoco.MjModel, inputs: Mapping[str, np.ndarray], horizon: int
) -> tuple[Places, dict[str, np.ndarray]]:
    """The inputs by fields of MjData: the rows [k] that each writes, and numbers [C, T, k, ...]."""
    places: dict[str, list[int]] = {}
    numbers: dict[str, list[np.ndarray]] = {}
    for key, rows in inputs.items():
        field, place = _place(model, key)
        places.setdefault(field, []).append(place)
        numbers.setdefault(field, []).append(held(rows, horizon))
    fixed = tuple((field, tuple(rows)) for field, rows in places.items())
    return fixed, {field: np.stack(rows, axis=2) for field, rows in numbers.items()}


def mocap_bodies(model: mujoco.MjModel) -> np.ndarray:
    """Bodies [nmocap] in the order of their mocap poses."""
    bodies = np.flatnonzero(model.body_mocapid >= 0)
    return bodies[np.argsort(model.body_mocapid[bodies])]


def mocap_over_time(
    model: mujoco.MjModel, inputs: Mapping[str, np.ndarray], steps: np.ndarray, condition: int
) -> tuple[np.ndarray, np.ndarray]:
    """Where the mocap bodies of one condition are at some control steps [I].

    Args:
      model: of the condition, see `jgps.simulation.condition_models`.
      inputs: of all conditions.
      steps: control steps [I].
      condition: number of the condition.

    Returns:
      Positions [I, nmocap, 3], metres, and quaternions [I, nmocap, 4] (w, x, y, z).
    """
    bodies, shape = mocap_bodies(model), (len(steps), 1, 1)
    found = {
        "mocap_pos": np.tile(model.body_pos[bodies], shape),
        "mocap_quat": np.tile(model.body_quat[bodies], shape),
    }
    for key, rows in inputs.items():
        field, place = _place(model, key)
        if field in found:
            found[field][:, place] = rows[condition, np.minimum(steps, rows.shape[1] - 1)]
    return found["mocap_pos"], found["mocap_quat"]


def check_inputs(
    model: mujoco.MjModel, num: int, inputs: Any, changes: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Inputs of `num` conditions as float64 arrays [C, L, ...] of checked numbers.

    Quaternions are made unit. Those of one condition may lack their first axis.

    Raises:
      ValueError: if these are no mapping of strings to numbers; naming the key, if it is of no
        kind or body that there is, `changes` place the body as well, or the numbers do not fit.
    """
    what = "it has to be a mapping of keys 'kind:body' to numbers, such as "
    what += "{'xfrc_applied:torso': forces} with forces [C, L, 6]"
    if not isinstance(inputs, Mapping):
        raise ValueError(f"conditions: inputs is {shown(inputs)}; {what}, or left out")
    checked = {}
    for key, given in inputs.items():
        if not isinstance(key, str):
            raise ValueError(f"conditions: inputs has the key {shown(key)}; {what}")
        _check_key(model, key, changes)
        rows = as_numbers(f"conditions: inputs[{key!r}]", given)
        width = WIDTHS[key.partition(":")[0]]
        if num == 1 and rows.ndim == 2:
            rows = rows[None]
        if rows.ndim != 3 or rows.shape[0] != num or not rows.shape[1] or rows.shape[2] != width:
            raise ValueError(
                f"conditions: inputs[{key!r}] has shape {rows.shape}, expected ({num}, L, {width}) "
                "with a row for each of L >= 1 control steps"
            )
        if not np.all(np.isfinite(rows)):
            raise ValueError(f"conditions: inputs[{key!r}] has values that are not finite")
        checked[key] = _unit(key, rows) if key.startswith("mocap_quat:") else rows
    return checked


def _check_key(model: mujoco.MjModel, key: str, changes: Mapping[str, Any]) -> None:
    """Refuses a key that names nothing to act on.

    Raises:
      ValueError: saying why.
    """
    kind, _, name = key.partition(":")
    if kind not in WIDTHS:
        raise ValueError(
            f"conditions: inputs has the key {key!r}; kinds of inputs: "
            f"{', '.join(f'{each}:BODY' for each in WIDTHS)}{did_you_mean(kind, WIDTHS)}"
        )
    body = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, name) if name else -1
    if kind == "xfrc_applied":
        if body == 0:
            raise ValueError(
                f"conditions: inputs[{key!r}] has no effect, because the world does not move; push "
                "a body in it"
            )
        able = [b for b in range(1, model.nbody) if model.body_mocapid[b] < 0]
    else:
        able = np.flatnonzero(model.body_mocapid >= 0).tolist()
    known = [each for each in (model.body(b).name for b in able) if each]
    if body < 0:
        raise ValueError(
            f"conditions: the model has no body {name!r} (key {key!r} of inputs); it can be: "
            f"{', '.join(known) or 'none'}{did_you_mean(name, known)}"
        )
    if kind == "xfrc_applied" and model.body_mocapid[body] >= 0:
        raise ValueError(
            f"conditions: inputs[{key!r}] has no effect, because {name!r} is a mocap body, which "
            "no force moves; push another body"
        )
    if body not in able:
        raise ValueError(
            f"conditions: inputs[{key!r}] moves a mocap body, and {name!r} is none; give it "
            f'mocap="true" in the model{did_you_mean(name, known)}'
        )
    field = _PLACED_BY.get(kind, "")
    for change in (f"{field}:{name}", field):
        if change in changes:
            raise ValueError(
                f"conditions: {change!r} in changes and {key!r} in inputs place the same mocap "
                "body; give one of them"
            )


def _unit(key: str, rows: np.ndarray) -> np.ndarray:
    """Quaternions at unit length, those that are not.

    Raises:
      ValueError: naming the key, for a quaternion of zeros.
    """
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    if np.any(length < 1e-6):
        raise ValueError(
            f"conditions: inputs[{key!r}] has a quaternion of zeros; no rotation is (1, 0, 0, 0)"
        )
    return rows / np.where(np.abs(length - 1) <= 8 * np.finfo(float).eps, 1, length)


def changing(inputs: Mapping[str, np.ndarray]) -> list[str]:
    """The keys of inputs that are not the same during all control steps."""
    return [key for key, rows in inputs.items() if np.any(rows != rows[:, :1])]


def concatenate_inputs(
    sets: Sequence[Mapping[str, np.ndarray]], still: Sequence[Mapping[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """The inputs of all these conditions in a row, each held to the longest.

    Args:
      sets: the inputs of each set of conditions.
      still: what those of each set have in place of an input that only others have, [C, 1, ...].
    """
    joined = {}
    for key in dict.fromkeys(key for each in sets for key in each):
        rows = [
            own[key] if key in own else other[key] for own, other in zip(sets, still, strict=True)
        ]
        length = max(each.shape[1] for each in rows)
        joined[key] = np.concatenate([held(each, length) for each in rows])
    return joined
