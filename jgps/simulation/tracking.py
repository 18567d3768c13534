"""Simulations on native threads that follow trajectories under linear feedback."""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import NamedTuple

import jax
import mujoco
import numpy as np
from mujoco.batch import Batch, SimulationError

from jgps.mujoco_log import quiet_mujoco
from jgps.simulation.native import sensor_stage
from jgps.simulation.system import System, control_ranges, num_threads
from jgps.simulation.tangent import change_of_state

_NO_STAGE = int(mujoco.mjtStage.mjSTAGE_NONE)
_MAX_PARTS = 4  # of a batch, one for each thread of Python; those of MuJoCo share a part


class Followed(NamedTuple):
    """Trajectories and how simulations act about them.

    u_t = clip(control_t + size feedforward_t + gains_t (state - state_t)), the difference in the
    tangent space.
    """

    states: np.ndarray  # [B, T, nstate], of mjSTATE_INTEGRATION
    control: np.ndarray  # [B, T, dU]
    feedforward: np.ndarray  # [B, T, dU]
    gains: np.ndarray  # [B, T, dU, dS]
    size: np.ndarray  # [S]


class Tracked(NamedTuple):
    """What simulations did, from the first state of each trajectory in S sizes."""

    states: np.ndarray  # [B, S, T, nstate]
    x: np.ndarray  # [B, S, T, dX]
    u: np.ndarray  # [B, S, T, dU], within the limits, in the precision in which JAX computes
    sound: np.ndarray  # [B, S], whether all is finite, and MuJoCo has not complained


class Tracker:
    """Simulations that it keeps, S of each model.

    Every thread takes its own from the first step to the last. A simulation is what a loop over
    `mj_step` makes of it, whatever else is in the batch.
    """

    def __init__(self, system: System, models: Sequence[mujoco.MjModel], copies: int):
        """Prepares threads for S copies of each of `models` [B]."""
        self._system, self._shape = system, (len(models), copies)
        num = len(models) * copies
        threads = min(num_threads(), num)
        parts = min(threads, _MAX_PARTS)
        # In turn, which evens out what contacts cost in some conditions.
        self._parts = [
            _Part(system, models, (slice(first, num, parts), copies), math.ceil(threads / parts))
            for first in range(parts)
        ]
        self._pool = ThreadPoolExecutor(parts)

    def __call__(self, followed: Followed) -> Tracked:
        """Takes all steps."""
        model, layout = self._system.model, self._system.layout
        (B, S), (T, nstate) = self._shape, followed.states.shape[1:]
        sensors = model.nsensordata if layout.uses_sensors else 0
        states, seen = (np.zeros((B * S, T, n)) for n in (nstate, sensors))
        # What acts is in the precision of JAX, so that anyone can repeat it.
        u = np.zeros((B * S, T, model.nu), jax.dtypes.canonicalize_dtype(float))
        sound = np.ones(B * S, bool)
        with quiet_mujoco():
            futures = [
                self._pool.submit(part.run, followed, (states, u, seen, sound))
                for part in self._parts
            ]
            wait(futures)
        errors = [future.result() for future in futures]
        if all(errors):
            raise ValueError(f"MuJoCo can't simulate this model: {errors[0]}")
        sound &= np.isfinite(states).all(axis=(1, 2)) & np.isfinite(u).all(axis=(1, 2))
        # Of an unsound one what is no number must not reach the others.
        states[~sound], u[~sound], seen[~sound] = np.nan, 0, np.nan
        ends = np.cumsum([1, model.nq, model.nv, model.na])
        qpos, qvel, act = (states[..., a:b] for a, b in itertools.pairwise(ends))
        ctrl, time = np.zeros((*states.shape[:2], model.nu)), states[..., 0]  # a state has no ctrl
        if not sensors:  # nobody reads them
            seen = np.zeros((*seen.shape[:2], model.nsensordata))
        x = layout.state(qpos, qvel, act, seen, ctrl, time)
        states, x, u = (a.reshape(B, S, T, a.shape[-1]) for a in (states, x, u))
        return Tracked(states, x, u, sound.reshape(B, S))


