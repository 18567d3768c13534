"""Tasks of legged robots with a free trunk, from anyone's MJCF: they go where they are told.

The robot trots, paces or walks by a clock, with feet where a trunk that moves as commanded wants
them, and its network observes what robots do: joint positions and velocities, gyro, the direction
up, the controls before, the command and the phase of the gait. Plans know the whole state.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jgps import costs
from jgps.core.checks import as_numbers
from jgps.core.names import shown
from jgps.costs import gait as gaits
from jgps.costs import locomotion
from jgps.simulation import Conditions, Source
from jgps.simulation.source import parse
from jgps.tasks.checks import check_steps
from jgps.tasks.episodes import COMMAND, Episodes, with_command
from jgps.tasks.locomotion.commanded import Commanded, as_told
from jgps.tasks.locomotion.stance import Stance, foot_site, stand
from jgps.tasks.task import Task, from_mjcf

LOWEST, LEAST_UP = 0.55, 0.5  # share of the height, and cosine of the tilt, of a fall
SETTLING = 2.0  # seconds from rest to a gait, in which nobody asks for the velocity
SPREAD = 0.15  # rad or m, of joints around the stance where episodes start
CLEARANCE = 0.005  # metres, of the lowest foot there


class LeggedWeights(NamedTuple):
    """What deviations cost: each is weight^2 / 2 times their square, in SI units.

    Attributes:
      velocity, turn, rise: of the trunk's velocities, 1 / (m/s), and of its turn rate, 1 / (rad/s).
      height, tilt, wobble: of its height, 1 / m, of its tilt, and of its angular velocity.
      swing, foothold, sliding: of the feet's heights and places, 1 / m, and of their velocities
        while they stand.
      effort: of servos by how far they are from their targets, 1 / rad; of other actuators as a
        share of half their range.
      posture, joint_velocity: of joints from the stance, 1 / rad, and of their velocities.
    """

    velocity: float = 4.0
    turn: float = 2.0
    rise: float = 1.0
    height: float = 20.0
    tilt: float = 5.0
    wobble: float = 0.3
    swing: float = 15.0
    foothold: float = 6.0
    sliding: float = 0.5
    effort: float = 0.5
    posture: float = 0.5
    joint_velocity: float = 0.02


class LeggedOptions(NamedTuple):
    """How a legged robot is to go, and what its task is like.

    Attributes:
      gait: when which foot stands; None is a trot of four feet, in the order front right, front
        left, rear right, rear left.
      apex: height of a foot in the middle of its swing, m.
      weights: of the cost.
      horizon: control steps of an episode.
      control_dt: seconds per control step.
      train, test: commands [C, 3] of the conditions that the best network is chosen by, and of
        those that it is evaluated on; None takes some in the ranges.
      camera: name of a camera of the model for videos.
      name: what to call the task.
    """

    gait: gaits.Gait | None = None
    apex: float = 0.07
    weights: LeggedWeights = LeggedWeights()
    horizon: int = 500
    control_dt: float = 0.02
    train: Any = None
    test: Any = None
    camera: str | None = None
    name: str = "legged"


def legged(
    source: Source,
    *,
    trunk: str,
    feet: Sequence[str],
    stance: str | Sequence[float],
    episodes: Episodes,
    options: LeggedOptions = LeggedOptions(),
) -> Task:
    """A legged robot that goes as fast and turns as fast as it is told.

    Args:
      source: path of an MJCF file, MJCF as text or bytes, or a MuJoCo spec; with a floor at height
        0, and an actuator for every joint of its legs.
      trunk: name of the body with the free joint.
      feet: names of the geoms that touch the ground, in the order of the gait's feet.
      stance: name of a keyframe in which it stands, or its qpos [nq]; the trunk's first three
        numbers are its place, so that feet touch the floor.
      episodes: ranges of commands at least, see `jgps.tasks.Episodes`.
      options: of its gait and of the task.

    Raises:
      ValueError: for a trunk without a free joint, feet that are no geoms, a gait of another number
        of feet or with a period beyond the episode, episodes without commands, a stance in which
        feet are not level, and what `from_mjcf` refuses.
    """
    if not isinstance(options, LeggedOptions):
        raise ValueError(f"options is {shown(options)}; it has to be jgps.tasks.LeggedOptions(...)")
    gait = gaits.trot() if options.gait is None else options.gait
    apex, weights = options.apex, options.weights
    horizon, control_dt = check_steps(options.horizon, options.control_dt)
    _check(feet, gait, episodes, horizon * control_dt)
    spec = parse(source)
    if not isinstance(spec, mujoco.MjSpec):
        raise ValueError("a compiled model gains no sites and no command; pass MJCF or an MjSpec")
    spec = with_command(spec)
    assert isinstance(spec, mujoco.MjSpec)
    standing = stand(spec, trunk, feet, stance)
    phase = f"phase:{gait.period:g}"
    told = _commands(episodes)
    chosen = _chosen("train", options.train, told[:8], episodes)
    unseen = _chosen("test", options.test, told[8:], episodes)
    everything = [
        f"{kind}:{joint}"
        for kind in ("qpos", "qvel")
        for joint in (standing.free, *standing.joints)
    ]
    felt = [f"{kind}:{joint}" for kind in ("qpos", "qvel") for joint in standing.joints]
    settling = min(round(SETTLING / control_dt), horizon // 2)
    return from_mjcf(
        spec,
        name=options.name,
        state=(
            *everything,
            *(f"body_up:{trunk}", f"sensor:{COMMAND}", phase),
            *(f"site_{kind}:{foot_site(foot)}" for kind in ("pos", "vel") for foot in feet),
        ),
        observation=(
            *felt,
            *(f"gyro:{standing.free}", f"body_up:{trunk}", "ctrl", f"sensor:{COMMAND}", phase),
        ),
        cost=lambda s: _cost(s, standing, (trunk, tuple(feet)), (gait, apex), weights),
        success=lambda s: as_told(commanded(s, standing.free), settling),
        fall=lambda s: _fall(s, standing, trunk),
        horizon=horizon,
        control_dt=control_dt,
        qpos=np.tile(standing.qpos, (len(chosen), 1)),
        ctrl=np.tile(standing.ctrl, (len(chosen), 1)),
        inputs=_told(chosen),
        test=_conditions(standing, unseen),
        random_start=_random_start(standing),
        episodes=episodes,
        camera=options.camera,
    )


def _chosen(name: str, commands: Any, usual: np.ndarray, episodes: Episodes) -> np.ndarray:
    if commands is None:
        return usual
    found = as_numbers(f"options.{name}", commands)
    if found.ndim != 2 or found.shape[1] != 3 or not len(found):
        raise ValueError(
            f"options.{name} has the shape {list(found.shape)}; it has to be [C, 3], commands of "
            "velocity ahead, to the left, and turn rate"
        )
    low, high = np.asarray(episodes.command, float).T
    if not np.all((found >= low) & (found <= high)):
        row = int(np.argmax(np.any(~((found >= low) & (found <= high)), axis=1)))
        raise ValueError(
            f"options.{name}[{row}] is {found[row].tolist()}, which is beyond the range of the "
            f"episodes' commands, {list(map(list, np.transpose([low, high]).tolist()))}"
        )
    return found


def commanded(s: Any, free: str) -> Commanded:
    """Where the state has what was asked for and what is done.

    Args:
      s: the layout of the state of a task that `legged` made.
      free: name of the trunk's free joint.
    """
    q, v, command = s[f"qpos:{free}"].start, s[f"qvel:{free}"].start, s[f"sensor:{COMMAND}"]
    base = locomotion.Base(
        place=slice(q, q + 3), rotation=slice(q + 3, q + 9), velocity=slice(v, v + 3)
    )
    return Commanded(base, [v + 5], command)


def _check(feet: Sequence[str], gait: gaits.Gait, episodes: Episodes, seconds: float) -> None:
    if isinstance(feet, str) or not feet:
        raise ValueError(f"feet is {shown(feet)}; it has to be a tuple of names of geoms")
    if len(set(feet)) != len(feet):
        raise ValueError(f"feet is {shown(feet)}; each foot has to be named once")
    if not isinstance(gait, gaits.Gait):
        raise ValueError(f"gait is {shown(gait)}; it has to be one as jgps.costs.gait.trot() is")
    if len(feet) != len(gait.offsets):
        raise ValueError(
            f"the gait has {len(gait.offsets)} feet and there are {len(feet)}: {', '.join(feet)}; "
            "give it an offset for each"
        )
    if gait.period > seconds:
        raise ValueError(
            f"the gait's period is {gait.period:g} s and an episode takes {seconds:g} s; it has to "
            "have a stride at least"
        )
    if not isinstance(episodes, Episodes) or episodes.command is None:
        raise ValueError(
            f"episodes is {shown(episodes)}; it has to say which commands there are: "
            "jgps.tasks.Episodes(command=((-1, 1), (-0.5, 0.5), (-1, 1)))"
        )


def _cost(
    s: Any,
    standing: Stance,
    named: tuple[str, tuple[str, ...]],
    rhythm: tuple[gaits.Gait, float],
    w: LeggedWeights,
) -> costs.SumOfSquares:
    (trunk, feet), (gait, apex) = named, rhythm
    where = commanded(s, standing.free)
    base, told, turn = where.base, where.command, where.turn
    place, moving = (s[f"{kind}:{standing.free}"].start for kind in ("qpos", "qvel"))
    rate = s[f"sensor:{COMMAND}"].start + 2
    joints = [s[f"qpos:{joint}"].start for joint in standing.driven]
    speeds = [s[f"qvel:{joint}"].start for joint in standing.driven]
    phase = s[f"phase:{gait.period:g}"]
    feet_at = [s[f"site_pos:{foot_site(foot)}"].start for foot in feet]
    feet_move = [s[f"site_vel:{foot_site(foot)}"].start for foot in feet]
    heights = [at + 2 for at in feet_at]
    places = [at + axis for at in feet_at for axis in (0, 1)]
    velocities = [at + axis for at in feet_move for axis in (0, 1)]
    ground = standing.ground
    up = s[f"body_up:{trunk}"].start
    posture = standing.angles
    return costs.SumOfSquares(
        costs.stacked(
            (w.velocity, locomotion.planar_velocity(base, told)),
            (w.turn, locomotion.difference(turn, [rate])),
            (w.rise, locomotion.velocity([moving + 2], 0.0)),
            (w.height, locomotion.height([place + 2], standing.height)),
            (w.tilt, locomotion.tilt([up, up + 1], standing.up[:2])),
            (w.wobble, locomotion.smoothness([moving + 3, moving + 4])),
            (w.swing, gaits.foot_height(gait, phase, heights, apex, ground)),
            (w.foothold, gaits.footholds(gait, phase, places, base, standing.feet, told)),
            (w.sliding, locomotion.sliding(heights, velocities, ground + 0.02, 0.02 / 3)),
            (w.effort, _effort(standing, joints)),
            (w.posture, locomotion.deviation(joints, posture, "posture")),
            (w.joint_velocity, locomotion.smoothness(speeds)),
        )
    )


def _effort(standing: Stance, joints: list[int]) -> Any:
    """How hard actuators work, [dU], see `LeggedWeights`."""

    def residual(x: jax.Array, u: jax.Array, t: jax.Array) -> jax.Array:
        del t
        servo = u - x[np.asarray(joints)]
        return jnp.where(standing.servos, servo, u / jnp.asarray(standing.half, x.dtype))

    return residual


def _fall(s: Any, standing: Stance, trunk: str) -> Callable[..., jax.Array]:
    """The trunk is low, or lies on its side."""
    height, up = s[f"qpos:{standing.free}"].start + 2, s[f"body_up:{trunk}"]
    lowest = LOWEST * standing.height

    def fall(x: jax.Array, *params: object) -> jax.Array:
        del params
        return (x[height] < lowest) | (x[up] @ jnp.asarray(standing.up, x.dtype) < LEAST_UP)

    return fall


def _told(commands: np.ndarray) -> dict[str, np.ndarray]:
    return {f"mocap_pos:{COMMAND}": commands[:, None]}


def _conditions(standing: Stance, commands: np.ndarray) -> Conditions:
    num = len(commands)
    return Conditions(
        np.tile(standing.qpos, (num, 1)),
        np.zeros((num, len(standing.moves))),
        ctrl=np.tile(standing.ctrl, (num, 1)),
        inputs=_told(commands),
    )


def _commands(episodes: Episodes) -> np.ndarray:
    """Commands [16, 3] in the ranges: the ends of each alone, then any."""
    low, high = np.asarray(episodes.command, float).T
    rest = np.clip(0, low, high)
    ends = np.tile(rest, (6, 1))
    ends[np.arange(6), np.arange(6) // 2] = np.ravel(np.stack([low, high], axis=1))
    drawn = np.random.default_rng(0).uniform(low, high, (9, 3))
    return np.concatenate([rest[None], ends, drawn])


def _random_start(standing: Stance) -> Callable[[jax.Array], tuple[jax.Array, jax.Array]]:
    """Near the stance, with the lowest foot about on the floor, moving a little."""
    moves = np.where(standing.moves, 0.2, 0.0)

    def start(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        first, second = jax.random.split(key)
        off = jax.random.uniform(first, standing.angles.shape, minval=-SPREAD, maxval=SPREAD)
        stance = jnp.asarray(standing.angles, off.dtype)
        bent = jnp.clip(stance + off, standing.low, standing.high).astype(off.dtype)
        lowest = jnp.min(jnp.asarray(standing.rises, off.dtype) @ (bent - stance))
        pose = jnp.asarray(standing.qpos, off.dtype).at[standing.places].set(bent)
        pose = pose.at[2].add(CLEARANCE - lowest)
        return pose, jnp.asarray(moves) * jax.random.normal(second, moves.shape)

    return start
