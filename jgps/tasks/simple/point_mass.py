"""A point mass in the plane: the smallest task that exercises everything."""

import jax
import jax.numpy as jnp
import numpy as np

from jgps import costs
from jgps.simulation import Conditions
from jgps.tasks.task import Task, from_mjcf

MODEL = """
<mujoco model="point_mass">
  <option timestep="0.05" gravity="0 0 0" integrator="Euler"/>
  <statistic center="0 0 0.1" extent="2.5"/>
  <worldbody>
    <light pos="1 -2 4" dir="-0.3 0.5 -1" directional="true"/>
    <camera name="top" pos="0 -2.2 3.2" xyaxes="1 0 0 0 0.82 0.57"/>
    <geom name="floor" type="plane" size="3 3 0.1" rgba="0.55 0.60 0.66 1"
      contype="0" conaffinity="0"/>
    <geom name="goal" type="cylinder" pos="0 0 0.005" size="0.1 0.005" rgba="0.2 0.7 0.3 1"
      contype="0" conaffinity="0"/>
    <body name="mass" pos="0 0 0.1">
      <joint name="x" type="slide" axis="1 0 0" damping="0.2"/>
      <joint name="y" type="slide" axis="0 1 0" damping="0.2"/>
      <geom type="sphere" size="0.1" mass="1" rgba="0.9 0.55 0.15 1" contype="0" conaffinity="0"/>
    </body>
  </worldbody>
  <actuator>
    <motor joint="x" ctrlrange="-5 5"/>
    <motor joint="y" ctrlrange="-5 5"/>
  </actuator>
</mujoco>
"""
TRAIN_STARTS = ((1.0, 1.0), (-1.0, 1.0), (-1.0, -1.0), (1.0, -1.0))  # metres
TEST_STARTS = ((1.2, 0.0), (0.0, 1.2), (-1.2, 0.0), (0.0, -1.2), (0.7, 0.9), (-0.9, -0.6))


def point_mass() -> Task:
    """A point mass in the plane moves to the origin and stops there, from four corners."""

    def distance(s):
        return lambda x: jnp.linalg.norm(x[-1, s["qpos"]])

    def random_start(key):
        return jax.random.uniform(key, (2,), minval=-1.0, maxval=1.0), jnp.zeros(2)

    return from_mjcf(
        MODEL,
        name="point_mass",
        cost=lambda s: costs.weighted_sum(
            (1.0, costs.action(1e-2)),
            (1.0, costs.state_target(s["qpos"], 0.0, penalty=costs.Penalty(l2=1.0))),
            (0.1, costs.state_target(s["qvel"], 0.0, penalty=costs.Penalty(l2=1.0))),
        ),
        distance=distance,
        success=lambda s: lambda x, u: distance(s)(x) <= 0.1,
        horizon=40,
        control_dt=0.1,
        qpos=TRAIN_STARTS,
        test=Conditions(np.asarray(TEST_STARTS), np.zeros((len(TEST_STARTS), 2))),
        random_start=random_start,
        camera="top",
    )
