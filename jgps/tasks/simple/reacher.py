"""A planar two-link arm reaches for targets."""

import jax.numpy as jnp
import numpy as np

from jgps import costs
from jgps.simulation import Conditions
from jgps.tasks.task import Task, from_mjcf

MODEL = """
<mujoco model="reacher">
  <compiler angle="radian" autolimits="true"/>
  <option timestep="0.01" gravity="0 0 0" integrator="Euler"/>
  <statistic center="0 0 0.05" extent="0.6"/>
  <default>
    <joint type="hinge" axis="0 0 1" armature="0.01" damping="0.05"/>
    <geom contype="0" conaffinity="0"/>
  </default>
  <worldbody>
    <light pos="0.5 -0.5 2" dir="-0.2 0.2 -1" directional="true"/>
    <camera name="top" pos="0 -0.55 0.75" xyaxes="1 0 0 0 0.80 0.60"/>
    <geom name="floor" type="plane" size="1 1 0.1" rgba="0.55 0.60 0.66 1"/>
    <body name="upper" pos="0 0 0.05">
      <joint name="shoulder"/>
      <geom type="capsule" fromto="0 0 0 0.2 0 0" size="0.02" mass="0.3" rgba="0.25 0.28 0.34 1"/>
      <body name="lower" pos="0.2 0 0">
        <joint name="elbow" range="-2.8 2.8"/>
        <geom type="capsule" fromto="0 0 0 0.2 0 0" size="0.016" mass="0.2"
          rgba="0.85 0.86 0.88 1"/>
        <site name="fingertip" pos="0.2 0 0" size="0.018" rgba="0.9 0.55 0.15 1"/>
      </body>
    </body>
    <body name="target" pos="0.2 0.2 0.05">
      <geom type="sphere" size="0.02" rgba="0.2 0.7 0.3 1"/>
      <site name="target" size="0.01"/>
    </body>
  </worldbody>
  <actuator>
    <motor joint="shoulder" ctrlrange="-2 2"/>
    <motor joint="elbow" ctrlrange="-2 2"/>
  </actuator>
</mujoco>
"""
# Where the target lies around the shoulder, rad. A network needs about so many: of 8 targets it
# learns all, and misses a quarter of those between them.
TRAIN_ANGLES = np.linspace(-2.5, 2.5, 16)
TEST_ANGLES = (TRAIN_ANGLES[1:] + TRAIN_ANGLES[:-1]) / 2  # as far from those as can be
RADIUS = 0.3  # metres
# The elbow is bent, so that all targets are reached by bending it the same way.
START = (-0.7, 1.4)


def reacher() -> Task:
    """A planar two-link arm moves its fingertip to a target, elsewhere in every condition.

    Unseen targets lie between those that it is trained on.
    """

    def gap(s):
        return lambda x: jnp.linalg.norm(
            x[-1, s["site_pos:fingertip"]] - x[-1, s["site_pos:target"]]
        )

    return from_mjcf(
        MODEL,
        name="reacher",
        state=("qpos", "qvel", "site_pos:fingertip", "site_vel:fingertip", "site_pos:target"),
        cost=lambda s: costs.weighted_sum(
            (1.0, costs.action(1e-3)),
            (
                1.0,
                costs.distance(
                    s["site_pos:fingertip"],
                    s["site_pos:target"],
                    penalty=costs.Penalty(l2=10.0, log=0.01, alpha=1e-4),
                ),
            ),
        ),
        distance=gap,
        success=lambda s: lambda x, u: gap(s)(x) <= 0.02,
        horizon=50,
        control_dt=0.05,
        qpos=START,
        changes={"body_pos:target": _targets(TRAIN_ANGLES)},
        test=Conditions(
            qpos=np.tile(START, (len(TEST_ANGLES), 1)),
            qvel=np.zeros((len(TEST_ANGLES), 2)),
            changes={"body_pos:target": _targets(TEST_ANGLES)},
        ),
        camera="top",
    )


def _targets(angles: np.ndarray) -> np.ndarray:
    return np.stack(
        [RADIUS * np.cos(angles), RADIUS * np.sin(angles), np.full(len(angles), 0.05)], -1
    )
