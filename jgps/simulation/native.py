"""Closed-loop rollouts in C MuJoCo's thread pool."""

import contextlib
import functools
import itertools
from collections.abc import Iterator
from typing import Any

import jax
import mujoco
import numpy as np
from mujoco import rollout as mujoco_rollout

from jgps.core.host import to_device
from jgps.simulation.conditions import (
    Conditions,
    Starts,
    check_starts,
    condition_models,
    initial_act,
)
from jgps.simulation.layout import unit_quaternions
from jgps.simulation.system import (
    Policy,
    Sample,
    SimulationRollouts,
    System,
    control_range,
    num_threads,
    split_shared,
)

_FULL = mujoco.mjtState.mjSTATE_FULLPHYSICS


class Stepper:
    """Advances a batch of simulations by one control step, in threads.

    Sensors in MuJoCo belong to the state *before* a physics step, so where x or o need sensors one
    more step is taken and only its sensors are kept: features are exact at the state they describe.
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
        self._extra = 1 if system.layouts.uses_sensors else 0
        steps = system.substeps + self._extra
        batch = len(models)
        self._state = np.empty((batch, steps, mujoco.mj_stateSize(system.model, _FULL)))
        self._sensors = np.empty((batch, steps, system.model.nsensordata))
        self._control = np.empty((batch, steps, system.model.nu))
        self._first_sensors = np.empty((batch, 1, system.model.nsensordata))
        self._first_state = np.empty((batch, 1, self._state.shape[-1]))

    def initial(
        self, qpos: np.ndarray, qvel: np.ndarray, act: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Physics state [B, nstate], x [B, dX] and o [B, dO].

        At qpos [B, nq], qvel [B, nv] and act [B, na].
        """
        model = self._system.model
        data = self._data[0]
        state = np.empty((len(self._models), self._state.shape[-1]))
        for b in range(len(self._models)):
            mujoco.mj_resetData(model, data)
            data.qpos[:], data.qvel[:], data.act[:] = qpos[b], qvel[b], act[b]
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
        return state, *self._observe(state, self._first_sensors[:, 0])

    def step(
        self, state: np.ndarray, control: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Next physics state, x and o under control [B, nu], which has to be finite."""
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
        return after, *self._observe(after, self._sensors[:, -1])

    def _observe(self, state: np.ndarray, sensors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # The state is [time, qpos, qvel, act, ...].
        model = self._system.model
        ends = np.cumsum([1, model.nq, model.nv, model.na])
        qpos, qvel, act = (state[:, a:b] for a, b in itertools.pairwise(ends))
        return self._system.layouts.observe(qpos, qvel, act, sensors)


@contextlib.contextmanager
def _quiet_divergence() -> Iterator[None]:
    """Keeps MuJoCo from writing a log file: divergence is reported through `valid`."""
    previous = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda message: None)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(previous)


def make_native_sample(system: System, conditions: Conditions, policy: Policy) -> Sample:
    """`sample(params, noise, starts)` as in `jgps.simulation.Sampler`."""
    models = condition_models(system.model, conditions)
    lower, upper = control_range(system.model)
    steppers: dict[int, Stepper] = {}
    act = functools.partial(_act, policy)

    def sample(params: Any, noise: jax.Array, starts: Starts | None = None) -> SimulationRollouts:
        num_samples = noise.shape[1]
        poses = _initial_poses(system, conditions, num_samples, starts)
        if num_samples not in steppers:
            repeated = [model for model in models for _ in range(num_samples)]
            steppers[num_samples] = Stepper(system, repeated)
        with _quiet_divergence():
            return _closed_loop(
                system, poses, steppers[num_samples], act, params, noise, lower, upper
            )

    return sample


@functools.partial(jax.jit, static_argnums=0)
def _act(policy, params, x, o, t, noise):
    """Actions [C, N, dU] of all simulations; equal policies share the program."""
    o = x if o is None else o  # handed over once where it is x
    over_samples = jax.vmap(policy, in_axes=(None, 0, 0, None, 0))
    values, axes = split_shared(params)
    over_conditions = jax.vmap(over_samples, in_axes=(axes, 0, 0, None, 0))
    return over_conditions(values, x, o, t, noise[:, :, t])


def _initial_poses(system, conditions, num_samples, starts):
    """Finite qpos [B, nq], qvel [B, nv] and act [B, na], and which were so [B]."""
    num, act = conditions.num, initial_act(system.model, conditions)
    *poses, act = (
        np.repeat(a, num_samples, axis=0) for a in (conditions.qpos, conditions.qvel, act)
    )
    if starts is None:
        return *poses, act, np.ones(num * num_samples, bool)
    check_starts(system.model, starts, num, num_samples)
    own = [np.asarray(a, np.float64).reshape(num * num_samples, -1) for a in starts]
    with np.errstate(invalid="ignore"):  # a quaternion of zeros or infinities
        own[0] = unit_quaternions(system.model, own[0])
    finite = np.isfinite(own[0]).all(axis=-1) & np.isfinite(own[1]).all(axis=-1)
    qpos, qvel = (np.where(finite[:, None], a, b) for a, b in zip(own, poses, strict=True))
    return qpos, qvel, act, finite


def _closed_loop(system, poses, stepper, act, params, noise, lower, upper):
    num_conditions, num_samples, horizon, num_controls = noise.shape
    batch = num_conditions * num_samples
    dtype = np.dtype(noise.dtype)
    shape = (num_conditions, num_samples)
    x_all = np.empty((horizon, batch, system.layout.size), dtype)
    # Without an observation layout o is x, here and in the result.
    observation = system.observation
    o_all = x_all if observation is None else np.empty((horizon, batch, observation.size), dtype)
    u_all = np.empty((horizon, batch, num_controls), dtype)
    qpos_all = np.empty((horizon, batch, system.model.nq))

    *poses, valid = poses
    start, x, o = stepper.initial(*poses)
    state = start
    for t in range(horizon):
        x_all[t] = x
        qpos_all[t] = state[:, 1 : 1 + system.model.nq]
        seen = None
        if observation is not None:
            o_all[t] = o
            seen = o_all[t].reshape(*shape, -1)
            valid &= np.isfinite(o_all[t]).all(axis=-1)
        control = act(params, x_all[t].reshape(*shape, -1), seen, np.int32(t), noise)
        control = np.asarray(control, np.float64).reshape(batch, num_controls)
        valid &= np.isfinite(control).all(axis=-1) & np.isfinite(x_all[t]).all(axis=-1)
        # A simulation that diverged goes on from its start, so that the others are not held up.
        control = np.where(valid[:, None], np.clip(control, lower, upper), 0.0)
        u_all[t] = control
        if t + 1 < horizon:
            expected_time = state[:, 0] + system.substeps * system.model.opt.timestep
            state, x, o = stepper.step(np.where(valid[:, None], state, start), control)
            # MuJoCo stops a rollout at a warning, which shows in its clock.
            valid &= np.abs(state[:, 0] - expected_time) < 0.5 * system.model.opt.timestep
            valid &= np.isfinite(state).all(axis=-1)

    def split(array: np.ndarray) -> np.ndarray:
        array = np.where(valid[None, :, None], array, np.nan)
        return np.moveaxis(array, 0, 1).reshape(*shape, horizon, -1)

    x = to_device(split(x_all))
    return SimulationRollouts(
        x=x,
        u=to_device(split(u_all)),
        valid=to_device(valid.reshape(shape)),
        qpos=split(qpos_all),
        o=x if observation is None else to_device(split(o_all)),
    )
