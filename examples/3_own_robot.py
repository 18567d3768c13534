"""Your own robot: any MuJoCo model becomes a task."""

import jax.numpy as jnp

import jgps
from jgps import costs

# Three links in a plane, each with a motor. The path of a file works as well.
ARM = """<mujoco><option timestep="0.01" gravity="0 0 0"/>
  <default><joint axis="0 0 1" damping="0.2" armature="0.02"/></default><worldbody>
  <body><joint name="a"/><geom type="capsule" fromto="0 0 0 .3 0 0" size=".02"/>
  <body pos=".3 0 0"><joint name="b"/><geom type="capsule" fromto="0 0 0 .3 0 0" size=".02"/>
  <body pos=".3 0 0"><joint name="c"/><geom type="capsule" fromto="0 0 0 .3 0 0" size=".02"/>
  <site name="tip" pos=".3 0 0"/></body></body></body></worldbody>
  <actuator><motor joint="a"/><motor joint="b"/><motor joint="c"/></actuator></mujoco>"""
GOAL = jnp.array([0.4, 0.5, 0.0])  # metres


def arm_task(horizon: int) -> jgps.tasks.Task:
    """The tip reaches a point in the plane, from two poses of the arm."""
    return jgps.from_mjcf(
        ARM,
        # What the controllers know. Costs find entries of the state by these names.
        state=("qpos", "qvel", "site_pos:tip", "site_vel:tip"),
        # A small price on effort, and the distance, whose logarithm rewards the last millimetres.
        cost=lambda s: costs.weighted_sum(
            (1.0, costs.action(1e-3)),
            (1.0, costs.distance(s["site_pos:tip"], GOAL, penalty=costs.Penalty(l2=5.0, log=0.01))),
        ),
        # What reports show: metres between the tip and the goal at the end.
        distance=lambda s: lambda x: jnp.linalg.norm(x[-1, s["site_pos:tip"]] - GOAL),
        qpos=[[0, 0.3, 0.3], [1.5, -0.3, -0.3]],  # radians, one row per initial condition
        horizon=horizon,  # steps of control_dt seconds
    )


def main(iterations: int = 10, horizon: int = 40) -> list[float]:
    """One controller per condition, no network; metres from the goal after every iteration."""
    result = jgps.train(arm_task(horizon), "trajopt", iterations=iterations)
    return [sum(record["distance"]) / len(record["distance"]) for record in result.metrics]


if __name__ == "__main__":
    for i, distance in enumerate(main()):
        print(f"iteration {i}: {distance:.3f} m from the goal")