class _Part:
    """Some simulations of the batch, with threads of their own."""

    def __init__(
        self,
        system: System,
        models: Sequence[mujoco.MjModel],
        place: tuple[slice, int],
        threads: int,
    ):
        self._place, copies = place
        rows = np.arange(len(models) * copies)[self._place]
        self._row, self._copy = np.divmod(rows, copies)
        own = [models[row] for row in self._row]
        self._system, self._model = system, own[0]
        self._limits = _within(control_ranges(own), jax.dtypes.canonicalize_dtype(float))
        # Plugins may keep a state of their own, which needs an MjData for each simulation.
        self._batch = Batch(own[0], len(own), threads, persistent=own[0].nplugin > 0)
        self._batch.set_models(own)
        self._stage = sensor_stage(system)
        self._seen = self._batch.bind("sensordata") if system.layout.uses_sensors else None
        self._one_step = functools.partial(self._batch.step, nstep=1, stage=_NO_STAGE)
        self._failed = np.zeros(len(own), bool)

    def run(self, followed: Followed, results: tuple[np.ndarray, ...]) -> str:
        """Takes all steps; returns what MuJoCo raised where it did so for all simulations."""
        with np.errstate(over="ignore", invalid="ignore"):  # of trials that diverge
            return self._run(followed, results)

    def _run(self, followed: Followed, results: tuple[np.ndarray, ...]) -> str:
        # Views: what is looked up anew at each step takes as long as the physics of some.
        states, u, seen, sound = (each[self._place] for each in results)
        batch, T = self._batch, followed.states.shape[1]
        batch.reset(stage=_NO_STAGE)
        state, ctrl = batch.state, batch.bind("ctrl")
        start, rest = followed.states[self._row, 0], state.copy()
        going = np.isfinite(start).all(axis=1)
        start = np.where(going[:, None], start, rest)
        state[:] = start
        self._failed[:] = False
        control_at = self._controls(followed)
        for t in range(T):
            states[:, t] = state
            control = control_at(t, state)
            if not math.isfinite(np.add.reduce(control, axis=None)):
                sure = np.isfinite(control).all(axis=1)
                # Those begin again, so that they hold nobody up.
                going &= sure
                control[~sure], state[~sure] = 0, start[~sure]
            u[:, t] = ctrl[:] = control
            if t + 1 < T:
                self._step(seen, t)
            elif self._seen is not None:
                self._try(functools.partial(batch.forward, stage=self._stage))
                seen[:, t] = self._seen
        warned = batch.warning[..., 1].any(axis=1)
        sound[:] = going & ~warned & ~self._failed
        return " ".join(batch.error(0).split()) if self._failed.all() else ""

    def _controls(self, followed: Followed) -> Callable[[int, np.ndarray], np.ndarray]:
        """Those [n, dU] of a step and states, NaN where these or the feedback are not finite."""
        row, model = self._row, self._model
        gains, reference = (np.swapaxes(a, 0, 1)[:, row] for a in (followed.gains, followed.states))
        size = followed.size[self._copy, None, None]
        planned = followed.control[row] + size * followed.feedforward[row]
        planned = np.ascontiguousarray(planned.swapaxes(0, 1))
        lower, upper = self._limits

        def control(t: int, state: np.ndarray) -> np.ndarray:
            change = change_of_state(model, state, reference[t])
            # A sum over the last axis does not depend on how many rows there are; a product might.
            fed = np.add.reduce(gains[t] * change[:, None], axis=-1)
            wanted = (planned[t] + fed).astype(lower.dtype)
            return np.minimum(np.maximum(wanted, lower), upper)

        return control

    def _step(self, seen: np.ndarray, t: int) -> None:
        """A control step; sensors are those of the state before it, where they were computed."""
        steps = self._system.substeps
        if self._seen is not None:
            self._try(self._one_step)
            seen[:, t] = self._seen
            steps -= 1
        if steps == 1:
            self._try(self._one_step)
        elif steps:
            self._try(functools.partial(self._batch.step, nstep=steps, stage=_NO_STAGE))

    def _try(self, call: Callable[[], None]) -> None:
        try:
            call()
        except SimulationError as error:
            self._failed[error.ids] = True


def _within(limits: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Limits [2, ...] in this precision, rounded inwards."""
    lower, upper = limits.astype(dtype)
    inward = np.nextafter(lower, np.inf, dtype=dtype), np.nextafter(upper, -np.inf, dtype=dtype)
    return np.stack(
        [
            np.where(lower < limits[0], inward[0], lower),
            np.where(upper > limits[1], inward[1], upper),
        ]
    )
