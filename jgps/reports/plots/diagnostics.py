"""Draws how training went: learning curves and diagnostics of the optimisation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from jgps.reports.plots.curves import (
    SPREAD,
    draw_spread,
    figure_legend,
    mark_phases,
    over_conditions,
    phase_labels,
    scale,
)
from jgps.reports.plots.style import (
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
from jgps.reports.run_data import RunData

_PANELS = {"cost": "Cost", "distance": "Distance to the target (m)", "success": "Success"}


def draw_learning_curve(run: RunData, path: Path) -> Path:
    """Draws cost, distance and success of the samples over iterations, for every condition."""
    shown = {key: run.conditions(key) for key in _PANELS if key in run.metrics}
    iterations = run.metrics["iteration"]
    labels = phase_labels(run, len(shown))
    drawn = "Trajectories" if "gradient" in run.metrics else "Samples, with exploration noise"
    caption = f"{labels.caption}{drawn}.  {SPREAD.format(run.locals_are)}"
    with style():
        figure = new_figure(480, run.title)
        axes = figure.subplots(1, len(shown), squeeze=False)[0]
        for ax, (key, values) in zip(axes, shown.items(), strict=True):
            last = iterations[-1]
            if key == "distance" and _draw_final(ax, run, last + 1):
                caption += "  Dots: the result, without exploration noise."
                last += 1
            draw_spread(ax, iterations, values, run.locals_are)
            ax.set_title(_PANELS[key])
            scale(ax, key, values)
            iteration_axis(ax, iterations[0], last, _iteration_label(run))
            mark_phases(ax, labels)
        figure_legend(figure, axes[0])
        figure.supxlabel(caption, x=0.012, ha="left", fontsize=8.5, color=GREY)
        return save(figure, path)


def _draw_final(ax: Axes, run: RunData, x: float) -> bool:
    final = run.summary.get("distance_last")
    if not isinstance(final, list):
        return False
    for c, value in enumerate(final):
        colour = condition_colour(c, len(final))
        ax.plot(x, np.nan if value is None else value, "o", color=colour, markersize=5, zorder=4)
    return True


def _iteration_label(run: RunData) -> str:
    iterations, total = run.summary.get("iterations"), run.summary.get("rollouts_total")
    if not iterations or not total or total % iterations:
        return "iteration"
    return f"iteration ({total // iterations} rollouts each)"


def draw_diagnostics(run: RunData, path: Path) -> Path | None:
    """Draws what the steps were like, see `_DIAGNOSTICS`, and their gains; None without them."""
    x = run.metrics["iteration"]
    keys = [key for key in _DIAGNOSTICS if key in run.metrics]
    gains = _gains(run)
    num = len(keys) + (gains is not None)
    if not num:
        return None
    columns = min(num, 2)
    labels = phase_labels(run, columns)
    caption = labels.caption + SPREAD.format(run.locals_are) + describe_ridges(run)
    with style():
        figure = new_figure(760 if num > 2 else 440, run.title + "  ·  optimisation", caption)
        grid = figure.subplots(-(-num // 2), columns, squeeze=False)
        for ax in grid.ravel()[num:]:
            ax.set_visible(False)
        for ax, key in zip(grid.ravel(), keys, strict=False):
            values = run.conditions(key)
            draw_spread(ax, x, values, run.locals_are)
            if key == "kl" and "kl_bound" in run.metrics:
                bound = run.conditions("kl_bound")
                _bounds(ax, x, bound)
                values = np.concatenate([values, bound])
            ax.set_title(_DIAGNOSTICS[key])
            if key in _DECADES:
                _scale_decades(ax, values)
            else:
                scale_y(ax, values)
            iteration_axis(ax, x[0], x[-1])
            mark_phases(ax, labels)
        if gains is not None:
            ax = grid.ravel()[len(keys)]
            _draw_gains(ax, x, *gains)
            whose = "the network's" if run.trains_network else "the"
            ax.set_title(f"Decrease of {whose} expected cost (mean)")
            mark_phases(ax, labels)
        if keys:
            figure_legend(figure, grid[0, 0])
        return save(figure, path)


_DIAGNOSTICS = {
    "kl": "KL divergence of the step (nats)",
    "eta": "Multiplier η of the KL bound",
    "step_multiplier": "Step multiplier",
    "gradient": "Largest slope of the cost by a control",
    "regularisation": "Regularisation of the gains",
}
_DECADES = ("gradient", "regularisation")


def _scale_decades(ax: Axes, values: np.ndarray) -> None:
    """A logarithmic axis; zeros lie below it."""
    positive = values[np.isfinite(values) & (values > 0)]
    if positive.size:
        ax.set_yscale("log")
        ax.set_ylim(positive.min() / 3, positive.max() * 3)


def describe_ridges(run: RunData) -> str:
    """What the caption says of ridges that were raised; empty where none was."""
    most = {
        whose: np.nanmax(run.metrics[name], initial=0.0)
        for name, whose in _RIDGES.items()
        if name in run.metrics
    }
    text = ", ".join(f"{whose} by up to {value:.2g}" for whose, value in most.items() if value > 0)
    return f"\nRidges were raised where rounding would hide them: {text}." if text else ""


_RIDGES = {
    "ridge_added": "the models",
    "linearisation_ridge_added": "the network's regression",
    "observation_ridge_added": "the observation's regression",
    "mixture_ridge_added": "the mixture",
}


def _bounds(ax: Axes, x: np.ndarray, bound: np.ndarray) -> None:
    num = bound.shape[1]
    for c in range(num):
        colour = condition_colour(c, num)
        ax.plot(x, bound[:, c], color=colour, linewidth=1, linestyle=(0, (2, 2)), alpha=0.9)
    ax.plot([], [], color=GREY, linewidth=1, linestyle=(0, (2, 2)), label="bound")


def _gains(run: RunData) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns the decrease of expected cost [I-1, C] that each step promised, and that it brought.

    Where a network is trained, its cost is the one to decrease.
    """
    expected = "policy_cost_expected" if run.trains_network else "cost_expected"
    if not {expected, "cost_predicted"} <= set(run.metrics):
        return None
    before, predicted = run.conditions(expected), run.conditions("cost_predicted")
    if len(before) < 2:
        return None
    return before[:-1] - predicted[:-1], before[:-1] - before[1:]


def _draw_gains(ax: Axes, x: np.ndarray, promised: np.ndarray, real: np.ndarray) -> None:
    for values, colour, label in ((promised, COLOURS[4], "predicted"), (real, INK, "realised")):
        mean = over_conditions(np.nanmean, values)
        ax.plot(x[:-1], mean, "o-", color=colour, linewidth=2, markersize=4, label=label)
    ax.axhline(0, color=GREY, linewidth=0.8)
    drawn = np.abs(np.concatenate([promised.ravel(), real.ravel()]))
    drawn = drawn[np.isfinite(drawn) & (drawn > 0)]
    top = np.ceil(np.log10(drawn.max())) if drawn.size else 0.0
    bottom = max(np.floor(np.log10(np.median(drawn))) - 1, top - 6) if drawn.size else -1.0
    ax.set_yscale("symlog", linthresh=10.0**bottom)
    ticks = 10.0 ** np.arange(top, bottom - 1, -max(1, (top - bottom) // 3))
    ax.set_yticks([*-ticks, 0, *ticks])
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    ax.margins(y=0.08)
    ax.legend(loc="best")
    iteration_axis(ax, x[0], x[-1])
