"""Closed-loop sampling of one task on either backend."""

import os
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import mujoco
import numpy as np

from jgps.core.types import Rollouts
from jgps.simulation.conditions import Conditions
from jgps.simulation.layout import StateLayout

Backend = Literal["native", "mjx"]
BACKENDS: tuple[Backend, ...] = ("native", "mjx")

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


class Sampler(NamedTuple):
    """Rolls a policy out in every condition.

    `sample(params, noise)` takes params with leading axes [C, ...] (every sample of a condition
    has the same) and noise [C, N, T, dU] in units of the policy's standard deviation.
    """

    sample: Callable[[Any, jax.Array], SimulationRollouts]
    jittable: bool  # whether `sample` can be traced (mjx) or leaves JAX (native)


def num_threads() -> int:
    """Processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def resolve_backend(name: str) -> Backend:
    """Turns "auto" into the backend that suits this machine.

    Raises:
      ValueError: for an unknown name.
    """
    if name == "auto":
        return "native" if jax.default_backend() == "cpu" else "mjx"
    if name not in BACKENDS:
        raise ValueError(f"unknown backend {name!r}; backends: auto, {', '.join(BACKENDS)}")
    return name  # type: ignore[return-value]


def control_range(model: mujoco.MjModel) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper limit of every control [dU]; infinite where the actuator has none."""
    limited = model.actuator_ctrllimited.astype(bool)
    lower = np.where(limited, model.actuator_ctrlrange[:, 0], -np.inf)
    upper = np.where(limited, model.actuator_ctrlrange[:, 1], np.inf)
    return lower, upper


def make_sampler(
    system: System, conditions: Conditions, policy: Policy, backend: Backend
) -> Sampler:
    """A sampler of closed-loop rollouts on the given backend."""
    # Imported here so that a machine without one backend can use the other.
    if backend == "native":
        from jgps.simulation.native import make_native_sample

        return Sampler(make_native_sample(system, conditions, policy), jittable=False)
    from jgps.simulation.mjx import make_mjx_sample

    return Sampler(make_mjx_sample(system, conditions, policy), jittable=True)
