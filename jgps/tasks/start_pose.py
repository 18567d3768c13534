"""The training conditions of a task: numbers, or keyframes of the model by name."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import mujoco
import numpy as np

from jgps.core.checks import as_numbers
from jgps.core.names import did_you_mean
from jgps.mujoco_log import quiet_mujoco
from jgps.simulation import (
    Conditions,
    Inputs,
    StateLayout,
    check_conditions,
    condition_models,
    initial_act,
    mocap_bodies,
)
from jgps.simulation.changes import as_arrays
from jgps.simulation.conditions import check_params
from jgps.tasks.checks import check_sets
from jgps.tasks.functions import with_params
from jgps.tasks.hold import resting_activations, resting_controls


class StartPose(NamedTuple):
    """Where training starts, as `from_mjcf` is told; each [C, ...], or one row for all."""

    qpos: Any = None  # [C, nq], or the name of a keyframe, or a sequence of names
    qvel: Any = None  # [C, nv]
    act: Any = None  # [C, na]
    ctrl: Any = None  # [C, nu]


def training_conditions(
    model: mujoco.MjModel,
    start: StartPose,
    changes: Mapping[str, Any],
    params: Any = None,
    inputs: Mapping[str, Any] | None = None,
) -> Conditions:
    """The conditions, at rest as far as nothing else is said.

    Raises:
      ValueError: if a shape, a number or a name does not fit the model.
    """
    mocap: dict[str, np.ndarray] = {}
    names = _keyframe_names(start.qpos)
    if names is not None:
        start, mocap = _from_keyframes(model, start, names)
    qpos = np.atleast_2d(as_numbers("qpos", model.qpos0 if start.qpos is None else start.qpos))
    qvel = np.zeros(model.nv) if start.qvel is None else start.qvel
    given: dict[str, Any] = {"qpos": qpos, "qvel": np.atleast_2d(as_numbers("qvel", qvel)), **mocap}
    for name in ("act", "ctrl"):
        if getattr(start, name) is not None:
            given[name] = np.atleast_2d(as_numbers(name, getattr(start, name)))
    check_sets(qpos=Conditions(qpos, given["qvel"]))
    changes, params = as_arrays(changes), check_params(params)
    inputs = {} if inputs is None else inputs
    rows = [*given.values(), *map(np.atleast_1d, changes.values()), *jax.tree.leaves(params)]
    rows += [value for value in inputs.values() if np.ndim(value) == 3]
    num = max(len(each) for each in rows)
    given = {
        name: np.repeat(each, num, axis=0) if len(each) == 1 else each
        for name, each in given.items()
    }
    params = jax.tree.map(lambda p: np.repeat(p, num, axis=0) if len(p) == 1 else p, params)
    conditions = Conditions(changes=changes, params=params, inputs=inputs, **given)
    return at_rest(model, check_conditions(model, conditions))


def rests(model: mujoco.MjModel, conditions: Conditions) -> bool:
    """Whether activations and what delayed actuators remember are given, where there are any."""
    delayed = bool(np.any(model.actuator_delay > 0))
    return not ((model.na and conditions.act is None) or (delayed and conditions.ctrl is None))


def at_rest(model: mujoco.MjModel, conditions: Conditions) -> Conditions:
    """The conditions with activations at rest, where the model has some and none are given.

    They are those that hold the pose, see `jgps.tasks.hold.resting_activations`; the same of the
    controls that delayed actuators remember.
    """
    if rests(model, conditions):
        return conditions
    if np.any(model.actuator_delay > 0) and conditions.ctrl is None:
        conditions = conditions._replace(ctrl=resting_controls(model, conditions))
    if not model.na or conditions.act is not None:
        return conditions
    return conditions._replace(act=resting_activations(model, conditions))


def _keyframe_names(qpos: Any) -> list[str] | None:
    """The names of keyframes, where qpos is made of such."""
    if isinstance(qpos, np.ndarray) and qpos.ndim <= 1:
        qpos = qpos.tolist()
    if isinstance(qpos, str):
        return [qpos]
    if isinstance(qpos, Sequence) and len(qpos) and all(isinstance(each, str) for each in qpos):
        return list(qpos)
    return None


def _from_keyframes(
    model: mujoco.MjModel, start: StartPose, names: Sequence[str]
) -> tuple[StartPose, dict[str, np.ndarray]]:
    """The start with what the keyframes say, where it does not say it itself, and mocap poses.

    Controls or activations that are all zero are what MuJoCo gives a keyframe that does not name
    any, and mocap poses those of the model: they say nothing.
    """
    numbers = [_keyframe(model, name) for name in names]
    named = {"ctrl": model.key_ctrl[numbers], "act": model.key_act[numbers]}
    said = {name: value if value.any() else None for name, value in named.items()}
    for name, value in said.items():
        silent = (
            []
            if value is None
            else [key for key, row in zip(names, value, strict=True) if not row.any()]
        )
        if silent and getattr(start, name) is None:
            raise ValueError(
                f"qpos: the keyframes {', '.join(silent)} have no {name}, and others do; pass "
                f"{name} for all of them"
            )
    bodies, shape = mocap_bodies(model), (len(numbers), int(model.nmocap))
    mocap = {
        "mocap_pos": (model.key_mpos[numbers].reshape(*shape, 3), model.body_pos[bodies]),
        "mocap_quat": (model.key_mquat[numbers].reshape(*shape, 4), model.body_quat[bodies]),
    }
    moved = {name: pose for name, (pose, own) in mocap.items() if np.any(pose != own)}
    return StartPose(
        qpos=model.key_qpos[numbers],
        qvel=model.key_qvel[numbers] if start.qvel is None else start.qvel,
        act=said["act"] if start.act is None else start.act,
        ctrl=said["ctrl"] if start.ctrl is None else start.ctrl,
    ), moved


def _keyframe(model: mujoco.MjModel, name: str) -> int:
    number = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_KEY, name)
    if number < 0:
        known = [model.key(i).name for i in range(model.nkey)]
        raise ValueError(
            f"qpos: the model has no keyframe {str(name)!r}; it has: "
            f"{', '.join(known) or 'none'}{did_you_mean(name, known)}"
        )
    return number


@quiet_mujoco()
def start_features(
    model: mujoco.MjModel, layout: StateLayout, conditions: Conditions
) -> np.ndarray:
    """States x0 [C, dX] in which the conditions begin."""
    found = []
    models, acts = condition_models(model, conditions), initial_act(model, conditions)
    inputs = Inputs(model, conditions.inputs) if conditions.inputs else None
    starts = zip(models, conditions.qpos, conditions.qvel, acts, strict=True)
    for number, (own, qpos, qvel, act) in enumerate(starts):
        data = mujoco.MjData(own)  # which takes mocap poses from the condition's model
        data.qpos[:], data.qvel[:], data.act[:] = qpos, qvel, act
        if inputs is not None:
            inputs.write_data(own, data, inputs.at(0)[number])
        mujoco.mj_forward(own, data)
        found.append(layout.of(data))
    return np.stack(found)


def check_upright(
    fall: Callable[..., Any], name: str, states: np.ndarray, conditions: Conditions
) -> None:
    """Refuses a fall test that is true where a condition starts.

    Args:
      fall: of the task.
      name: of the set of conditions.
      states: [C, dX], where they start.
      conditions: whose params the test takes, where it takes any.

    Raises:
      ValueError: names the first of them.
    """

    def fallen(x: Any, params: Any) -> Any:
        return with_params(fall, params)(x)

    fell = np.asarray(jax.jit(jax.vmap(fallen))(states, conditions.params))
    if fell.any():
        raise ValueError(
            f"fall is true where {name} condition {int(np.argmax(fell))} starts, so that nothing "
            "would count; start it upright, or test for less"
        )
