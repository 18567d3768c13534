"""The smallest task that takes a camera, for tests: a pointer turns to where a ball is.

Its angle alone, which a network reads beside the image, does not tell where that is.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jgps import tasks
from jgps.algorithms import FixedStartsConfig, MdgpsConfig, VisualConfig
from jgps.dynamics import NoPriorConfig
from jgps.optimise.models import FittedModelsConfig
from jgps.policies import DistilConfig, initialise
from jgps.simulation import Conditions
from jgps.vision.camera import make_observers
from jgps.vision.learner import make_network
from jgps.vision.pose_regression import PoseConfig

MODEL = """
<mujoco model="pointer">
  <option timestep="0.05" gravity="0 0 0"/>
  <worldbody>
    <camera name="eye" pos="0 0 1" fovy="60"/>
    <geom type="plane" size="1 1 0.1" rgba="0.9 0.9 0.9 1"/>
    <body name="pointer" pos="0 0 0.05">
      <joint name="turn" axis="0 0 1" damping="0.05" armature="0.01"/>
      <geom type="capsule" fromto="0 0 0 0.2 0 0" size="0.02" rgba="0.2 0.2 0.2 1"
        contype="0" conaffinity="0"/>
      <site name="tip" pos="0.2 0 0"/>
    </body>
    <body name="ball" pos="0.2 0 0.05">
      <geom type="sphere" size="0.07" rgba="1 0 0 1" contype="0" conaffinity="0"/>
    </body>
  </worldbody>
  <actuator><motor joint="turn" gear="0.2" ctrlrange="-5 5"/></actuator>
</mujoco>
"""
TRAIN, TEST = (-1.2, -0.4, 0.4, 1.2), (-0.8, 0.0, 0.8)
NEAR = 0.06  # metres


def with_body(name: str) -> str:
    """The model with one more body, a blue cube out of sight."""
    cube = f"""<body name="{name}" pos="0 0 -5"><geom type="box" size="0.05 0.05 0.05"
      rgba="0 0 1 1" contype="0" conaffinity="0"/></body>"""
    return MODEL.replace("</worldbody>", f"{cube}</worldbody>")


def conditions(angles: tuple[float, ...], **places: tuple[float, float, float]) -> Conditions:
    """Conditions that start at rest, the ball at these angles, other bodies at one place each."""
    num = len(angles)
    balls = np.array([(0.2 * np.cos(a), 0.2 * np.sin(a), 0.05) for a in angles])
    others = {f"body_pos:{name}": np.tile(place, (num, 1)) for name, place in places.items()}
    return Conditions(np.zeros((num, 1)), np.zeros((num, 1)), {"body_pos:ball": balls, **others})


def make_task(
    train: tuple[float, ...] = TRAIN,
    test: tuple[float, ...] = TEST,
    source: str = MODEL,
    vision: str | None = "eye",
    clutter: tuple[str, ...] = (),
    distracted: Conditions | None = None,
    **settings,
) -> tasks.Task:
    """The task, with the ball at angles `train` and, unseen, `test`."""

    def gap(s):
        return lambda x: jnp.linalg.norm(x[s["site_pos:tip"]] - x[s["body_pos:ball"]])

    arguments = {"horizon": 10, "control_dt": 0.05, "name": "pointer"}
    return tasks.from_mjcf(
        source,
        state=("qpos", "qvel", "site_pos:tip", "body_pos:ball"),
        observation=("qpos", "qvel"),
        cost=lambda s: lambda x, u, t: jnp.square(5 * gap(s)(x)) + 1e-3 * jnp.sum(u**2),
        success=lambda s: lambda x, u: gap(s)(x[-1]) < NEAR,
        changes=conditions(train).changes,
        test=tasks.EvaluationSets(conditions(test), distracted),
        vision=None if vision is None else tasks.VisionSpec(vision, clutter),
        **{**arguments, **settings},
    )


def small_vision(steps: int, pretraining: int, batch_size: int = 32, **settings) -> VisualConfig:
    """One iteration of each phase with so many steps, after so many on random scenes."""
    training = DistilConfig(steps=steps, batch_size=batch_size, checks=1)
    arguments = {"width": 32, "height": 32, "channels": (8, 8, 8), "pretraining_images": 100}
    return VisualConfig(
        pretraining=PoseConfig(steps=pretraining, batch_size=batch_size),
        hidden=(8,),
        dense_iterations=1,
        dense=dataclasses.replace(training, frozen="convolutions"),
        end_to_end=training,
        **{**arguments, **settings},
    )


def untrained(task, vision):
    """A policy that looks through the task's camera, before any training."""
    observe, _ = make_observers(task, vision)
    sizes = (task.configuration_dim, task.action_dim)
    network = make_network(task, vision)
    return initialise(network, jax.random.key(0), *sizes, jnp.float32, observe)


# A run of all phases.
SHOWN = MdgpsConfig(
    policy=small_vision(20, 10, width=40, pretraining_images=50),
    trajectory_iterations=1,
    rollouts=FixedStartsConfig(num_samples=3),
    models=FittedModelsConfig(prior=NoPriorConfig()),
    observation_prior=NoPriorConfig(),
)


def shown_task() -> tasks.Task:
    """Two training conditions, three unseen ones, two with a distractor."""
    angles = (-1.0, 1.0)
    return make_task(
        angles,
        (-0.5, 0.0, 0.5),
        source=with_body("cube"),
        distracted=conditions(angles, cube=(-0.2, 0.1, 0.05)),
        horizon=8,
        control_dt=0.1,
    )
