"""Reports of small synthetic runs (seed 0)."""

import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest
from made_runs import (
    ITERATIONS,
    MODEL,
    TARGET,
    TEST,
    C,
    T,
    check_picture,
    draw_roughly,
    make_run,
    make_trajectories,
    read_video,
    save_trajectories,
)

from jgps import costs, tasks
from jgps.reports.plots.diagnostics import describe_ridges, draw_diagnostics
from jgps.reports.plots.policy import draw_policy
from jgps.reports.report import compare, write_report
from jgps.reports.run_data import read_run
from jgps.simulation import Conditions


@pytest.fixture
def rough(monkeypatch):
    draw_roughly(monkeypatch)


@pytest.fixture(scope="module")
def task():
    def distance(s):
        return lambda x: jnp.linalg.norm(x[-1, s["site_pos:tip"]] - jnp.asarray(TARGET, x.dtype))

    return tasks.from_mjcf(
        MODEL,
        cost=lambda s: costs.distance(s["site_pos:tip"], TARGET),
        state=("qpos", "qvel", "site_pos:tip"),
        horizon=T,
        control_dt=0.1,
        qpos=((0.0, 0.0), (0.2, 0.1)),
        test=Conditions(qpos=np.zeros((TEST, 2)), qvel=np.zeros((TEST, 2))),
        distance=distance,
        name="lifter",
    )


def test_a_report_has_all_figures_and_a_video_that_browsers_play(task, tmp_path):
    directory, said = make_run(tmp_path / "run"), []
    style_before = dict(matplotlib.rcParams)
    written = write_report(directory, task, say=said.append)
    assert dict(matplotlib.rcParams) == style_before
    assert said == []
    assert [path.relative_to(directory).as_posix() for path in written] == [
        "figures/learning_curve.png",
        "figures/policy.png",
        "figures/diagnostics.png",
        "figures/paths.png",
        "figures/actions.png",
        "videos/final.mp4",
        "figures/final.png",
    ]
    for path in written[:5]:
        check_picture(path)
    check_picture(written[6], width=4 * 320)
    stream, frames = read_video(written[5])
    assert "h264" in stream and "yuv420p" in stream and "10 fps" in stream
    assert frames.shape[1:] == (240, 640, 3)  # two conditions side by side
    assert len(frames) == T + 10  # and one second on the last picture
    assert np.abs(frames[0].astype(int) - frames[T - 1]).max() > 50, "nothing moves"


@pytest.mark.usefixtures("rough")
def test_a_network_is_shown_in_unseen_conditions(task, tmp_path):
    directory, said = make_run(tmp_path / "run", algorithm="mdgps"), []
    arrays = make_trajectories(np.random.default_rng(0))
    arrays["test_qpos"][3] = np.nan
    save_trajectories(directory, arrays)
    for path in write_report(directory, task, say=said.append):
        if path.suffix == ".png" and path.name != "final.png":
            check_picture(path)
    assert said == ["The final policy diverges in unseen condition 3: left out of the video."]
    _, frames = read_video(directory / "videos" / "final.mp4")
    assert frames.shape[1:] == (2 * 192, 3 * 256, 3)  # six of the seven
    del arrays["test_qpos"]
    save_trajectories(directory, arrays)
    with pytest.warns(UserWarning, match="lacks test_qpos"):
        assert read_run(directory).trajectories is None


def test_the_policy_figure_draws_what_there_is(tmp_path):
    """Without per-iteration evaluation, and with no more than that."""
    directory = make_run(tmp_path / "run")
    run = read_run(directory)
    bare = {k: v for k, v in run.metrics.items() if not k.startswith(("success_", "cost_t"))}
    assert draw_policy(run._replace(metrics=bare), tmp_path / "none.png") is None
    path = draw_policy(run, tmp_path / "policy.png")
    assert path is not None
    check_picture(path)


def test_a_task_that_jgps_does_not_know_is_reported_without_video(tmp_path):
    said = []
    written = write_report(make_run(tmp_path / "run"), say=said.append)
    assert [path.suffix for path in written] == [".png"] * 5
    assert len(said) == 1 and "'lifter'" in said[0] and "no video" in said[0]


