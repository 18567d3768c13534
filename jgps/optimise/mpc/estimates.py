"""Estimates of positions and velocities as states that a simulation goes on from."""

from typing import Any

import mujoco
import numpy as np

from jgps.core.checks import as_numbers


def simulator_states(
    model: mujoco.MjModel, like: np.ndarray, qpos: Any, qvel: Any, act: Any = None
) -> np.ndarray:
    """States [B, nx] with these positions, velocities and activations.

    All else is that of other states, such as what a plan expected: the solver's warm start, mocap
    poses, what delayed actuators remember.

    Args:
      model: of the simulations.
      like: states [B, nx] of which all else is taken.
      qpos: [B, nq]; qvel: [B, nv]; act: [B, na], None for those of `like`.

    Raises:
      ValueError: naming what has another shape.
    """
    states = np.array(like, np.float64)
    at = 1  # behind the time
    for name, value, size in (
        ("qpos", qpos, model.nq), ("qvel", qvel, model.nv), ("act", act, model.na),
    ):  # fmt: skip
        if value is not None:
            numbers = as_numbers(name, value)
            if numbers.shape != (len(states), size):
                raise ValueError(
                    f"{name} has the shape {list(numbers.shape)}; it has to be "
                    f"[{len(states)}, {size}], a row for each state"
                )
            states[:, at : at + size] = numbers
        at += size
    return states
