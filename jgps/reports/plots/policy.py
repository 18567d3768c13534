"""Draws the trained policy: how it does without noise, and how far controllers are from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from jgps.reports.plots.curves import draw_spread, mark_phases, over_conditions, phase_labels, scale
from jgps.reports.plots.style import (
    COLOURS,
    GREY,
    INK,
    iteration_axis,
    new_figure,
    save,
    scale_y,
    style,
)
from jgps.reports.run_data import RunData

# label, colour, sizes of a dot, of the result's dot and of the line: one may lie on the other
_SETS = {
    "train": ("training conditions", COLOURS[0], 8, 12, 4.0),
    "test": ("unseen conditions", COLOURS[1], 4.5, 7.5, 2.0),
    "distracted": ("distracted conditions", COLOURS[2], 2.5, 4.5, 1.0),
}
_NO_KL = 1e-6  # nats: before its first training the network stands for the controllers themselves


def draw_policy(run: RunData, path: Path) -> Path | None:
    """Draws success and cost without noise, and a network's divergence from the controllers.

    Returns:
      The path, or None where the run records nothing of this.
    """
    x = run.metrics["iteration"]
    panels = []
    if "success_train" in run.metrics:
        panels.append(_success)
    if "cost_train_policy" in run.metrics:
        panels.append(_cost)
    network = {"policy_cost_expected", "cost_expected", "policy_kl"} <= set(run.metrics)
    if network:
        panels.append(_expected_cost)
        if (run.conditions("policy_kl") > _NO_KL).any():
            panels.append(_divergence)
    if not panels:
        return None
    caption = "Large dots: the result, the best policy in training.  " * bool(run.summary)
    if network:
        caption += f"Below: ranges and means over {run.locals_are}s.  "
    costs = [run.metrics.get(f"cost_{name}_policy", np.zeros(len(x))) for name in _SETS]
    if any(np.isnan(cost[_evaluated(run)]).any() for cost in costs):
        caption += "Gaps: a rollout diverges."
    columns = min(len(panels), 2)
    labels = phase_labels(run, columns)
    caption = labels.caption + caption
    rows = -(-len(panels) // columns)
    with style():
        figure = new_figure(130 + 340 * rows, run.title + "  ·  policy", caption)
        grid = figure.subplots(rows, columns, squeeze=False)
        for ax in grid.ravel()[len(panels) :]:
            ax.set_visible(False)
        for ax, draw in zip(grid.ravel(), panels, strict=False):
            iteration_axis(ax, x[0], draw(ax, run))
            mark_phases(ax, labels)
        return save(figure, path)


def _success(ax: Axes, run: RunData) -> float:
    ax.set_title("Success without exploration noise")
    finals = {name: run.summary.get(f"success_{name}") for name in _SETS}
    return _both(ax, run, "success_{}", finals)


def _cost(ax: Axes, run: RunData) -> float:
    ax.set_title("Cost without exploration noise")
    finals = {name: _mean(run.summary.get(f"cost_{name}")) for name in _SETS}
    return _both(ax, run, "cost_{}_policy", finals)


def _mean(values: Any) -> float | None:
    numbers = [each for each in values or [] if each is not None]
    return float(np.mean(numbers)) if numbers else None


def _both(ax: Axes, run: RunData, key: str, finals: dict[str, float | None]) -> float:
    """Draws the lines of all sets of conditions and returns the last place on the x axis."""
    x, last, drawn = run.metrics["iteration"], run.metrics["iteration"][-1], []
    evaluated = _evaluated(run)
    for name, (label, colour, dot, size, width) in _SETS.items():
        if key.format(name) not in run.metrics and finals[name] is None:
            continue  # the task has no such set
        values = run.metrics.get(key.format(name), np.full(len(x), np.nan))
        # A gap is an iteration whose policy diverges, not one that was not evaluated.
        ax.plot(
            x[evaluated],
            values[evaluated],
            "o-",
            color=colour,
            linewidth=width,
            markersize=dot,
            label=label,
        )
        drawn.append(values)
        final = finals[name]
        if final is not None:
            last = x[-1] + 1
            ax.plot(last, final, "o", color=colour, markersize=size, markeredgecolor=INK, zorder=4)
            drawn.append(np.array([final]))
    scale(ax, key, np.concatenate(drawn))
    ax.legend(loc="best")
    return last


def _evaluated(run: RunData) -> np.ndarray:
    """Returns in which iterations the policy was evaluated, [I] bool."""
    x = run.metrics["iteration"]
    return np.isfinite(run.metrics.get("evaluation_seconds", np.zeros(len(x))))


def _expected_cost(ax: Axes, run: RunData) -> float:
    """Draws the expected cost of controllers and of the linearised network on the same models."""
    x, drawn = run.metrics["iteration"], []
    kinds = (
        ("cost_expected", "controllers", GREY),
        ("policy_cost_expected", "network", COLOURS[2]),
    )
    for key, label, colour in kinds:
        values = run.conditions(key)
        low, high = (over_conditions(reduce, values) for reduce in (np.nanmin, np.nanmax))
        ax.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
        mean = over_conditions(np.nanmean, values)
        ax.plot(x, mean, "o-", color=colour, linewidth=2, markersize=4, label=label)
        drawn.append(values.ravel())
    scale_y(ax, np.concatenate(drawn))
    ax.set_title("Expected cost on the fitted models")
    ax.legend(loc="best")
    return x[-1]


def _divergence(ax: Axes, run: RunData) -> float:
    x, values = run.metrics["iteration"], run.conditions("policy_kl")
    values = np.where(values > _NO_KL, values, np.nan)
    draw_spread(ax, x, values, run.locals_are, legend=True)
    scale_y(ax, values)
    ax.set_title("KL divergence of the controllers from the network (nats)")
    return x[-1]
