"""A planar walker with two legs of hip, knee and ankle walks at a commanded speed.

The kind of robot, its 9 degrees of freedom and the speed are those of Levine & Abbeel (2014),
"Learning neural network policies with guided policy search under unknown dynamics"; body and cost
are our own. Speed, height and effort alone have local optima in which the walker dives and crawls:
here height and uprightness are dearer than any speed, and feet that are low may not slide. Without
a gait it kicked straight legs to the horizontal and flew between its steps: feet follow one by the
clock, which says when each stands and swings, and where.
"""

import types
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jgps import costs
from jgps.costs import gait, locomotion
from jgps.simulation import Conditions
from jgps.tasks.episodes import Episodes
from jgps.tasks.locomotion.progress import at_speed, way_missed
from jgps.tasks.task import Task, from_mjcf

MODEL = Path(__file__).parent / "assets" / "walker.xml"
SPEED = 2.1  # m/s, unless the command says otherwise
HORIZON = 200  # 2 s
CONTROL_DT = 0.01  # seconds
LOWEST = 1.0  # height of the torso's middle below which the walker has fallen, metres
HEIGHT, LEAN = 1.22, 0.05  # of the torso, metres and rad: knees somewhat bent, a little forward
GAIT = gait.Gait(period=0.8, duty=0.6, offsets=(0.0, 0.5))  # a fast human walk
PHASE = f"phase:{GAIT.period:g}"
POLICY_HORIZON = 1000  # 10 s, of one network
APEX = 0.1  # of a foot in its swing, metres
SIDES = ("right", "left")
SOLES = tuple(f"{side}_{end}" for side in SIDES for end in ("heel", "toe"))
HIP, SEGMENT = 0.3, 0.46  # from the torso's middle to the hips; thigh and shank, metres
SOLE_DEPTH, SOLE_RADIUS, HEEL, TOE = 0.04, 0.04, -0.06, 0.16  # of a foot, from its ankle
# Lean of the torso, then hips and bends of both knees, rad.
TRAIN_POSES = (
    (0.0, 0.2, -0.1, 0.2, 0.2),
    (0.05, -0.1, 0.25, 0.1, 0.3),
    (0.0, 0.15, 0.15, 0.3, 0.2),
    (0.05, 0.3, 0.0, 0.4, 0.1),
)
TEST_POSES = (
    (0.02, 0.1, -0.15, 0.1, 0.1),
    (0.0, 0.0, 0.2, 0.2, 0.3),
    (0.05, 0.25, 0.05, 0.3, 0.3),
    (-0.03, 0.1, 0.3, 0.15, 0.35),
)


def walker() -> Task:
    """A planar walker of two legs walks upright at 2.1 m/s, from several standing poses.

    The command is `params["speed"]`, m/s. Its gait follows a clock that is part of the state and
    not of the observation: it is a task for planners, as a network would have to guess the phase.
    """
    return from_mjcf(
        MODEL,
        name="walker",
        state=(
            "qpos",
            "qvel",
            "sensor:velocity",
            "sensor:clock",
            *(f"site_{kind}:{sole}" for kind in ("pos", "vel") for sole in SOLES),
        ),
        observation=(
            "qpos:rootz",
            "qpos:rooty",
            *(f"qpos:{side}_{joint}" for side in SIDES for joint in ("hip", "knee", "ankle")),
            "qvel",
        ),
        cost=_cost,
        success=_success,
        distance=lambda s: way_missed(s["qpos"].start, CONTROL_DT),
        horizon=HORIZON,
        control_dt=CONTROL_DT,
        qpos=_poses(TRAIN_POSES),
        params={"speed": np.full(len(TRAIN_POSES), SPEED)},
        test=Conditions(
            _poses(TEST_POSES),
            np.zeros((len(TEST_POSES), 9)),
            params={"speed": np.full(len(TEST_POSES), SPEED)},
        ),
        random_start=_random_start,
        camera="side",
    )


