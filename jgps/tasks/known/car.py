"""A car that has to park, whose motion is a formula; the MuJoCo model draws it.

Source: Tassa, Mansard & Todorov (2014), "Control-limited differential dynamic programming",
with its published cost and first initial state. The last of 500 states here has a control of
its own, and the running cost on top of the published final one.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jgps import costs
from jgps.controllers import NoiseConfig
from jgps.costs import Penalty
from jgps.simulation import Conditions
from jgps.tasks.known.parts import with_end
from jgps.tasks.task import Task, from_mjcf

HORIZON = 500
TIMESTEP = 0.03  # seconds
AXLES = 2.0  # metres between front and back
STEERING, ACCELERATION = 0.5, 2.0  # limits, rad and m/s^2
_WHEEL = 'type="cylinder" size="0.3 0.12" euler="1.5708 0 0" rgba="0.12 0.12 0.14 1"'
MODEL = f"""
<mujoco model="car">
  <compiler angle="radian" autolimits="true"/>
  <option timestep="{TIMESTEP}" gravity="0 0 0" integrator="Euler"/>
  <statistic center="0.5 0.5 0.3" extent="6"/>
  <default>
    <geom contype="0" conaffinity="0"/>
    <default class="line"><geom type="box" rgba="0.92 0.93 0.95 1"/></default>
  </default>
  <worldbody>
    <light pos="2 -4 9" dir="-0.2 0.4 -1" directional="true"/>
    <camera name="top" pos="0.6 -4.1 9.8" xyaxes="1 0 0 0 0.924 0.383"/>
    <geom name="ground" type="plane" size="30 30 0.1" rgba="0.36 0.38 0.41 1"/>
    <geom name="place" type="box" pos="1 0 0.004" size="1.75 0.95 0.004"
      rgba="0.2 0.55 0.33 1"/>
    <geom class="line" pos="1 0.95 0.008" size="1.8 0.05 0.008"/>
    <geom class="line" pos="1 -0.95 0.008" size="1.8 0.05 0.008"/>
    <geom class="line" pos="2.75 0 0.008" size="0.05 0.95 0.008"/>
    <body name="car" pos="0 0 0">
      <joint name="x" type="slide" axis="1 0 0"/>
      <joint name="y" type="slide" axis="0 1 0"/>
      <joint name="heading" axis="0 0 1"/>
      <geom type="box" pos="1 0 0.47" size="1.45 0.68 0.2" rgba="0.85 0.33 0.15 1"/>
      <geom type="box" pos="0.75 0 0.83" size="0.75 0.58 0.17" rgba="0.20 0.24 0.30 1"/>
      <geom type="box" pos="0.7 0 1.01" size="0.62 0.56 0.015" rgba="0.85 0.33 0.15 1"/>
      <geom {_WHEEL} pos="0 0.68 0.3"/>
      <geom {_WHEEL} pos="0 -0.68 0.3"/>
      <geom {_WHEEL} pos="{AXLES} 0.68 0.3"/>
      <geom {_WHEEL} pos="{AXLES} -0.68 0.3"/>
      <geom type="sphere" pos="2.43 0.48 0.52" size="0.1" rgba="1 0.95 0.7 1"/>
      <geom type="sphere" pos="2.43 -0.48 0.52" size="0.1" rgba="1 0.95 0.7 1"/>
      <geom name="dial" type="cylinder" pos="0.7 0 1.03" size="0.4 0.01"
        rgba="0.96 0.96 0.97 1"/>
      <geom name="at rest" type="box" pos="1.03 0 1.045" size="0.06 0.02 0.004"
        rgba="0.12 0.12 0.14 1"/>
      <body name="speedometer" pos="0.7 0 1.06">
        <joint name="speed" axis="0 0 1"/>
        <geom type="capsule" fromto="-0.08 0 0 0.34 0 0" size="0.03" rgba="0.75 0.1 0.1 1"/>
      </body>
    </body>
  </worldbody>
  <actuator>
    <general name="steering" joint="heading" gainprm="0" ctrlrange="{-STEERING} {STEERING}"/>
    <general name="acceleration" joint="speed" gainprm="0"
      ctrlrange="{-ACCELERATION} {ACCELERATION}"/>
  </actuator>
</mujoco>
"""
# x, y of the middle of the back axle, heading, speed: metres, rad and m/s.
PUBLISHED = (1.0, 1.0, 1.5 * np.pi, 0.0)
SPREAD = (1.0, 1.0, 1.0, 0.0)  # of random starts about that one
TRAIN_STARTS = (PUBLISHED, (1.0, -1.0, 0.5 * np.pi, 0.0), (-2.0, 1.0, -0.5, 0.0), (2.0, 1.5, 0, 0))
TEST_STARTS = ((1.5, 1.2, 4.4, 0), (-1.0, -1.5, 0.8, 0), (0.5, 2.0, -0.6, 0), (2.0, -1.0, 1.2, 0))


def car() -> Task:
    """A car parks: backwards, forwards, as often as it takes, by its wheel and its accelerator."""

    def cost(s):
        place = s["qpos"].start

        def smooth_abs(entry, weight, width):
            penalty = Penalty(l1=weight, alpha=width**2)
            return 1.0, costs.state_target([place + entry], 0.0, penalty=penalty)

        near = (smooth_abs(0, 1e-3, 0.1), smooth_abs(1, 1e-3, 0.1))
        effort = (1.0, costs.action((2e-2, 2e-4)))
        parked = (
            *(smooth_abs(0, 0.1, 0.01), smooth_abs(1, 0.1, 0.01)),
            *(smooth_abs(2, 1.0, 0.01), smooth_abs(3, 0.3, 1.0)),
        )
        return with_end(costs.weighted_sum(*near, effort), costs.weighted_sum(*parked), HORIZON)

    def gap(s):
        return lambda x: jnp.linalg.norm(x[-1, s["qpos"]][:2])

    def success(s):
        def parked(x, u):
            heading, speed = x[-1, s["qpos"]][2:]
            straight = jnp.cos(heading) >= np.cos(0.1)
            return (gap(s)(x) <= 0.1) & straight & (jnp.abs(speed) <= 0.2)

        return parked

    return from_mjcf(
        MODEL,
        name="car",
        state=("qpos",),
        cost=cost,
        dynamics=lambda s: _step,  # x is place, heading and speed
        distance=gap,
        success=success,
        horizon=HORIZON,
        control_dt=TIMESTEP,
        qpos=TRAIN_STARTS,
        test=Conditions(np.asarray(TEST_STARTS), np.zeros((len(TEST_STARTS), 4))),
        initial=NoiseConfig(variance=((STEERING / 3) ** 2, (ACCELERATION / 3) ** 2)),
        random_start=_random_start,
        camera="top",
    )


def _step(x: jax.Array, u: jax.Array, t: jax.Array) -> jax.Array:
    del t
    wheel, acceleration = u
    heading, rolled = x[2], TIMESTEP * x[3]  # metres that the front wheels roll
    aside = jnp.sin(wheel) * rolled
    ahead = AXLES + rolled * jnp.cos(wheel) - jnp.sqrt(AXLES**2 - aside**2)
    motion = (ahead * jnp.cos(heading), ahead * jnp.sin(heading), jnp.arcsin(aside / AXLES))
    return x + jnp.stack([*motion, TIMESTEP * acceleration])


def _random_start(key: jax.Array) -> tuple[jax.Array, jax.Array]:
    change = jax.random.uniform(key, (4,), minval=-1.0, maxval=1.0)
    return jnp.array(PUBLISHED) + jnp.array(SPREAD) * change, jnp.zeros(4)
