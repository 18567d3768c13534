"""Draws learning curves of several algorithms and seeds side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jgps.reports.plots.curves import over_conditions, scale
from jgps.reports.plots.style import COLOURS, iteration_axis, new_figure, save, style
from jgps.reports.run_data import RunData

_PANELS = {
    "success_train": "Success without noise, training conditions",
    "success_test": "Success without noise, unseen conditions",
    "success_distracted": "Success without noise, distracted conditions",
    "cost_train_policy": "Cost without noise, training conditions",
    "cost_test_policy": "Cost without noise, unseen conditions",
    "cost_distracted_policy": "Cost without noise, distracted conditions",
    "cost": "Cost of the samples",
    "distance": "Distance of the samples to the target (m)",
}
_DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.5)))  # for more groups than there are colours


class _Curves(NamedTuple):
    """The values of one group's runs over iterations or rollouts."""

    x: np.ndarray  # [I]
    values: np.ndarray  # [I, runs], NaN where a run has no number

    @property
    def mean(self) -> np.ndarray:
        return over_conditions(np.nanmean, self.values)

    @property
    def deviation(self) -> np.ndarray:
        return over_conditions(np.nanstd, self.values)


def comparison_curves(groups: Mapping[str, Sequence[RunData]], path: Path) -> Path:
    """Writes `comparison_figure` as PNG."""
    with style():
        return save(comparison_figure(groups), path)


def comparison_figure(groups: Mapping[str, Sequence[RunData]]) -> Figure:
    """Draws learning curves of groups of runs: each mean and one standard deviation about it.

    Over iterations, or over rollouts where groups differ in how many an iteration takes.

    Args:
      groups: runs of one task by label; a run's value is its mean over conditions.
    """
    runs = [run for group in groups.values() for run in group]
    keys = [key for key in _PANELS if any(key in run.metrics for run in runs)]
    tasks = list(dict.fromkeys(str(run.value("task", "")) for run in runs))
    title = ", ".join(task.replace("_", " ") for task in tasks)
    several = any(len(group) > 1 for group in groups.values())
    caption = "Lines: mean over the runs of an algorithm.  Bands: one standard deviation." * several
    columns = 2 if len(keys) > 3 else len(keys)
    rows = -(-len(keys) // columns)
    rollouts = _rollouts_per_iteration(runs)
    figure = new_figure(130 + 350 * rows, title[:1].upper() + title[1:], caption)
    grid = figure.subplots(rows, columns, squeeze=False)
    for ax in grid.ravel()[len(keys) :]:
        ax.set_visible(False)
    for ax, key in zip(grid.ravel(), keys, strict=False):
        curves = {label: _curves(group, key, rollouts) for label, group in groups.items()}
        for i, (label, each) in enumerate(curves.items()):
            number = len(groups[label])
            _draw(ax, each, i, f"{label} ({number} run{'s' * (number > 1)})")
        scale(ax, key, np.concatenate([each.values.ravel() for each in curves.values()]))
        ax.set_title(_PANELS[key])
        x = np.concatenate([each.x for each in curves.values()])
        if rollouts is None:
            iteration_axis(ax, x.min(), x.max())
        else:
            ax.set_xlabel("rollouts of training, all conditions")
        if key == keys[0]:
            ax.legend(loc="best")
    return figure


def _rollouts_per_iteration(runs: Sequence[RunData]) -> dict[str, float] | None:
    """Returns rollouts per iteration by run directory; None if all are equal or one is unknown."""
    known = {
        str(run.directory): run.summary["rollouts_total"] / run.summary["iterations"]
        for run in runs
        if run.summary.get("rollouts_total") and run.summary.get("iterations")
    }
    return known if len(known) == len(runs) and len(set(known.values())) > 1 else None


def _curves(
    runs: Sequence[RunData], key: str, rollouts: Mapping[str, float] | None = None
) -> _Curves:
    found = []
    for run in runs:
        if key in run.metrics:
            mean = over_conditions(np.nanmean, run.conditions(key))
            x = run.metrics["iteration"]
            if rollouts is not None:
                x = (x + 1) * rollouts[str(run.directory)]
            found.append(dict(zip(x.tolist(), mean, strict=True)))
    places = sorted({place for curve in found for place in curve})
    table = [[curve.get(place, np.nan) for curve in found] for place in places]
    return _Curves(np.array(places), np.array(table, float).reshape(len(places), len(found)))


def _draw(ax: Axes, curves: _Curves, index: int, label: str) -> None:
    colour = COLOURS[index % len(COLOURS)]
    dashes = _DASHES[index // len(COLOURS) % len(_DASHES)]
    if curves.values.shape[1] > 1 and np.isfinite(curves.mean).any():
        least, greatest = np.nanmin(curves.values), np.nanmax(curves.values)
        low = np.maximum(curves.mean - curves.deviation, least)  # no success below none or
        high = np.minimum(curves.mean + curves.deviation, greatest)  # above all, no cost below zero
        ax.fill_between(curves.x, low, high, color=colour, alpha=0.16, linewidth=0, zorder=2)
    some = np.isfinite(curves.mean)  # one that is evaluated now and then is a line all the same
    ax.plot(
        curves.x[some], curves.mean[some], color=colour, linestyle=dashes, linewidth=2.2,
        label=label, zorder=3,
    )  # fmt: skip
