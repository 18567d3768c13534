"""Small known systems that tests of model predictive control share."""

import functools

import jax.numpy as jnp
import numpy as np

from jgps.optimise.ilqg.solve import SearchConfig
from jgps.optimise.ilqg.system import Goal, analytic
from jgps.optimise.mpc.receding import receding_ilqg
from jgps.tasks import from_mjcf

A = np.array([[1.0, 0.1], [0.0, 1.0]])
B = np.array([[0.0], [0.1]])
Q, R = np.diag([1.0, 0.1]), np.array([[0.1]])
LIMIT, HORIZON = 3.0, 60


def double_integrator():
    """A mass that goes to `params["goal"]`, with limits."""

    def step(x, u, t, params):
        return jnp.asarray(A, x.dtype) @ x + jnp.asarray(B, x.dtype) @ u

    return analytic(step, go_to, 2, [[-LIMIT], [LIMIT]])


def go_to(x, u, t, params):
    away = x - jnp.stack([params["goal"], 0 * params["goal"]])
    return 0.5 * (away @ jnp.asarray(Q, x.dtype) @ away + u @ jnp.asarray(R, x.dtype) @ u)


def goals(*values, first=0):
    """One for each state."""
    rows = np.asarray(values, np.float32)
    return Goal(np.full(len(rows), first, np.int32), {"goal": rows})


@functools.cache
def integrator_planner():
    """iLQG on the double integrator, and what it is made on."""
    system = double_integrator()
    return system, receding_ilqg(system, SearchConfig(iterations=2), HORIZON)


PENDULUM = """
<mujoco>
  <option timestep="0.01"/>
  <worldbody>
    <body>
      <joint name="hinge" axis="0 1 0" damping="0.02"/>
      <geom type="capsule" fromto="0 0 0 0 0 -0.5" size="0.02" mass="0"/>
      <geom type="sphere" pos="0 0 -0.5" size="0.05" mass="1"/>
    </body>
  </worldbody>
  <actuator><motor joint="hinge" ctrlrange="-2 2"/></actuator>
</mujoco>
"""


def upright(x, u, t):
    return 0.5 * (1 + jnp.cos(x[0])) + 0.005 * x[1] ** 2 + 0.0025 * u[0] ** 2


def swing_up(starts=(0.3, -0.6, 1.0), **settings):
    """A pendulum whose motor bears 40% of its weight; it hangs at 0."""
    return from_mjcf(
        PENDULUM,
        cost=lambda s: upright,
        qpos=np.asarray(starts)[:, None],
        qvel=np.zeros((len(starts), 1)),
        horizon=80,
        name="pendulum",
        **settings,
    )
