"""What a backend is given and what it returns."""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import mujoco
import numpy as np

from jgps.core.types import Rollouts
from jgps.simulation.layout import StateLayout

# policy(params, x [dX], t [] int32, noise [dU]) -> u [dU]
Policy = Callable[[Any, jax.Array, jax.Array, jax.Array], jax.Array]


class System(NamedTuple):
    """What a backend needs to know of a task."""

    model: mujoco.MjModel
    layout: StateLayout
    horizon: int  # T, control steps
    substeps: int  # physics steps per control step


class SimulationRollouts(NamedTuple):
    """Sampled trajectories together with the joint positions that draw them."""

    x: Any  # [C, N, T, dX]
    u: Any  # [C, N, T, dU], after clipping to the actuators' ranges
    valid: Any  # [C, N] bool
    qpos: Any  # [C, N, T, nq]

    @property
    def rollouts(self) -> Rollouts:
        """States, actions and validity alone."""
        return Rollouts(x=self.x, u=self.u, valid=self.valid)


def num_threads() -> int:
    """Processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def control_range(model: mujoco.MjModel) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper limit of every control [dU]; infinite where the actuator has none."""
    limited = model.actuator_ctrllimited.astype(bool)
    lower = np.where(limited, model.actuator_ctrlrange[:, 0], -np.inf)
    upper = np.where(limited, model.actuator_ctrlrange[:, 1], np.inf)
    return lower, upper
