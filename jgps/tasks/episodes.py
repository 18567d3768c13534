"""Episodes that are drawn anew: commands that change, pushes, other physics, what sensors show.

A task's conditions are few and stay; episodes are as many as anybody asks for, and the same number
draws the same ones. Each is a row of `Conditions`, so that whatever rolls a task out, plans on it
or evaluates a policy takes them as they are.
"""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import jax
import mujoco
import numpy as np

from jgps.core.checks import Range, check_argument
from jgps.core.names import did_you_mean, shown
from jgps.simulation import Conditions, Sensing, Source, StateLayout
from jgps.simulation.source import Compiled, parse

if TYPE_CHECKING:
    from jgps.tasks.task import Task

COMMAND = "command"  # the mocap body whose place is the command, and the sensor that shows it
DIRECTIONS = ("any", "x", "y")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pushes:
    """Forces that push a body now and then, horizontally, at its centre of mass.

    Attributes:
      body: its name in the model.
      force: range of their sizes, N.
      duration: of each, s.
      every: range of the times between the beginnings of two pushes, and before the first one, s.
      direction: of the world in which they point: "any", or along "x" or "y", forward or backward.

    Raises:
      ValueError: for a range that is reversed, or a number out of its range.
    """

    body: str
    force: tuple[float, float]
    duration: float = 0.1
    every: tuple[float, float] = (2.0, 4.0)
    direction: str = "any"

    def __post_init__(self) -> None:
        if not isinstance(self.body, str):
            raise ValueError(f"Pushes.body is {shown(self.body)}; it has to be a body's name")
        _check_range("Pushes.force", self.force, ">= 0")
        _check_range("Pushes.every", self.every, "> 0")
        check_argument("Pushes.duration", self.duration, Annotated[float, Range("> 0")])
        if self.direction not in DIRECTIONS:
            raise ValueError(
                f"Pushes.direction is {shown(self.direction)}; it has to be one of "
                f"{', '.join(DIRECTIONS)}"
            )
        if self.duration >= self.every[0]:
            raise ValueError(
                f"Pushes.duration is {self.duration} s, and pushes may follow each other after "
                f"{self.every[0]} s; they have to be over by then"
            )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Episodes:
    """What differs from episode to episode; None is nothing of the kind.

    Attributes:
      command: ranges of velocity ahead (m/s), to the left (m/s) and turn rate (rad/s), as (low,
        high) pairs; a pair of equal numbers leaves that one as it is. The entry "sensor:command"
        of the state and the observation then has three numbers.
      command_every: range of the times for which a command holds, s.
      standing: share of the commands that are zero, where zero is in their ranges.
      pushes: that nobody plans for.
      friction: range of the sliding friction of all geoms that collide.
      mass: range of a factor of all masses and inertias.
      strength: range of a factor of the forces of all actuators.
      noise: of entries of the observation the standard deviation of what is added to them.
      latency: range of the time by which observations are old, s, multiples of the control step.

    Raises:
      ValueError: for a range that is reversed or a number out of its range.
    """

    command: tuple[tuple[float, float], ...] | None = None
    command_every: tuple[float, float] = (2.0, 5.0)
    standing: float = 0.1
    pushes: Pushes | None = None
    friction: tuple[float, float] | None = None
    mass: tuple[float, float] | None = None
    strength: tuple[float, float] | None = None
    noise: Mapping[str, float] | None = None
    latency: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.command is not None:
            self._check_command(self.command)
        _check_range("Episodes.command_every", self.command_every, "> 0")
        check_argument("Episodes.standing", self.standing, Annotated[float, Range("[0, 1]")])
        if not isinstance(self.pushes, Pushes | None):
            raise ValueError(
                f"Episodes.pushes is {shown(self.pushes)}; it has to be jgps.tasks.Pushes(...)"
            )
        for name in ("friction", "mass", "strength"):
            if getattr(self, name) is not None:
                _check_range(f"Episodes.{name}", getattr(self, name), "> 0")
        if self.latency is not None:
            _check_range("Episodes.latency", self.latency, ">= 0")
        if not isinstance(self.noise, Mapping | None):
            raise ValueError(
                f"Episodes.noise is {shown(self.noise)}; it has to be a mapping of entries of the "
                "observation to standard deviations, such as {'gyro:root': 0.1}"
            )
        for entry, deviation in (self.noise or {}).items():
            check_argument(f"Episodes.noise[{entry!r}]", deviation, Annotated[float, Range(">= 0")])

    def _check_command(self, command: Any) -> None:
        if not isinstance(command, tuple | list | np.ndarray) or len(command) != 3:
            raise ValueError(
                f"Episodes.command is {shown(command)}; it has to be three (low, high) pairs, of "
                "the velocities ahead and to the left and of the turn rate"
            )
        names = ("velocity ahead", "velocity to the left", "turn rate")
        for name, pair in zip(names, command, strict=True):
            _check_range(f"Episodes.command, the {name},", pair, "")
        if all(low == high for low, high in command):
            raise ValueError(
                f"Episodes.command is {command}, ranges of zero width: every episode has the same "
                "command; widen one of them, or leave it out and write the velocity into the cost"
            )


