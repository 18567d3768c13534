"""A bottle: the robot puts a cap onto its neck and turns it there, wherever the bottle stands.

As in Levine et al. (2016), "End-to-end training of deep visuomotor policies": 9 places to train in,
12 tests in unseen places, 40 with distractors. The network sees the robot's configuration; where
the bottle is, only its camera tells.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jgps import costs
from jgps.simulation import StateLayout
from jgps.tasks.bench import manipulation as bench
from jgps.tasks.task import Task, from_mjcf

START = (-0.347, -0.168, -1.348, -1.545, -1.402, -1.74, -0.8)  # rad: the cap above the table
POINTS = ("cap", "cap_top", "cap_mark")
CENTRE = (0.60, 0.0)  # of the places, metres
TRAIN_PLACES = tuple((x, y) for x in (-0.05, 0.0, 0.05) for y in (-0.08, 0.0, 0.08))
TEST_PLACES = bench.unseen_places(TRAIN_PLACES, 12, gap=0.01)
NUM_DISTRACTED = 40
HORIZON = 60
# The steps between which the cap goes down, and the wrist turns. Nothing waits in between: a
# network that does not see the time could not tell when a pause is over.
LOWERING_STEPS, TURNING_STEPS = (8, 20), (18, 45)
LIFT = 0.1  # from which the cap is lowered, metres
TURN = 2.1  # of the wrist, rad
# Heights of the cap where it may sit: its lid touches the neck at -4 mm, contacts hold it 2 mm up.
SEAT, PRESSED = (-0.006, 0.0), -0.006  # and to where it is drawn, metres
MAX_LATERAL = 0.008  # how far it may be from the axis, metres
MAX_LEAN = 0.015  # how far the cap's axis may lean over 10 cm, metres
SUCCESS_TURN = np.pi / 2  # by how much the cap has to turn on its seat, rad


def bottle() -> Task:
    """A 7-DoF arm puts a cap onto a bottle and turns it, seen by a camera, from several places."""

    def conditions(places):
        bottles = [(CENTRE[0] + x, CENTRE[1] + y, bench.TABLE) for x, y in places]
        return bench.conditions(START, body_pos__bottle=bottles)

    def cost(s):
        # The cap's axis, two points 10 cm from each other, on the axis of the bottle.
        axis = np.r_[tuple(s[entry] for entry in bench.places(("cap", "cap_top")))]
        path = [(0, 0, z, 0, 0, z + 0.1) for z in (LIFT, PRESSED)]
        penalty = costs.Penalty(l2=5.0, log=0.05, alpha=1e-5)
        roll = [s["qpos"].start + bench.JOINTS.index("wrist_roll")]
        turn = [[START[-1]], [START[-1] + TURN]]
        # The arm has a joint to spare: without this the elbow swings round while the wrist turns.
        elbow = s["qpos"].start + bench.JOINTS.index("upper_arm_roll")
        posture = costs.state_target([elbow], START[bench.JOINTS.index("upper_arm_roll")])
        return costs.weighted_sum(
            (1.0, costs.action(5e-5 / np.asarray(bench.GAINS))),
            (1.0, costs.waypoints(axis, path, HORIZON, penalty=penalty, times=LOWERING_STEPS)),
            (1.0, costs.waypoints(roll, turn, HORIZON, times=TURNING_STEPS)),
            (0.5, posture),
        )

    def success(s):
        def screwed(x, u):
            on = seated(x, s)
            return on[-1] & (jnp.sum(jnp.where(on[1:] & on[:-1], turns(x, s), 0)) >= SUCCESS_TURN)

        return screwed

    train, test = conditions(TRAIN_PLACES), conditions(TEST_PLACES)
    return from_mjcf(
        bench.bench(bench.ASSETS / "bottle.xml", POINTS, "bottle_top"),
        name="bottle",
        cost=cost,
        distance=lambda s: lambda x: jnp.linalg.norm(x[-1, s["sensor:cap_place"]]),
        success=success,
        horizon=HORIZON,
        **bench.setting(POINTS, train, test, NUM_DISTRACTED),
    )


def seated(x: jax.Array, s: StateLayout) -> jax.Array:
    """At which steps the cap sits upright on the neck, [T] bool; x are states [T, dX]."""
    cap, top = x[:, s["sensor:cap_place"]], x[:, s["sensor:cap_top_place"]]
    lateral = jnp.linalg.norm(cap[:, :2], axis=-1)
    lean = jnp.linalg.norm((top - cap)[:, :2], axis=-1)
    upright = (top[:, 2] > cap[:, 2]) & (lean <= MAX_LEAN)
    low = (cap[:, 2] >= SEAT[0]) & (cap[:, 2] <= SEAT[1])
    return low & (lateral <= MAX_LATERAL) & upright


def turns(x: jax.Array, s: StateLayout) -> jax.Array:
    """Angles [T - 1] by which the cap turns from step to step, clockwise seen from above, rad."""
    arm = x[:, s["sensor:cap_mark_place"]] - x[:, s["sensor:cap_place"]]
    before, after = arm[:-1], arm[1:]
    sine = before[:, 1] * after[:, 0] - before[:, 0] * after[:, 1]
    return jnp.arctan2(sine, jnp.sum(before[:, :2] * after[:, :2], axis=-1))
