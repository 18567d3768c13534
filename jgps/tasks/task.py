"""What a task is, and how to make one of any MuJoCo model."""

import copy
import dataclasses
import functools
import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import mujoco
import numpy as np

from jgps.controllers import HoldConfig, LqrHoldConfig, NoiseConfig, PdHoldConfig
from jgps.core.names import explain_unknown
from jgps.simulation import (
    Conditions,
    Source,
    StateLayout,
    StepFunction,
    System,
    check_conditions,
    load_model,
)
from jgps.simulation.sensing import check_observed
from jgps.tasks.checks import (
    check_cameras,
    check_dynamics,
    check_entries,
    check_functions,
    check_initial,
    check_name,
    check_params_alike,
    check_sets,
    check_times,
    from_layout,
    warn_of_activations,
)
from jgps.tasks.episodes import Episodes, check_episodes, prepared
from jgps.tasks.functions import params_like
from jgps.tasks.policy_camera import Vision, VisionSpec, see
from jgps.tasks.start_pose import (
    StartPose,
    at_rest,
    check_upright,
    start_features,
    training_conditions,
)
from jgps.tasks.state_image import StateImage, image_dim, image_poses, with_image

Initial = HoldConfig | LqrHoldConfig | PdHoldConfig | NoiseConfig
# Each takes params as well where conditions have some, see `jgps.tasks.functions`.
Cost = Callable[..., jax.Array]  # of x [dX], u [dU] and t
Success = Callable[..., jax.Array]  # of x [T, dX] and u [T, dU]
Distance = Callable[..., jax.Array]  # of x [T, dX]
Fall = Callable[..., jax.Array]  # of x [dX]
RandomStart = Callable[[jax.Array], tuple[jax.Array, jax.Array]]
RANDOM_STARTS = 16  # of those that are drawn, in which a robot may not have fallen
FUNCTIONS = ("cost", "success", "distance", "fall", "random_start", "dynamics")


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
      cost: `cost(x [dX], u [dU], t) -> scalar`. Where the conditions have `params`, it takes those
        of the condition at hand as a last argument, and so do `success`, `distance` and `dynamics`.
      train, test: initial conditions to optimise for, and unseen ones to evaluate on; activations
        that they leave out are those that hold the pose at rest.
      success: `success(x [T, dX], u [T, dU]) -> bool`, or None where the task defines none.
      distance: `distance(x [T, dX]) -> metres` left to the target at the end, or None.
      fall: `fall(x [dX]) -> bool`, whether the robot has fallen: whatever comes then, that is no
        success; costs go on. None where there is no such thing.
      initial: the controller to begin with; None holds the start poses by what
        `jgps.configs.HoldConfig()` describes, each in its condition's own model. Where every
        actuator is a plain motor of a joint of its own that bears no load, and what moves these is
        the same in all conditions, it is a soft LQR hold, see `jgps.tasks.start.hold_from_model`.
      points: state entries that are positions of points worth drawing, such as `"site_pos:tip"`.
      camera: name of the model's camera for videos; None frames the whole model.
      observation: which quantities make up o [dO], all that a network sees; None where it is x.
      random_start: `random_start(key) -> (qpos [nq], qvel [nv])` draws one initial pose, with unit
        quaternions; None where the task defines none. Activations are those that hold the pose.
      distracted: conditions to evaluate on that look different to a camera, such as the training
        places among things that have nothing to do with the task; None where the task defines none.
      vision: the camera that a network of pixels looks through; o then ends with the poses of what
        it sees, which no network may read. None where the task has none.
      mjx_model: what MJX simulates in the model's place, with other geoms where it can't collide
        those of the model; bodies, joints, actuators and sensors have to be the same. None where it
        simulates the model itself.
      dynamics: `dynamics(x [dX], u [dU], t) -> x' [dX]` of one control step, which JAX can trace
        and differentiate; None where MuJoCo simulates the model. Rollouts then compute it in the
        model's place (backend "analytic"), which draws the state and says the controls' ranges; the
        state has to be made of qpos and qvel of hinges and slides, and of act.
      episodes: what differs from episode to episode where those are drawn anew, see
        `jgps.tasks.Episodes`; None where there are the conditions alone.
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
    fall: Fall | None = None
    initial: Initial | None = None
    points: tuple[str, ...] = ()
    camera: str | None = None
    observation: StateLayout | None = None
    random_start: RandomStart | None = None
    distracted: Conditions | None = None
    vision: Vision | None = None
    mjx_model: mujoco.MjModel | None = None
    dynamics: StepFunction | None = None
    episodes: Episodes | None = None

    def __post_init__(self) -> None:
        for name in ("train", "test", "distracted"):  # also those that `replace` brings
            given = getattr(self, name)
            if given is not None:
                completed = at_rest(self.model, check_conditions(self.model, given))
                object.__setattr__(self, name, completed)
                check_observed(completed.sensing, self.observation)
        check_dynamics(self.system, params_like(self.train))
        if self.episodes is not None:
            check_episodes(self.episodes, self.model, self.observation, self.control_dt)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Task":
        values = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        return Task(**{name: copy.deepcopy(value, memo) for name, value in values.items()})

    def __getstate__(self) -> dict[str, Any]:
        for name in FUNCTIONS:
            try:
                pickle.dumps(getattr(self, name))
            except (pickle.PicklingError, AttributeError, TypeError) as error:
                raise TypeError(
                    f"task {self.name!r} can't be pickled, because its {name} can't be: {error}; "
                    "make the task anew where it is needed, from what it was made of"
                ) from None
        return dict(self.__dict__)

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
    def ctrl(self) -> np.ndarray | None:
        """Controls [C, dU] that hold the start poses, as the training conditions name them."""
        return self.train.ctrl

    @property
    def substeps(self) -> int:
        """Physics steps per control step."""
        return round(self.control_dt / self.model.opt.timestep)

    @property
    def system(self) -> System:
        """The part of the task that the simulators need."""
        return System(
            self.model,
            self.layout,
            self.horizon,
            self.substeps,
            observation=self.observation,
            mjx_model=self.mjx_model,
            dynamics=self.dynamics,
        )


