"""A shape sorting cube: a block goes into the hole that it fits, wherever the cube stands.

As in Levine et al. (2016), "End-to-end training of deep visuomotor policies": 9 places in an area
of 16 x 10 cm to train in, 36 tests in unseen places, 40 with distractors. The network sees the
robot's configuration; where the cube is, only its camera tells.
"""

import jax.numpy as jnp
import numpy as np

from jgps import costs
from jgps.tasks.bench import manipulation as bench
from jgps.tasks.task import Task, from_mjcf

START = (-0.459, -0.376, -1.304, -1.617, -1.172, -1.8, -1.886)  # rad: the block above the table
POINTS = ("block_tip", "block_top", "block_side")
TARGET = (0.0, 0.0, 0.0, 0.0, 0.0, 0.11, 0.0, 0.05, 0.0)  # in the hole's frame, metres
WEIGHTS = (6.0, 6.0, 1.0) * 3
POSTURE = 0.05
CENTRE = (0.60, 0.0)  # of the area, metres
AREA = (0.10, 0.16)  # along x and y, metres
TRAIN_PLACES = tuple((x, y) for x in (-0.05, 0.0, 0.05) for y in (-0.08, 0.0, 0.08))
TEST_PLACES = bench.unseen_places(TRAIN_PLACES, 36, gap=0.01)
NUM_DISTRACTED = 40
MAX_ABOVE_BOTTOM = 0.01  # how far above the hole's bottom the tip may be, metres
MAX_BELOW_BOTTOM = 0.004  # how far soft contact may let it into the bottom, metres
MAX_LATERAL = 0.006  # how far it may be from the hole's axis, metres
BLOCK_HEIGHT = 0.11  # of the block's top above its tip, metres
MAX_LEAN_ANGLE = np.deg2rad(12)  # how far the block may lean


def shape_sorting_cube() -> Task:
    """A 7-DoF arm puts a block into the hole of a cube, seen by a camera, from several places."""

    def conditions(places):
        cubes = [(CENTRE[0] + x, CENTRE[1] + y, bench.TABLE) for x, y in places]
        return bench.conditions(START, body_pos__cube=cubes)

    def points(s):
        return np.r_[tuple(s[entry] for entry in bench.places(POINTS))]

    def cost(s):
        penalty = costs.Penalty(l2=5.0, log=0.05, alpha=1e-5)
        return costs.weighted_sum(
            (1.0, costs.action(5e-5 / np.asarray(bench.GAINS))),
            (1.0, costs.state_target(points(s), TARGET, WEIGHTS, penalty)),
            (POSTURE, costs.state_target(s["qpos"], START)),  # the elbow stays out of sight
        )

    def distance(s):
        return lambda x: jnp.linalg.norm(x[-1, s["sensor:block_tip_place"]])

    def success(s):
        def inside(x, u):
            tip, top = (x[-1, s[f"sensor:{point}_place"]] for point in POINTS[:2])
            on_axis = jnp.max(jnp.abs(tip[:2])) <= MAX_LATERAL
            upright = (top - tip)[2] >= BLOCK_HEIGHT * np.cos(MAX_LEAN_ANGLE)
            return (tip[2] >= -MAX_BELOW_BOTTOM) & (tip[2] <= MAX_ABOVE_BOTTOM) & on_axis & upright

        return inside

    train, test = conditions(TRAIN_PLACES), conditions(TEST_PLACES)
    return from_mjcf(
        bench.bench(bench.ASSETS / "shape_sorting_cube.xml", POINTS, "hole"),
        name="shape_sorting_cube",
        cost=cost,
        distance=distance,
        success=success,
        horizon=100,
        **bench.setting(POINTS, train, test, NUM_DISTRACTED),
    )
