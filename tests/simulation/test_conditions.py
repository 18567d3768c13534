"""Conditions: what they may start with beside qpos and qvel, and how they are put together."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

import jgps
from jgps import costs
from jgps.simulation import (
    Conditions,
    System,
    check_conditions,
    concatenate_conditions,
    condition_models,
    load_model,
    make_sampler,
)
from jgps.tasks.start import initial_states
from jgps.training.evaluate import _join

# A slider that a filter drives and a spring pulls to a hand that mocap moves.
MODEL = """
<mujoco>
  <option timestep="0.01" gravity="0 0 0"/>
  <worldbody>
    <body name="hand" mocap="true" pos="0.5 0 0"><site name="hand"/></body>
    <body name="cart"><joint name="x" type="slide" axis="1 0 0"/>
      <geom size="0.1" mass="1"/><site name="cart"/></body>
  </worldbody>
  <tendon><spatial name="spring" stiffness="20" springlength="0">
    <site site="hand"/><site site="cart"/></spatial></tendon>
  <actuator><general joint="x" dyntype="filter" dynprm="0.5"/></actuator>
</mujoco>
"""
ENTRIES = ("qpos", "qvel", "act", "body_pos:hand", "body_rot:hand")
C, T, SUBSTEPS = 3, 6, 4
TURN = np.sqrt(0.5)
STARTS = {
    "act": np.array([[0.0], [2.0], [-3.0]]),
    "mocap_pos": np.array([[[0.5, 0, 0]], [[1, 0, 0]], [[-2, 0.1, 0]]]),
    "mocap_quat": np.array([[[1.0, 0, 0, 0]], [[TURN, 0, TURN, 0]], [[0, 0, 3.0, 0]]]),
}


def _open_loop(params, x, o, t, noise):
    del params, x, o, t
    return noise


def _cost(layout):
    return costs.distance(layout["body_pos:hand"], (0, 0, 0))


def _conditions(model, **given):
    return check_conditions(model, Conditions(np.zeros((C, 1)), np.zeros((C, 1)), **given))


def _by_hand(model, layout, c, controls):
    data = mujoco.MjData(model)
    data.act[:], data.mocap_pos[:] = STARTS["act"][c], STARTS["mocap_pos"][c]
    data.mocap_quat[:] = STARTS["mocap_quat"][c] / np.linalg.norm(STARTS["mocap_quat"][c])
    states = []
    for control in controls:
        mujoco.mj_forward(model, data)
        states.append(layout.of(data))
        data.ctrl[:] = control
        mujoco.mj_step(model, data, nstep=SUBSTEPS)
    return np.array(states)


def test_activations_and_mocap_poses_at_the_start_equal_stepping_by_hand():
    model, layout, _ = load_model(MODEL, ENTRIES)
    conditions = _conditions(model, **STARTS)
    controls = np.asarray(jax.random.normal(jax.random.key(0), (C, 1, T, 1)))
    sampler = make_sampler(System(model, layout, T, SUBSTEPS), conditions, _open_loop, "native")
    x = np.asarray(sampler.sample(jnp.zeros(C), jnp.asarray(controls)).x)
    for c in range(C):
        expected = _by_hand(model, layout, c, controls[c, 0])
        np.testing.assert_allclose(x[c, 0], expected, atol=2e-5)
        assert np.abs(expected[-1] - expected[0]).max() > 0.01
    task = jgps.tasks.from_mjcf(
        MODEL, cost=lambda s: costs.distance(s["body_pos:hand"], (0, 0, 0)), state=ENTRIES
    )
    np.testing.assert_allclose(initial_states(task, conditions), x[:, 0, 0], atol=1e-6)


def test_mocap_poses_leave_the_model_s_constants_alone_and_equal_rows_share_a_model():
    """Plain MuJoCo places mocap bodies in its data, which changes no constant of the model."""
    model, _, _ = load_model(MODEL.replace(' springlength="0"', ""), ENTRIES)
    poses = np.array([[[3.0, 0, 0]], [[1, 0, 0]], [[3, 0, 0]]])
    models = condition_models(model, _conditions(model, mocap_pos=poses))
    assert models[0] is models[2] and models[0] is not models[1]
    np.testing.assert_array_equal(models[0].tendon_lengthspring, model.tendon_lengthspring)
    np.testing.assert_array_equal(mujoco.MjData(models[0]).mocap_pos, poses[0])
    np.testing.assert_array_equal(model.body_pos[1], [0.5, 0, 0])


def test_selected_and_concatenated_conditions_keep_how_they_start():
    model, _, _ = load_model(MODEL, ENTRIES)
    full, plain = _conditions(model, **STARTS), _conditions(model)
    joined = concatenate_conditions(model, [plain, full.select([2, 1])])
    assert joined.act is not None and joined.mocap_pos is not None
    np.testing.assert_array_equal(joined.act[:, 0], [0, 0, 0, -3, 2])
    np.testing.assert_array_equal(joined.mocap_pos[:, 0, 0], [0.5, 0.5, 0.5, -2, 1])
    np.testing.assert_array_equal(joined.mocap_quat[3:], full.mocap_quat[[2, 1]])
    assert concatenate_conditions(model, [plain, plain]).act is None


def test_sets_are_evaluated_as_one_where_they_place_mocap_bodies_in_one_way():
    model, _, _ = load_model(MODEL, ENTRIES)
    full, plain = _conditions(model, **STARTS), _conditions(model)
    joined = _join(model, [plain, full])
    assert joined is not None and joined.mocap_pos is not None and joined.num == 2 * C
    np.testing.assert_array_equal(joined.mocap_pos[:C, 0, 0], [0.5] * C)
    changed = _conditions(model, changes={"body_pos:hand": np.ones((C, 3))})
    assert _join(model, [changed, full]) is None
    assert _join(model, [changed, plain]) is not None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"act": np.zeros((C, 2))}, r"act has shape \(3, 2\), expected \(3, 1\)"),
        ({"act": np.full((C, 1), np.nan)}, "act has values that are not finite"),
        ({"mocap_pos": np.zeros((C, 3))}, r"mocap_pos has shape \(3, 3\), expected \(3, 1, 3\)"),
        ({"mocap_quat": np.zeros((C, 1, 4))}, "mocap_quat has a quaternion of zeros"),
        (
            {"mocap_pos": np.zeros((C, 1, 3)), "changes": {"body_pos:hand": np.zeros((C, 3))}},
            "'body_pos:hand' in changes places a mocap body as well; give one of them",
        ),
    ],
)
def test_starts_that_do_not_fit_are_refused(given, message):
    model, _, _ = load_model(MODEL, ENTRIES)
    with pytest.raises(ValueError, match=message):
        _conditions(model, **given)
