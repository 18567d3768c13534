"""Closed-loop rollouts in C MuJoCo's thread pool."""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from mujoco import rollout as mujoco_rollout

from jgps.simulation.conditions import Conditions, condition_models
from jgps.simulation.system import (
    Policy,
    SimulationRollouts,
    System,
    control_range,
    num_threads,
)

_FULL = mujoco.mjtState.mjSTATE_FULLPHYSICS


class Stepper:
    """Advances a batch of simulations by one control step, in threads.

    Sensors in MuJoCo belong to the state *before* a physics step, so where the layout needs
    sensors one more
    step is taken and only its sensors are kept: features are exact at the state they describe.
    """

    def __init__(self, system: System, models: list[mujoco.MjModel]):
        """Prepares threads for `models`, one for each simulation of the batch [B]."""
        self._system = system
        self._models = models
        threads = min(num_threads(), len(models))
        self._data = [mujoco.MjData(system.model) for _ in range(threads)]
        self._pool = mujoco_rollout.Rollout(nthread=threads if threads > 1 else 0)
        # Few chunks: threads spend less on handing out work, and still even out what contacts cost.
        self._chunk_size = max(1, len(models) // (2 * threads))
        self._extra = 1 if system.layout.uses_sensors else 0
        steps = system.substeps + self._extra
        batch = len(models)
        self._state = np.empty((batch, steps, mujoco.mj_stateSize(system.model, _FULL)))
        self._sensors = np.empty((batch, steps, system.model.nsensordata))
        self._control = np.empty((batch, steps, system.model.nu))
        self._first_sensors = np.empty((batch, 1, system.model.nsensordata))
        self._first_state = np.empty((batch, 1, self._state.shape[-1]))

    def initial(self, qpos: np.ndarray, qvel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Physics state [B, nstate] and x [B, dX] at the start, from qpos [B, nq], qvel [B, nv]."""
        model = self._system.model
        data = self._data[0]
        state = np.empty((len(self._models), self._state.shape[-1]))
        for b in range(len(self._models)):
            mujoco.mj_resetData(model, data)
            data.qpos[:], data.qvel[:] = qpos[b], qvel[b]
            mujoco.mj_getState(model, data, state[b], _FULL)
        self._pool.rollout(
            self._models,
            self._data,
            state,
            np.zeros((len(self._models), 1, model.nu)),
            state=self._first_state,
            sensordata=self._first_sensors,
            skip_checks=True,
            nstep=1,
        )
        return state, self._features(state, self._first_sensors[:, 0])

    def step(self, state: np.ndarray, control: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Next physics state and x under control [B, nu], which has to be finite."""
        self._control[:] = control[:, None, :]
        self._pool.rollout(
            self._models,
            self._data,
            state,
            self._control,
            state=self._state,
            sensordata=self._sensors,
            skip_checks=True,
            nstep=self._state.shape[1],
            chunk_size=self._chunk_size,
        )
        after = self._state[:, self._system.substeps - 1].copy()
        return after, self._features(after, self._sensors[:, -1])

    def _features(self, state: np.ndarray, sensors: np.ndarray) -> np.ndarray:
        # The state is [time, qpos, qvel, act, ...].
        model = self._system.model
        ends = np.cumsum([1, model.nq, model.nv, model.na])
        qpos, qvel, act = (state[:, a:b] for a, b in itertools.pairwise(ends))
        return self._system.layout.state(qpos, qvel, act, sensors)


@contextlib.contextmanager
def _quiet_divergence() -> Iterator[None]:
    """Keeps MuJoCo from writing a log file: divergence is reported through `valid`."""
    previous = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda message: None)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(previous)


def make_native_sample(
    system: System, conditions: Conditions, policy: Policy
) -> Callable[[Any, jax.Array], SimulationRollouts]:
    """`sample(params, noise)` as in `jgps.simulation.Sampler`."""
    models = condition_models(system.model, conditions)
    lower, upper = control_range(system.model)
    steppers: dict[int, Stepper] = {}

    @jax.jit
    def act(params, x, t, noise):
        over_samples = jax.vmap(policy, in_axes=(None, 0, None, 0))
        return jax.vmap(over_samples, in_axes=(0, 0, None, 0))(params, x, t, noise[:, :, t])

    def sample(params: Any, noise: jax.Array) -> SimulationRollouts:
        num_samples = noise.shape[1]
        if num_samples not in steppers:
            repeated = [model for model in models for _ in range(num_samples)]
            steppers[num_samples] = Stepper(system, repeated)
        with _quiet_divergence():
            return _closed_loop(
                system, conditions, steppers[num_samples], act, params, noise, lower, upper
            )

    return sample


def _closed_loop(system, conditions, stepper, act, params, noise, lower, upper):
    num_conditions, num_samples, horizon, num_controls = noise.shape
    batch = num_conditions * num_samples
    dtype = np.dtype(noise.dtype)
    shape = (num_conditions, num_samples)
    x_all = np.empty((horizon, batch, system.layout.size), dtype)
    u_all = np.empty((horizon, batch, num_controls), dtype)
    qpos_all = np.empty((horizon, batch, system.model.nq))
    qpos = np.repeat(conditions.qpos, num_samples, axis=0)
    qvel = np.repeat(conditions.qvel, num_samples, axis=0)

    start, x = stepper.initial(qpos, qvel)
    state = start
    valid = np.ones(batch, bool)
    for t in range(horizon):
        x_all[t] = x
        qpos_all[t] = state[:, 1 : 1 + system.model.nq]
        control = act(params, x_all[t].reshape(*shape, -1), np.int32(t), noise)
        control = np.asarray(control, np.float64).reshape(batch, num_controls)
        valid &= np.isfinite(control).all(axis=-1) & np.isfinite(x_all[t]).all(axis=-1)
        # A simulation that diverged goes on from its start, so that the others are not held up.
        control = np.where(valid[:, None], np.clip(control, lower, upper), 0.0)
        u_all[t] = control
        if t + 1 < horizon:
            expected_time = state[:, 0] + system.substeps * system.model.opt.timestep
            state, x = stepper.step(np.where(valid[:, None], state, start), control)
            # MuJoCo stops a rollout at a warning, which shows in its clock.
            valid &= np.abs(state[:, 0] - expected_time) < 0.5 * system.model.opt.timestep
            valid &= np.isfinite(state).all(axis=-1)

    def split(array: np.ndarray) -> np.ndarray:
        array = np.where(valid[None, :, None], array, np.nan)
        return np.moveaxis(array, 0, 1).reshape(*shape, horizon, -1)

    return SimulationRollouts(
        x=jnp.asarray(split(x_all)),
        u=jnp.asarray(split(u_all)),
        valid=jnp.asarray(valid.reshape(shape)),
        qpos=split(qpos_all),
    )
