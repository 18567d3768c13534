"""What a report draws of models that the ray caster can't draw well, or not at all."""

import types

import mediapy
import numpy as np
import pytest

from jgps import costs, tasks
from jgps.rendering import NotDrawableError, triangle_counts
from jgps.reports import report, video
from jgps.reports.quality import affordable_quality

MODEL = """
<mujoco>
  <option timestep="0.05"/>
  <asset>{assets}</asset>
  <worldbody>
    <body name="link"><joint type="slide" axis="1 0 0"/><geom size="0.1" mass="1"/>{parts}</body>
  </worldbody>
  {more}
  <actuator><motor joint="{joint}"/></actuator>
</mujoco>
"""
SKIN = """<deformable><skin vertex="0 0 0 1 0 0 0 1 0" face="0 1 2">
  <bone body="link" bindpos="0 0 0" bindquat="1 0 0 0" vertid="0 1 2" vertweight="1 1 1"/>
</skin></deformable>"""


def _task(assets: str = "", parts: str = "", more: str = "") -> tasks.Task:
    text = MODEL.format(assets=assets, parts=parts, more=more, joint="j").replace(
        'type="slide"', 'name="j" type="slide"'
    )
    return tasks.from_mjcf(
        text, cost=lambda s: costs.action(1.0), horizon=4, control_dt=0.1, name="link"
    )


def _draw(task: tasks.Task, directory) -> tuple[list, list[str]]:
    said: list[str] = []
    rollouts = video.VideoRollouts(np.zeros((1, 4, 1)))
    run = types.SimpleNamespace(directory=directory)
    return report._video(run, task, rollouts, said.append, False), said


def test_detailed_meshes_are_drawn_coarsely_and_the_report_says_so(tmp_path, monkeypatch):
    ball = '<mesh name="{}" builtin="sphere" params="4"/>'  # 5,120 triangles
    task = _task(
        ball.format("a") + ball.format("b"),
        '<geom type="mesh" mesh="a"/><geom type="mesh" mesh="b" pos="3 0 0"/>',
    )
    counts = triangle_counts(task.model)
    quality = affordable_quality(task.model, video.VIDEO)
    assert (counts.sum(), quality.triangles, quality.drawn) == (10240, 10240, 4000)
    assert quality.config.simplify and quality.config.max_triangles == 2000
    monkeypatch.setattr(video, "_TILE", (64, 48))
    written, said = _draw(task, tmp_path)
    assert [path.name for path in written] == ["final.mp4", "final.png"]
    assert mediapy.read_image(written[1])[..., :3].std() > 5
    assert len(said) == 1 and "have 10240 triangles" in said[0] and "at most 4000" in said[0]
    _, remark = video._drawer(task.model, video.VideoOptions())
    assert remark == " (coarse meshes)"


def test_few_triangles_are_drawn_as_they_are():
    task = _task('<mesh name="a" builtin="sphere" params="2"/>', '<geom type="mesh" mesh="a"/>')
    quality = affordable_quality(task.model, video.VIDEO)
    assert quality == (video.VIDEO, 320, None)
    assert quality.caption == quality.explanation == ""


def test_what_cannot_be_drawn_is_said_and_the_rest_is_kept(tmp_path):
    task = _task(more=SKIN)
    written, said = _draw(task, tmp_path)
    assert written == []
    assert len(said) == 1 and said[0].startswith("No video: The model has a skin")
    with pytest.raises(NotDrawableError, match="has a skin"):
        video.film_strip(task, np.zeros((1, 4, 1)), tmp_path / "strip.png")
