"""A planar biped of a person's size keeps its feet under pushes that it does not see coming.

Its network observes joint positions and velocities, the torso's angle and its rate, the controls
before, and the phase of the gait; plans know the whole state, and no push. Pushes of 300 to 400 N
for 100 ms are those of Levine & Koltun (2014), "Learning complex neural network policies with
trajectory optimization"; body and cost are our own.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jgps import costs
from jgps.costs import gait, locomotion
from jgps.simulation import Conditions
from jgps.tasks.episodes import Episodes, Pushes
from jgps.tasks.task import Task, from_mjcf

MODEL = Path(__file__).parent / "assets" / "biped.xml"
HORIZON = 350  # 7 s: a push within the first two, and five to survive it
CONTROL_DT = 0.02  # seconds
SIDES = ("right", "left")
JOINTS = tuple(f"{side}_{joint}" for side in SIDES for joint in ("hip", "knee", "ankle"))
SOLES = tuple(f"{side}_{end}" for side in SIDES for end in ("heel", "toe"))
STANCE = np.tile([0.2, 0.4, 0.2], 2)  # rad, feet level below the hips
STANDING = 1.28 - 0.88 * (1 - np.cos(0.2))  # of the torso's middle, metres
LOWEST, MOST_LEAN = 0.8, 1.0  # metres and rad beyond which it has fallen
GAIT = gait.biped_walk(period=0.7, duty=0.6)
PHASE = f"phase:{GAIT.period:g}"
APEX = 0.08  # of a foot in its swing, metres
PUSH, FORCES = 0.1, (300.0, 400.0)  # seconds, N
EPISODES = Episodes(
    pushes=Pushes(
        body="torso", force=(100.0, 450.0), duration=PUSH, every=(1.2, 2.5), direction="x"
    )
)


def biped_push() -> Task:
    """A planar biped steps on the spot and survives pushes of 300 and 400 N."""
    return from_mjcf(
        MODEL,
        name="biped_push",
        state=(
            "qpos",
            "qvel",
            PHASE,
            *(f"site_{kind}:{sole}" for kind in ("pos", "vel") for sole in SOLES),
        ),
        observation=(
            *(f"qpos:{joint}" for joint in JOINTS),
            *(f"qvel:{joint}" for joint in JOINTS),
            "qpos:rooty",
            "qvel:rooty",
            "ctrl",
            PHASE,
        ),
        cost=_cost,
        success=lambda s: lambda x, u: jnp.asarray(True),  # that is, without a fall
        fall=_fall,
        horizon=HORIZON,
        control_dt=CONTROL_DT,
        **_pushed(0),
        test=Conditions(qvel=np.zeros((8, 9)), **_pushed(1)),
        random_start=_random_start,
        episodes=EPISODES,
        camera="side",
    )


def _cost(s: Any) -> costs.SumOfSquares:
    q, v = s["qpos"].start, s["qvel"].start
    clock = s[PHASE]
    heights = [s[f"site_pos:{sole}"].start + 2 for sole in SOLES]
    places = [s[f"site_pos:{sole}"].start for sole in SOLES]
    along = [s[f"site_vel:{sole}"].start for sole in SOLES]
    return costs.SumOfSquares(
        costs.stacked(
            (2.0, locomotion.velocity([v], 0.0)),
            (10.0, locomotion.height([q + 1], STANDING)),
            (5.0, locomotion.tilt([q + 2])),
            (0.5, locomotion.smoothness([v + 2])),
            (10.0, gait.foot_height(GAIT, clock, heights, APEX)),
            (1.0, gait.foot_placement(GAIT, clock, places, [q], 0.0)),
            (0.3, locomotion.sliding(heights, along)),
            (1.0, locomotion.servo_effort(slice(q + 3, q + 9))),
            (0.5, locomotion.deviation(slice(q + 3, q + 9), STANCE, "posture")),
            (0.03, locomotion.smoothness(slice(v + 3, v + 9))),
        )
    )


def _fall(s: Any):
    """The torso is low, or lies."""
    height, lean = s["qpos"].start + 1, s["qpos"].start + 2
    return lambda x: (x[height] < LOWEST) | (jnp.abs(x[lean]) > MOST_LEAN)


def _pushed(seed: int) -> dict[str, Any]:
    """Eight conditions: both forces, forward and backward, each twice at times of its own."""
    rng = np.random.default_rng(seed)
    forces = np.zeros((8, HORIZON, 6))
    for number, row in enumerate(forces):
        first = round(rng.uniform(0.5, 2.0) / CONTROL_DT)
        size = FORCES[number % 2] * (1 if number % 4 < 2 else -1)
        row[first : first + round(PUSH / CONTROL_DT), 0] = size
    return {
        "qpos": np.tile(np.concatenate([[0.0, STANDING, 0.0], STANCE]), (8, 1)),
        "ctrl": np.tile(STANCE, (8, 1)),
        "inputs": {"xfrc_applied:torso": forces},
    }


def _random_start(key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Near standing, moving a little."""
    first, second = jax.random.split(key)
    bend = jax.random.uniform(first, (6,), minval=-0.05, maxval=0.05)
    pose = jnp.concatenate([jnp.asarray([0.0, STANDING + 0.01, 0.0]), jnp.asarray(STANCE) + bend])
    limit = jnp.asarray([0.3, 0.1, 0.2] + [0.3] * 6)
    return pose, limit * jax.random.uniform(second, (9,), minval=-1, maxval=1)
