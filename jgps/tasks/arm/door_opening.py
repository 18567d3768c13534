"""An arm opens a door: it reaches over the handle's bar and pulls from behind.

The finger starts above the gap behind the bar. Two costs as in the door opening of Chebotar et al.
(2017b): of the finger's way to the handle, and of the door's angle, which follows a path.
"""

from pathlib import Path

import jax.numpy as jnp
import numpy as np

from jgps import costs
from jgps.simulation import Conditions
from jgps.tasks.task import Task, from_mjcf

MODEL = Path(__file__).parent / "assets" / "door_opening.xml"
START = (-0.1185, 0.1796, -0.9410, 0.7614, 0.0)  # rad: the finger above the gap, door closed
ANGLE, SUCCESS_ANGLE = 1.0, 0.8  # rad
HANDLE_RADIUS = 0.4  # from the hinge, metres
TRAIN_BASES = ((-0.03, -0.05), (-0.03, 0.05), (0.0, -0.05), (0.0, 0.05))  # of the arm, metres
TEST_BASES = tuple((x, y) for x in (-0.025, -0.015, -0.005) for y in np.linspace(-0.04, 0.04, 5))
HORIZON = 100


def door_opening() -> Task:
    """A 4-DoF arm hooks its finger behind a handle and pulls a door open, from several places."""

    def angle(s):
        return s["qpos"].stop - 1

    def cost(s):
        near = costs.Penalty(l2=10.0, l1=0.1)

        def tilt(x, u, t):
            return jnp.square(jnp.sum(x[s["qpos"]][1:4]))  # lift, elbow and wrist turn it

        opened = costs.waypoints([angle(s)], [[0.0], [ANGLE]], HORIZON, times=(10, 80))
        return costs.weighted_sum(
            (1.0, costs.action(1e-2)),
            (1.0, tilt),
            (10.0, costs.distance(s["site_pos:finger"], s["site_pos:handle"], penalty=near)),
            (10.0, opened),
        )

    def distance(s):
        return lambda x: HANDLE_RADIUS * jnp.maximum(ANGLE - x[-1, angle(s)], 0.0)

    return from_mjcf(
        MODEL,
        name="door_opening",
        state=("qpos", "qvel", "site_pos:finger", "site_vel:finger", "site_pos:handle"),
        cost=cost,
        distance=distance,
        success=lambda s: lambda x, u: x[-1, angle(s)] >= SUCCESS_ANGLE,
        horizon=HORIZON,
        control_dt=0.05,
        qpos=START,
        changes={"body_pos:arm": _bases(TRAIN_BASES)},
        test=Conditions(
            qpos=np.tile(START, (len(TEST_BASES), 1)),
            qvel=np.zeros((len(TEST_BASES), len(START))),
            changes={"body_pos:arm": _bases(TEST_BASES)},
        ),
        camera="side",
    )


def _bases(places: tuple[tuple[float, float], ...]) -> np.ndarray:
    return np.asarray([(*place, 0.0) for place in places])
