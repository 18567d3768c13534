"""What acts from outside over time, and noise and latency of what is seen."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jgps.simulation import (
    Backend,
    Conditions,
    Inputs,
    Sensing,
    System,
    check_conditions,
    concatenate_conditions,
    load_model,
    make_sampler,
)

# A slider that forces push and a spring pulls to a hand that mocap moves; a command to read.
MODEL = """
<mujoco>
  <option timestep="0.01" gravity="0 0 0"/>
  <worldbody>
    <body name="hand" mocap="true" pos="0.5 0 0"><site name="hand"/></body>
    <body name="command" mocap="true" pos="0 0 2"/>
    <body name="cart"><joint name="x" type="slide" axis="1 0 0"/>
      <geom size="0.1" mass="1"/><site name="cart"/></body>
  </worldbody>
  <tendon><spatial name="spring" stiffness="20" springlength="0">
    <site site="hand"/><site site="cart"/></spatial></tendon>
  <actuator><motor joint="x"/></actuator>
  <sensor><accelerometer name="felt" site="cart"/></sensor>
</mujoco>
"""
ENTRIES = ("qpos", "qvel", "sensor:felt")
SEEN = ("body_pos:command", "body_rot:command", "qpos")
C, N, T, SUBSTEPS = 2, 2, 6, 4
RNG = np.random.default_rng(0)
INPUTS = {
    "mocap_pos:command": RNG.normal(size=(C, T + 2, 3)),
    "mocap_quat:command": RNG.normal(size=(C, 2, 4)),
    "mocap_pos:hand": RNG.normal(size=(C, 3, 3)),
    "xfrc_applied:cart": RNG.normal(size=(C, 4, 6)) * 20,
}


def _see(params, x, o, t, noise):
    """A controller that reads what is seen, so that a late or noisy o acts otherwise."""
    del params, x, t
    return noise + 0.5 * o[-1:]


def _system():
    model, layout, observation = load_model(MODEL, ENTRIES, SEEN)
    assert observation is not None
    return System(model, layout, T, SUBSTEPS, observation)


def _conditions(model, num=C, **given):
    return check_conditions(model, Conditions(np.zeros((num, 1)), np.zeros((num, 1)), **given))


def _by_hand(system, c, noise, sensing):
    """What plain stepping of condition c comes to, [T, ...]."""
    model, data = system.model, mujoco.MjData(system.model)
    xs, os, seen = [], [], []
    for t in range(T):
        for key, rows in INPUTS.items():
            kind, _, name = key.partition(":")
            row, body = rows[c, min(t, rows.shape[1] - 1)], model.body(name).id
            place = body if kind == "xfrc_applied" else model.body_mocapid[body]
            getattr(data, kind)[place] = row
        mujoco.mj_forward(model, data)
        x, o = system.layouts.observe(
            data.qpos, data.qvel, data.act, data.sensordata, data.ctrl, data.time
        )
        xs.append(x)
        os.append(o)
        seen.append(os[max(t - sensing.latency[c], 0)] + sensing.noise[c, t % 4])
        data.ctrl[:] = noise[t] + 0.5 * seen[t][-1]
        mujoco.mj_step(model, data, nstep=SUBSTEPS)
    return np.array(xs), np.array(seen)


def test_native_equals_stepping_by_hand_under_inputs_noise_and_latency():
    """The same on MJX is in test_backends.py."""
    system = _system()
    assert system.observation is not None
    sensing = Sensing(RNG.normal(size=(C, 4, system.observation.size)), np.array([0, 3]))
    conditions = _conditions(system.model, inputs=INPUTS, sensing=sensing)
    noise = jax.random.normal(jax.random.key(1), (C, N, T, 1))
    found = make_sampler(system, conditions, _see, "native").sample(jnp.zeros((C, 1)), noise)
    for c in range(C):
        for n in range(N):
            x, o = _by_hand(system, c, np.asarray(noise)[c, n], sensing)
            np.testing.assert_allclose(found.x[c, n], x, atol=1e-5)
            np.testing.assert_allclose(found.o[c, n], o, atol=1e-5)
    assert bool(found.valid.all())
    assert np.abs(np.diff(found.x[..., 0], axis=2)).min() > 1e-4  # it moves at every step


def test_columns_are_those_of_the_simulator_s_state_and_the_last_row_stays():
    model, kind = _system().model, mujoco.mjtState.mjSTATE_INTEGRATION
    inputs = Inputs(model, _conditions(model, inputs=INPUTS).inputs)
    states = np.zeros((C * N, mujoco.mj_stateSize(model, kind)))
    for t, row in ((1, 1), (50, -1)):
        inputs.write(states, t)
        for c, state in enumerate(states[::N]):
            data = mujoco.MjData(model)
            mujoco.mj_setState(model, data, state, kind)
            hand, command, cart = (model.body(name).id for name in ("hand", "command", "cart"))
            mocap = model.body_mocapid[[hand, command]]
            rows = {key: value[c, min(row, len(value[c]) - 1)] for key, value in INPUTS.items()}
            np.testing.assert_array_equal(data.mocap_pos[mocap[0]], rows["mocap_pos:hand"])
            np.testing.assert_array_equal(data.mocap_pos[mocap[1]], rows["mocap_pos:command"])
            turned = rows["mocap_quat:command"] / np.linalg.norm(rows["mocap_quat:command"])
            np.testing.assert_allclose(data.mocap_quat[mocap[1]], turned, atol=1e-15)
            np.testing.assert_array_equal(data.xfrc_applied[cart], rows["xfrc_applied:cart"])
            np.testing.assert_array_equal(states[c * N], states[c * N + 1])
    assert inputs.at(3).shape == (C, len(inputs.columns)) == (C, 3 + 4 + 3 + 6)
    assert inputs.length == T + 2


def test_selected_and_concatenated_conditions_keep_what_acts_and_what_is_seen():
    model = _system().model
    noise = RNG.normal(size=(C, 2, 10))
    full = _conditions(model, inputs=INPUTS, sensing=Sensing(noise, np.array([0, 3])))
    plain = _conditions(model, 1, mocap_pos=np.array([[[1.0, 2, 3], [4, 5, 6]]]))
    late = _conditions(model, 1, sensing=Sensing(noise=np.ones((1, 3, 10))))
    joined = concatenate_conditions(model, [plain, full.select([1, 0]), late])
    command, push = (joined.inputs[k] for k in ("mocap_pos:command", "xfrc_applied:cart"))
    np.testing.assert_array_equal(command[0], np.tile([4, 5, 6], (T + 2, 1)))
    np.testing.assert_array_equal(command[1:3], INPUTS["mocap_pos:command"][[1, 0]])
    np.testing.assert_array_equal(command[3], np.tile([0, 0, 2], (T + 2, 1)))
    np.testing.assert_array_equal(joined.inputs["mocap_quat:command"][0], [[1, 0, 0, 0]] * 2)
    np.testing.assert_array_equal(push[[0, 3]], 0)
    np.testing.assert_array_equal(push[1:3], INPUTS["xfrc_applied:cart"][[1, 0]])
    assert joined.sensing is not None and joined.sensing.noise.shape == (4, 6, 10)
    np.testing.assert_array_equal(joined.sensing.latency, [0, 3, 0, 0])
    np.testing.assert_array_equal(joined.sensing.noise[1], np.tile(noise[1], (3, 1)))
    np.testing.assert_array_equal(joined.sensing.noise[0], np.zeros((6, 10)))
    np.testing.assert_array_equal(joined.sensing.noise[3], np.ones((6, 10)))
    check_conditions(model, joined)
    assert concatenate_conditions(model, [plain, plain]).inputs == {}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"inputs": [1]}, r"inputs is \[1\]; it has to be a mapping of keys 'kind:body'"),
        ({"inputs": {3: 1}}, "inputs has the key 3; it has to be a mapping"),
        ({"inputs": {"mocap_po:hand": 1}}, "key 'mocap_po:hand'; kinds .*mean mocap_pos\\?"),
        ({"inputs": {"mocap_pos": 1}}, "no body '' .* it can be: hand, command"),
        ({"inputs": {"xfrc_applied:card": 1}}, "no body 'card' .*; did you mean cart\\?"),
        ({"inputs": {"xfrc_applied:world": 1}}, "no effect, because the world does not move"),
        ({"inputs": {"xfrc_applied:hand": 1}}, "no effect, because 'hand' is a mocap body"),
        (
            {"inputs": {"mocap_pos:cart": 1}},
            "moves a mocap body, and 'cart' is none; give it mocap",
        ),
        (
            {"inputs": {"mocap_pos:hand": np.zeros((C, 1, 4))}},
            r"shape \(2, 1, 4\), expected \(2, L, 3\)",
        ),
        ({"inputs": {"mocap_pos:hand": np.zeros((C, 0, 3))}}, r"shape \(2, 0, 3\), .* L >= 1"),
        ({"inputs": {"mocap_pos:hand": np.full((C, 1, 3), np.inf)}}, "values that are not finite"),
        ({"inputs": {"mocap_quat:hand": np.zeros((C, 1, 4))}}, "has a quaternion of zeros"),
        (
            {
                "inputs": {"mocap_pos:hand": np.zeros((C, 1, 3))},
                "changes": {"body_pos:hand": np.zeros((C, 3))},
            },
            "'body_pos:hand' in changes and 'mocap_pos:hand' in inputs place the same mocap body",
        ),
        ({"sensing": 3}, r"sensing is 3; it has to be jgps.simulation.Sensing\("),
        ({"sensing": Sensing(np.zeros((C, 0, 2)))}, r"noise of sensing has shape \(2, 0, 2\)"),
        ({"sensing": Sensing(np.full((C, 1, 2), np.nan))}, "noise of sensing has values that are"),
        ({"sensing": Sensing(None, np.zeros(3))}, r"latency of sensing has shape \(3,\), expected"),
        ({"sensing": Sensing(None, [0, 0.5])}, "is 0.5 in condition 1; it is a number of whole"),
        ({"sensing": Sensing(None, [-1, 0])}, "is -1 in condition 0; it is a number of whole"),
    ],
)
def test_inputs_and_sensing_that_do_not_fit_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        _conditions(_system().model, **given)


def test_backends_refuse_what_they_would_leave_out():
    system = _system()
    inputs = _conditions(system.model, inputs={"mocap_pos:hand": np.zeros((C, 1, 3))})
    late = _conditions(system.model, sensing=Sensing(None, [0, 1]))
    noisy = _conditions(system.model, sensing=Sensing(np.zeros((C, 1, 3))))
    blind = system._replace(observation=None)
    cases: list[tuple[System, Conditions, Backend, str]] = [
        (blind, late, "native", "have sensing, and the task names no observation"),
        (system, noisy, "mjx", "3 numbers for each control step, and the observation o has 10"),
        (system, inputs, "mjx", "sensors of accelerations where nothing is constrained"),
        (system, inputs, "analytic", "'mocap_pos:hand' in inputs acts on the model, which the"),
        (system, late, "analytic", "noise and latency backend 'analytic' does not compute"),
    ]
    for of, conditions, backend, message in cases:
        with pytest.raises(ValueError, match=message):
            make_sampler(of, conditions, _see, backend)
    assert _conditions(system.model, sensing=Sensing()).sensing is None
