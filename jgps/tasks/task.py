"""What a task is, and how to make one of any MuJoCo model."""

import dataclasses
import functools
import inspect
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jgps.controllers import LqrHoldConfig, NoiseConfig, PdHoldConfig
from jgps.simulation import Conditions, StateLayout, System, check_conditions, load_model
from jgps.tasks.policy_camera import Vision, VisionSpec, see

Initial = LqrHoldConfig | PdHoldConfig | NoiseConfig
Cost = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
Success = Callable[[jax.Array, jax.Array], jax.Array]
Distance = Callable[[jax.Array], jax.Array]
RandomStart = Callable[[jax.Array], tuple[jax.Array, jax.Array]]


class EvaluationSets(NamedTuple):
    """Conditions to evaluate on; nothing is learned in them."""

    test: Conditions | None = None  # unseen; None is the training conditions
    distracted: Conditions | None = None  # that look different to a camera, see `Task`


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """A control problem from several initial conditions.

    Attributes:
      name: how the command line calls it.
      model: compiled MuJoCo model, with the sensors that the state and the observation need.
      layout: which of its quantities make up the state x [dX].
      horizon: number T of control steps.
      control_dt: duration of a control step, seconds.
      cost: `cost(x [dX], u [dU], t) -> scalar`.
      train, test: initial conditions to optimise for, and unseen ones to evaluate on.
      success: `success(x [T, dX], u [T, dU]) -> bool`, or None where the task defines none.
      distance: `distance(x [T, dX]) -> metres` left to the target at the end, or None.
      initial: the controller to begin with; None is an LQR hold that fits the model, see
        `jgps.tasks.start.hold_from_model`.
      points: state entries that are positions of points worth drawing, such as `"site_pos:tip"`.
      camera: name of the model's camera for videos; None frames the whole model.
      observation: which quantities make up o [dO], all that a network sees; None where it is x.
      random_start: `random_start(key) -> (qpos [nq], qvel [nv])` draws one initial pose, with unit
        quaternions; None where the task defines none.
      distracted: conditions to evaluate on that look different to a camera, such as the training
        places among things that have nothing to do with the task; None where the task defines none.
      vision: the camera that a network of pixels looks through; o then ends with the poses of what
        it sees, which no network may read. None where the task has none.
      mjx_model: what MJX simulates in the model's place, with other geoms where it can't collide
        those of the model; bodies, joints, actuators and sensors have to be the same. None where it
        simulates the model itself.
    """

    name: str
    model: mujoco.MjModel
    layout: StateLayout
    horizon: int
    control_dt: float
    cost: Cost
    train: Conditions
    test: Conditions
    success: Success | None = None
    distance: Distance | None = None
    initial: Initial | None = None
    points: tuple[str, ...] = ()
    camera: str | None = None
    observation: StateLayout | None = None
    random_start: RandomStart | None = None
    distracted: Conditions | None = None
    vision: Vision | None = None
    mjx_model: mujoco.MjModel | None = None

    @property
    def state_dim(self) -> int:
        """The dX of this task."""
        return self.layout.size

    @property
    def observation_dim(self) -> int:
        """The dO of this task, which is dX where the observation is the state."""
        return (self.observation or self.layout).size

    @property
    def configuration(self) -> slice:
        """The part of o that a network reads as it is: all of it, but for what a camera shows."""
        return slice(0, self.observation_dim) if self.vision is None else self.vision.configuration

    @property
    def configuration_dim(self) -> int:
        """How many numbers that is."""
        return self.configuration.stop

    @property
    def action_dim(self) -> int:
        """The dU of this task."""
        return int(self.model.nu)

    @property
    def substeps(self) -> int:
        """Physics steps per control step."""
        return round(self.control_dt / self.model.opt.timestep)

    @property
    def system(self) -> System:
        """The part of the task that the simulators need."""
        return System(
            self.model, self.layout, self.horizon, self.substeps, self.observation, self.mjx_model
        )


