"""Peg insertion with a 7-DoF arm, with the settings of the 2016 reference experiments.

`peg_insertion` has their peg, a cylinder with flat ends, which rests on the slot's rim where it is
a few millimetres off; `peg_insertion_round` has one with round ends, which slides in from there.

MJX has no contact of a cylinder with a box. There the flat peg is a convex prism of 16 sides with
bevelled ends, see `_prism`; the rest of the model, masses included, is the same.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import jax.numpy as jnp
import mujoco
import numpy as np

from jgps import costs
from jgps.controllers import LqrHoldConfig
from jgps.mujoco_log import quiet_mujoco
from jgps.simulation import Conditions, load_model
from jgps.tasks.task import Task, from_mjcf

MODEL = Path(__file__).parent / "assets" / "peg_insertion.xml"
START = (0.1, 0.1, -1.54, -1.7, 1.54, -0.2, 0.0)  # rad
GAINS = (3.09, 1.08, 0.393, 0.674, 0.111, 0.152, 0.098)  # how strongly a torque moves each joint
BASE = (0.0, -0.188, 0.0)  # the arm's shoulder, metres
TARGET = (0.0, 0.3, -0.5, 0.0, 0.3, -0.2)  # tip at the slot's bottom, top 0.3 m above it, metres
SUCCESS_DISTANCE = 0.06  # metres
LENGTH, RADIUS = 0.3, 0.028  # of the peg, metres
STATE = ("qpos", "qvel", "site_pos:tip", "site_pos:top", "site_vel:tip", "site_vel:top")
SIDES = 16  # of the prism that stands for the cylinder on MJX
TRAIN_OFFSETS = (-0.2, -0.1, 0.1, 0.2)  # of the arm's base along y, metres
TEST_OFFSETS = tuple(np.linspace(-0.19, 0.19, 20).round(3))  # none of them a training offset


def peg_insertion() -> Task:
    """A 7-DoF arm puts a flat-ended peg into a slot with 4 mm of clearance, from many places."""
    task = _task("peg_insertion", _spec(), _places(TRAIN_OFFSETS), _places(TEST_OFFSETS))
    mjx_model, *_ = load_model(_prism_in_place(_spec(), task.model), STATE)
    return dataclasses.replace(task, mjx_model=mjx_model)


def peg_insertion_round() -> Task:
    """The same arm and slot with a round-ended peg, which slides in more easily."""
    train, test = _places(TRAIN_OFFSETS), _places(TEST_OFFSETS)
    return _task("peg_insertion_round", _round_ended(_spec()), train, test)


def blind_peg_insertion() -> Task:
    """The round-ended peg, from different poses, by a policy that sees joint angles alone.

    The arm stands still and its joints start such that the peg is shifted by the same offsets: of
    a shift of the arm itself, the joints would tell nothing.
    """

    def conditions(offsets: Sequence[float]) -> Conditions:
        poses = _shifted_starts(offsets)
        return Conditions(poses, np.zeros_like(poses))

    train, test = conditions(TRAIN_OFFSETS), conditions(TEST_OFFSETS)
    model = _round_ended(_spec())
    return _task("blind_peg_insertion", model, train, test, observation=("qpos", "qvel"))


def _places(offsets: Sequence[float]) -> Conditions:
    """The same pose with the arm's base elsewhere."""
    bases = np.asarray(BASE) + np.outer(offsets, (0.0, 1.0, 0.0))
    num = len(offsets)
    return Conditions(np.tile(START, (num, 1)), np.zeros((num, 7)), {"body_pos:arm": bases})


def _spec() -> mujoco.MjSpec:
    return mujoco.MjSpec.from_file(str(MODEL))


def _round_ended(spec: mujoco.MjSpec) -> mujoco.MjSpec:
    """The model with a capsule of the same length and radius for a peg."""
    straight = 0.5 * LENGTH - RADIUS
    peg = spec.geom("peg")
    peg.type = mujoco.mjtGeom.mjGEOM_CAPSULE
    peg.fromto = (0, 0, -straight, 0, 0, straight)
    return spec


def _prism_in_place(spec: mujoco.MjSpec, cylinder: mujoco.MjModel) -> mujoco.MjSpec:
    """The model with a prism for a peg, of the cylinder's mass and inertia, for MJX.

    MJX knows no contact margin of meshes either. So margins are 0 there and the prism is grown by
    what they add up to: contact begins where the cylinder's does.
    """
    margin = float(cylinder.geom("peg").margin[0] + cylinder.geom("slot_bottom").margin[0])
    mesh = spec.add_mesh(name="prism", uservert=_prism(margin).ravel().tolist())
    peg, body = spec.geom("peg"), cylinder.body("peg")
    peg.type, peg.meshname, peg.fromto = mujoco.mjtGeom.mjGEOM_MESH, mesh.name, np.full(6, np.nan)
    for geom in spec.geoms:
        geom.margin = 0
    holder = spec.body("peg")
    holder.explicitinertial = True
    holder.mass, holder.inertia = float(body.mass[0]), body.inertia
    holder.ipos, holder.iquat = body.ipos, body.iquat
    return spec


def _prism(margin: float) -> np.ndarray:
    """Corners [4 SIDES, 3] of the prism, metres.

    What is less than the margin from the cylinder has rounded edges, bevels here.
    """
    angles = 2 * np.pi * np.arange(SIDES) / SIDES
    circle = np.column_stack([np.cos(angles), np.sin(angles)])
    half = 0.5 * LENGTH
    rings = [
        np.column_stack([radius * circle, np.full(SIDES, height)])
        for radius, height in (
            (RADIUS, -half - margin),
            (RADIUS + margin, -half),
            (RADIUS + margin, half),
            (RADIUS, half + margin),
        )
    ]
    return np.concatenate(rings)


def _task(
    name: str,
    model: mujoco.MjSpec,
    train: Conditions,
    test: Conditions,
    observation: tuple[str, ...] | None = None,
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
        model,
        name=name,
        state=STATE,
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
