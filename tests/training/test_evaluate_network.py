"""Evaluation of a policy that reads an observation, with params that all conditions share."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jgps
from jgps import tasks
from jgps.simulation import Conditions, Shared

CART = """
<mujoco>
  <option timestep="0.01" gravity="0 0 0"/>
  <worldbody>
    <body><joint name="x" type="slide" axis="1 0 0" damping="1"/><geom size="0.1"/></body>
    <body pos="0 1 0"><joint name="goal" type="slide" axis="1 0 0"/>
      <geom size="0.1" contype="0" conaffinity="0"/></body>
  </worldbody>
  <actuator><motor joint="x"/></actuator>
</mujoco>
"""


class Pull(NamedTuple):
    """A linear policy that sees the goal alone."""

    gain: jax.Array

    def params_for(self, x0):
        del x0
        return Shared({"gain": self.gain})

    @staticmethod
    def act(params, x, o, t, noise):
        del x, t
        return params["gain"] * o + noise


def test_a_shared_policy_on_an_observation():
    goals = np.array([-1.0, 0.5, 2.0])
    qpos = np.stack([np.zeros(3), goals], axis=1)
    task = tasks.from_mjcf(
        CART,
        cost=lambda s: lambda x, u, t: jnp.square(x[0]),
        state=("qpos:x", "qvel"),
        observation=("qpos:goal",),
        horizon=5,
        qpos=qpos[:1],
        test=Conditions(qpos=qpos[1:], qvel=np.zeros((2, 2))),
    )
    result = jgps.evaluate(task, Pull(jnp.float32(0.7)), key=jax.random.key(0), backend="native")
    for part, expected in ((result.train, goals[:1]), (result.test, goals[1:])):
        np.testing.assert_array_equal(part.valid, 1)
        goal = np.broadcast_to(expected[:, None, None, None], (len(expected), 1, 5, 1))
        np.testing.assert_allclose(part.rollouts.o, goal, atol=1e-6)
        np.testing.assert_allclose(part.rollouts.u, 0.7 * goal, atol=1e-6)
    assert result.test.cost[1] > result.test.cost[0] > 0
