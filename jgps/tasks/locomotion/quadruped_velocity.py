"""A quadruped of a Unitree Go1's proportions trots with the velocity and turn rate it is told.

Its network observes what a robot does: joint positions and velocities, gyro, the direction up, the
controls before, the command and the phase of the gait. Plans know the whole state.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jgps import costs
from jgps.costs import gait, locomotion
from jgps.simulation import Conditions
from jgps.tasks.episodes import Episodes
from jgps.tasks.locomotion.commanded import Commanded, as_told
from jgps.tasks.task import Task, from_mjcf

MODEL = Path(__file__).parent / "assets" / "quadruped.xml"
HORIZON = 500  # 10 s
CONTROL_DT = 0.02  # seconds
SETTLING = 100  # steps that do not count, from rest to a trot
FEET = ("FR", "FL", "RR", "RL")  # front right, and so on
JOINTS = tuple(f"{foot}_{joint}" for foot in FEET for joint in ("abduction", "hip", "knee"))
STANCE = np.tile([0.0, 0.9, -1.8], len(FEET))  # rad
STANDING, HEIGHT = 0.282, 0.28  # of the trunk, at the start and in a trot, metres
LOWEST, LEAST_UP = 0.15, 0.5  # metres, and the cosine of the tilt, beyond which it has fallen
FOOT = 0.023  # radius, metres
# Where feet are at rest, ahead and to the left of the trunk's middle, metres.
PLACES = np.array([[0.1881, -0.1268], [0.1881, 0.1268], [-0.1881, -0.1268], [-0.1881, 0.1268]])
GAIT = gait.trot(period=0.5, duty=0.55)
APEX = 0.07  # of a foot in its swing, metres
# m/s ahead, m/s to the left, rad/s.
COMMANDS = ((-1.0, 1.0), (-0.5, 0.5), (-1.0, 1.0))
EPISODES = Episodes(command=COMMANDS)
TRAIN_COMMANDS = (
    (0.0, 0.0, 0.0),
    (1.0, 0.0, 0.0),
    (-0.6, 0.0, 0.0),
    (0.0, 0.5, 0.0),
    (0.0, 0.0, 1.0),
    (0.6, -0.3, 0.0),
    (0.8, 0.0, -0.7),
    (0.3, 0.3, 0.5),
)
TEST_COMMANDS = (
    (0.5, 0.0, 0.0),
    (0.9, 0.1, 0.2),
    (-0.4, 0.2, 0.0),
    (0.0, -0.4, 0.3),
    (0.2, 0.0, -0.9),
    (0.7, 0.3, 0.6),
    (-0.7, -0.2, -0.4),
    (0.4, -0.2, 0.8),
)


def quadruped_velocity() -> Task:
    """A quadruped of twelve servos trots as fast and turns as fast as it is told."""
    return from_mjcf(
        MODEL,
        name="quadruped_velocity",
        state=(
            "qpos",
            "qvel",
            "body_up:trunk",
            "sensor:command",
            "sensor:clock",
            *(f"site_{kind}:{foot}_foot" for kind in ("pos", "vel") for foot in FEET),
        ),
        observation=(
            *(f"qpos:{joint}" for joint in JOINTS),
            *(f"qvel:{joint}" for joint in JOINTS),
            "gyro:root",
            "body_up:trunk",
            "ctrl",
            "sensor:command",
            f"phase:{GAIT.period:g}",
        ),
        cost=_cost,
        success=lambda s: as_told(_commanded(s), SETTLING),
        fall=_fall,
        horizon=HORIZON,
        control_dt=CONTROL_DT,
        qpos=_standing(len(TRAIN_COMMANDS)),
        ctrl=np.tile(STANCE, (len(TRAIN_COMMANDS), 1)),
        inputs=_told(TRAIN_COMMANDS),
        test=Conditions(
            _standing(len(TEST_COMMANDS)),
            np.zeros((len(TEST_COMMANDS), 18)),
            ctrl=np.tile(STANCE, (len(TEST_COMMANDS), 1)),
            inputs=_told(TEST_COMMANDS),
        ),
        random_start=_random_start,
        episodes=EPISODES,
        camera="side",
    )


def _cost(s: Any) -> costs.SumOfSquares:
    q, v, command = s["qpos"].start, s["qvel"].start, s["sensor:command"].start
    joints = list(range(q + 9, q + 21))
    clock = [s["sensor:clock"].start]
    feet = [s[f"site_pos:{foot}_foot"].start for foot in FEET]
    moving = [s[f"site_vel:{foot}_foot"].start for foot in FEET]
    heights = [place + 2 for place in feet]
    places = [place + axis for place in feet for axis in (0, 1)]
    velocities = [place + axis for place in moving for axis in (0, 1)]
    told = slice(command, command + 3)
    base = _commanded(s).base
    up = s["body_up:trunk"].start
    return costs.SumOfSquares(
        costs.stacked(
            (4.0, locomotion.planar_velocity(base, told)),
            (2.0, locomotion.difference([v + 5], [command + 2])),
            (1.0, locomotion.velocity([v + 2], 0.0)),
            (20.0, locomotion.height([q + 2], HEIGHT)),
            (5.0, locomotion.tilt([up, up + 1])),
            (0.3, locomotion.smoothness([v + 3, v + 4])),
            (15.0, gait.foot_height(GAIT, clock, heights, APEX, FOOT)),
            (6.0, gait.footholds(GAIT, clock, places, base, PLACES, told)),
            (0.5, locomotion.sliding([h for h in heights], velocities, FOOT + 0.02)),
            (0.5, locomotion.servo_effort(joints)),
            (0.5, locomotion.deviation(joints, STANCE, "posture")),
            (0.02, locomotion.smoothness(slice(v + 6, v + 18))),
        )
    )


def _commanded(s: Any) -> Commanded:
    q, v, command = s["qpos"].start, s["qvel"].start, s["sensor:command"].start
    base = locomotion.Base(
        place=slice(q, q + 3), rotation=slice(q + 3, q + 9), velocity=slice(v, v + 3)
    )
    return Commanded(base, [v + 5], slice(command, command + 3))


def _fall(s: Any):
    """The trunk is low, or lies on its side."""
    height, up = s["qpos"].start + 2, s["body_up:trunk"].start + 2
    return lambda x: (x[height] < LOWEST) | (x[up] < LEAST_UP)


def _told(commands: tuple[tuple[float, float, float], ...]) -> dict[str, np.ndarray]:
    return {"mocap_pos:command": np.asarray(commands)[:, None]}


def _standing(num: int) -> np.ndarray:
    trunk = [0.0, 0.0, STANDING, 1.0, 0.0, 0.0, 0.0]
    return np.tile(np.concatenate([trunk, STANCE]), (num, 1))


def _random_start(key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Near standing, moving a little."""
    first, second, third = jax.random.split(key, 3)
    bend = jax.random.uniform(first, (12,), minval=-0.15, maxval=0.15)
    trunk = jnp.asarray([0.0, 0.0, STANDING, 1.0, 0.0, 0.0, 0.0])
    pose = jnp.concatenate([trunk, jnp.asarray(STANCE) + bend])
    trunk_velocity = 0.2 * jax.random.normal(second, (6,))
    return pose, jnp.concatenate([trunk_velocity, 0.2 * jax.random.normal(third, (12,))])
