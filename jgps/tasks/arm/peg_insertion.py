"""Peg insertion with a 7-DoF arm, with the settings of the 2016 reference experiments."""

from collections.abc import Sequence
from pathlib import Path

import jax.numpy as jnp
import mujoco
import numpy as np

from jgps import costs
from jgps.controllers import LqrHoldConfig
from jgps.mujoco_log import quiet_mujoco
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

    def conditions(offsets: Sequence[float]) -> Conditions:
        bases = np.asarray(BASE) + np.outer(offsets, (0.0, 1.0, 0.0))
        num = len(offsets)
        return Conditions(
            np.tile(START, (num, 1)), np.zeros((num, 7)), changes={"body_pos:arm": bases}
        )

    return _task("peg_insertion", conditions(TRAIN_OFFSETS), conditions(TEST_OFFSETS))


def blind_peg_insertion() -> Task:
    """The same arm, from different poses, by a policy that sees joint angles but not the peg.

    The arm stands still and its joints start such that the peg is shifted by the same offsets: of
    a shift of the arm itself, the joints would tell nothing.
    """

    def conditions(offsets: Sequence[float]) -> Conditions:
        poses = _shifted_starts(offsets)
        return Conditions(poses, np.zeros_like(poses))

    train, test = conditions(TRAIN_OFFSETS), conditions(TEST_OFFSETS)
    return _task("blind_peg_insertion", train, test, observation=("qpos", "qvel"))


def _task(
    name: str, train: Conditions, test: Conditions, observation: tuple[str, ...] | None = None
) -> Task:
    def cost(s):
        points = np.r_[s["site_pos:tip"], s["site_pos:top"]]
        penalty = costs.Penalty(l2=5.0, log=0.05, alpha=1e-5)
        return costs.weighted_sum(
            (1.0, costs.action(5e-5 / np.asarray(GAINS))),
            (1.0, costs.distance(points, TARGET, penalty=penalty)),
        )

    def distance(s):
        tip = s["site_pos:tip"]
        return lambda x: jnp.linalg.norm(x[-1, tip] - jnp.asarray(TARGET[:3], x.dtype))

    def success(s):
        return lambda x, u: distance(s)(x) <= SUCCESS_DISTANCE

    return from_mjcf(
        MODEL,
        name=name,
        state=("qpos", "qvel", "site_pos:tip", "site_pos:top", "site_vel:tip", "site_vel:top"),
        observation=observation,
        cost=cost,
        distance=distance,
        success=success,
        horizon=100,
        control_dt=0.05,
        qpos=train.qpos,
        changes=train.changes,
        test=test,
        initial=LqrHoldConfig(gains=tuple(1 / gain for gain in GAINS)),
        camera="side",
    )


@quiet_mujoco()
def _shifted_starts(offsets: Sequence[float]) -> np.ndarray:
    """Joint angles [C, 7] near START with the peg, upright as there, shifted along y."""
    model = mujoco.MjModel.from_xml_path(str(MODEL))
    data = mujoco.MjData(model)
    sites = [model.site("tip").id, model.site("top").id]
    data.qpos[:] = START
    mujoco.mj_kinematics(model, data)
    points = data.site_xpos[sites]
    jacobian = np.empty((2, 3, model.nv))
    poses = np.tile(START, (len(offsets), 1))
    for pose, offset in zip(poses, offsets, strict=True):
        for _ in range(20):  # Gauss-Newton, every step with the least change of the joints
            data.qpos[:] = pose
            mujoco.mj_kinematics(model, data)
            mujoco.mj_comPos(model, data)
            for each, site in zip(jacobian, sites, strict=True):
                mujoco.mj_jacSite(model, data, each, None, site)
            gap = points + (0.0, offset, 0.0) - data.site_xpos[sites]
            pose += np.linalg.lstsq(jacobian.reshape(6, -1), gap.ravel(), rcond=1e-6)[0]
    return poses