def _check_range(name: str, pair: Any, interval: str) -> None:
    if not isinstance(pair, tuple | list | np.ndarray) or len(pair) != 2:
        raise ValueError(f"{name} is {shown(pair)}; it has to be a pair (low, high)")
    for value in pair:
        check_argument(name, value, Annotated[float, Range(interval)])
    if pair[0] > pair[1]:
        raise ValueError(
            f"{name} is from {pair[0]:g} to {pair[1]:g}; low has to be at most high: swap them"
        )


def prepared(source: Source, episodes: Any) -> Source:
    """The model with what shows commands, where episodes have some.

    Raises:
      ValueError: for what is no `Episodes`.
    """
    if not isinstance(episodes, Episodes | None):
        raise ValueError(
            f"episodes is {shown(episodes)}; it has to be jgps.tasks.Episodes(command=...)"
        )
    told = episodes is not None and episodes.command is not None
    return with_command(source) if told else source


def with_command(source: Source) -> Source:
    """The model with the mocap body and the sensor of the command, where it has none.

    A compiled model is returned as it is, and has to have both.
    """
    spec = parse(source)
    if isinstance(spec, Compiled):
        return source
    spec = spec.copy()  # what is the user's stays as it is
    if COMMAND not in [body.name for body in spec.bodies]:
        spec.worldbody.add_body(name=COMMAND, mocap=True)
    if COMMAND not in [sensor.name for sensor in spec.sensors]:
        spec.add_sensor(
            name=COMMAND,
            type=mujoco.mjtSensor.mjSENS_FRAMEPOS,
            objtype=mujoco.mjtObj.mjOBJ_XBODY,
            objname=COMMAND,
        )
    return spec


def check_episodes(
    episodes: Episodes, model: mujoco.MjModel, observation: StateLayout | None, control_dt: float
) -> None:
    """Refuses episodes that don't fit a model.

    Raises:
      ValueError: says what the model or the observation lacks, and which time is no multiple of
        the control step.
    """
    if episodes.command is not None:
        _check_command_body(model)
    if episodes.pushes is not None:
        bodies = [model.body(i).name for i in range(1, model.nbody)]
        if episodes.pushes.body not in bodies:
            raise ValueError(
                f"Pushes.body is {shown(episodes.pushes.body)}; the model has: {', '.join(bodies)}"
                f"{did_you_mean(episodes.pushes.body, bodies)}"
            )
        _in_steps("Pushes.duration", episodes.pushes.duration, control_dt)
    if episodes.strength is not None:
        muscle = np.flatnonzero(model.actuator_gaintype == int(mujoco.mjtGain.mjGAIN_MUSCLE))
        if len(muscle):
            raise ValueError(
                f"Episodes.strength is a factor of forces, and of muscles such as "
                f"{model.actuator(int(muscle[0])).name!r} it would change lengths as well; leave "
                "it out"
            )
    if episodes.noise or episodes.latency:
        what = "noise" if episodes.noise else "latency"
        if observation is None:
            raise ValueError(
                f"Episodes.{what} is about what a network observes, and this task observes its "
                "state; pass observation=(...)"
            )
    for entry in episodes.noise or {}:
        assert observation is not None
        observation[entry]  # says which entries there are
    for time in episodes.latency or ():
        _in_steps("Episodes.latency", time, control_dt)


