"""A coat hanger goes on a rack, wherever the rack stands and however the hanger is held.

As in Levine et al. (2016), "End-to-end training of deep visuomotor policies": 3 places of the rack
and 2 grasps to train in, 24 tests in unseen places, 18 with distractors. The network sees the
robot's configuration; where the rack is and how the hanger lies in the gripper, only its camera
tells.
"""

import itertools

import jax.numpy as jnp
import numpy as np

from jgps import costs
from jgps.tasks.bench import manipulation as bench
from jgps.tasks.task import Task, from_mjcf

START = (-0.375, -0.135, -1.627, -2.187, -1.832, -1.533, -1.311)  # rad: the hanger before the rack
POINTS = ("hook", "hook_below", "hook_side")
RESTING, PRESSED = -0.010, -0.016  # heights of the hook by the rod: at rest, and to draw it to
TARGET = (0.0, 0.0, PRESSED, 0.0, 0.0, PRESSED - 0.1, 0.0, 0.06, PRESSED)
WEIGHTS = (6.0, 6.0, 1.0) * 3
POSTURE = 0.05
RACK = (0.69, 0.0)  # metres
TRAIN_RACKS = ((-0.03, -0.05), (0.03, 0.0), (-0.03, 0.05))  # from there, metres
TEST_RACKS = bench.unseen_places(TRAIN_RACKS, 8, gap=0.01)
TRAIN_GRASPS = (-1.0, 1.0)
TEST_GRASPS = (-0.7, 0.1, 0.6)
NUM_DISTRACTED = 18
LEVEL, TILT = -np.deg2rad(70), np.deg2rad(10)  # of the hanger in the gripper, and by the grasps
SHIFT = 0.01  # by the grasps, metres
# Metres between the axes of hook and rod: at least what contacts let the hook come near, less
# 0.5 mm; at most the hook's inner radius less the rod's, and 2 mm.
MIN_APART, MAX_APART = 0.0095, 0.015
MAX_SIDEWAYS = 0.008  # metres of the rod from the hook's middle: the hook does not lean on it
MAX_ALONG = 0.05  # metres of the hook from the rod's middle, along the rod
MIN_UPRIGHT = np.cos(np.deg2rad(30))  # cosine of the angle between the hook and the vertical
SPOTS = ((0.53, 0.17), (0.54, 0.07), (0.83, 0.12), (0.84, 0.02), (0.83, -0.08))  # free of racks


def hanger() -> Task:
    """A 7-DoF arm hangs a coat hanger on a rack, seen by a camera: several racks and grasps."""

    def conditions(racks, grasps):
        pairs = list(itertools.product(grasps, racks))
        angles = [(LEVEL + TILT * grasp) / 2 for grasp, _ in pairs]
        return bench.conditions(
            START,
            body_pos__held=[(SHIFT * grasp, 0.0, 0.0) for grasp, _ in pairs],
            body_quat__held=[(np.cos(half), 0.0, np.sin(half), 0.0) for half in angles],
            body_pos__rack=[(RACK[0] + x, RACK[1] + y, bench.TABLE) for _, (x, y) in pairs],
        )

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
        def left(x):
            return x[-1, s["sensor:hook_place"]] - jnp.asarray((0.0, 0.0, RESTING), x.dtype)

        return lambda x: jnp.linalg.norm(left(x))

    def success(s):
        def hangs(x, u):
            hook, below = (x[-1, s[f"sensor:{point}_place"]] for point in POINTS[:2])
            up = (hook - below) / jnp.linalg.norm(hook - below)
            apart = jnp.hypot(hook[0], hook[2])
            enclosed = (apart <= MAX_APART) & (jnp.abs(hook[1]) <= MAX_ALONG)
            on_top = (apart >= MIN_APART) & (hook[2] < 0) & (jnp.abs(hook[0]) <= MAX_SIDEWAYS)
            return enclosed & on_top & (up[2] >= MIN_UPRIGHT)

        return hangs

    train, test = conditions(TRAIN_RACKS, TRAIN_GRASPS), conditions(TEST_RACKS, TEST_GRASPS)
    return from_mjcf(
        bench.bench(bench.ASSETS / "hanger.xml", POINTS, "rod"),
        name="hanger",
        cost=cost,
        distance=distance,
        success=success,
        horizon=100,
        **bench.setting(POINTS, train, test, NUM_DISTRACTED, SPOTS),
    )
