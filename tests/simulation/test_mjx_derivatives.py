"""Derivatives of control steps in MJX against those on native threads."""

import functools

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jgps.simulation import Conditions, System, check_conditions, condition_models, load_model
from jgps.simulation.derivatives import (
    DerivativesConfig,
    Differentiator,
    MjxDerivativesConfig,
)
from jgps.simulation.mjx_derivatives import MjxDynamics

STATE = mujoco.mjtState.mjSTATE_INTEGRATION
T = 3
# A ball joint with a hinge behind it, an activation, and nothing that touches.
FREE = """
<mujoco><option timestep="0.01"/>
  <worldbody><body name="upper"><joint name="ball" type="ball" damping=".1"/>
    <geom type="capsule" fromto="0 0 0 0 0 -.3" size=".03" contype="0" conaffinity="0"/>
    <body name="lower" pos="0 0 -.3"><joint name="hinge" axis="0 1 0" damping=".1"/>
      <geom type="capsule" fromto="0 0 0 0 0 -.3" size=".03" contype="0" conaffinity="0"/>
      <site name="tip" pos="0 0 -.3"/></body></body></worldbody>
  <actuator><general joint="hinge" dyntype="filter" dynprm=".1" gainprm="2"/>
    <motor joint="ball" gear="1 1 0" ctrllimited="true" ctrlrange="-1 1"/></actuator>
</mujoco>
"""
# A ball on a slide that is pressed into the ground.
TOUCHING = """
<mujoco><option timestep="0.01"/>
  <worldbody><geom type="plane" size="2 2 .1"/><body pos="0 0 .095">
    <joint name="z" type="slide" axis="0 0 1"/><joint name="x" type="slide" axis="1 0 0"/>
    <geom size=".1" mass="1" condim="3"/></body></worldbody>
  <actuator><motor joint="z"/><motor joint="x"/></actuator>
</mujoco>
"""
CASES = {
    "free": (FREE, ("qpos", "qvel", "act", "site_pos:tip")),
    "touching": (TOUCHING, ("qpos", "qvel")),
}


@functools.cache
def _system(case):
    model, layout, _ = load_model(*CASES[case])
    return System(model, layout, T, 2)


def _conditions(case):
    system, rng = _system(case), np.random.default_rng(0)
    model = system.model
    qpos = np.tile(model.qpos0, (2, 1))
    if case == "free":
        qpos[:, :5] = rng.normal(size=(2, 5))
    changes = {"body_mass_scale:lower": [1.0, 2.0]} if case == "free" else {}
    return check_conditions(model, Conditions(qpos, 0.3 * rng.normal(size=(2, model.nv)), changes))


@functools.cache
def _both(case, method, x64):
    """States and controls of native steps, derivatives there, and those of MJX."""
    with jax.enable_x64(x64):
        system, conditions = _system(case), _conditions(case)
        models, model = condition_models(system.model, conditions), system.model
        states = np.empty((2, T, mujoco.mj_stateSize(model, STATE)))
        control = np.random.default_rng(1).uniform(-0.9, 0.9, (2, T, model.nu))
        control[0, 0, -1] = 1  # at the limit of one
        for row in range(2):
            data = mujoco.MjData(models[row])
            data.qpos[:], data.qvel[:] = conditions.qpos[row], conditions.qvel[row]
            for t in range(T):
                mujoco.mj_getState(model, data, states[row, t], STATE)
                data.ctrl[:] = control[row, t]
                mujoco.mj_step(models[row], data, nstep=system.substeps)
        native = Differentiator(system, models, DerivativesConfig(centred=True))(states, control)
        dynamics = MjxDynamics(system, conditions, MjxDerivativesConfig(method=method, chunk=4))
        given = jnp.asarray(states[..., 1 : 1 + model.nq + 2 * model.nv + model.na])
        found = jax.jit(dynamics.derivatives)(dynamics.simulations, given, jnp.asarray(control))
        return native, tuple(map(np.asarray, found))


TOLERANCES = [
    ("free", "forward", True, 1e-7),
    ("touching", "differences", True, 1e-6),
    ("touching", "forward", False, 1e-4),
]


@pytest.mark.parametrize(("case", "method", "x64", "tolerance"), TOLERANCES)
def test_equal_those_of_native_threads(case, method, x64, tolerance):
    native, (F, G) = _both(case, method, x64)
    assert F.shape == native.F.shape and G.shape == native.G.shape
    assert F.dtype == (np.float64 if x64 else np.float32)
    assert np.abs(F - native.F).max() < tolerance * np.abs(native.F).max()
    assert np.abs(G - native.G).max() < tolerance * np.abs(native.G).max()


def test_states_without_derivatives_are_refused():
    source = FREE.replace(
        "</mujoco>", '<sensor><accelerometer name="felt" site="tip"/></sensor></mujoco>'
    )
    source = source.replace("<sensor>", '<sensor><clock name="now"/>')
    for entry, why in (
        ("sensor:felt", "'sensor:felt' is a sensor of accelerations"),
        ("sensor:now", "'sensor:now' shows the time, which known dynamics in MJX don't hold"),
        ("phase:0.5", "'phase:0.5' shows the time, which known dynamics in MJX don't hold"),
    ):
        model, layout, _ = load_model(source, ("qpos", entry))
        conditions = Conditions(model.qpos0[None], np.zeros((1, model.nv)))
        with pytest.raises(ValueError, match=f"^state entry {why}"):
            MjxDynamics(System(model, layout, T, 2), conditions)
