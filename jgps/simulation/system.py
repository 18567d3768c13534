"""What a backend is given and what it returns."""

import os
import types
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import mujoco
import numpy as np

from jgps.core.types import Rollouts, Shared
from jgps.simulation.conditions import Starts
from jgps.simulation.layout import StateLayout

# policy(params, x [dX], o [dO], t [] int32, noise [dU]) -> u [dU]: local controllers read the state
# x, networks only the observation o, which is x itself where the system names no observation.
Policy = Callable[[Any, jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]
# dynamics(x [dX], u [dU], t [] int32) -> x' [dX] of one control step; it takes the params of the
# condition as well where conditions have some.
StepFunction = Callable[..., jax.Array]


class Layouts(NamedTuple):
    """What the state and the observation are made of."""

    state: StateLayout
    observation: StateLayout | None = None  # of the same model; None where it is the state

    @property
    def uses_sensors(self) -> bool:
        """Whether x or o need the model's sensors."""
        observes = self.observation is not None and self.observation.uses_sensors
        return self.state.uses_sensors or observes

    def observe(
        self,
        qpos: Any,
        qvel: Any,
        act: Any,
        sensordata: Any,
        ctrl: Any,
        time: Any,
        xp: types.ModuleType = np,
    ) -> tuple[Any, Any]:
        """The state x [..., dX] and observation o [..., dO] of what `StateLayout.features` takes.

        They are one object where no layout tells o.
        """
        features = self.state.features(qpos, qvel, act, sensordata, ctrl, time, xp)
        x = features[..., self.state.index]
        return x, x if self.observation is None else features[..., self.observation.index]


class System(NamedTuple):
    """What a backend needs to know of a task."""

    model: mujoco.MjModel
    layout: StateLayout
    horizon: int  # T, control steps
    substeps: int  # physics steps per control step
    observation: StateLayout | None = None  # of the same model; None where it is the state
    mjx_model: mujoco.MjModel | None = None  # what MJX simulates, see `Task`; None for the model
    dynamics: StepFunction | None = None  # what the analytic backend computes; None without

    @property
    def layouts(self) -> Layouts:
        """Those of the state and of the observation."""
        return Layouts(self.layout, self.observation)


def split_shared(params: Any) -> tuple[Any, Any]:
    """Params with the values of what is `Shared`, and their `in_axes` over conditions."""

    def is_shared(node: Any) -> bool:
        return isinstance(node, Shared)

    values = jax.tree.map(lambda n: n.value if is_shared(n) else n, params, is_leaf=is_shared)
    axes = jax.tree.map(lambda n: None if is_shared(n) else 0, params, is_leaf=is_shared)
    return values, axes


class SimulationRollouts(NamedTuple):
    """Sampled trajectories together with the joint positions that draw them."""

    x: Any  # [C, N, T, dX]
    u: Any  # [C, N, T, dU], after clipping to the actuators' ranges
    valid: Any  # [C, N] bool
    qpos: Any  # [C, N, T, nq]
    o: Any  # [C, N, T, dO], x itself where the task names no observation

    @property
    def rollouts(self) -> Rollouts:
        """States, actions and validity alone."""
        return Rollouts(x=self.x, u=self.u, valid=self.valid)


class Sample(Protocol):
    """The function of a `Sampler`."""

    def __call__(
        self, params: Any, noise: jax.Array, starts: Starts | None = None
    ) -> SimulationRollouts:
        """Rollouts under noise [C, N, T, dU]; ValueError where the shapes of `starts` don't fit."""
        ...


def num_threads() -> int:
    """Processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def control_ranges(models: Sequence[mujoco.MjModel]) -> np.ndarray:
    """Lower and upper limits of every control, [2, C, dU] of C models.

    Infinite where an actuator has no range, or the model's flag `clampctrl` is disabled.
    """
    clamp = mujoco.mjtDisableBit.mjDSBL_CLAMPCTRL
    limited = np.stack(
        [m.actuator_ctrllimited.astype(bool) & (not m.opt.disableflags & clamp) for m in models]
    )
    ranges = np.moveaxis(np.stack([m.actuator_ctrlrange for m in models]), -1, 0)
    return np.where(limited, ranges, np.array([-np.inf, np.inf])[:, None, None])
