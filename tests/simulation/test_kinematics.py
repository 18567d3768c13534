"""Positions of sites as functions of joint positions, against MuJoCo."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jgps.simulation import site_position

MODEL = """
<mujoco><compiler angle="radian"/><worldbody>
  <body pos="0.1 0.2 0.3" quat="0.8 0.1 0.5 0.2">
    <joint type="slide" axis="0 0.6 0.8" ref="0.1"/><joint axis="0 1 0" pos="0.1 0 0.2"/>
    <geom size="0.1"/>
    <body pos="0.3 0 0"><geom size="0.1"/>
      <body pos="0 0 0.4" euler="0.3 0.2 0.1">
        <joint axis="1 1 0" pos="0 0.1 0" ref="0.2"/><geom size="0.1"/>
        <site name="tip" pos="0.1 0.1 0.1"/>
      </body></body></body>
  <body><freejoint name="loose"/><geom size="0.1"/><site name="other"/></body>
</worldbody></mujoco>
"""


def test_a_site_is_where_mujoco_has_it_and_its_derivative_is_the_jacobian(x64):
    model = mujoco.MjModel.from_xml_string(MODEL)
    data, tip = mujoco.MjData(model), site_position(model, "tip")
    rng = np.random.default_rng(0)
    for _ in range(3):
        data.qpos[:3] = rng.normal(size=3)
        mujoco.mj_forward(model, data)
        np.testing.assert_allclose(tip(jnp.asarray(data.qpos)), data.site("tip").xpos, atol=1e-12)
        jacobian = np.zeros((3, model.nv))
        mujoco.mj_jacSite(model, data, jacobian, None, model.site("tip").id)
        found = jax.jacobian(tip)(jnp.asarray(data.qpos))
        np.testing.assert_allclose(found[:, :3], jacobian[:, :3], atol=1e-12)


def test_sites_that_it_cannot_follow_are_refused():
    model = mujoco.MjModel.from_xml_string(MODEL)
    with pytest.raises(ValueError, match="no site 'toe'; it has: tip, other"):
        site_position(model, "toe")
    with pytest.raises(ValueError, match=r"'other' is moved by joint 'loose'.*'site_pos:'"):
        site_position(model, "other")


def test_whole_numbers_of_radians_are_numbers_too():
    tip = site_position(mujoco.MjModel.from_xml_string(MODEL), "tip")
    qpos = jnp.zeros(10, jnp.int32).at[1].set(1)
    np.testing.assert_array_equal(tip(qpos), tip(qpos.astype(jnp.float32)))
