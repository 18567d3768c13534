"""Comparisons of small synthetic runs (seed 0), and their curves."""

import csv
import json

import numpy as np
import pytest
from made_runs import (
    ITERATIONS,
    check_picture,
    make_run,
)
from matplotlib.figure import Figure
from rich.console import Console

from jgps.reports.comparison import _curves, _draw, comparison_figure
from jgps.reports.plots.curves import mark_phases, phase_labels
from jgps.reports.report import compare
from jgps.reports.run_data import read_run


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