def from_mjcf(
    source: str | os.PathLike | mujoco.MjSpec,
    *,
    cost: Callable[[StateLayout], Cost],
    state: Sequence[str] = ("qpos", "qvel"),
    observation: Sequence[str] | None = None,
    horizon: int = 100,
    control_dt: float = 0.05,
    qpos: Any = None,
    qvel: Any = None,
    changes: Mapping[str, Any] | None = None,
    test: Conditions | EvaluationSets | None = None,
    success: Callable[[StateLayout], Success] | None = None,
    distance: Callable[[StateLayout], Distance] | None = None,
    initial: Initial | None = None,
    random_start: RandomStart | None = None,
    camera: str | None = None,
    vision: str | VisionSpec | None = None,
    name: str = "custom",
) -> Task:
    """A task of any MuJoCo model.

    Args:
      source: path of an MJCF file, MJCF text, or a MuJoCo spec.
      cost: makes the cost function from the layout of the state, for instance
        `lambda s: costs.distance(s["site_pos:tip"], (0.3, 0, 0.5))`.
      state: entries of the state, see `jgps.simulation.layout`.
      observation: entries of all that a network sees, of the same kinds as those of the state; None
        is the state.
      horizon: number of control steps, at least 2.
      control_dt: seconds per control step, a multiple of the model's timestep.
      qpos, qvel: initial joint positions [C, nq] and velocities [C, nv], one row per training
        condition; one row alone, or None for the model's reference pose at rest, serves all
        conditions.
      changes: per-condition changes of the model, see `jgps.simulation.Conditions`; each [C, ...].
      test: unseen conditions to evaluate on, or several sets of conditions; None is the training
        conditions again.
      success, distance: make those functions from the layout.
      initial: the controller to begin with; None is an LQR hold that fits the model, see
        `jgps.tasks.start.hold_from_model`.
      random_start: draws an initial pose, see `Task`.
      camera: name of a camera of the model for videos.
      vision: name of a camera of the model that a network of pixels may look through, or a
        `VisionSpec` of it. What the network reads beside the image is the observation.
      name: what to call the task.

    Raises:
      ValueError: says what is wrong with the model, a name, a shape or a number.
    """
    if not callable(cost):
        raise ValueError("cost has to be a function of the layout that returns the cost function")
    spec = VisionSpec(vision) if isinstance(vision, str) else vision
    if not isinstance(spec, VisionSpec | None):
        raise ValueError(f"vision is {vision!r}; pass the name of a camera, or a VisionSpec of it")
    clutter = () if spec is None else spec.clutter
    _check_sequences(state=state, observation=observation, clutter=clutter)
    compile_with = functools.partial(load_model, source, tuple(state))
    model, layout, observed = compile_with(None if observation is None else tuple(observation))
    _check_times(model, horizon, control_dt)
    _check_cameras(model, camera, None if spec is None else spec.camera)
    _warn_of_activations(model, state)
    train = _conditions(model, qpos, qvel, changes or {})
    unseen, distracted = _evaluation_sets(model, test)
    seen = None
    if spec is not None:
        sets = [each for each in (train, unseen, distracted) if each is not None]
        compiled = model, layout, observed
        compiled, seen = see(compile_with, compiled, observation, sets, spec)
        model, layout, observed = compiled
    task = Task(
        name=name,
        model=model,
        layout=layout,
        horizon=horizon,
        control_dt=control_dt,
        cost=_from_layout("cost", cost, layout),
        train=train,
        test=train if unseen is None else unseen,
        success=None if success is None else _from_layout("success", success, layout),
        distance=None if distance is None else _from_layout("distance", distance, layout),
        initial=initial,
        points=tuple(entry for entry in state if entry.startswith(("site_pos:", "body_pos:"))),
        camera=camera,
        observation=observed,
        random_start=random_start,
        distracted=distracted,
        vision=seen,
    )
    _check_functions(task)
    return task


def _check_sequences(**sequences: Sequence[str] | None) -> None:
    for what, entries in sequences.items():
        if isinstance(entries, str):
            raise ValueError(
                f"{what} is the string {entries!r}; pass a sequence of entries: ({entries!r},)"
            )


def _check_cameras(model: mujoco.MjModel, *names: str | None) -> None:
    for each in names:
        if each is not None and mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, each) < 0:
            known = [model.camera(i).name for i in range(model.ncam)]
            raise ValueError(
                f"the model has no camera {each!r}; it has: {', '.join(known) or 'none'}"
            )


def _warn_of_activations(model: mujoco.MjModel, state: Sequence[str]) -> None:
    if model.na and "act" not in state:
        warnings.warn(
            f"the model has {model.na} activation states that are not in the state; add 'act', or "
            "the fitted dynamics cannot know them",
            stacklevel=3,  # where from_mjcf was called
        )


def _check_times(model: mujoco.MjModel, horizon: int, control_dt: float) -> None:
    if not isinstance(horizon, int | np.integer) or horizon < 2:
        raise ValueError(
            f"horizon is {horizon!r}; it has to be at least 2 control steps, an integer"
        )
    ratio = control_dt / model.opt.timestep
    if not np.isfinite(ratio) or ratio < 0.5 or abs(ratio - round(ratio)) > 1e-6 * ratio:
        raise ValueError(
            f"control_dt is {control_dt} s, which is not a multiple of the model's timestep "
            f"{model.opt.timestep} s; change one of them"
        )


