"""Peg insertion with a 7-DoF arm, with the settings of the 2016 reference experiments."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np

from jgps import costs
from jgps.controllers import LqrHoldConfig
from jgps.simulation import Conditions
from jgps.tasks.task import Task, from_mjcf

MODEL = Path(__file__).parent / "assets" / "peg_insertion.xml"
START = (0.1, 0.1, -1.54, -1.7, 1.54, -0.2, 0.0)  # rad
GAINS = (3.09, 1.08, 0.393, 0.674, 0.111, 0.152, 0.098)  # how strongly a torque moves each joint
BASE = (0.0, -0.188, 0.0)  # the arm's shoulder, metres
TARGET = (0.0, 0.3, -0.5, 0.0, 0.3, -0.2)  # tip at the slot's bottom, top 0.3 m above it, metres
SUCCESS_DISTANCE = 0.06  # metres
TRAIN_OFFSETS = (-0.2, -0.1, 0.1, 0.2)  # of the arm's base along y, metres
TEST_OFFSETS = tuple(np.linspace(-0.19, 0.19, 20).round(3))  # none of them a training offset


def peg_insertion() -> Task:
    """A 7-DoF arm puts a peg into a slot with 4 mm of clearance, from different places."""

    def cost(s):
        points = np.r_[s["site_pos:tip"], s["site_pos:top"]]
        return costs.weighted_sum(
            (1.0, costs.action(5e-5 / np.asarray(GAINS))),
            (
                1.0,
                costs.distance(points, TARGET, penalty=costs.Penalty(l2=5.0, log=0.05, alpha=1e-5)),
            ),
        )

    def distance(s):
        tip = s["site_pos:tip"]
        return lambda x: jnp.linalg.norm(x[-1, tip] - jnp.asarray(TARGET[:3], x.dtype))

    def success(s):
        return lambda x, u: distance(s)(x) <= SUCCESS_DISTANCE

    return from_mjcf(
        MODEL,
        name="peg_insertion",
        state=("qpos", "qvel", "site_pos:tip", "site_pos:top", "site_vel:tip", "site_vel:top"),
        cost=cost,
        distance=distance,
        success=success,
        horizon=100,
        control_dt=0.05,
        qpos=START,
        changes={"body_pos:arm": _base(TRAIN_OFFSETS)},
        test=Conditions(
            qpos=np.tile(START, (len(TEST_OFFSETS), 1)),
            qvel=np.zeros((len(TEST_OFFSETS), 7)),
            changes={"body_pos:arm": _base(TEST_OFFSETS)},
        ),
        initial=LqrHoldConfig(gains=tuple(1 / gain for gain in GAINS)),
        camera="side",
    )


def _base(offsets: tuple[float, ...]) -> np.ndarray:
    return np.asarray(BASE) + np.outer(offsets, (0.0, 1.0, 0.0))
