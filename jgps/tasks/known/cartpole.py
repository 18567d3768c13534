"""A pole on a cart that has to be swung up, as a MuJoCo model and as the function it computes."""

import jax
import jax.numpy as jnp
import numpy as np

from jgps import costs
from jgps.controllers import NoiseConfig
from jgps.simulation import Conditions
from jgps.tasks.known.parts import euler_step, is_upright, off_upright, with_end
from jgps.tasks.task import Task, from_mjcf

HORIZON = 60
TIMESTEP = 0.05  # seconds
GRAVITY = 9.81
CART, POLE = 1.0, 0.4  # kg
LENGTH = 0.5  # metres from the hinge to the pole's centre of mass
INERTIA = 0.001  # of the pole about that centre, kg m^2
DAMPING = (0.05, 0.01)  # of the cart, N s/m, and of the hinge, N m s
LIMIT = 10.0  # N
MODEL = f"""
<mujoco model="cartpole">
  <compiler angle="radian" autolimits="true"/>
  <option timestep="{TIMESTEP}" gravity="0 0 {-GRAVITY}" integrator="Euler"/>
  <statistic center="0 0 0.7" extent="2.2"/>
  <default><geom contype="0" conaffinity="0"/></default>
  <worldbody>
    <light pos="1 -3 5" dir="-0.2 0.5 -1" directional="true"/>
    <camera name="front" pos="0 -3.6 1.15" xyaxes="1 0 0 0 0.1 0.995"/>
    <geom name="floor" type="plane" size="6 6 0.1" rgba="0.55 0.60 0.66 1"/>
    <geom name="rail" type="capsule" fromto="-2 0 0.7 2 0 0.7" size="0.02"
      rgba="0.25 0.28 0.34 1"/>
    <geom type="box" pos="-2 0 0.36" size="0.04 0.04 0.36" rgba="0.25 0.28 0.34 1"/>
    <geom type="box" pos="2 0 0.36" size="0.04 0.04 0.36" rgba="0.25 0.28 0.34 1"/>
    <geom name="goal" type="cylinder" fromto="0 0.14 1.25 0 0.15 1.25" size="0.1"
      rgba="0.2 0.7 0.3 1"/>
    <body name="cart" pos="0 0 0.7">
      <inertial pos="0 0 0" mass="{CART}" diaginertia="0.01 0.01 0.01"/>
      <joint name="rail" type="slide" axis="1 0 0" damping="{DAMPING[0]}"/>
      <geom type="box" size="0.16 0.08 0.07" rgba="0.20 0.45 0.75 1"/>
      <body name="pole" pos="0 -0.1 0">
        <inertial pos="0 0 {LENGTH}" mass="{POLE}" diaginertia="{INERTIA} {INERTIA} {INERTIA}"/>
        <joint name="hinge" axis="0 1 0" damping="{DAMPING[1]}"/>
        <geom type="cylinder" fromto="0 -0.03 0 0 0.03 0" size="0.035" rgba="0.25 0.28 0.34 1"/>
        <geom type="capsule" fromto="0 0 0 0 0 {LENGTH}" size="0.02" rgba="0.85 0.86 0.88 1"/>
        <geom type="sphere" pos="0 0 {LENGTH}" size="0.065" rgba="0.9 0.55 0.15 1"/>
      </body>
    </body>
  </worldbody>
  <actuator><motor name="push" joint="rail" ctrlrange="{-LIMIT} {LIMIT}"/></actuator>
</mujoco>
"""
# The cart's place, metres, and the pole's angle from the vertical, rad; none hangs straight down.
TRAIN_STARTS = ((0.0, 2.6), (0.4, 3.0), (-0.4, 3.3), (0.0, 3.7))
TEST_STARTS = ((0.2, 2.8), (-0.2, 3.5), (0.5, 3.4), (-0.5, 2.9), (0.0, 2.4))


def cartpole() -> Task:
    """A cart on a rail swings up its pole and stops with it upright in the middle."""

    def cost(s):
        place, speed = s["qpos"], s["qvel"]

        def fallen(x, u, t):
            return off_upright(x[place][1])

        def away(x, u, t):
            return 0.5 * x[place][0] ** 2

        def moving(x, u, t):
            return 0.5 * jnp.sum(jnp.array([1.0, 0.3]) * x[speed] ** 2)

        def moving_at_the_end(x, u, t):
            return 0.5 * jnp.sum(x[speed] ** 2)

        running = costs.weighted_sum((0.1, away), (0.01, moving), (0.01, costs.action(1.0)))
        end = costs.weighted_sum((100.0, fallen), (100.0, away), (10.0, moving_at_the_end))
        return with_end(running, end, HORIZON)

    def gap(s):
        def of(x):
            place, angle = x[-1, s["qpos"]]
            tip = jnp.stack([place + LENGTH * jnp.sin(angle), LENGTH * (jnp.cos(angle) - 1)])
            return jnp.linalg.norm(tip)

        return of

    def success(s):
        def solved(x, u):
            (place, angle), speed = x[-1, s["qpos"]], x[-1, s["qvel"]]
            slow = jnp.all(jnp.abs(speed) <= 0.3)
            return is_upright(angle) & (jnp.abs(place) <= 0.2) & slow

        return solved

    return from_mjcf(
        MODEL,
        name="cartpole",
        cost=cost,
        dynamics=lambda s: _step,  # x is qpos and qvel of cart and pole
        distance=gap,
        success=success,
        horizon=HORIZON,
        control_dt=TIMESTEP,
        qpos=TRAIN_STARTS,
        test=Conditions(np.asarray(TEST_STARTS), np.zeros((len(TEST_STARTS), 2))),
        initial=NoiseConfig(variance=(LIMIT / 2) ** 2),
        random_start=_random_start,
        camera="front",
    )


def _step(x: jax.Array, u: jax.Array, t: jax.Array) -> jax.Array:
    del t
    angle, turning = x[1], x[3]
    arm = POLE * LENGTH
    mass = (CART + POLE, arm * jnp.cos(angle), arm * LENGTH + INERTIA)
    force = (u[0] + arm * jnp.sin(angle) * turning**2, GRAVITY * arm * jnp.sin(angle))
    return euler_step(x, mass, force, DAMPING, TIMESTEP)


def _random_start(key: jax.Array) -> tuple[jax.Array, jax.Array]:
    place, angle, speed = jax.random.split(key, 3)
    qpos = jnp.stack(
        [
            jax.random.uniform(place, minval=-0.5, maxval=0.5),
            jax.random.uniform(angle, minval=np.pi - 1, maxval=np.pi + 1),
        ]
    )
    return qpos, jax.random.uniform(speed, (2,), minval=-0.3, maxval=0.3)
