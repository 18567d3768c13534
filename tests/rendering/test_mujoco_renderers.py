"""MuJoCo's own renderers, where they work."""

import os

import mujoco
import numpy as np
import pytest

from jgps import rendering
from jgps.rendering import warp_available

MODEL = """
<mujoco>
  <option><flag autoreset="disable"/></option>
  <worldbody>
    <light pos="0 0 3" dir="0 0 -1" directional="true"/>
    <camera name="side" pos="0 -2 0.5" xyaxes="1 0 0 0 0 1"/>
    <camera name="above" pos="0 0 2" fovy="45"/>
    <camera name="behind" pos="0 -2 0.5" xyaxes="1 0 0 0 0 1" mode="trackcom"/>
    <geom type="plane" size="2 2 0.1" rgba="0.9 0.9 0.9 1"/>
    <body name="ball" pos="0 0 0.2">
      <joint name="slide" type="slide" axis="1 0 0"/>
      <geom type="sphere" size="0.2" rgba="1 0 0 1"/>
    </body>
  </worldbody>
</mujoco>
"""


def _red(images: np.ndarray) -> np.ndarray:
    """Pixels of the ball."""
    return (images[..., 0] > 2.0 * images[..., 1]) & (images[..., 0] > 60)


# Without a display GLFW, which is tried where none is named, leaves this process in disorder.
@pytest.mark.skipif("MUJOCO_GL" not in os.environ, reason="MUJOCO_GL names no OpenGL to try")
def test_opengl_sees_the_same_as_the_ray_caster():
    model = mujoco.MjModel.from_xml_string(MODEL)
    qpos = np.array([[[-0.3], [0.3]]])
    try:
        theirs = rendering.render_opengl(model, qpos, "above", width=64, height=48)
    except ValueError as error:
        pytest.skip(str(error))
    ours = rendering.render(model, qpos, "above", width=64, height=48)
    assert theirs.shape == ours.shape == (1, 2, 48, 64, 3) and theirs.dtype == np.uint8

    assert (_red(theirs) == _red(ours)).mean() > 0.98
    assert _red(theirs)[0, 0, :, :32].sum() > 50 > _red(theirs)[0, 0, :, 32:].sum()
    assert rendering.render_opengl(model, qpos[0, 0], width=32, height=24).shape == (24, 32, 3)


def test_mistakes_with_opengl_are_said_in_one_sentence(monkeypatch):
    model = mujoco.MjModel.from_xml_string(MODEL)
    with pytest.raises(ValueError, match=r"qpos has shape \(2,\); this model needs"):
        rendering.render_opengl(model, np.zeros(2))

    def broken(*_, **__):
        raise RuntimeError("no display")

    monkeypatch.setattr(mujoco, "Renderer", broken)
    with pytest.raises(ValueError, match=r"does not work on this machine \(no display\); set MUJ"):
        rendering.render_opengl(model, np.zeros(1))


@pytest.mark.skipif(not warp_available(), reason="MuJoCo Warp is not installed")
def test_warp_sees_the_same_as_the_ray_caster():
    model = mujoco.MjModel.from_xml_string(MODEL)
    qpos = np.array([[-0.3], [0.3], [0.0]])
    draw = rendering.warp_renderer(model, "above", 3, width=64, height=48)
    theirs = draw(qpos)
    ours = rendering.render(model, qpos, "above", width=64, height=48)
    assert theirs.shape == ours.shape and theirs.dtype == np.uint8

    assert (_red(theirs) == _red(ours)).mean() > 0.98
    assert _red(theirs)[0, :, :32].sum() > 50 > _red(theirs)[0, :, 32:].sum()
    np.testing.assert_array_equal(draw(qpos[::-1]), theirs[::-1])
    # A camera that goes with the ball sees it in one place.
    following = _red(rendering.warp_renderer(model, "behind", 3, width=64, height=48)(qpos))
    assert following[0].sum() > 50
    np.testing.assert_array_equal(following[0], following[1])
    with pytest.raises(ValueError, match=r"qpos has shape \(2, 1\); this needs \(3, 1\)"):
        draw(qpos[:2])
    with pytest.raises(ValueError, match="camera"):
        rendering.warp_renderer(model, "none", 1)
    assert model.opt.disableflags & int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)


@pytest.mark.skipif(warp_available(), reason="MuJoCo Warp is installed")
def test_without_warp_the_remedy_is_named():
    model = mujoco.MjModel.from_xml_string(MODEL)
    with pytest.raises(ValueError, match=r"not installed; pip install 'jgps\[warp\]'"):
        rendering.warp_renderer(model, "above", 1)
