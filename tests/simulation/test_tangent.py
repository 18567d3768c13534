"""Joint positions moved in the tangent space, against MuJoCo's own integration."""

import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jgps.simulation import moved

MODEL = """
<mujoco><worldbody>
  <body><freejoint/><geom size="0.1"/>
    <body><joint type="hinge" axis="0 0 1"/><geom size="0.1"/>
      <body><joint type="ball"/><geom size="0.1"/>
        <body><joint type="slide" axis="1 0 0"/><geom size="0.1"/></body></body></body></body>
</worldbody></mujoco>
"""


@pytest.mark.parametrize("size", [0.0, 1e-6, 0.3, 5.0])
@pytest.mark.parametrize(("xp", "tolerance"), [(np, 1e-12), (jnp, 2e-6)])
def test_moves_are_mujocos(size, xp, tolerance):
    model = mujoco.MjModel.from_xml_string(MODEL)
    rng = np.random.default_rng(0)
    qpos = rng.normal(size=(3, model.nq))
    for start in (3, 8):
        qpos[:, start : start + 4] /= np.linalg.norm(qpos[:, start : start + 4], axis=1)[:, None]
    change = size * rng.normal(size=(3, model.nv))
    expected = qpos.copy()
    for row, delta in zip(expected, change, strict=True):
        mujoco.mj_integratePos(model, row, delta, 1.0)
    found = moved(model, xp.asarray(qpos), xp.asarray(change), xp)
    np.testing.assert_allclose(found, expected, atol=tolerance)