def _check_command_body(model: mujoco.MjModel) -> None:
    body = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, COMMAND)
    sensor = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_SENSOR, COMMAND)
    if body < 0 or model.body_mocapid[body] < 0:
        raise ValueError(
            f"Episodes.command needs a mocap body {COMMAND!r}, and the model has "
            f"{'none' if body < 0 else 'another body of that name'}; pass MJCF or an MjSpec "
            "without it, which gains one"
        )
    kind = int(mujoco.mjtSensor.mjSENS_FRAMEPOS)
    if sensor < 0 or model.sensor_type[sensor] != kind or model.sensor_objid[sensor] != body:
        raise ValueError(
            f"Episodes.command needs a sensor {COMMAND!r} of the place of body {COMMAND!r}, and "
            f"the model has {'none' if sensor < 0 else 'another sensor of that name'}; pass MJCF "
            "or an MjSpec without it, which gains one"
        )


def _in_steps(name: str, time: float, control_dt: float) -> int:
    steps = round(time / control_dt)
    if abs(time - steps * control_dt) > 1e-6:
        raise ValueError(
            f"{name} is {time:g} s, which is not a multiple of the control step of "
            f"{control_dt:g} s; take {max(steps, 1) * control_dt:g} s"
        )
    return steps


def draw(task: "Task", seed: int, num: int, horizon: int | None = None) -> Conditions:
    """Episodes of a task, as conditions [C].

    They start in poses that the task's `random_start` draws, or else in those of its training
    conditions in any order, with the params of these.

    Args:
      task: it has `episodes`.
      seed: the same seed draws the same episodes.
      num: how many, C.
      horizon: control steps that commands and pushes are drawn for; None is the task's horizon.

    Raises:
      ValueError: for a task without episodes.
    """
    episodes = task.episodes
    if episodes is None:
        raise ValueError(
            f"task {task.name!r} draws no episodes; pass from_mjcf episodes=jgps.tasks.Episodes()"
        )
    num = check_argument("num", num, Annotated[int, Range(">= 1")])
    steps = task.horizon if horizon is None else horizon
    steps = check_argument("horizon", steps, Annotated[int, Range(">= 1")])
    rng = np.random.default_rng(seed)
    start = task.train.select(rng.integers(task.train.num, size=num))._replace(
        inputs={}, sensing=None
    )
    if task.random_start is not None:
        start = started_at_random(start, task.random_start, num, int(rng.integers(2**31)))
    drawn = _changes(episodes, task.model, rng, num)
    fields = {key.partition(":")[0] for key in drawn}
    twice = [key for key in start.changes if key.partition(":")[0] in fields]
    if twice:
        raise ValueError(
            f"the training conditions of {task.name!r} change {twice[0]!r}, which its episodes "
            "draw as well; leave it to one of them"
        )
    changes = {**start.changes, **drawn}
    inputs: dict[str, np.ndarray] = {}
    if episodes.command is not None:
        inputs[f"mocap_pos:{COMMAND}"] = _commands(episodes, rng, (num, steps), task.control_dt)
    if episodes.pushes is not None:
        pushed = _pushes(episodes.pushes, rng, (num, steps), task.control_dt)
        inputs[f"xfrc_applied:{episodes.pushes.body}"] = pushed
    return start._replace(
        changes=changes, inputs=inputs, sensing=_sensing(episodes, task, rng, (num, steps))
    )


