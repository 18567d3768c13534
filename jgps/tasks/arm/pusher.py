"""A planar three-link arm pushes a block to a goal with a forked hand.

The cost has the terms of the gripper pusher of Chebotar et al. (2017b): the distance from the block
to the goal, ever more important, and from the hand to the block.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jgps import costs
from jgps.simulation import Conditions
from jgps.tasks.task import Task, from_mjcf

MODEL = Path(__file__).parent / "assets" / "pusher.xml"
ARM_START = (1.28, -2.56, 1.28)  # rad: the hand before the base, facing the block
GOAL = (0.68, 0.05)  # metres
SUCCESS_DISTANCE = 0.05  # metres
TRAIN_BLOCKS = ((0.45, -0.1), (0.45, 0.1), (0.52, -0.1), (0.52, 0.1))  # metres
TEST_BLOCKS = tuple((x, y) for x in (0.46, 0.485, 0.51) for y in (-0.09, -0.045, 0.0, 0.045, 0.09))
HORIZON = 60


def pusher() -> Task:
    """A planar three-link arm pushes a block to a goal with a forked hand, from several places."""

    def block(s):
        start = s["qpos"].start + len(ARM_START)
        return slice(start, start + 2)

    def cost(s):
        hand = s["site_pos:fork"]
        near = costs.Penalty(l2=10.0, l1=0.1)
        later = costs.ramp("quadratic", HORIZON)
        return costs.weighted_sum(
            (1.0, costs.action(1e-3)),
            (4.0, costs.distance(block(s), GOAL, penalty=near, ramp=later, point_dim=2)),
            (
                1.0,
                costs.distance(
                    slice(hand.start, hand.start + 2), block(s), penalty=near, point_dim=2
                ),
            ),
        )

    def distance(s):
        return lambda x: jnp.linalg.norm(x[-1, block(s)] - jnp.asarray(GOAL, x.dtype))

    def random_start(key):
        lower, upper = np.min(TRAIN_BLOCKS, axis=0), np.max(TRAIN_BLOCKS, axis=0)
        block = jax.random.uniform(key, (2,), minval=lower, maxval=upper)
        arm = jnp.asarray(ARM_START, block.dtype)
        return jnp.concatenate([arm, block, jnp.zeros(1, block.dtype)]), jnp.zeros(6)

    return from_mjcf(
        MODEL,
        name="pusher",
        state=("qpos", "qvel", "site_pos:fork", "site_vel:fork"),
        cost=cost,
        distance=distance,
        success=lambda s: lambda x, u: distance(s)(x) <= SUCCESS_DISTANCE,
        horizon=HORIZON,
        control_dt=0.05,
        qpos=_poses(TRAIN_BLOCKS),
        test=Conditions(_poses(TEST_BLOCKS), np.zeros((len(TEST_BLOCKS), 6))),
        random_start=random_start,
        camera="top",
    )


def _poses(blocks: tuple[tuple[float, float], ...]) -> np.ndarray:
    return np.stack([np.asarray((*ARM_START, *block, 0.0)) for block in blocks])
