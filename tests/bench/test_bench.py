"""The benchmark's bookkeeping; what it measures is not a test's business."""

import json

import mujoco
import numpy as np
import pytest

from jgps import bench, tasks
from jgps.bench import ilqg, measure, peers, policy, render, suites


def test_unknown_suite_lists_the_valid_ones():
    with pytest.raises(
        ValueError, match=r"unknown benchmark 'speed'.*iteration, network, policy, render"
    ):
        bench.main("speed")


def test_unwritable_result_is_refused_before_measuring(tmp_path, monkeypatch):
    monkeypatch.setattr(suites, "SUITES", {})
    with pytest.raises(ValueError, match="directory that exists"):
        bench.main("physics", tmp_path / "missing" / "result.json")
    with pytest.raises(ValueError, match="directory that exists"):
        bench.main("physics", tmp_path)


def test_result_is_written_with_machine_and_rows(tmp_path, monkeypatch, capsys):
    line = measure.row("a thing", [0.1, 0.3, 0.2], ratio={"peer": 2.0}, compile_s=1.5)
    monkeypatch.setitem(suites.SUITES, "lqr", lambda: [line])
    assert bench.main("lqr", tmp_path / "result.json") == 0
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["suites"]["lqr"] == [line]
    assert result["environment"]["cores"] >= 1
    assert result["environment"]["versions"]["mujoco"]
    assert "a thing" in capsys.readouterr().out
    assert "| a thing | 200 ms |" in (tmp_path / "result.md").read_text()


def test_row_of_durations_and_of_rates():
    duration = measure.row("d", [0.1, 0.2, 0.4])
    assert duration["median"] == pytest.approx(200)
    assert duration["best"] == pytest.approx(100)
    rate = measure.row("r", [0.1, 0.2, 0.4], "steps/s", 10)
    assert rate["median"] == pytest.approx(50)
    assert rate["best"] == pytest.approx(100)
    assert rate["quartiles"] == pytest.approx([37.5, 75])


@pytest.mark.parametrize("shadows", [0, 1])
def test_mujoco_warp_draws_the_same_poses_where_it_is_installed(monkeypatch, shadows):
    model, drawn = mujoco.MjModel.from_xml_string(render.scene_xml()), []

    def renderer(model, camera, num, **settings):
        assert (camera, num) == ("eye", 3)
        assert settings == {"width": 16, "height": 16, "shadows": bool(shadows)}
        return drawn.append

    monkeypatch.setattr(render, "mujoco_seconds", lambda *_: None)
    monkeypatch.setattr(render.rendering, "warp_available", lambda: False)
    assert render._peers(model, "small", 16, shadows, 3) == []
    monkeypatch.setattr(render.rendering, "warp_available", lambda: True)
    monkeypatch.setattr(render.rendering, "warp_renderer", renderer)
    (peer,) = render._peers(model, "small", 16, shadows, 3)
    assert peer["name"] == "MuJoCo Warp, small" and peer["unit"] == "images/s"
    data = mujoco.MjData(model)
    data.qpos[:] = drawn[-1][2]
    mujoco.mj_kinematics(model, data)
    np.testing.assert_allclose(render.body_poses(model, 3)[0][2], data.xpos, atol=1e-6)


def test_functions_take_turns():
    calls = []
    functions = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    seconds = measure.times(functions, repeats=3, warm_up=1)
    assert calls == ["a", "b", *"ababab"]
    assert all(s.shape == (3,) and np.all(s > 0) for s in seconds.values())


def test_numpy_process_times_its_parts():
    rng = np.random.default_rng(0)
    problem = {
        "F": rng.normal(size=(1, 3, 2, 3)).astype(np.float32),
        "f": np.zeros((1, 3, 2)),
        "H": np.tile(np.eye(3), (1, 4, 1, 1)),
        "g": np.zeros((1, 4, 3)),
    }
    seconds = peers.numpy_seconds(problem, ("backward",), repeats=2)
    assert list(seconds) == ["backward"]
    assert len(seconds["backward"]) == 2
    with pytest.raises(RuntimeError, match="KeyError"):
        peers.numpy_seconds(problem, ("fit",), repeats=1)


def test_open_loop_peer_replays_the_closed_loop():
    task = tasks.make("point_mass")
    controls = np.random.default_rng(0).uniform(
        -1, 1, (task.train.num, 2, task.horizon, task.action_dim)
    )
    states = peers.open_loop_rollout(task, controls)()
    assert states.shape[:2] == (task.train.num * 2, (task.horizon - 1) * task.substeps)
    elapsed = (task.horizon - 1) * task.control_dt
    np.testing.assert_allclose(states[:, -1, 0], elapsed, rtol=1e-9)


def test_crocoddyl_peer_runs_where_installed():
    pytest.importorskip("crocoddyl")
    run = peers.crocoddyl_backward(4, 2, 5)
    assert run is not None
    run()


def test_the_policy_s_images_are_counted():
    trained, acted = policy._one(25, "float32", repeats=1, batch=2)
    assert trained["unit"] == acted["unit"] == "images/s"
    assert trained["name"] == "trained, 25x25, float32, batch of 2"
    assert 0 < trained["median"] and 0 < acted["median"]


def test_searches_count_the_iterations_that_were_done():
    line = ilqg.search(num=2, steps=60, repeats=1)
    assert line["batch"] == 2 and line["unit"] == "iterations/s" and line["median"] > 0


def test_starts_differ_and_bring_no_condition_of_their_own():
    task = tasks.make("walker")
    found = ilqg.starts(task, 3)
    assert found.qpos.shape == (3, task.model.nq)
    assert len(np.unique(found.qvel, axis=0)) == 3
