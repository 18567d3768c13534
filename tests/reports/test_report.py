"""Reports, comparisons and figures of small synthetic runs (seed 0)."""

import csv
import json
import re
import subprocess
from pathlib import Path

import imageio_ffmpeg
import jax.numpy as jnp
import matplotlib
import mediapy
import numpy as np
import pytest
from matplotlib.figure import Figure
from rich.console import Console

from jgps import costs, tasks
from jgps.reports.comparison import _curves, _draw, comparison_figure
from jgps.reports.plots.curves import mark_phases, phase_labels
from jgps.reports.plots.policy import draw_policy
from jgps.reports.report import compare, write_report
from jgps.reports.run_data import read_run
from jgps.simulation import Conditions

MODEL = """
<mujoco>
  <option timestep="0.05"/>
  <worldbody>
    <body><joint name="slide" type="slide" axis="1 0 0"/><geom size="0.1" mass="1"/>
      <body pos="0.2 0 0"><joint name="lift" type="slide" axis="0 0 1"/><geom size="0.05"/>
        <site name="tip" pos="0 0 0.1"/></body></body>
  </worldbody>
  <actuator><motor name="push" joint="slide"/><motor joint="lift"/></actuator>
</mujoco>
"""
TARGET = (0.5, 0.0, 0.3)
C, N, T, ITERATIONS = 2, 3, 6, 4
TEST = 8  # unseen conditions


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


def make_run(
    directory: Path,
    *,
    seed: int = 0,
    algorithm: str = "trajopt",
    kl_step: float = 1.0,
    finished: bool = True,
) -> Path:
    """A run directory as `jgps train` leaves it, with random numbers in it."""
    rng = np.random.default_rng(seed)
    directory.mkdir(parents=True)
    description = {"task": "lifter", "algorithm": algorithm, "seed": seed, "backend": "native"}
    config = {"type": "TrajoptConfig", "step": {"type": "S", "kl_step": kl_step}}
    (directory / "config.json").write_text(json.dumps({**description, "config": config}))
    with (directory / "metrics.jsonl").open("w") as file:
        for i in range(ITERATIONS):
            row = {"iteration": i, "iteration_seconds": 0.1}
            for key in ("cost", "distance", "kl", "kl_bound", "eta", "step_multiplier"):
                row[key] = (10.0**-i * rng.uniform(1, 2, C)).tolist()
            row |= {"success": [0.0, 1.0], "cost_expected": [5.0 - i] * C}
            row |= {"cost_predicted": [4.0 - i, None], "samples_valid": [N] * C}
            row |= {"success_train": i / 4, "success_test": i / 8}
            row |= {"cost_train_policy": 9.0 - i, "cost_test_policy": None if i == 1 else 10.0 - i}
            if algorithm == "mdgps":
                row |= {"policy_loss": 1.0, "policy_cost_expected": [6.0 - i] * C}
                row |= {"policy_kl": [0.0, 0.0] if i == 0 else [3.0, 40.0]}
            file.write(json.dumps(row) + "\n")
    if finished:
        summary = {**description, "iterations": ITERATIONS, "rollouts_total": ITERATIONS * C * N}
        summary |= {"distance_last": [0.01, 0.02 + 0.01 * seed], "success_train": 1.0}
        summary |= {"cost_train": [6.0, 7.0], "cost_test": [8.0, None]}
        summary |= {"success_test": 0.5, "seconds_per_iteration": 0.1, "wall_seconds": 3.0}
        (directory / "summary.json").write_text(json.dumps(summary))
        save_trajectories(directory, make_trajectories(rng))
    return directory


def save_trajectories(directory: Path, arrays: dict[str, np.ndarray]) -> None:
    np.savez(directory / "trajectories.npz", allow_pickle=False, **arrays)


def make_trajectories(rng: np.random.Generator) -> dict[str, np.ndarray]:
    dX, dU = 7, 2
    factor = 0.1 * rng.normal(size=(C, T, dX + dU, dX + dU))
    return {
        "x": rng.normal(size=(C, T, dX)),
        "u": rng.normal(size=(C, T, dU)),
        "qpos": 0.1 * rng.normal(size=(C, T, 2)),
        "sample_x": rng.normal(size=(C, N, T, dX)),
        "sample_u": rng.normal(size=(C, N, T, dU)),
        "sample_valid": np.ones((C, N), bool),
        "mean": rng.normal(size=(C, T, dX + dU)),
        "cov": factor @ factor.swapaxes(-1, -2),
        "K": np.zeros((C, T, dU, dX)),
        "k": np.zeros((C, T, dU)),
        "C": np.ones((C, T, dU, dU)),
        "test_x": rng.normal(size=(TEST, T, dX)),
        "test_qpos": 0.1 * rng.normal(size=(TEST, T, 2)),
    }


