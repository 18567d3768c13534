"""Two links with a motor at the elbow alone, as a MuJoCo model and as the function it computes."""

import jax
import jax.numpy as jnp
import numpy as np

from jgps import costs
from jgps.controllers import NoiseConfig
from jgps.simulation import Conditions
from jgps.tasks.known.parts import euler_step, is_upright, off_upright, with_end
from jgps.tasks.task import Task, from_mjcf

HORIZON = 50
TIMESTEP = 0.025  # seconds
SUBSTEPS = 2
GRAVITY = 9.81
MASS, LENGTH = 1.0, 0.5  # of each link, kg and metres
MIDDLE = LENGTH / 2  # where its centre of mass is
INERTIA = 0.02  # about that centre, kg m^2
DAMPING = (0.2, 0.2)  # N m s
LIMIT = 10.0  # N m
MODEL = f"""
<mujoco model="acrobot">
  <compiler angle="radian" autolimits="true"/>
  <option timestep="{TIMESTEP}" gravity="0 0 {-GRAVITY}" integrator="Euler"/>
  <statistic center="0 0 1.2" extent="2.4"/>
  <default><geom contype="0" conaffinity="0"/></default>
  <worldbody>
    <light pos="1 -3 5" dir="-0.2 0.5 -1" directional="true"/>
    <camera name="front" pos="0 -4 1.55" xyaxes="1 0 0 0 0.08 0.997"/>
    <geom name="floor" type="plane" size="4 4 0.1" rgba="0.55 0.60 0.66 1"/>
    <geom type="box" pos="0 0.18 0.6" size="0.05 0.05 0.6" rgba="0.25 0.28 0.34 1"/>
    <geom type="box" pos="0 0.18 0.03" size="0.3 0.2 0.03" rgba="0.25 0.28 0.34 1"/>
    <geom name="goal" type="cylinder" fromto="0 0.14 2.2 0 0.15 2.2" size="0.12"
      rgba="0.2 0.7 0.3 1"/>
    <body name="upper" pos="0 0 1.2">
      <inertial pos="0 0 {MIDDLE}" mass="{MASS}" diaginertia="{INERTIA} {INERTIA} {INERTIA}"/>
      <joint name="shoulder" axis="0 1 0" damping="{DAMPING[0]}"/>
      <geom type="cylinder" fromto="0 -0.05 0 0 0.13 0" size="0.05" rgba="0.25 0.28 0.34 1"/>
      <geom type="capsule" fromto="0 0 0 0 0 {LENGTH}" size="0.035" rgba="0.20 0.45 0.75 1"/>
      <body name="lower" pos="0 -0.08 {LENGTH}">
        <inertial pos="0 0 {MIDDLE}" mass="{MASS}" diaginertia="{INERTIA} {INERTIA} {INERTIA}"/>
        <joint name="elbow" axis="0 1 0" damping="{DAMPING[1]}"/>
        <geom type="cylinder" fromto="0 -0.04 0 0 0.1 0" size="0.045" rgba="0.25 0.28 0.34 1"/>
        <geom type="capsule" fromto="0 0 0 0 0 {LENGTH}" size="0.03" rgba="0.85 0.86 0.88 1"/>
        <geom type="sphere" pos="0 0 {LENGTH}" size="0.06" rgba="0.9 0.55 0.15 1"/>
      </body>
    </body>
  </worldbody>
  <actuator><motor name="elbow" joint="elbow" ctrlrange="{-LIMIT} {LIMIT}"/></actuator>
</mujoco>
"""
# Angles of the shoulder from the vertical and of the elbow, rad; none hangs straight down.
TRAIN_STARTS = ((2.7, 0.2), (3.0, -0.4), (3.3, 0.4), (3.6, -0.2))
TEST_STARTS = ((2.8, -0.3), (3.1, 0.3), (3.5, 0.2), (2.6, 0.5), (3.2, -0.2))


def acrobot() -> Task:
    """Two links with a motor between them swing up over their hinge and stand."""

    def links(x, s):
        """Angles of both links from the vertical."""
        shoulder, elbow = x[s["qpos"]]
        return shoulder, shoulder + elbow

    def cost(s):
        def fallen(x, u, t):
            return off_upright(*links(x, s))

        def moving(x, u, t):
            return 0.5 * jnp.sum(x[s["qvel"]] ** 2)

        running = costs.weighted_sum((0.03, moving), (0.07, costs.action(1.0)))
        end = costs.weighted_sum((200.0, fallen), (20.0, moving))
        return with_end(running, end, HORIZON)

    def gap(s):
        def of(x):
            upper, lower = links(x[-1], s)
            side, height = jnp.sin(upper) + jnp.sin(lower), jnp.cos(upper) + jnp.cos(lower)
            return LENGTH * jnp.hypot(side, height - 2)

        return of

    def success(s):
        def solved(x, u):
            slow = jnp.all(jnp.abs(x[-1, s["qvel"]]) <= 0.5)
            return is_upright(*links(x[-1], s), within=0.2) & slow

        return solved

    def random_start(key):
        turn, speed = jax.random.split(key)
        qpos = jnp.array([np.pi, 0.0]) + jax.random.uniform(turn, (2,), minval=-0.7, maxval=0.7)
        return qpos, jax.random.uniform(speed, (2,), minval=-0.3, maxval=0.3)

    return from_mjcf(
        MODEL,
        name="acrobot",
        cost=cost,
        dynamics=lambda s: _control_step,  # x is qpos and qvel, shoulder and elbow
        distance=gap,
        success=success,
        horizon=HORIZON,
        control_dt=SUBSTEPS * TIMESTEP,
        qpos=TRAIN_STARTS,
        test=Conditions(np.asarray(TEST_STARTS), np.zeros((len(TEST_STARTS), 2))),
        initial=NoiseConfig(variance=(LIMIT / 3) ** 2),
        random_start=random_start,
        camera="front",
    )


def _control_step(x: jax.Array, u: jax.Array, t: jax.Array) -> jax.Array:
    del t
    for _ in range(SUBSTEPS):
        x = _step(x, u)
    return x


def _step(x: jax.Array, u: jax.Array) -> jax.Array:
    shoulder, elbow, v, w = x
    coupling = MASS * LENGTH * MIDDLE
    lower = INERTIA + MASS * MIDDLE**2
    both = lower + coupling * jnp.cos(elbow)
    upper = lower + MASS * LENGTH**2 + 2 * coupling * jnp.cos(elbow) + INERTIA + MASS * MIDDLE**2
    bend = coupling * jnp.sin(elbow)
    fall = GRAVITY * MASS * MIDDLE * jnp.sin(shoulder + elbow)
    fall_of_both = GRAVITY * MASS * (MIDDLE + LENGTH) * jnp.sin(shoulder) + fall
    force = (fall_of_both + bend * w * (2 * v + w), u[0] + fall - bend * v**2)
    return euler_step(x, (upper, both, lower), force, DAMPING, TIMESTEP)
