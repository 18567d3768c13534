"""Derivatives of observations by the simulator's state against differences of it."""

import mujoco
import numpy as np
import pytest
from plain_stepping import ENTRIES, ROBOT, STATE

from jgps.simulation import System, load_model
from jgps.simulation.observation_jacobian import ObservationJacobian
from jgps.simulation.state_jacobian import tangent_dim
from jgps.simulation.tangent import moved

SOURCE = ROBOT.replace("{integrator}", "Euler")
OF_JOINTS = ("qvel:hinge", "ctrl", "gyro:root", "phase:0.03", "qpos", "act")
B = 5


def _system(observation):
    model, layout, seen = load_model(SOURCE, ("qpos",), observation)
    return System(model, layout, 2, 1, seen)


def _states(model):
    rng, states = np.random.default_rng(0), np.empty((B, mujoco.mj_stateSize(model, STATE)))
    data = mujoco.MjData(model)
    for state in states:
        data.qpos[:] = moved(model, model.qpos0, rng.normal(size=model.nv), np)
        data.qvel[:], data.act[:] = rng.normal(size=model.nv), 0.2
        data.ctrl[:], data.time = rng.normal(size=model.nu), rng.uniform()
        mujoco.mj_getState(model, data, state, STATE)
    return states


def _by_hand(system, model, state, size=1e-5):
    data, nv, dS = mujoco.MjData(model), model.nv, tangent_dim(model)

    def seen(change):
        mujoco.mj_setState(model, data, state, STATE)
        mujoco.mj_integratePos(model, data.qpos, np.ascontiguousarray(change[:nv]), 1.0)
        data.qvel += change[nv : 2 * nv]
        data.act += change[2 * nv :]
        mujoco.mj_forward(model, data)
        return (system.observation or system.layout).of(data)

    eye = size * np.eye(dS)
    return np.stack([(seen(ds) - seen(-ds)) / (2 * size) for ds in eye], axis=-1)


@pytest.mark.parametrize(
    "observation", [(*ENTRIES, "ctrl"), (*OF_JOINTS, "body_up:torso"), OF_JOINTS]
)
def test_equal_central_differences(observation, monkeypatch):
    """More states than are differentiated at once, one after the other of two models."""
    system = _system(observation)
    longer = load_model(SOURCE.replace('pos=".3 0 0"/>', 'pos=".5 0 0"/>'), ("qpos",), observation)
    models = [system.model, longer[0]]
    models = [models[row % 2] for row in range(B)]
    states = _states(system.model)
    jacobian = ObservationJacobian(system)
    monkeypatch.setattr(jacobian, "_chunk", 2)
    found = jacobian(models, states)
    expected = [_by_hand(system, *each) for each in zip(models, states, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert system.observation is not None
    for entry in ("ctrl", "phase:0.03"):
        assert np.all(found[:, system.observation[entry]] == 0)
    assert np.any(found[:, system.observation["gyro:root"]] != 0)


def test_a_state_that_is_not_finite_leaves_the_others_alone():
    system = _system(ENTRIES)
    states, models = _states(system.model), [system.model] * B
    jacobian = ObservationJacobian(system)
    whole = jacobian(models, states)
    states[1, 3] = np.nan
    found = jacobian(models, states)
    assert np.isnan(found[1]).all()
    np.testing.assert_array_equal(np.delete(found, 1, axis=0), np.delete(whole, 1, axis=0))
    with pytest.raises(
        ValueError, match=r"states have shape .5, 3.; they have to be .5, \d+., one"
    ):
        jacobian(models, states[:, :3])


def test_without_an_observation_it_is_that_of_the_state():
    model, layout, _ = load_model(SOURCE, ("qvel", "body_up:torso"))
    system = System(model, layout, 2, 1)
    states = _states(model)
    found = ObservationJacobian(system)([model] * B, states)
    np.testing.assert_allclose(found[0], _by_hand(system, model, states[0]), atol=1e-6)


def test_what_follows_the_controls_is_refused():
    with pytest.raises(ValueError, match=r"^observation entry 'sensor:felt' is a sensor of acc"):
        ObservationJacobian(_system(("qpos", "sensor:felt")))
