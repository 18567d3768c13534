"""Closed-loop rollouts in C MuJoCo's thread pool."""

import functools
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, NamedTuple

import jax
import mujoco
import numpy as np
from mujoco.batch import Batch, SimulationError

from jgps.core.host import to_device
from jgps.mujoco_log import quiet_mujoco
from jgps.simulation.conditions import (
    Conditions,
    Starts,
    check_starts,
    condition_models,
    initial_act,
    initial_history,
)
from jgps.simulation.features import unit_quaternions
from jgps.simulation.inputs import Inputs
from jgps.simulation.sensing import Sensors
from jgps.simulation.system import (
    Policy,
    Sample,
    SimulationRollouts,
    System,
    control_ranges,
    num_threads,
    split_shared,
)

_NO_STAGE = int(mujoco.mjtStage.mjSTAGE_NONE)
_SEEN = ("qpos", "qvel", "act", "sensordata", "ctrl", "time")  # what features are made of
_MAX_PARTS = 4  # of a batch, one for each thread of Python; those of MuJoCo share a part


class Stepper:
    """A batch of simulations, each with all of the state that MuJoCo integrates.

    Beside positions, velocities and activations that is the solver's warm start, what delayed
    actuators remember, mocap poses, active equalities, user data and the state of plugins. A
    simulation is what a loop over `mj_step` makes of it, whatever else is in the batch.

    Sensors belong to the state *before* a physics step; where x or o need them, the forward
    computation is run once more at the new state, which changes nothing in it.
    """

    def __init__(self, system: System, models: list[mujoco.MjModel], inputs: Inputs | None = None):
        """Prepares threads.

        Args:
          system: what is simulated.
          models: one for each simulation of the batch [B].
          inputs: what acts from outside; each of its conditions is so many of the simulations, one
            after the other.
        """
        self._system, self._inputs = system, inputs
        self._stage = sensor_stage(system)
        threads = min(num_threads(), len(models))
        num = min(threads, _MAX_PARTS)
        # In turn, which evens out what contacts cost in some conditions.
        rows = [slice(first, len(models), num) for first in range(num)]
        self._parts = [_Part(models[part], part, math.ceil(threads / num)) for part in rows]
        self._pool = ThreadPoolExecutor(num)

    def start(
        self,
        qpos: np.ndarray,
        qvel: np.ndarray,
        act: np.ndarray,
        history: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """State x [B, dX] and observation o [B, dO] at qpos [B, nq], qvel [B, nv], act [B, na].

        What delayed actuators remember is [B, nhistory]; None is that there were no controls.
        """
        self._t, written = 0, self._written(0)
        pose = (qpos, qvel, act)
        self._each(lambda part: part.start(pose, history, self._stage, written))
        return self._observe()

    def resume(self, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """State x [B, dX] and observation o [B, dO] at states [B, nstate] of mjSTATE_INTEGRATION.

        What acts from outside is what the states say, and none of this stepper's `inputs`.
        """
        assert self._inputs is None
        self._t = 0
        self._each(lambda part: part.resume(states, self._stage))
        return self._observe()

    def step(self, control: np.ndarray, going: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Next x and o under control [B, nu], which has to be finite.

        Simulations that are not `going` [B] begin again first, so that they hold nobody up.
        """
        self._t += 1
        steps, written = self._system.substeps, self._written(self._t)
        self._each(lambda part: part.step(control, going, (steps, self._stage), written))
        return self._observe()

    @property
    def states(self) -> np.ndarray:
        """All of each simulation's state [B, nstate], as of mjSTATE_INTEGRATION."""
        return self._gather(lambda part: part.states)

    @property
    def qpos(self) -> np.ndarray:
        """Joint positions [B, nq]."""
        return self._gather(lambda part: part.seen[0])

    def sound(self) -> np.ndarray:
        """Which simulations [B] are finite, and MuJoCo has not complained of since the start."""
        return self._gather(lambda part: part.sound())

    def _written(self, t: int) -> "_Written | None":
        """What acts from outside during control step t."""
        if self._inputs is None:
            return None
        rows = self._inputs.at(t)
        num = sum(part.num for part in self._parts)
        return self._inputs.columns, np.repeat(rows, num // len(rows), axis=0)

    def _each(self, work: Callable[["_Part"], None]) -> None:
        # This thread waits meanwhile: where many compete for the processors, threads that have
        # waited get one at once, and one that has computed does not.
        futures = [self._pool.submit(work, part) for part in self._parts]
        try:
            for future in futures:
                future.result()
        finally:  # also when it is interrupted
            wait(futures)
        errors = [part.error for part in self._parts]
        if all(errors):
            raise ValueError(f"MuJoCo can't simulate this model: {errors[0]}")

    def _observe(self) -> tuple[np.ndarray, np.ndarray]:
        qpos, qvel, act, sensordata, ctrl, time = (
            self._gather(lambda part, i=i: part.seen[i]) for i in range(len(_SEEN))
        )
        return self._system.layouts.observe(qpos, qvel, act, sensordata, ctrl, time)

    def _gather(self, get: Callable[["_Part"], np.ndarray]) -> np.ndarray:
        found = [get(part) for part in self._parts]
        whole = np.empty((sum(map(len, found)), *found[0].shape[1:]), found[0].dtype)
        for part, values in zip(self._parts, found, strict=True):
            whole[part.rows] = values
        return whole


_Written = tuple[np.ndarray, np.ndarray]  # columns [n] of a state, and numbers [B, n] for them


class _Part:
    """Some simulations of the batch, its `rows`, with threads of their own."""

    def __init__(self, models: list[mujoco.MjModel], rows: slice, threads: int):
        self.rows, self.num = rows, len(models)
        # Plugins may keep a state of their own, which needs an MjData for each simulation.
        persistent = models[0].nplugin > 0
        self._batch = Batch(models[0], len(models), threads, persistent=persistent)
        self._batch.set_models(models)
        self.seen = [self._batch.bind(name) for name in _SEEN]
        self._history = self._batch.bind("history")
        self.error = ""  # what MuJoCo raised where all simulations failed

    def start(
        self,
        pose: tuple[np.ndarray, ...],
        history: np.ndarray | None,
        stage: int,
        written: _Written | None,
    ) -> None:
        self.error = ""
        self._batch.reset(stage=_NO_STAGE)
        for place, value in zip(self.seen, pose, strict=False):
            place[:] = value[self.rows]
        if history is not None:
            self._history[:] = history[self.rows]
        self._write(written)
        self._begin(stage)

    def resume(self, states: np.ndarray, stage: int) -> None:
        self.error = ""
        self._batch.reset(stage=_NO_STAGE)
        self._batch.state[:] = states[self.rows]
        self._begin(stage)

    def _begin(self, stage: int) -> None:
        self._start = self._batch.state.copy()
        self._failed = np.zeros(len(self._start), bool)
        self._run(functools.partial(self._batch.forward, stage=stage))

    @property
    def states(self) -> np.ndarray:
        return self._batch.state

    def step(
        self,
        control: np.ndarray,
        going: np.ndarray,
        length: tuple[int, int],
        written: _Written | None,
    ) -> None:
        """So many physics steps and the stage afterwards, at which `written` acts already."""
        self.error = ""
        steps, stage = length
        np.copyto(self._batch.state, self._start, where=~going[self.rows, None])
        self._batch.ctrl[:] = control[self.rows]
        if written is None:
            self._run(functools.partial(self._batch.step, nstep=steps, stage=stage))
            return
        self._run(functools.partial(self._batch.step, nstep=steps, stage=_NO_STAGE))
        self._write(written)
        if stage != _NO_STAGE:
            self._run(functools.partial(self._batch.forward, stage=stage))

    def _write(self, written: _Written | None) -> None:
        if written is not None:
            columns, numbers = written
            self._batch.state[:, columns] = numbers[self.rows]

    def sound(self) -> np.ndarray:
        warned = self._batch.warning[..., 1].any(axis=1)
        return ~warned & ~self._failed & np.isfinite(self._batch.state).all(axis=1)

    def _run(self, call: Callable[[], None]) -> None:
        """What MuJoCo raises in some simulations ends those; in all of them, it is the model's."""
        try:
            call()
        except SimulationError as error:
            self._failed[error.ids] = True
            if len(error.ids) == len(self._failed):
                self.error = " ".join(self._batch.error(0).split())


def sensor_stage(system: System) -> int:
    """The forward computation up to the last sensor that x and o need."""
    model, layouts = system.model, system.layouts
    if not layouts.uses_sensors:
        return _NO_STAGE
    numbers = np.concatenate([each.reads for each in layouts if each is not None])
    numbers = numbers - layouts.state.places.sensors
    sensor_of = np.repeat(np.arange(model.nsensor), model.sensor_dim)
    used = sensor_of[numbers[(numbers >= 0) & (numbers < model.nsensordata)]]
    return int(model.sensor_needstage[used].max())


def make_native_sample(system: System, conditions: Conditions, policy: Policy) -> Sample:
    """`sample(params, noise, starts)` as in `jgps.simulation.Sampler`."""
    models = condition_models(system.model, conditions)
    history = initial_history(models, conditions)
    inputs = Inputs(system.model, conditions.inputs) if conditions.inputs else None
    sensing = conditions.sensing
    steppers: dict[int, Stepper] = {}
    act = functools.partial(_act, policy)

    def sample(params: Any, noise: jax.Array, starts: Starts | None = None) -> SimulationRollouts:
        num_samples = noise.shape[1]
        poses = _initial_poses(system, conditions, num_samples, starts)
        if history is not None:
            poses = poses._replace(history=np.repeat(history, num_samples, axis=0))
        if num_samples not in steppers:
            repeated = [model for model in models for _ in range(num_samples)]
            steppers[num_samples] = Stepper(system, repeated, inputs)
        limits = np.repeat(control_ranges(models), num_samples, axis=1)
        sensors = None if sensing is None else Sensors(sensing, num_samples, noise.shape[2])
        loop = _Loop(system, steppers[num_samples], act, limits, sensors)
        # What no float32 holds is infinite, and the rollout not valid.
        with quiet_mujoco(), np.errstate(over="ignore"):
            return _closed_loop(loop, poses, params, noise)

    return sample


@functools.partial(jax.jit, static_argnums=0)
def _act(policy, params, x, o, t, noise):
    """Actions [C, N, dU] of all simulations; equal policies share the program."""
    o = x if o is None else o  # handed over once where it is x
    over_samples = jax.vmap(policy, in_axes=(None, 0, 0, None, 0))
    values, axes = split_shared(params)
    over_conditions = jax.vmap(over_samples, in_axes=(axes, 0, 0, None, 0))
    return over_conditions(values, x, o, t, noise[:, :, t])


class _Poses(NamedTuple):
    """Where the simulations start, finite."""

    qpos: np.ndarray  # [B, nq]
    qvel: np.ndarray  # [B, nv]
    act: np.ndarray  # [B, na]
    valid: np.ndarray  # [B] whether the start that was asked for is finite
    history: np.ndarray | None = None  # [B, nhistory]


def _initial_poses(
    system: System, conditions: Conditions, num_samples: int, starts: Starts | None
) -> _Poses:
    num, act = conditions.num, initial_act(system.model, conditions)
    poses = [np.repeat(a, num_samples, axis=0) for a in (conditions.qpos, conditions.qvel, act)]
    valid = np.ones(num * num_samples, bool)
    if starts is not None:
        check_starts(system.model, starts, num, num_samples)
        own = [
            pose if given is None else np.asarray(given, np.float64).reshape(len(valid), -1)
            for given, pose in zip(starts, poses, strict=True)
        ]
        with np.errstate(invalid="ignore"):  # a quaternion of zeros or infinities
            own[0] = unit_quaternions(system.model, own[0])
        valid = np.all([np.isfinite(each).all(axis=-1) for each in own], axis=0)
        poses = [np.where(valid[:, None], *both) for both in zip(own, poses, strict=True)]
    qpos, qvel, act = poses
    return _Poses(qpos, qvel, act, valid)


class _Loop(NamedTuple):
    """What a closed loop is made of."""

    system: System
    stepper: Stepper
    act: Callable[..., jax.Array]
    limits: np.ndarray  # of controls, [2, B, dU]
    sensors: Sensors | None  # what changes o before it is seen


def _closed_loop(loop, poses, params, noise):
    system, stepper, act, limits, sensors = loop
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

    valid = poses.valid
    x, o = stepper.start(poses.qpos, poses.qvel, poses.act, poses.history)
    for t in range(horizon):
        x_all[t] = x
        qpos_all[t] = stepper.qpos
        seen = None
        if observation is not None:
            o_all[t] = o if sensors is None else sensors(o, t)
            seen = o_all[t].reshape(*shape, -1)
            valid &= np.isfinite(o_all[t]).all(axis=-1)
        control = act(params, x_all[t].reshape(*shape, -1), seen, np.int32(t), noise)
        control = np.asarray(control, np.float64).reshape(batch, num_controls)
        valid &= np.isfinite(control).all(axis=-1) & np.isfinite(x_all[t]).all(axis=-1)
        # A simulation that diverged goes on from its start, so that the others are not held up.
        control = np.where(valid[:, None], np.clip(control, *limits), 0.0)
        u_all[t] = control
        if t + 1 < horizon:
            x, o = stepper.step(control, valid)
            valid &= stepper.sound()

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
