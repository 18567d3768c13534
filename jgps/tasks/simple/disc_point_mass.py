"""A point mass whose cost is discontinuous: what pays lies where no gradient points to.

The smooth part of the cost draws the mass to a lure. What pays more is a square beside it, whose
cost is constant outside and inside: a quadratic expansion does not see it, samples that enter it
do. A round post stands in the way.

Source of the idea: the simulated navigation task of Chebotar et al. (2017b), "Combining
model-based and model-free updates for trajectory-centric reinforcement learning".
"""

import jax
import jax.numpy as jnp
import numpy as np

from jgps import costs
from jgps.controllers import LqrHoldConfig
from jgps.simulation import Conditions
from jgps.tasks.task import Task, from_mjcf

MODEL = """
<mujoco model="disc_point_mass">
  <option timestep="0.02" gravity="0 0 0" integrator="Euler"/>
  <statistic center="0 0 0.1" extent="2"/>
  <default>
    <geom contype="0" conaffinity="0" condim="1" margin="0.002"/>
  </default>
  <worldbody>
    <light pos="1 -2 4" dir="-0.3 0.5 -1" directional="true"/>
    <camera name="top" pos="0 -1.55 1.7" xyaxes="1 0 0 0 0.78 0.63"/>
    <geom name="floor" type="plane" size="3 3 0.1" rgba="0.55 0.60 0.66 1"/>
    <geom name="lure" type="cylinder" pos="0.8 0 0.004" size="0.05 0.004" rgba="0.2 0.55 0.75 1"/>
    <geom name="region" type="box" pos="0.625 0.325 0.003" size="0.175 0.175 0.003"
      rgba="0.2 0.7 0.3 1"/>
    <geom name="post" type="sphere" pos="0 -0.4 0.1" size="0.2"
      rgba="0.25 0.28 0.34 1" contype="2" conaffinity="1"/>
    <body name="mass" pos="0 0 0.1">
      <joint name="x" type="slide" axis="1 0 0" damping="1"/>
      <joint name="y" type="slide" axis="0 1 0" damping="1"/>
      <geom type="sphere" size="0.1" mass="1" rgba="0.9 0.55 0.15 1" contype="1" conaffinity="2"/>
    </body>
  </worldbody>
  <actuator>
    <motor joint="x" ctrlrange="-5 5"/>
    <motor joint="y" ctrlrange="-5 5"/>
  </actuator>
</mujoco>
"""
LURE = (0.8, 0.0)  # where the smooth part of the cost is least, metres
REGION_LOWER = (0.45, 0.15)  # corners of the square in which the task is solved, metres
REGION_UPPER = (0.8, 0.5)
START_X = -0.8  # metres
TRAIN_STARTS = (-0.6, -0.4, -0.2, 0.0)  # along y, metres
TEST_STARTS = tuple(np.linspace(-0.57, -0.03, 10).round(2))  # none of them a training start


def disc_point_mass() -> Task:
    """A point mass passes a post to a square that pays only inside, beside where it is drawn to."""

    def distance(s):
        def outside(x):
            place = x[-1, s["qpos"]]
            lower, upper = jnp.asarray(REGION_LOWER, x.dtype), jnp.asarray(REGION_UPPER, x.dtype)
            return jnp.linalg.norm(place - jnp.clip(place, lower, upper))

        return outside

    def random_start(key):
        y = jax.random.uniform(key, minval=min(TRAIN_STARTS), maxval=max(TRAIN_STARTS))
        return jnp.stack([jnp.full_like(y, START_X), y]), jnp.zeros(2)

    return from_mjcf(
        MODEL,
        name="disc_point_mass",
        cost=lambda s: costs.weighted_sum(
            (1.0, costs.action(1e-2)),
            (1.0, costs.state_target(s["qpos"], LURE)),
            (1.0, costs.region(s["qpos"], REGION_LOWER, REGION_UPPER)),
        ),
        distance=distance,
        success=lambda s: lambda x, u: distance(s)(x) == 0,
        horizon=40,
        control_dt=0.1,
        qpos=_starts(TRAIN_STARTS),
        test=Conditions(_starts(TEST_STARTS), np.zeros((len(TEST_STARTS), 2))),
        random_start=random_start,
        initial=LqrHoldConfig(variance=2.0, stiffness=0.1),
        camera="top",
    )


def _starts(y: tuple[float, ...]) -> np.ndarray:
    return np.stack([np.full(len(y), START_X), np.asarray(y)], -1)
