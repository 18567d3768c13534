"""A swimmer of three links swims at a commanded speed.

The kind of robot and its speed are those of Levine & Abbeel (2014), "Learning neural network
policies with guided policy search under unknown dynamics"; body and cost are our own.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jgps import costs
from jgps.costs import locomotion
from jgps.simulation import Conditions
from jgps.tasks.episodes import Episodes
from jgps.tasks.locomotion.progress import at_speed, way_missed
from jgps.tasks.task import Task, from_mjcf

MODEL = Path(__file__).parent / "assets" / "swimmer.xml"
SPEED = 2.0  # m/s, unless the command says otherwise
HORIZON = 150  # 3 s
POLICY_HORIZON = 500  # 10 s, of one network
CONTROL_DT = 0.02  # seconds
TRAIN_BENDS = ((0.3, -0.3), (-0.3, 0.3), (0.4, 0.4), (-0.4, -0.4))  # of neck and hip, rad
TEST_BENDS = ((0.2, 0.0), (0.0, -0.3), (0.35, 0.1), (-0.1, -0.35))


def swimmer() -> Task:
    """A swimmer of three links and two motors swims at 2 m/s, from several poses at rest.

    The command is `params["speed"]`, m/s along the x axis.
    """

    def success(s):
        reached = at_speed(s["qpos"].start, CONTROL_DT)
        return lambda x, u, params: reached(x, params)

    return from_mjcf(
        MODEL,
        name="swimmer",
        state=("qpos", "qvel", "sensor:velocity"),
        observation=("qpos:heading", "qpos:neck", "qpos:hip", "qvel"),
        cost=_cost,
        success=success,
        distance=lambda s: way_missed(s["qpos"].start, CONTROL_DT),
        horizon=HORIZON,
        control_dt=CONTROL_DT,
        qpos=_poses(TRAIN_BENDS),
        params={"speed": np.full(len(TRAIN_BENDS), SPEED)},
        test=Conditions(
            _poses(TEST_BENDS),
            np.zeros((len(TEST_BENDS), 5)),
            params={"speed": np.full(len(TEST_BENDS), SPEED)},
        ),
        random_start=_random_start,
        camera="top",
    )


def swimmer_policy() -> Task:
    """A swimmer of three links swims at 2 m/s for 10 s, one network from drawn starts."""
    task = swimmer()
    return dataclasses.replace(
        task, name="swimmer_policy", horizon=POLICY_HORIZON, episodes=Episodes()
    )


def _cost(s: Any) -> costs.SumOfSquares:
    q, v = s["qpos"].start, s["qvel"].start
    along = s["sensor:velocity"].start

    def residual(x, u, t, params):
        return costs.stacked(
            (8.0, locomotion.velocity([along], params["speed"])),
            (0.5, locomotion.velocity([along + 1], 0.0)),
            (1.5, locomotion.tilt([q + 2])),
            (0.05, locomotion.smoothness([v + 3, v + 4])),
            (0.1, locomotion.effort()),
        )(x, u, t)

    return costs.SumOfSquares(residual)


def _random_start(key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Bent somehow, and moving a little."""
    first, second = jax.random.split(key)
    limit = jnp.asarray([0.0, 0.0, 0.3, 0.5, 0.5])
    pose = limit * jax.random.uniform(first, (5,), minval=-1, maxval=1)
    return pose, 0.3 * jax.random.uniform(second, (5,), minval=-1, maxval=1)


def _poses(bends: tuple[tuple[float, float], ...]) -> np.ndarray:
    return np.concatenate([np.zeros((len(bends), 3)), np.asarray(bends)], axis=1)