@explain_unknown
def from_mjcf(
    source: Source,
    *,
    cost: Callable[[StateLayout], Cost],
    state: Sequence[str] = ("qpos", "qvel"),
    observation: Sequence[str] | None = None,
    image: StateImage | None = None,
    horizon: int = 100,
    control_dt: float = 0.05,
    qpos: Any = None,
    qvel: Any = None,
    act: Any = None,
    ctrl: Any = None,
    changes: Mapping[str, Any] | None = None,
    params: Any = None,
    inputs: Mapping[str, Any] | None = None,
    test: Conditions | EvaluationSets | None = None,
    success: Callable[[StateLayout], Success] | None = None,
    distance: Callable[[StateLayout], Distance] | None = None,
    fall: Callable[[StateLayout], Fall] | None = None,
    dynamics: Callable[[StateLayout], StepFunction] | None = None,
    initial: Initial | None = None,
    random_start: RandomStart | None = None,
    episodes: Episodes | None = None,
    camera: str | None = None,
    vision: str | VisionSpec | None = None,
    name: str = "custom",
) -> Task:
    """A task of any MuJoCo model.

    Args:
      source: path of an MJCF file, MJCF as text or bytes, a MuJoCo spec, or a compiled model whose
        sensors are those that the state needs.
      cost: makes the cost function from the layout of the state, for instance
        `lambda s: costs.distance(s["site_pos:tip"], (0.3, 0, 0.5))`.
      state: entries of the state, such as `"qpos"`, `"qvel:knee"`, `"site_pos:tip"`,
        `"body_up:torso"`, `"gyro:root"`, `"phase:0.5"`; see `jgps.simulation.layout` for all kinds.
      observation: entries of all that a network sees, of the same kinds as those of the state, and
        `"ctrl"`, the controls of the last control step; None is the state.
      image: what the entry `"image"` of the state or the observation is made of, such as
        `jgps.tasks.StateImage("eye")`.
      horizon: number of control steps, at least 2.
      control_dt: seconds per control step, a multiple of the model's timestep.
      qpos, qvel: initial joint positions [C, nq] and velocities [C, nv], one row per training
        condition; one row alone, or None for the model's reference pose at rest, serves all
        conditions. The name of a keyframe as qpos, or a sequence of names, starts there: with its
        velocities, activations, controls (of `ctrl`; all of them zero count as none) and the
        mocap bodies where it puts them.
      act: initial activations [C, na]. None is what holds the start pose at rest, by statics, for
        actuators with dynamics.
      ctrl: controls [C, dU] that hold the start pose, as the mean of the default initial
        controller; None is what holds it by statics.
      changes: per-condition changes of the model's numbers by `"field:object"`, each [C, ...]; for
        the fields, see `jgps.simulation.Conditions`.
      params: what the task's functions have to know of each training condition that is not in the
        state, such as its target or its weights: a pytree with leaves [C, ...], for instance
        `{"goal": goals}`. They take the condition's own as their last argument, as in
        `cost(x, u, t, params)`; see `jgps.tasks.functions`.
      inputs: what acts from outside in each training condition over time, such as
        `{"mocap_pos:command": commands}` [C, L, 3]; see `jgps.simulation.Conditions`.
      test: unseen conditions to evaluate on, or several sets of conditions; None is the training
        conditions again.
      success, distance, fall: make those functions from the layout.
      dynamics: makes the function of one control step that rollouts compute in place of MuJoCo's
        physics, see `Task`; None simulates the model.
      initial: the controller to begin with; None holds the start poses, see `Task`.
      random_start: draws an initial pose, see `Task`.
      episodes: ranges of commands, pushes, other physics, noise and latency that episodes to learn
        from are drawn in; `jgps.tasks.draw` draws some. With commands the model gets what shows
        them, as the entry "sensor:command".
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
    check_initial(initial)
    clutter = () if spec is None else spec.clutter
    check_entries(state=state, observation=observation, clutter=clutter)
    given = None if observation is None else tuple(observation)
    num_drawn = image_dim(image, (*state, *(given or ())))
    source = prepared(source, episodes)
    compile_with = functools.partial(load_model, source, tuple(state), image_dim=num_drawn)
    model, layout, observed = compile_with(given)
    horizon, control_dt = check_times(model, horizon, control_dt)
    check_cameras(model, camera, *(each.camera for each in (spec, image) if each is not None))
    warn_of_activations(model, state)
    if ctrl is not None and not isinstance(initial, HoldConfig | None):
        raise ValueError(
            f"ctrl is what the default initial controller holds with; it says nothing to {initial}"
        )
    start = StartPose(qpos, qvel, act, ctrl)
    train = training_conditions(model, start, {} if changes is None else changes, params, inputs)
    unseen, distracted = _evaluation_sets(model, test)
    sets = [each for each in (train, unseen, distracted) if each is not None]
    poses = () if image is None else image_poses(model, sets, image)
    seen, compile_with = None, functools.partial(compile_with, poses=poses)
    compiled = (model, layout, observed) if image is None else compile_with(given)
    if spec is not None:
        compiled, seen = see(compile_with, compiled, observation, sets, spec)
    if image is not None:
        compiled = with_image(compiled, poses, sets, image)
    model, layout, observed = compiled
    task = Task(
        name=check_name(name),
        model=model,
        layout=layout,
        horizon=horizon,
        control_dt=control_dt,
        cost=from_layout("cost", cost, layout),
        train=train,
        test=train if unseen is None else unseen,
        success=None if success is None else from_layout("success", success, layout),
        distance=None if distance is None else from_layout("distance", distance, layout),
        fall=None if fall is None else from_layout("fall", fall, layout),
        dynamics=None if dynamics is None else from_layout("dynamics", dynamics, layout),
        initial=initial,
        points=tuple(entry for entry in state if entry.startswith(("site_pos:", "body_pos:"))),
        camera=camera,
        observation=observed,
        random_start=random_start,
        distracted=distracted,
        vision=seen,
        episodes=episodes,
    )
    check_params_alike(train, test=unseen, distracted=distracted)
    _check(task)
    return task


def _check(task: Task) -> None:
    """Refuses episodes, functions and starts that don't fit the task."""
    functions = {each: getattr(task, each) for each in FUNCTIONS}
    check_functions(task.layout, task.model, task.horizon, functions, params_like(task.train))
    if task.fall is not None:
        for which, each in {"training": task.train, "test": task.test}.items():
            starts = start_features(task.model, task.layout, each)
            check_upright(task.fall, which, starts, each)


def _evaluation_sets(
    model: mujoco.MjModel, test: Conditions | EvaluationSets | None
) -> EvaluationSets:
    sets = test if isinstance(test, EvaluationSets) else EvaluationSets(test)
    check_sets(test=sets.test, distracted=sets.distracted)
    return EvaluationSets(
        *(None if each is None else check_conditions(model, each) for each in sets)
    )
