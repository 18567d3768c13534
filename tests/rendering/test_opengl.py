"""MuJoCo's own renderer, where it works."""

import os

import mujoco
import numpy as np
import pytest

from jgps import rendering

MODEL = """
<mujoco>
  <worldbody>
    <light pos="0 0 3" dir="0 0 -1" directional="true"/>
    <camera name="above" pos="0 0 2" fovy="45"/>
    <geom type="plane" size="2 2 0.1" rgba="0.9 0.9 0.9 1"/>
    <body name="ball" pos="0 0 0.2">
      <joint name="slide" type="slide" axis="1 0 0"/>
      <geom type="sphere" size="0.2" rgba="1 0 0 1"/>
    </body>
  </worldbody>
</mujoco>
"""


# Without a display GLFW, which is tried where none is named, leaves this process in disorder.
@pytest.mark.skipif("MUJOCO_GL" not in os.environ, reason="MUJOCO_GL names no OpenGL to try")
def test_it_sees_the_same_as_the_ray_caster():
    model = mujoco.MjModel.from_xml_string(MODEL)
    qpos = np.array([[[-0.3], [0.3]]])
    try:
        theirs = rendering.render_opengl(model, qpos, "above", width=64, height=48)
    except ValueError as error:
        pytest.skip(str(error))
    ours = rendering.render(model, qpos, "above", width=64, height=48)
    assert theirs.shape == ours.shape == (1, 2, 48, 64, 3) and theirs.dtype == np.uint8

    def red(images):
        return (images[..., 0] > 2.0 * images[..., 1]) & (images[..., 0] > 60)

    assert (red(theirs) == red(ours)).mean() > 0.98
    assert red(theirs)[0, 0, :, :32].sum() > 50 > red(theirs)[0, 0, :, 32:].sum()
    assert rendering.render_opengl(model, qpos[0, 0], width=32, height=24).shape == (24, 32, 3)


def test_mistakes_are_said_in_one_sentence(monkeypatch):
    model = mujoco.MjModel.from_xml_string(MODEL)
    with pytest.raises(ValueError, match=r"qpos has shape \(2,\); this model needs"):
        rendering.render_opengl(model, np.zeros(2))

    def broken(*_, **__):
        raise RuntimeError("no display")

    monkeypatch.setattr(mujoco, "Renderer", broken)
    with pytest.raises(ValueError, match=r"does not work on this machine \(no display\); set MUJ"):
        rendering.render_opengl(model, np.zeros(1))
