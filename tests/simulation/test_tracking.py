"""Simulations that follow trajectories under feedback against plain stepping."""

import mujoco
import numpy as np
import pytest
from plain_stepping import ENTRIES, ROBOT, STATE

from jgps.simulation import System, load_model
from jgps.simulation import tracking as module
from jgps.simulation.state_jacobian import tangent_dim
from jgps.simulation.tangent import moved
from jgps.simulation.tracking import Followed, Tracker

T, S = 6, 3


def _system(substeps, entries=ENTRIES):
    model, layout, _ = load_model(ROBOT.replace("{integrator}", "Euler"), entries)
    return System(model, layout, T, substeps)


def _followed(system, models, seed=0):
    """Trajectories that are somewhere near, and feedback that matters."""
    rng, model = np.random.default_rng(seed), system.model
    B, dS = len(models), tangent_dim(model)
    states = np.empty((B, T, mujoco.mj_stateSize(model, STATE)))
    for row in range(B):
        data = mujoco.MjData(models[row])
        for t in range(T):
            data.qpos[:] = moved(model, model.qpos0, 0.1 * rng.normal(size=model.nv), np)
            data.qvel[:], data.act[:] = 0.1 * rng.normal(size=model.nv), 0.2
            mujoco.mj_getState(model, data, states[row, t], STATE)
    return Followed(
        states,
        rng.uniform(-1, 1, (B, T, model.nu)),
        0.3 * rng.normal(size=(B, T, model.nu)),
        0.3 * rng.normal(size=(B, T, model.nu, dS)),
        np.array([1.0, 0.3, 0.0]),
    )


def _by_hand(system, model, followed, row, size):
    data, seen = mujoco.MjData(model), mujoco.MjData(model)
    mujoco.mj_setState(model, data, followed.states[row, 0], STATE)
    nq, nv, states, xs, us = model.nq, model.nv, [], [], []
    for t in range(T):
        state = np.empty(followed.states.shape[-1])
        mujoco.mj_getState(model, data, state, STATE)
        mujoco.mj_setState(model, seen, state, STATE)
        mujoco.mj_forward(model, seen)
        reference, dq = followed.states[row, t], np.empty(nv)
        mujoco.mj_differentiatePos(
            model, dq, 1.0, np.ascontiguousarray(reference[1 : 1 + nq]), data.qpos
        )
        rest = reference[1 + nq : 1 + nq + nv + model.na]
        ds = np.r_[dq, np.r_[data.qvel, data.act] - rest]
        u = followed.control[row, t] + size * followed.feedforward[row, t]
        u = u + followed.gains[row, t] @ ds
        u = u.astype(np.float32)  # in which precision JAX computes here
        u[0] = np.clip(u[0], -1, 1)
        data.ctrl[:] = u
        states.append(state)
        xs.append(system.layout.of(seen))
        us.append(u)
        mujoco.mj_step(model, data, nstep=system.substeps)
    return map(np.array, (states, xs, us))


@pytest.mark.parametrize("substeps", [1, 3])
@pytest.mark.parametrize("entries", [ENTRIES, ("qpos", "qvel", "act", "phase:0.03")])
def test_equals_plain_stepping(substeps, entries):
    system = _system(substeps, entries)
    heavy, _, _ = load_model(ROBOT.replace("{integrator}", "Euler"), entries)
    heavy.body_mass[2] *= 3
    mujoco.mj_setConst(heavy, mujoco.MjData(heavy))
    models = [system.model, heavy]
    followed = _followed(system, models)
    found = Tracker(system, models, S)(followed)
    assert found.sound.all() and found.x.shape == (2, S, T, system.layout.size)
    model = system.model
    before_ctrl = mujoco.mjtState.mjSTATE_FULLPHYSICS | mujoco.mjtState.mjSTATE_WARMSTART
    start = mujoco.mj_stateSize(model, before_ctrl)
    # The controls of the step before are what a network observes as `ctrl`.
    first = np.r_[: 1 + model.nq + model.nv + model.na, start : start + model.nu]
    for row, model in enumerate(models):
        for place, size in enumerate(followed.size):
            states, x, u = _by_hand(system, model, followed, row, size)
            own = found.states[row, place]
            np.testing.assert_allclose(own[:, first], states[:, first], atol=1e-9)
            np.testing.assert_allclose(found.x[row, place], x, atol=1e-9)
            np.testing.assert_allclose(found.u[row, place], u, atol=1e-9)
    assert np.abs(found.u[:, 0] - found.u[:, 2]).max() > 0.1


def test_depends_neither_on_threads_nor_on_neighbours(monkeypatch):
    """Nor on what ran before, one that diverged included."""
    system = _system(2)
    models = [system.model] * 4
    followed = _followed(system, models)

    def of(rows, threads, followed=followed):
        monkeypatch.setattr(module, "num_threads", lambda: threads)
        own = Followed(*(a[rows] for a in followed[:4]), followed.size)
        tracker = Tracker(system, [models[row] for row in rows], S)
        wild = own._replace(control=np.full_like(own.control, 1e300))
        assert not tracker(wild).sound.any()
        return tracker(own)

    everything = np.arange(4)
    whole = of(everything, 3)
    assert whole.sound.all()
    for rows, threads in ((everything, 1), (everything[::-1], 2), (everything[2:3], 2)):
        for one, other in zip(of(rows, threads), whole, strict=True):
            np.testing.assert_array_equal(one, other[rows])
    gains = followed.gains.copy()
    gains[1, 2, 0, 0] = np.nan
    broken = of(everything, 2, followed._replace(gains=gains))
    assert not broken.sound[1].any() and np.isnan(broken.states[1]).all()
    for one, other in zip(broken, whole, strict=True):
        np.testing.assert_array_equal(np.delete(one, 1, 0), np.delete(other, 1, 0))
