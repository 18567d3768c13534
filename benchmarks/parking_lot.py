"""A car that parks between two others, past a pillar, as a task whose dynamics are a function.

The motion is that of Tassa, Mansard & Todorov (2014), "Control-limited differential dynamic
programming", with a longer time step; what stands in the way is ours.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jgps import tasks
from jgps.simulation import Conditions
from jgps.tasks import Task

TIMESTEP, HORIZON = 0.1, 60  # seconds, control steps
AXLES = 2.0  # metres between front and back
STEERING, ACCELERATION = 0.6, 2.0  # limits, rad and m/s^2
WIDTH = 0.55  # metres from the car's axis to its side
# Capsules that stand in the way: both ends and the radius, metres.
PILLAR = ((-3.5, 0.0), (-3.5, 0.0), 0.4)
PARKED = tuple(((0.2, side * 1.6), (1.8, side * 1.6), 0.55) for side in (1, -1))
OBSTACLES = (PILLAR, *PARKED)
NUM_TRAIN, NUM_TEST = 12, 24  # initial conditions
MARGIN = 0.2
ON_CAR = (0.0, 0.5, 1.0)  # where along the car's axis distances are taken


def starts(num: int, seed: int) -> np.ndarray:
    """x, y of the middle of the back axle, heading and speed, [num, 4]: metres, rad and m/s."""
    rng = np.random.default_rng(seed)
    side = np.where(np.arange(num) % 2, 1, -1)
    y = side * rng.uniform(0.8, 1.4, num)
    x, heading = rng.uniform(-7.2, -6.5, num), rng.uniform(-0.1, 0.1, num)
    return np.stack([x, y, heading, np.zeros(num)], axis=-1)


MODEL = f"""
<mujoco model="parking lot">
  <option timestep="{TIMESTEP}" gravity="0 0 0"/>
  <worldbody>
    <body name="car">
      <joint name="x" type="slide" axis="1 0 0"/><joint name="y" type="slide" axis="0 1 0"/>
      <joint name="heading" axis="0 0 1"/>
      <geom type="box" pos="1 0 0.4" size="1.4 {WIDTH} 0.3"/>
      <body name="speedometer" pos="0.7 0 0.8">
        <joint name="speed" axis="0 0 1"/><geom type="capsule" fromto="0 0 0 0.3 0 0" size="0.03"/>
      </body>
    </body>
  </worldbody>
  <actuator>
    <general joint="heading" gainprm="0" ctrllimited="true" ctrlrange="-{STEERING} {STEERING}"/>
    <general joint="speed" gainprm="0" ctrllimited="true"
      ctrlrange="-{ACCELERATION} {ACCELERATION}"/>
  </actuator>
</mujoco>
"""


def next_state(x: jax.Array, u: jax.Array, t: jax.Array) -> jax.Array:
    """One control step of x = (x, y, heading, speed) under u = (steering, acceleration)."""
    del t
    wheel, acceleration = u
    heading, rolled = x[2], TIMESTEP * x[3]  # metres that the front wheels roll
    aside = jnp.sin(wheel) * rolled
    ahead = AXLES + rolled * jnp.cos(wheel) - jnp.sqrt(AXLES**2 - aside**2)
    turn = jnp.arcsin(aside / AXLES)
    change = (ahead * jnp.cos(heading), ahead * jnp.sin(heading), turn, TIMESTEP * acceleration)
    return x + jnp.stack(change)


def clearance(x: jax.Array) -> jax.Array:
    """Metres [3, 3] between points of the car's side and every obstacle, x [4]."""
    along = jnp.asarray(ON_CAR, x.dtype)[:, None] * AXLES
    points = x[:2] + along * jnp.stack([jnp.cos(x[2]), jnp.sin(x[2])])
    begin, end, radius = (jnp.asarray(each, x.dtype) for each in zip(*OBSTACLES, strict=True))
    way = end - begin
    length = jnp.sum(way**2, axis=-1)
    away = points[:, None] - begin
    share = jnp.sum(away * way, axis=-1) / jnp.where(length > 0, length, 1)
    nearest = begin + jnp.clip(share, 0, 1)[..., None] * way
    gap = points[:, None] - nearest
    return jnp.sqrt(jnp.sum(gap**2, axis=-1) + 1e-6) - radius - WIDTH


def violates(x: jax.Array) -> jax.Array:
    """Whether the car touches something, [...] of states x [..., 4]."""
    flat = x.reshape(-1, 4)
    return jnp.any(jax.vmap(clearance)(flat) < 0, axis=(-2, -1)).reshape(x.shape[:-1])


class _Cost:
    """1/2 r'r: where the car is, what it does, and how near it comes to obstacles."""

    @staticmethod
    def residual(x: jax.Array, u: jax.Array, t: jax.Array) -> jax.Array:
        del t
        # Far away a metre counts the same as another one, so that the car does not race there.
        along = x[0] / (1 + x[0] ** 2) ** 0.25
        close = 0.05 * jax.nn.softplus((MARGIN - clearance(x)) / 0.05)
        return jnp.concatenate([
            jnp.asarray([0.8, 0.5, 0.8, 0.2]) * jnp.stack([along, x[1], jnp.sin(x[2] / 2), x[3]]),
            jnp.asarray([0.2, 0.1]) * u,
            10.0 * close.ravel(),
        ])  # fmt: skip

    def __call__(self, x: jax.Array, u: jax.Array, t: jax.Array) -> jax.Array:
        return 0.5 * jnp.sum(jnp.square(self.residual(x, u, t)))


def parked(x: jax.Array, u: jax.Array) -> jax.Array:
    """Whether trajectories x [T, 4] end in the place, at rest, and touch nothing on the way."""
    del u
    there = jnp.linalg.norm(x[-1, :2]) < 0.3
    still = (jnp.abs(x[-1, 2]) < 0.2) & (jnp.abs(x[-1, 3]) < 0.3)
    return there & still & ~jnp.any(violates(x))


def parking_lot(horizon: int = HORIZON) -> Task:
    """The task."""
    test = Conditions(starts(NUM_TEST, 1), np.zeros((NUM_TEST, 4)))
    return tasks.from_mjcf(
        MODEL, name="parking lot", state=("qpos",), cost=lambda s: _Cost(),
        dynamics=lambda s: next_state, success=lambda s: parked,
        distance=lambda s: lambda x: jnp.linalg.norm(x[-1, :2]), horizon=horizon,
        control_dt=TIMESTEP, qpos=starts(NUM_TRAIN, 0), test=test,
    )  # fmt: skip