def started_at_random(
    conditions: Conditions, random_start: Any, num: int, seed: int = 0
) -> Conditions:
    """Conditions [C] with starts that a task draws, what else they are being that of some of these.

    Args:
      conditions: at least one, which are taken in turn.
      random_start: of a task.
      num: C.
      seed: the same seed draws the same starts.
    """
    keys = jax.random.split(jax.random.key(seed), num)
    qpos, qvel = (np.asarray(a, np.float64) for a in jax.vmap(random_start)(keys))
    chosen = conditions.select(np.arange(num) % conditions.num)
    return chosen._replace(qpos=qpos, qvel=qvel, act=None)


def _commands(
    episodes: Episodes, rng: np.random.Generator, shape: tuple[int, int], control_dt: float
) -> np.ndarray:
    """Commands [C, T, 3] that hold for a while."""
    low, high = np.asarray(episodes.command, float).T
    still = np.all((low <= 0) & (high >= 0))
    found = np.empty((*shape, 3))
    for row in found:
        t = 0
        while t < len(row):
            end = t + max(1, round(rng.uniform(*episodes.command_every) / control_dt))
            told = rng.uniform(low, high)
            row[t:end] = 0 if still and rng.uniform() < episodes.standing else told
            t = end
    return found


def _pushes(
    pushes: Pushes, rng: np.random.Generator, shape: tuple[int, int], control_dt: float
) -> np.ndarray:
    """Forces and torques [C, T, 6]."""
    found, lasting = np.zeros((*shape, 6)), round(pushes.duration / control_dt)
    for row in found:
        t = round(rng.uniform(*pushes.every) / control_dt)
        while t < len(row):
            angle = rng.uniform(0, 2 * np.pi)
            if pushes.direction != "any":
                angle = np.pi * rng.integers(2) + (0 if pushes.direction == "x" else np.pi / 2)
            size = rng.uniform(*pushes.force)
            row[t : t + lasting, :2] = size * np.array([np.cos(angle), np.sin(angle)])
            t += round(rng.uniform(*pushes.every) / control_dt)
    return found


def _changes(
    episodes: Episodes, model: mujoco.MjModel, rng: np.random.Generator, num: int
) -> dict[str, np.ndarray]:
    """Of the model, by field; each [C, ...]."""
    found: dict[str, np.ndarray] = {}

    def repeated(field: str) -> np.ndarray:
        return np.repeat(np.asarray(getattr(model, field), float)[None], num, axis=0)

    if episodes.friction is not None:
        value = repeated("geom_friction")
        collides = (model.geom_contype != 0) | (model.geom_conaffinity != 0)
        value[:, collides, 0] = rng.uniform(*episodes.friction, num)[:, None]
        found["geom_friction"] = value
    if episodes.mass is not None:
        factor = rng.uniform(*episodes.mass, num)
        heavy = [model.body(i).name for i in range(1, model.nbody) if model.body_mass[i] > 0]
        found.update({f"body_mass_scale:{name}": factor for name in heavy})
    if episodes.strength is not None:
        factor = rng.uniform(*episodes.strength, num)[:, None, None]
        for field in ("actuator_gainprm", "actuator_biasprm", "actuator_forcerange"):
            found[field] = factor * repeated(field)
    return found


def _sensing(
    episodes: Episodes, task: "Task", rng: np.random.Generator, shape: tuple[int, int]
) -> Sensing | None:
    noise = latency = None
    if episodes.noise:
        assert task.observation is not None
        deviation = np.zeros(task.observation.size)
        for entry, value in episodes.noise.items():
            deviation[task.observation[entry]] = value
        noise = deviation * rng.standard_normal((*shape, len(deviation)))
    if episodes.latency is not None:
        low, high = (round(time / task.control_dt) for time in episodes.latency)
        latency = rng.integers(low, high + 1, shape[0])
    return None if noise is None and latency is None else Sensing(noise, latency)