def check_picture(path: Path, width: int | None = 1200) -> None:
    image = mediapy.read_image(path)
    assert width is None or image.shape[1] == width
    assert image.shape[0] >= 200
    assert image[..., :3].std() > 5, "blank"


def read_video(path: Path) -> tuple[str, np.ndarray]:
    """What ffmpeg says of the stream, and its frames [I, H, W, 3]."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(path)]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    done = subprocess.run(command, capture_output=True, check=True)
    stream = next(line for line in done.stderr.decode().splitlines() if "Video:" in line)
    size = re.search(r" (\d{2,})x(\d{2,})", stream)
    assert size is not None, stream
    width, height = int(size[1]), int(size[2])
    return stream, np.frombuffer(done.stdout, np.uint8).reshape(-1, height, width, 3)


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


def test_comparison_means_runs_of_one_setting(tmp_path):
    runs = [make_run(tmp_path / f"run{seed}", seed=seed) for seed in (0, 1)]
    runs.append(make_run(tmp_path / "other", seed=2, kl_step=0.5))
    console = Console(record=True, width=200)
    curves, markdown, table = compare(runs, tmp_path / "out", console=console)
    check_picture(curves)
    assert curves.name == "comparison_lifter.png"

    lines = markdown.read_text().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    labels = [row[1] for row in cells[2:]]
    assert labels == ["trajopt, step.kl_step 1.0", "trajopt, step.kl_step 0.5"]
    assert [row[2] for row in cells[2:]] == ["2", "1"]
    distance = np.array([0.015, 0.02]) * 100  # means over conditions, in centimetres
    assert cells[2][7] == f"{distance.mean():.3g} ± {distance.std():.2g}"
    assert cells[2][9] == "50% ± 0%"
    printed = console.export_text()
    assert all(label in printed for label in labels)

    with table.open() as file:
        rows = list(csv.DictReader(file))
    last = [json.loads((run / "metrics.jsonl").read_text().splitlines()[-1]) for run in runs]
    assert [float(row["cost_samples"]) for row in rows] == pytest.approx(
        [np.mean(m["cost"]) for m in last]
    )
    assert [row["directory"] for row in rows] == [str(run) for run in runs]


def test_distracted_conditions_have_columns_and_panels_where_a_run_was_tried_there(tmp_path):
    runs = [make_run(tmp_path / f"run{seed}", seed=seed) for seed in (0, 1)]
    console = Console(record=True, width=200)
    _, markdown, _ = compare(runs, tmp_path / "out", console=console)
    assert "distracted" not in markdown.read_text()
    summary = json.loads((runs[1] / "summary.json").read_text())
    summary |= {"success_distracted": 0.25, "cost_distracted": [3.0, 5.0]}
    (runs[1] / "summary.json").write_text(json.dumps(summary))
    _, markdown, table = compare(runs, tmp_path / "out", console=console)
    header, _, row = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in markdown.read_text().splitlines()
    )
    found = dict(zip(header, row, strict=True))
    assert (found["cost, distracted"], found["success, distracted"]) == ("4", "25%")
    with table.open() as file:
        assert [each["success_distracted"] for each in csv.DictReader(file)] == ["", "0.25"]
    run = read_run(runs[1])
    metrics = run.metrics | {"success_distracted": np.linspace(0, 0.25, ITERATIONS)}
    titles = [ax.get_title() for ax in comparison_figure({"a": [run]}).axes]
    more = comparison_figure({"a": [run._replace(metrics=metrics)]})
    added = {ax.get_title() for ax in more.axes if ax.get_visible()} - set(titles)
    assert added == {"Success without noise, distracted conditions"}


def test_phases_are_named_where_there_is_room_and_numbered_elsewhere(tmp_path):
    run = read_run(make_run(tmp_path / "run"))
    assert run.phases == run._replace(config={"config": {"policy": None}}).phases == []
    vision = {"type": "VisualConfig", "dense_iterations": 4}

    def lasting(num, kind):
        policy = {"type": "MlpConfig"} if kind == "mlp" else {**vision, "kind": kind}
        settings = {"policy": policy, "trajectory_iterations": 5}
        metrics = {"iteration": np.arange(float(num))}
        return run._replace(config={**run.config, "config": settings}, metrics=metrics)

    assert lasting(12, "mlp").phases == []
    assert run._replace(config={"config": {"policy": {"type": "MlpConfig", "x": 1}}}).phases == []
    assert lasting(12, "visuomotor").phases == [
        ("controllers alone", 0, 4),
        ("dense layers", 5, 8),
        ("end to end", 9, 11),
    ]
    assert lasting(7, "visuomotor").phases == [("controllers alone", 0, 4), ("dense layers", 5, 6)]
    assert lasting(12, "pose_features").phases[-1] == ("dense layers", 5, 11)
    assert phase_labels(lasting(12, "visuomotor"), 3).texts[1:] == ["dense layers", "end to end"]
    numbered = phase_labels(lasting(40, "visuomotor"), 3)
    assert numbered.texts == ["1", "2", "3"] and "2 dense layers" in numbered.caption
    ax = Figure().subplots()
    ax.set(xlim=(-0.3, 12.3), title="")
    mark_phases(ax, phase_labels(lasting(12, "visuomotor"), 3))
    assert [text.get_position()[0] for text in ax.texts] == [-0.3, 4.5, 8.5]
    assert ax.get_xlim() == (-0.3, 12.3)


def test_a_curve_is_the_mean_over_runs_at_every_iteration_that_any_has(tmp_path):
    runs = [read_run(make_run(tmp_path / f"run{seed}", seed=seed)) for seed in (0, 1)]
    shorter = {key: values[:2] for key, values in runs[1].metrics.items()}
    curves = _curves([runs[0], runs[1]._replace(metrics=shorter)], "cost")
    cost = [run.metrics["cost"].mean(axis=1) for run in runs]
    both = np.array([cost[0][:2], cost[1][:2]])
    np.testing.assert_array_equal(curves.x, range(4))
    np.testing.assert_allclose(curves.mean, [*both.mean(axis=0), *cost[0][2:]])
    np.testing.assert_allclose(curves.deviation, [*both.std(axis=0), 0, 0])


def test_rollouts_are_the_axis_where_groups_take_different_numbers(tmp_path):
    runs = [read_run(make_run(tmp_path / f"run{seed}", seed=seed)) for seed in (0, 1)]

    def taking(rollouts):
        return [
            run._replace(summary=run.summary | {"rollouts_total": n, "iterations": ITERATIONS})
            for run, n in zip(runs, rollouts, strict=True)
        ]

    few, many = taking((ITERATIONS * 20, ITERATIONS * 80))
    figure = comparison_figure({"trajopt": [few], "mdgps": [many]})
    first, second = (line.get_xdata() for line in figure.axes[0].get_lines())
    np.testing.assert_allclose(first, 20 * np.arange(1, ITERATIONS + 1))
    np.testing.assert_allclose(second, 80 * np.arange(1, ITERATIONS + 1))
    assert "rollouts" in figure.axes[0].get_xlabel()
    same = comparison_figure({"trajopt": taking((40, 40))[:1], "mdgps": taking((40, 40))[1:]})
    assert same.axes[0].get_xlabel() == "iteration"


def test_algorithms_are_compared_on_one_task(tmp_path):
    runs = [make_run(tmp_path / f"run{seed}", seed=seed) for seed in (0, 1)]
    runs += [make_run(tmp_path / f"n{seed}", seed=seed, algorithm="mdgps") for seed in (0, 1)]
    curves, markdown, _ = compare(runs, tmp_path / "out", console=Console(record=True, width=200))
    check_picture(curves)
    labels = [line.split("|")[2].strip() for line in markdown.read_text().splitlines()]
    assert labels[2:] == ["trajopt", "mdgps"]


def test_curves_and_bands_are_in_view(tmp_path):
    """An axis that was scaled before anything was drawn on it stays blank."""
    runs = [read_run(make_run(tmp_path / f"run{seed}", seed=seed)) for seed in (0, 1)]
    failed = runs[0].metrics | {"success_test": np.full(ITERATIONS, np.nan)}
    ax = Figure().subplots()
    for index, key in enumerate(("cost", "success_test")):
        _draw(ax, _curves([run._replace(metrics=failed) for run in runs], key), index, key)
    assert ax.get_ylim()[1] >= runs[0].metrics["cost"].mean(axis=1).max()
    figure = comparison_figure({"trajopt": runs})
    for panel in figure.axes:
        low, high = panel.get_ylim()
        for line in panel.get_lines():
            values = np.asarray(line.get_ydata(), float)
            assert low <= np.nanmin(values) and np.nanmax(values) <= high


def test_nothing_to_compare_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="at least one"):
        compare([], tmp_path / "out")
