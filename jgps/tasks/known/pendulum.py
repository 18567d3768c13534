"""A pendulum that has to be swung up, as a MuJoCo model and as the function that it computes."""

import jax
import jax.numpy as jnp
import numpy as np

from jgps import costs
from jgps.controllers import NoiseConfig
from jgps.simulation import Conditions
from jgps.tasks.known.parts import is_upright, off_upright, with_end
from jgps.tasks.task import Task, from_mjcf

HORIZON = 100
TIMESTEP = 0.05  # seconds
GRAVITY = 9.81
MASS, LENGTH = 1.0, 1.0  # kg, metres
INERTIA = 0.01  # of the bob about its middle, kg m^2
DAMPING = 0.1  # N m s
LIMIT = 5.0  # N m, half of what holds the pendulum level
MODEL = f"""
<mujoco model="pendulum">
  <compiler angle="radian" autolimits="true"/>
  <option timestep="{TIMESTEP}" gravity="0 0 {-GRAVITY}" integrator="Euler"/>
  <statistic center="0 0 1.25" extent="2.6"/>
  <default><geom contype="0" conaffinity="0"/></default>
  <worldbody>
    <light pos="1 -3 5" dir="-0.2 0.5 -1" directional="true"/>
    <camera name="front" pos="0 -4.3 1.75" xyaxes="1 0 0 0 0.1 0.995"/>
    <geom name="floor" type="plane" size="4 4 0.1" rgba="0.55 0.60 0.66 1"/>
    <geom type="box" pos="0 0.14 0.62" size="0.05 0.05 0.62" rgba="0.25 0.28 0.34 1"/>
    <geom type="box" pos="0 0.14 0.03" size="0.3 0.2 0.03" rgba="0.25 0.28 0.34 1"/>
    <geom name="goal" type="cylinder" fromto="0 0.1 2.25 0 0.11 2.25" size="0.16"
      rgba="0.2 0.7 0.3 1"/>
    <body name="pendulum" pos="0 0 1.25">
      <inertial pos="0 0 {LENGTH}" mass="{MASS}" diaginertia="{INERTIA} {INERTIA} {INERTIA}"/>
      <joint name="pivot" axis="0 1 0" damping="{DAMPING}"/>
      <geom type="cylinder" fromto="0 -0.07 0 0 0.09 0" size="0.07" rgba="0.25 0.28 0.34 1"/>
      <geom type="capsule" fromto="0 0 0 0 0 {LENGTH}" size="0.028" rgba="0.85 0.86 0.88 1"/>
      <geom type="sphere" pos="0 0 {LENGTH}" size="0.12" rgba="0.9 0.55 0.15 1"/>
    </body>
  </worldbody>
  <actuator><motor name="torque" joint="pivot" ctrlrange="{-LIMIT} {LIMIT}"/></actuator>
</mujoco>
"""
# Angles from the vertical, rad: all below the pivot, none straight down, where both ways are one.
TRAIN_ANGLES = (2.2, 2.8, 3.4, 4.0)
TEST_ANGLES = (1.9, 2.5, 3.0, 3.7, 4.3)
FALL = GRAVITY * MASS * LENGTH  # N m, of a pendulum that is level
TURN = MASS * LENGTH**2 + INERTIA  # kg m^2 about the pivot


def pendulum() -> Task:
    """A pendulum swings up and stands, with half the torque that would hold it level."""

    def dynamics(s):
        del s  # qpos and qvel, one number each

        def step(x, u, t):
            del t
            angle, speed = x
            torque = FALL * jnp.sin(angle) + u[0] - DAMPING * speed
            speed = speed + TIMESTEP * torque / (TURN + TIMESTEP * DAMPING)
            return jnp.stack([angle + TIMESTEP * speed, speed])

        return step

    def cost(s):
        def fallen(x, u, t):
            return off_upright(*x[s["qpos"]])

        def moving(x, u, t):
            return 0.5 * jnp.sum(x[s["qvel"]] ** 2)

        running = costs.weighted_sum((0.1, fallen), (0.01, moving), (0.01, costs.action(1.0)))
        return with_end(running, costs.weighted_sum((50.0, fallen), (10.0, moving)), HORIZON)

    def random_start(key):
        angle_key, speed_key = jax.random.split(key)
        angle = jax.random.uniform(angle_key, (1,), minval=0.0, maxval=2 * np.pi)
        return angle, jax.random.normal(speed_key, (1,))

    return from_mjcf(
        MODEL,
        name="pendulum",
        cost=cost,
        dynamics=dynamics,
        distance=lambda s: lambda x: LENGTH * jnp.sqrt(2 * off_upright(*x[-1, s["qpos"]])),
        success=lambda s: lambda x, u: is_upright(*x[-1, s["qpos"]]) & _slow(x[-1, s["qvel"]]),
        horizon=HORIZON,
        control_dt=TIMESTEP,
        qpos=np.reshape(TRAIN_ANGLES, (-1, 1)),
        test=Conditions(np.reshape(TEST_ANGLES, (-1, 1)), np.zeros((len(TEST_ANGLES), 1))),
        initial=NoiseConfig(variance=(LIMIT / 2) ** 2),
        random_start=random_start,
        camera="front",
    )


def _slow(speed: jax.Array) -> jax.Array:
    return jnp.all(jnp.abs(speed) <= 0.3)