def walker_policy() -> Task:
    """A planar walker of two legs walks upright at 2.1 m/s for 10 s, one network from drawn starts.

    The network observes joint positions and velocities, the torso's lean and its rate, the controls
    before and the phase of the gait; no velocity of the torso, and no height.
    """
    joints = [f"{side}_{joint}" for side in SIDES for joint in ("hip", "knee", "ankle")]
    return from_mjcf(
        MODEL,
        name="walker_policy",
        state=(
            "qpos",
            "qvel",
            "sensor:velocity",
            PHASE,
            *(f"site_{kind}:{sole}" for kind in ("pos", "vel") for sole in SOLES),
        ),
        observation=(
            *(f"{kind}:{joint}" for kind in ("qpos", "qvel") for joint in ("rooty", *joints)),
            "ctrl",
            PHASE,
        ),
        cost=_cost,
        success=_success,
        fall=_fall,
        distance=lambda s: way_missed(s["qpos"].start, CONTROL_DT),
        horizon=POLICY_HORIZON,
        control_dt=CONTROL_DT,
        qpos=_poses(TRAIN_POSES),
        params={"speed": np.full(len(TRAIN_POSES), SPEED)},
        test=Conditions(
            _poses(TEST_POSES),
            np.zeros((len(TEST_POSES), 9)),
            params={"speed": np.full(len(TEST_POSES), SPEED)},
        ),
        random_start=_random_start,
        episodes=Episodes(),
        camera="side",
    )


def _fall(s: Any):
    """The torso is low."""
    height = s["qpos"].start + 1
    return lambda x, params: x[height] < LOWEST


def _cost(s: Any) -> costs.SumOfSquares:
    q, v = s["qpos"].start, s["qvel"].start
    heights = [s[f"site_pos:{sole}"].start + 2 for sole in SOLES]
    places = [s[f"site_pos:{sole}"].start for sole in SOLES]
    clock = s[PHASE] if PHASE in s.slices else s["sensor:clock"]
    along = [s[f"site_vel:{sole}"].start for sole in SOLES]

    def residual(x, u, t, params):
        return costs.stacked(
            (1.0, locomotion.velocity([s["sensor:velocity"].start], params["speed"])),
            (20.0, locomotion.height([q + 1], HEIGHT)),
            (10.0, locomotion.tilt([q + 2], LEAN)),
            (0.3, locomotion.smoothness([v + 2])),
            (0.3, locomotion.effort()),
            (0.3, locomotion.sliding(heights, along)),
            (10.0, gait.foot_height(GAIT, clock, heights, APEX)),
            (4.0, gait.foot_placement(GAIT, clock, places, [q], params["speed"])),
        )(x, u, t)

    return costs.SumOfSquares(residual)


def _success(s: Any):
    """Never fell, and as fast as commanded."""
    reached = at_speed(s["qpos"].start, CONTROL_DT)

    def success(x, u, params):
        del u
        return jnp.all(x[:, s["qpos"].start + 1] >= LOWEST) & reached(x, params)

    return success


def _random_start(key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Near standing, with one foot on the floor at the least."""
    keys = jax.random.split(key, 4)
    bends = jax.random.uniform(keys[0], (2,), minval=0.05, maxval=0.4)
    swing = jax.random.uniform(keys[1], (2,), minval=-0.25, maxval=0.25)
    lean = jax.random.uniform(keys[2], (1,), minval=-0.1, maxval=0.1)
    pose = jnp.concatenate([lean, bends / 2 + swing, bends])
    limit = jnp.asarray([0.3, 0.1, 0.2] + [0.5] * 6)
    return _standing(pose, jnp), limit * jax.random.uniform(keys[3], (9,), minval=-1, maxval=1)


def _poses(poses: tuple[tuple[float, ...], ...]) -> np.ndarray:
    return np.stack([_standing(np.asarray(pose), np) for pose in poses])


def _standing(pose: Any, xp: types.ModuleType) -> Any:
    """Joint positions [9] of lean, hips and bends of knees [5], the lower foot on the floor.

    Feet are level with the floor where the torso is upright and hips are half the knees' bends.
    """
    lean, hips, bends = pose[0], pose[1:3], pose[3:5]
    ankles = bends / 2
    thighs = hips - lean  # rad forward of straight down
    shanks = thighs - bends
    feet = shanks + ankles
    above = HIP * xp.cos(lean) + SEGMENT * (xp.cos(thighs) + xp.cos(shanks))
    ends = xp.stack([xp.sin(feet) * HEEL, xp.sin(feet) * TOE])
    soles = above + SOLE_DEPTH * xp.cos(feet) + SOLE_RADIUS - xp.min(ends, axis=0)
    legs = xp.stack([hips, bends, ankles], axis=-1).reshape(-1)
    return xp.concatenate([xp.stack([0 * lean, xp.max(soles), lean]), legs])