def _conditions(
    model: mujoco.MjModel, qpos: Any, qvel: Any, changes: Mapping[str, Any]
) -> Conditions:
    qpos = np.atleast_2d(np.asarray(model.qpos0 if qpos is None else qpos, np.float64))
    qvel = np.atleast_2d(np.asarray(np.zeros(model.nv) if qvel is None else qvel, np.float64))
    changes = {key: np.asarray(value, np.float64) for key, value in changes.items()}
    num = max(len(qpos), len(qvel), *(len(np.atleast_1d(v)) for v in changes.values()), 1)

    def broadcast(rows: np.ndarray) -> np.ndarray:
        return np.repeat(rows, num, axis=0) if len(rows) == 1 else rows

    return check_conditions(model, Conditions(broadcast(qpos), broadcast(qvel), changes))


def _evaluation_sets(
    model: mujoco.MjModel, test: Conditions | EvaluationSets | None
) -> EvaluationSets:
    sets = test if isinstance(test, EvaluationSets) else EvaluationSets(test)
    checked = (None if each is None else check_conditions(model, each) for each in sets)
    return EvaluationSets(*checked)


def _check_functions(task: Task) -> None:
    """Traces the task's functions once, so that mistakes show at once and in one sentence."""
    x = jax.ShapeDtypeStruct((task.state_dim,), np.float32)
    u = jax.ShapeDtypeStruct((task.action_dim,), np.float32)
    t = jax.ShapeDtypeStruct((), np.int32)
    _check_scalar("cost", task.cost, (x, u, t), jnp.floating)
    xs = jax.ShapeDtypeStruct((task.horizon, task.state_dim), np.float32)
    us = jax.ShapeDtypeStruct((task.horizon, task.action_dim), np.float32)
    for what, function, arguments in [
        ("success", task.success, (xs, us)),
        ("distance", task.distance, (xs,)),
    ]:
        if function is not None:
            _check_scalar(what, function, arguments, None)
    if task.random_start is not None:
        _check_random_start(task.random_start, task.model)


def _trace(what: str, function: Callable[..., Any], arguments: Any) -> Any:
    """What the function returns, as shapes and dtypes."""
    try:
        return jax.eval_shape(function, *arguments)
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"JAX has to be able to trace {what}; it cannot: {reason}") from None


def _check_random_start(function: RandomStart, model: mujoco.MjModel) -> None:
    what = f"random_start has to be a function of a key that returns (qpos [{model.nq}], qvel "
    what += f"[{model.nv}])"
    if not callable(function):
        raise ValueError(f"{what}; it is {function!r}")
    key = jax.random.key(0)
    try:
        inspect.signature(function).bind(key)
    except TypeError as error:
        raise ValueError(f"{what}; called with a key it says: {error}") from None
    pose = _trace("random_start", function, (key,))
    if not isinstance(pose, tuple) or len(pose) != 2:
        raise ValueError(f"{what}; it returns {type(pose).__name__}")
    for name, array, size in zip(("qpos", "qvel"), pose, (model.nq, model.nv), strict=True):
        shape = getattr(array, "shape", None)
        if shape != (size,):
            raise ValueError(f"{what}; its {name} has shape {shape}")
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise ValueError(f"{what} in floating-point numbers; its {name} is of {array.dtype}")


def _check_scalar(what: str, function: Callable[..., Any], arguments: Any, kind: Any) -> None:
    result = _trace(what, function, arguments)
    shape = getattr(result, "shape", None)
    if shape != ():
        raise ValueError(f"{what} has to return a scalar; it returns shape {shape}")
    if kind is not None and not jnp.issubdtype(result.dtype, kind):
        raise ValueError(f"{what} has to return a floating-point number; it returns {result.dtype}")


def _from_layout(what: str, make: Callable[[StateLayout], Any], layout: StateLayout) -> Any:
    """The user's function, made from the layout."""
    try:
        inspect.signature(make).bind(layout)
    except TypeError:
        raise ValueError(
            f"{what} has to be a function of the layout that returns the function, as in "
            f"{what}=lambda s: lambda x, ...: ..."
        ) from None
    function = make(layout)
    if not callable(function):
        raise ValueError(f"{what}(layout) has to return a function; it returns {function!r}")
    return function
