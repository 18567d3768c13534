"""A toy hammer: the robot puts its claw under the head of a nail, wherever the nail stands.

As in Levine et al. (2016), "End-to-end training of deep visuomotor policies": 3 grasps of the
hammer and 5 places of the nail to train in, 60 tests in unseen places, 60 with distractors. The
network sees the robot's configuration; how the hammer is held and where the nail is, only its
camera tells.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from jgps import costs
from jgps.simulation import StateLayout
from jgps.tasks.bench import manipulation as bench
from jgps.tasks.task import Task, from_mjcf

START = (-0.848, 0.262, -1.466, -1.776, -0.424, -0.689, 1.811)  # rad: the claw above the table
POINTS = ("claw", "face", "grip")
# Of the points in the frame of the nail's shaft, whose x is where the claw has to point, metres.
TARGET = (0.0, 0.0, 0.0, -0.1, 0.0, 0.0, 0.0, 0.0, 0.1)
BEHIND = 0.07  # from how far behind the claw slides under the head, metres
BEHIND_AT, UNDER_AT = 10, 25  # the steps at which it is there
CENTRE = (0.60, 0.03)  # of the places, metres
TRAIN_PLACES = ((0.0, 0.0), (-0.05, -0.07), (-0.05, 0.07), (0.05, -0.07), (0.05, 0.07))
TRAIN_TILTS = (-0.3, 0.0, 0.3)  # of the hammer in the gripper, rad
TEST_PLACES = bench.unseen_places(TRAIN_PLACES, 30, gap=0.015)
TEST_TILTS = (-0.15, 0.15)
NUM_DISTRACTED = 60
HORIZON = 50
# The claw's prongs from the point between them: where they begin and end along the claw, and how
# far their axes are from its middle there, metres; the first 2 cm are inside the hammer's head.
PRONGS, PRONG_GAPS = (-0.035, 0.03), (0.012, 0.024)
SHAFT_AT_HEAD = -0.016  # along the claw, where a shaft touches the hammer's head, metres
THICKNESS = 0.008  # of a prong and the shaft, their radii less 2 mm that soft contacts give, metres
MIN_TIPS = 0.012  # by how much at least the tips reach past the shaft, metres
MAX_HEIGHT = 0.018  # how far from the middle of the shaft's 5 cm the prongs may be, metres
SUCCESS_TILT = np.deg2rad(15)  # how far the hammer may lean


def hammer() -> Task:
    """A 7-DoF arm puts a hammer's claw under a nail's head, by camera, in several grasps."""

    def conditions(places, tilts):
        pairs = tuple(itertools.product(tilts, places))
        return bench.conditions(
            START,
            body_pos__nail=[(CENTRE[0] + x, CENTRE[1] + y, bench.TABLE) for _, (x, y) in pairs],
            body_quat__held=[(np.cos(a / 2), 0.0, np.sin(a / 2), 0.0) for a, _ in pairs],
        )

    def cost(s):
        points = np.r_[tuple(s[entry] for entry in bench.places(POINTS))]
        under = np.asarray(TARGET)
        behind = under - np.tile([BEHIND, 0.0, 0.0], len(POINTS))
        penalty = costs.Penalty(l2=5.0, log=0.05, alpha=1e-5)
        times = (BEHIND_AT, UNDER_AT)
        return costs.weighted_sum(
            (1.0, costs.action(5e-5 / np.asarray(bench.GAINS))),
            (1.0, costs.waypoints(points, [behind, under], HORIZON, penalty=penalty, times=times)),
        )

    def success(s):
        def hooked(x, u):
            along, lateral, height, lean = claw_at_shaft(x[-1], s)
            gap = jnp.interp(along, jnp.asarray(PRONGS), jnp.asarray(PRONG_GAPS))
            free = jnp.abs(lateral) <= gap - THICKNESS
            between = (along >= SHAFT_AT_HEAD) & (along <= PRONGS[1] - MIN_TIPS) & free
            return between & (jnp.abs(height) <= MAX_HEIGHT) & (lean <= SUCCESS_TILT)

        return hooked

    train, test = conditions(TRAIN_PLACES, TRAIN_TILTS), conditions(TEST_PLACES, TEST_TILTS)
    return from_mjcf(
        bench.bench(bench.ASSETS / "hammer.xml", POINTS, "nail_shaft"),
        name="hammer",
        cost=cost,
        distance=lambda s: lambda x: jnp.linalg.norm(x[-1, s["sensor:claw_place"]]),
        success=success,
        horizon=HORIZON,
        **bench.setting(POINTS, train, test, NUM_DISTRACTED),
    )


def claw_at_shaft(
    x: jax.Array, s: StateLayout
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Where the nail's shaft goes through the plane of the claw's prongs, in a state x [dX].

    Returns:
      How far along the claw and how far beside its middle that is, from the point between the
      prongs, and how high on the shaft, from its middle, metres; how far the hammer leans, rad.
    """
    claw, face, grip = (x[s[entry]] for entry in bench.places(POINTS))
    forward = (claw - face) / jnp.linalg.norm(claw - face)
    upward = (grip - claw) / jnp.linalg.norm(grip - claw)
    height = claw @ upward / upward[2]
    offset = jnp.zeros_like(claw).at[2].set(height) - claw
    lean = jnp.arccos(jnp.clip(upward[2], -1.0, 1.0))
    return offset @ forward, offset @ jnp.cross(upward, forward), height, lean
