"""What places the bodies in a picture of a rollout."""

import mujoco
import numpy as np

from jgps.rendering import Poses
from jgps.simulation import Conditions
from jgps.simulation.inputs import mocap_over_time


def poses_at(
    conditions: Conditions,
    model: mujoco.MjModel,
    condition: int,
    qpos: np.ndarray,
    steps: np.ndarray,
) -> np.ndarray | Poses:
    """Joint positions at some control steps [I], with mocap bodies where inputs move some.

    Args:
      conditions: of the rollouts.
      model: of the condition, see `jgps.simulation.condition_models`.
      condition: its number.
      qpos: joint positions of its rollout, [T, nq].
      steps: control steps [I].
    """
    if not any(key.startswith("mocap_") for key in conditions.inputs):
        return qpos[steps]
    pos, quat = mocap_over_time(model, conditions.inputs, steps, condition)
    return Poses(qpos[steps], pos, quat)
