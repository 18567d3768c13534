"""Pictures from joint positions, and the files they end in."""

import subprocess

import imageio_ffmpeg
import mediapy
import mujoco
import numpy as np
import pytest

from jgps import rendering

_XML = """
<mujoco><worldbody>
  <camera name="side" pos="0 -2 .5" xyaxes="1 0 0 0 0 1" fovy="50"/>
  <geom type="plane" size="0 0 1"/>
  <body pos="0 0 .5"><joint axis="0 1 0"/>
    <camera name="hand" pos="0 0 .6" xyaxes="1 0 0 0 1 0"/>
    <geom type="capsule" fromto="0 0 0 .4 0 0" size=".05" rgba="1 .2 .1 1"/></body>
</worldbody></mujoco>
"""
_FAST = rendering.RenderConfig()


@pytest.fixture(scope="module")
def model():
    return mujoco.MjModel.from_xml_string(_XML)


def test_render_follows_joints_and_keeps_leading_axes(model):
    qpos = np.array([[[0.0], [0.6]], [[1.2], [0.0]]])
    images = rendering.render(model, qpos, "side", width=32, height=24, config=_FAST)
    assert images.shape == (2, 2, 24, 32, 3) and images.dtype == np.uint8
    np.testing.assert_array_equal(images[0, 0], images[1, 1])
    red = (images[..., 0] > images[..., 2] + 40.0).reshape(4, 24, 32)
    rows = [np.nonzero(mask)[0].mean() for mask in red]
    assert rows[0] < rows[1] < rows[2]  # the link swings down, image rows grow downwards
    np.testing.assert_array_equal(
        rendering.render(model, qpos[1, 0], 0, width=32, height=24, config=_FAST), images[1, 0]
    )


def test_cameras(model):
    def draw(camera):
        return rendering.render(model, np.zeros(1), camera, width=32, height=24, config=_FAST)

    like_side = rendering.Camera(lookat=(0, 0, 0.5), azimuth=90, elevation=0, fovy=50)
    np.testing.assert_allclose(draw("side"), draw(like_side), atol=1)
    framed = draw(None)
    assert (framed[..., 0] > framed[..., 2] + 40.0).any()  # the default view shows the link
    assert (draw("hand") != framed).any()
    with pytest.raises(ValueError, match=r"no camera 'top'; its cameras: 'side', 'hand'"):
        draw("top")
    with pytest.raises(ValueError, match="no camera 2"):
        draw(2)


def test_bad_positions_are_named(model):
    with pytest.raises(ValueError, match=r"qpos has shape \(3, 2\); this model needs"):
        rendering.render(model, np.zeros((3, 2)))
    with pytest.raises(ValueError, match="frame 1 of 2 is not finite"):
        rendering.render(model, np.array([[0.0], [np.nan]]))


def test_files_can_be_read_back(tmp_path, model):
    qpos = np.linspace(0, 1, 6)[:, None]
    frames = rendering.render(model, qpos, "side", width=64, height=48, config=_FAST)
    rendering.write_video(tmp_path / "a.mp4", frames, fps=10)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(tmp_path / "a.mp4")]
    decoded = subprocess.run(
        [*command, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], capture_output=True, check=True
    )
    assert b"10 fps" in decoded.stderr
    video = np.frombuffer(decoded.stdout, np.uint8).reshape(-1, 48, 64, 3)
    assert video.shape == frames.shape
    assert np.abs(video.astype(float) - frames).mean() < 8
    rendering.write_png(tmp_path / "a.png", frames[0])
    np.testing.assert_array_equal(mediapy.read_image(tmp_path / "a.png"), frames[0])
    with pytest.raises(ValueError, match="odd"):
        rendering.write_video(tmp_path / "b.mp4", frames[:, 1:])
    with pytest.raises(ValueError, match="uint8 image"):
        rendering.write_png(tmp_path / "b.png", frames[0] / 255)


@pytest.mark.parametrize("failure", [KeyboardInterrupt, RuntimeError])
def test_an_unfinished_video_leaves_the_one_before(failure, tmp_path, monkeypatch):
    path, frames = tmp_path / "a.mp4", np.zeros((2, 16, 16, 3), np.uint8)
    rendering.write_video(path, frames)
    before = path.read_bytes()

    def unfinished(path, frames, **options):
        path.write_bytes(b"half a video")
        raise failure

    monkeypatch.setattr(mediapy, "write_video", unfinished)
    with pytest.raises(failure):
        rendering.write_video(path, frames)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