def test_an_unfinished_run_gets_its_curves(task, tmp_path):
    said = []
    directory = make_run(tmp_path / "run", finished=False)
    with (directory / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 4, "co')  # the process died here
    written = write_report(directory, task, say=said.append)
    names = [path.name for path in written]
    assert names == ["learning_curve.png", "policy.png", "diagnostics.png"]
    assert len(said) == 1 and "not finished" in said[0]


def test_diagnostics_say_where_ridges_were_raised(task, tmp_path):
    run = read_run(make_run(tmp_path / "run"))
    assert describe_ridges(run) == ""
    metrics = {**run.metrics, "ridge_added": np.zeros((4, 2)), "mixture_ridge_added": np.zeros(4)}
    assert describe_ridges(run._replace(metrics=metrics)) == ""
    metrics["ridge_added"] = np.array([[0.0, np.nan], [0.0, 3e-4]])
    text = describe_ridges(run._replace(metrics=metrics))
    assert text.endswith("raised where rounding would hide them: the models by up to 0.0003.")
    assert draw_diagnostics(run._replace(metrics=metrics), tmp_path / "diagnostics.png").exists()


@pytest.mark.usefixtures("rough")
def test_diverged_rollouts_are_left_out_and_named(task, tmp_path):
    directory, said = make_run(tmp_path / "run"), []
    arrays = make_trajectories(np.random.default_rng(0))
    arrays["qpos"][0, 3:] = np.nan
    arrays["sample_valid"][0, 0] = False
    arrays["sample_x"][0, 0] = 1e30
    arrays["mean"][1, 2:], arrays["cov"][1, 2:] = np.nan, np.inf
    save_trajectories(directory, arrays)
    read = read_run(directory).trajectories
    assert read is not None and np.nanmax(np.abs(read["sample_x"])) < 100
    written = write_report(directory, task, say=said.append)
    assert len(said) == 1 and "condition 0" in said[0]
    for path in written:
        if path.name in ("paths.png", "actions.png"):
            check_picture(path)
    _, frames = read_video(directory / "videos" / "final.mp4")
    assert frames.shape[1:] == (240, 320, 3)  # the other condition alone


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: (d / "config.json").unlink(), "config.json"),
        (lambda d: (d / "metrics.jsonl").write_text(""), "no whole iteration"),
        (lambda d: (d / "metrics.jsonl").write_text("[1]\n"), "no whole iteration"),
        (lambda d: (d / "metrics.jsonl").write_text('{"iteration": 0}\n'), "no whole iteration"),
        (lambda d: (d / "metrics.jsonl").write_text('{"iteration": 0, "eta": 1}\n'), "no cost"),
        (lambda d: (d / "config.json").write_text('{"task": 1, "algorithm": ""}'), "damaged"),
    ],
)
def test_a_damaged_run_is_named(tmp_path, damage, message):
    directory = make_run(tmp_path / "run")
    damage(directory)
    with pytest.raises(ValueError, match=message) as caught:
        write_report(directory)
    assert str(directory) in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: (d / "summary.json").write_text("{"), "summary.json is not JSON"),
        (lambda d: (d / "summary.json").write_text('{"cost_train": ["a"]}'), "has to be a number"),
        (lambda d: (d / "trajectories.npz").write_bytes(b"PK\x03\x04"), "cannot be read"),
        (lambda d: np.savez(d / "trajectories.npz", x=np.ones(3)), "lacks u, qpos"),
        (lambda d: np.savez(d / "trajectories.npz", x=np.array(["1"])), "not numbers"),
        (lambda d: reshape_trajectories(d, K=np.ones((C, T, 2, 6))), "K has shape .* not fit"),
        (lambda d: reshape_trajectories(d, u=np.ones((C, T))), r"u has shape .* not \[CTU\]"),
    ],
)
def test_what_is_damaged_beside_the_metrics_is_named_and_left_out(tmp_path, damage, message):
    directory = make_run(tmp_path / "run")
    damage(directory)
    with pytest.warns(UserWarning, match=message) as caught:
        run = read_run(directory)
    assert len(caught) == 1 and str(directory) in str(caught[0].message)
    assert run.metrics["cost"].shape == (ITERATIONS, C)
    assert (run.summary == {}) == ("summary" in str(caught[0].message).partition(";")[0])
    assert (run.trajectories is None) == (
        "trajectories" in str(caught[0].message).partition(";")[0]
    )


def test_models_and_controllers_that_are_not_finite_are_not_drawn(tmp_path):
    directory = make_run(tmp_path / "run")
    arrays = make_trajectories(np.random.default_rng(0))
    for name in ("mean", "cov", "K", "k", "C"):
        arrays[name][:] = np.nan
    arrays["cov"][0], arrays["mean"][0] = -1.0, 1e30  # no covariance of anything
    save_trajectories(directory, arrays)
    for path in write_report(directory, say=lambda _: None):
        if path.name in ("paths.png", "actions.png"):
            check_picture(path)


def reshape_trajectories(directory, **arrays):
    save_trajectories(directory, {**make_trajectories(np.random.default_rng(0)), **arrays})


def test_a_run_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere"):
        compare([make_run(tmp_path / "run"), tmp_path / "nowhere"], tmp_path / "out")


def test_a_run_of_another_task_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"\(2, 6, 7\).*'point_mass' has \(4, 40, 4\)"):
        write_report(make_run(tmp_path / "run"), tasks.make("point_mass"))
