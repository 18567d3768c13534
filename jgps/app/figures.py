"""Figures of how training went: learning curves, diagnostics, and several runs side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, PercentFormatter

from jgps.app.run_data import Run
from jgps.app.style import (
    COLOURS,
    GREY,
    INK,
    condition_colour,
    iteration_axis,
    new_figure,
    save,
    scale_y,
    style,
)

_PANELS = {"cost": "Cost", "distance": "Distance to the target (m)", "success": "Success"}
_SPREAD = "Thin: single conditions.  Thick: their mean.  Shaded: their range."


def learning_curve(run: Run, path: Path) -> Path:
    """Cost, distance and success of the samples over iterations, spread over conditions."""
    shown = {key: run.conditions(key) for key in _PANELS if key in run.metrics}
    iterations = run.metrics["iteration"]
    caption = _SPREAD
    with style():
        figure = new_figure(480, run.title)
        axes = figure.subplots(1, len(shown), squeeze=False)[0]
        for ax, (key, values) in zip(axes, shown.items(), strict=True):
            last = iterations[-1]
            if key == "distance" and _draw_final(ax, run, last + 1):
                caption += "  Dots: final controllers without exploration noise."
                last += 1
            _spread(ax, iterations, values, legend=ax is axes[0])
            ax.set_title(_PANELS[key])
            _scale(ax, key, values)
            iteration_axis(ax, iterations[0], last, _iteration_label(run))
        figure.supxlabel(caption, x=0.012, ha="left", fontsize=8.5, color=GREY)
        return save(figure, path)


def _draw_final(ax: Axes, run: Run, x: float) -> bool:
    final = run.summary.get("distance_last")
    if not isinstance(final, list):
        return False
    for c, value in enumerate(final):
        colour = condition_colour(c, len(final))
        ax.plot(x, np.nan if value is None else value, "o", color=colour, markersize=5, zorder=4)
    return True


def _iteration_label(run: Run) -> str:
    iterations, total = run.summary.get("iterations"), run.summary.get("rollouts_total")
    if not iterations or not total or total % iterations:
        return "iteration"
    return f"iteration ({total // iterations} rollouts each)"


def _scale(ax: Axes, key: str, values: np.ndarray) -> None:
    if key == "success":
        ax.set_ylim(-0.04, 1.04)
        ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    else:
        scale_y(ax, values)


def _spread(ax: Axes, x: np.ndarray, values: np.ndarray, *, legend: bool = False) -> None:
    """Thin lines of the conditions [I, C], their range as a band, their mean as a thick line."""
    num = values.shape[1]
    if num > 1:
        finite = np.where(np.isfinite(values), values, np.nan)
        low, high = _over_conditions(np.nanmin, finite), _over_conditions(np.nanmax, finite)
        ax.fill_between(x, low, high, color=GREY, alpha=0.13, linewidth=0)
        for c in range(num):
            label = f"condition {c}" if num <= len(COLOURS) else None
            colour = condition_colour(c, num)
            ax.plot(x, values[:, c], color=colour, linewidth=1.0, alpha=0.9, label=label)
    mean = _over_conditions(np.nanmean, values)
    ax.plot(x, mean, color=INK, linewidth=2.2, label="mean" if num > 1 else None)
    if legend and num > 1:
        ax.legend(loc="best")


def _over_conditions(reduce, values: np.ndarray) -> np.ndarray:
    """`reduce` along the last axis; NaN, without a warning, where a row has no number."""
    result = np.full(len(values), np.nan)
    some = np.isfinite(values).any(axis=1)
    result[some] = reduce(np.where(np.isfinite(values[some]), values[some], np.nan), axis=1)
    return result


def diagnostics(run: Run, path: Path) -> Path | None:
    """KL against its bound, eta, step multiplier, promised against real gain; None without them."""
    x = run.metrics["iteration"]
    keys = [key for key in ("kl", "eta", "step_multiplier") if key in run.metrics]
    gains = _gains(run)
    num = len(keys) + (gains is not None)
    if not num:
        return None
    with style():
        figure = new_figure(760 if num > 2 else 440, run.title + "  ·  optimisation", _SPREAD)
        grid = figure.subplots(-(-num // 2), min(num, 2), squeeze=False)
        for ax in grid.ravel()[num:]:
            ax.set_visible(False)
        for ax, key in zip(grid.ravel(), keys, strict=False):
            values = run.conditions(key)
            _spread(ax, x, values)
            if key == "kl" and "kl_bound" in run.metrics:
                bound = run.conditions("kl_bound")
                _bounds(ax, x, bound)
                values = np.concatenate([values, bound])
            ax.set_title(_DIAGNOSTICS[key])
            scale_y(ax, values)
            iteration_axis(ax, x[0], x[-1])
        if gains is not None:
            _draw_gains(grid.ravel()[len(keys)], x, *gains)
        return save(figure, path)


_DIAGNOSTICS = {
    "kl": "KL divergence from the previous controller (nats)",
    "eta": "Multiplier η of the KL bound",
    "step_multiplier": "Step multiplier",
}


def _bounds(ax: Axes, x: np.ndarray, bound: np.ndarray) -> None:
    num = bound.shape[1]
    for c in range(num):
        colour = condition_colour(c, num)
        ax.plot(x, bound[:, c], color=colour, linewidth=1, linestyle=(0, (2, 2)), alpha=0.9)
    ax.plot([], [], color=GREY, linewidth=1, linestyle=(0, (2, 2)), label="bound")
    ax.legend(loc="best")


def _gains(run: Run) -> tuple[np.ndarray, np.ndarray] | None:
    """Decrease of the expected cost [I-1, C] that every step promised, and that it brought."""
    if not {"cost_expected", "cost_predicted"} <= set(run.metrics):
        return None
    before, predicted = run.conditions("cost_expected"), run.conditions("cost_predicted")
    if len(before) < 2:
        return None
    return before[:-1] - predicted[:-1], before[:-1] - before[1:]


def _draw_gains(ax: Axes, x: np.ndarray, promised: np.ndarray, real: np.ndarray) -> None:
    for values, colour, label in ((promised, COLOURS[4], "predicted"), (real, INK, "realised")):
        mean = _over_conditions(np.nanmean, values)
        ax.plot(x[:-1], mean, "o-", color=colour, linewidth=2, markersize=4, label=label)
    ax.axhline(0, color=GREY, linewidth=0.8)
    finite = np.abs(promised[np.isfinite(promised) & (promised != 0)])
    linear = 10.0 ** (np.floor(np.log10(finite.max())) - 2) if finite.size else 1.0
    ax.set_yscale("symlog", linthresh=linear)
    ticks = linear * 10.0 ** np.arange(6)
    ax.set_yticks([*-ticks, 0, *ticks])
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    ax.margins(y=0.08)
    ax.set_title("Decrease of the expected cost, mean over conditions")
    ax.legend(loc="best")
    iteration_axis(ax, x[0], x[-1])


def comparison_curves(groups: Mapping[str, Sequence[Run]], path: Path) -> Path:
    """Learning curves of groups of runs: thin lines are runs, thick ones the mean of a group.

    Args:
      groups: runs of one task by label; a run's value is its mean over conditions.
      path: of the PNG.
    """
    runs = [run for group in groups.values() for run in group]
    keys = [key for key in _PANELS if any(key in run.metrics for run in runs)]
    tasks = list(dict.fromkeys(str(run.value("task", "")) for run in runs))
    with style():
        title = ", ".join(task.replace("_", " ") for task in tasks)
        figure = new_figure(
            480, title[:1].upper() + title[1:], "Thin: single runs.  Thick: their mean."
        )
        for ax, key in zip(figure.subplots(1, len(keys), squeeze=False)[0], keys, strict=True):
            values = [
                _draw_group(ax, group, key, colour=COLOURS[i % len(COLOURS)], label=label)
                for i, (label, group) in enumerate(groups.items())
            ]
            ax.set_title(_PANELS[key])
            _scale(ax, key, np.concatenate(values))
            iterations = np.concatenate([run.metrics["iteration"] for run in runs])
            iteration_axis(ax, iterations.min(), iterations.max())
            if key == keys[0]:
                ax.legend(loc="best")
        return save(figure, path)


def _draw_group(ax: Axes, runs: Sequence[Run], key: str, *, colour: str, label: str) -> np.ndarray:
    """Draws the runs and their mean, and returns the numbers drawn."""
    curves = {}
    for run in runs:
        if key in run.metrics:
            mean = _over_conditions(np.nanmean, run.conditions(key))
            curves[run.directory] = dict(zip(run.metrics["iteration"], mean, strict=True))
    iterations = sorted({i for curve in curves.values() for i in curve})
    table = np.array(
        [[curve.get(i, np.nan) for curve in curves.values()] for i in iterations]
    ).reshape(len(iterations), len(curves))
    if len(curves) > 1:
        for column in table.T:
            ax.plot(iterations, column, color=colour, linewidth=0.9, alpha=0.5)
    mean = _over_conditions(np.nanmean, table)
    seeds = f"{len(runs)} run{'s' if len(runs) > 1 else ''}"
    ax.plot(iterations, mean, color=colour, linewidth=2.2, label=f"{label} ({seeds})")
    return table.ravel()
