"""The simulator's state from x, and gains on x from gains on it."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jgps.simulation import load_model, moved
from jgps.simulation.inverse import StateInverse

MODEL = """
<mujoco>
  <worldbody>
    <body><joint name="slide" type="slide"/><geom size="0.1"/><site name="tip" pos="0 0 1"/>
      <body><joint name="ball" type="ball"/><geom size="0.1"/></body></body>
    <body><freejoint name="free"/><geom size="0.1"/></body>
  </worldbody>
  <actuator><general joint="slide" dyntype="filter" dynprm="0.1"/></actuator>
</mujoco>
"""


def test_positions_velocities_and_activations_come_back(x64):
    model, layout, _ = load_model(MODEL, ("qvel", "site_pos:tip", "qpos", "act"))
    inverse, rng = StateInverse(model, layout), np.random.default_rng(0)
    qpos, qvel, act = (rng.normal(size=(5, n)) for n in (model.nq, model.nv, model.na))
    for address in layout.quaternions:
        part = slice(address, address + 4)
        qpos[:, part] /= np.linalg.norm(qpos[:, part], axis=1, keepdims=True)
    sensors, ctrl = np.zeros((5, model.nsensordata)), np.zeros((5, model.nu))
    x = layout.state(qpos, qvel, act, sensors, ctrl, 0)
    found = inverse(x)
    for address in layout.quaternions:  # which is the same turn with the other sign
        part = slice(address, address + 4)
        sign = np.sign(np.sum(found[0][:, part] * qpos[:, part], axis=1, keepdims=True))
        found[0][:, part] *= sign
    for one, other in zip(found, (qpos, qvel, act), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)

    def features(ds):
        q, v = moved(model, jnp.asarray(qpos[0]), ds[: model.nv]), ds[model.nv : 2 * model.nv]
        a = act[0] + ds[2 * model.nv :]
        return layout.state(q, qvel[0] + v, a, sensors[0], ctrl[0], 0, jnp)

    dS = 2 * model.nv + model.na
    G = jax.jacfwd(features)(jnp.zeros(dS))
    left = inverse.left(jnp.asarray(x[0]))
    np.testing.assert_allclose(left @ G, np.eye(dS), atol=1e-12)
    assert not np.any(left[:, layout["site_pos:tip"]])


@pytest.mark.parametrize(
    ("state", "lacks"),
    [
        (("qpos", "qvel"), "lacks act"),
        (("qpos:slide", "qpos:free", "qvel", "act"), "lacks qpos:ball"),
        (("qpos", "qvel:ball", "qvel:free", "act"), "lacks qvel:slide"),
        (("site_pos:tip",), "lacks qpos:slide, qpos:ball, qpos:free, qvel:slide"),
    ],
)
def test_a_state_that_does_not_tell_where_the_simulation_is_is_refused(state, lacks):
    model, layout, _ = load_model(MODEL, state)
    with pytest.raises(ValueError, match=lacks):
        StateInverse(model, layout)


def test_joints_without_a_name_are_told_of_by_their_kind():
    model = mujoco.MjModel.from_xml_string(MODEL.replace('name="ball" ', ""))
    model, layout, _ = load_model(model, ("qvel", "act"))
    with pytest.raises(ValueError, match="lacks qpos:slide, qpos, qpos:free: add them"):
        StateInverse(model, layout)
