"""Derivatives of a control step on native threads, in the tangent space of the simulator's state.

A state is s = (qpos, qvel, act); its small changes ds = (dq [nv], dqvel [nv], dact [na]) have dS
numbers, a rotation three of them (see `jgps.simulation.tangent`).

    ds' = F [ds; du],    dx = G ds,    x the state of the task

One of two methods. "chained" multiplies what `mjd_transitionFD` finds at each physics step, which
skips what a change can't reach and is up to four times cheaper. "copies" steps perturbed copies of
the whole control step, which every model can do. Both give a copy the solver's warm start that the
nominal step had.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import mujoco
import numpy as np
from mujoco.batch import Batch

from jgps.simulation.system import System, num_threads
from jgps.simulation.tangent import difference, moved

METHODS = ("chained", "copies")
_STATE = mujoco.mjtState.mjSTATE_INTEGRATION
_NO_STAGE = int(mujoco.mjtStage.mjSTAGE_NONE)
_STEP = 1e-6  # of finite differences, in the units of the state


class Derivatives(NamedTuple):
    """Of B control steps."""

    F: np.ndarray  # [B, dS, dS+dU], of the next state
    G: np.ndarray  # [B, dX, dS], of the task's state at this one


def tangent_dim(model: mujoco.MjModel) -> int:
    """The dS of a model."""
    return 2 * model.nv + model.na


def method_of(model: mujoco.MjModel) -> str:
    """The cheaper method that can do with the model."""
    rk4 = model.opt.integrator == mujoco.mjtIntegrator.mjINT_RK4
    return "copies" if rk4 or model.nplugin else "chained"


class Differentiator:
    """Derivatives of control steps of some models, by threads.

    Args:
      system: what is simulated.
      models: one for each row of states.
      method: one of `METHODS`; None for the cheaper one that can do with the model.
    """

    def __init__(self, system: System, models: list[mujoco.MjModel], method: str | None = None):
        self._system, self._models = system, models
        self._method = method or method_of(system.model)
        self._threads = num_threads()
        self._pool = ThreadPoolExecutor(self._threads)
        # of qpos [B, T, nq] and the sensors' derivatives, G
        self.features = _feature_derivatives(system)

    def __call__(self, states: np.ndarray, control: np.ndarray) -> Derivatives:
        """Derivatives at states [B, T, nstate] (mjSTATE_INTEGRATION) under controls [B, T, dU]."""
        F, C = self.on_host(states, control)
        qpos = states[..., 1 : 1 + self._system.model.nq]
        G = np.asarray(self.features(qpos, C), np.float64)
        return Derivatives(F=F, G=G)

    def on_host(self, states: np.ndarray, control: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """F, and derivatives of the sensors [B, T, nsensordata, dS], without calls of JAX."""
        B, T, _ = states.shape
        model, steps = self._system.model, self._system.substeps
        dS, dU = tangent_dim(model), model.nu
        F = np.empty((B, T, dS, dS + dU))
        C = np.zeros((B, T, model.nsensordata, dS))
        work = _chained if self._method == "chained" else _by_copies
        # A share of every row for each thread: rows may differ in what contacts cost.
        parts = [slice(i, T, self._threads) for i in range(min(self._threads, T))]

        def run(part: slice) -> None:
            for row, own in enumerate(self._models):
                work(own, steps, states[row, part], control[row, part], F[row, part], C[row, part])

        for done in [self._pool.submit(run, part) for part in parts]:
            done.result()
        return F, C


def _chained(model, steps, states, control, F, C) -> None:
    data = mujoco.MjData(model)
    dS, dU = tangent_dim(model), model.nu
    A, B = np.empty((dS, dS)), np.empty((dS, dU))
    seen = np.empty((model.nsensordata, dS)) if model.nsensordata else None
    for t in range(len(states)):
        mujoco.mj_setState(model, data, states[t], _STATE)
        data.ctrl[:] = control[t]
        whole = np.eye(dS, dS + dU)
        for step in range(steps):
            first = seen if step == 0 else None
            mujoco.mjd_transitionFD(model, data, _STEP, False, A, B, first, None)
            whole = A @ whole
            whole[:, dS:] += B
            if step + 1 < steps:
                mujoco.mj_step(model, data)
        F[t] = whole
        if seen is not None:
            C[t] = seen


def _by_copies(model, steps, states, control, F, C) -> None:
    T, dS, dU, nv = len(states), tangent_dim(model), model.nu, model.nv
    copies = 1 + dS + dU
    batch = Batch(model, T * copies, 1)
    batch.state[:] = np.repeat(states, copies, axis=0)
    places = {name: batch.bind(name) for name in ("qpos", "qvel", "act", "ctrl", "sensordata")}
    places["ctrl"][:] = np.repeat(control, copies, axis=0)

    def split(name: str) -> np.ndarray:
        return places[name].reshape(T, copies, -1)

    change = np.concatenate([np.zeros((1, nv)), _STEP * np.eye(copies - 1, nv)])
    split("qpos")[:] = moved(model, split("qpos"), change, np)
    for name, first, size in (
        ("qvel", nv, nv), ("act", 2 * nv, model.na), ("ctrl", dS, dU),
    ):  # fmt: skip
        rows = split(name)[:, 1 + first : 1 + first + size]
        rows[:, np.arange(size), np.arange(size)] += _STEP
    batch.step(nstep=1, stage=_NO_STAGE)
    sensors = split("sensordata")
    C[:] = ((sensors[:, 1 : 1 + dS] - sensors[:, :1]) / _STEP).swapaxes(1, 2)
    if steps > 1:
        batch.step(nstep=steps - 1, stage=_NO_STAGE)
    q, v, a = (split(name) for name in ("qpos", "qvel", "act"))
    parts = [difference(model, q[:, 1:], q[:, :1], np), v[:, 1:] - v[:, :1], a[:, 1:] - a[:, :1]]
    F[:] = (np.concatenate(parts, axis=-1) / _STEP).swapaxes(1, 2)


def _feature_derivatives(system: System):
    """A function of qpos [..., nq] and the sensors' derivatives C [..., ns, dS] that makes G."""
    model, layout = system.model, system.layout
    nv, na = model.nv, model.na

    def by_state(qpos, C):
        def features(ds):
            dq, dv, da = jax.numpy.split(ds, (nv, 2 * nv))
            q = moved(model, qpos, dq)
            return layout.state(q, dv, da, C @ ds, jax.numpy)

        return jax.jacfwd(features)(jax.numpy.zeros(2 * nv + na, qpos.dtype))

    return jax.jit(jax.vmap(jax.vmap(by_state)))
