"""Draws what figures of learning share: lines per condition, their mean and range, and phases."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from jgps.reports.plots.style import COLOURS, DPI, GREY, INK, WIDTH, condition_colour, scale_y
from jgps.reports.run_data import Phase, RunData

_TINTS = {"controllers alone": "#ffffff", "dense layers": "#eaf3fb", "end to end": "#fdf1de"}
_PHASE_SIZE = 7.5  # points
SPREAD = "Thin: single {}s.  Thick: their mean.  Grey: their range."


def scale(ax: Axes, key: str, values: np.ndarray) -> None:
    """Scales the y axis in per cent for a metric of success and by its values for others."""
    if key.startswith("success"):
        ax.set_ylim(-0.04, 1.04)
        ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    else:
        scale_y(ax, values)


def draw_spread(
    ax: Axes, x: np.ndarray, values: np.ndarray, name: str, *, legend: bool = False
) -> None:
    """Draws thin lines of the conditions, their range as a band, their mean as a thick line.

    Args:
      ax: axes to draw in.
      x: iterations [I].
      values: values of the metric [I, C].
      name: what a column belongs to, for the legend.
      legend: whether to draw a legend.
    """
    num = values.shape[1]
    if num > 1:
        finite = np.where(np.isfinite(values), values, np.nan)
        low, high = over_conditions(np.nanmin, finite), over_conditions(np.nanmax, finite)
        ax.fill_between(x, low, high, color=GREY, alpha=0.13, linewidth=0)
        for c in range(num):
            label = f"{name} {c}" if num <= len(COLOURS) else None
            colour = condition_colour(c, num)
            ax.plot(x, values[:, c], color=colour, linewidth=1.0, alpha=0.9, label=label)
    mean = over_conditions(np.nanmean, values)
    ax.plot(x, mean, color=INK, linewidth=2.2, label="mean" if num > 1 else None)
    if legend and num > 1:
        ax.legend(loc="best")


class PhaseLabels(NamedTuple):
    """The phases of a run and what to write above them."""

    phases: list[Phase]
    texts: list[str]
    caption: str  # what the texts leave to say


def phase_labels(run: RunData, columns: int) -> PhaseLabels:
    """Labels phases by name where `columns` panels have room for names, by number elsewhere."""
    phases = run.phases
    names = [phase.name for phase in phases]
    x = run.metrics["iteration"]
    pixels = (WIDTH / columns - 70) / (x[-1] - x[0] + 1.6)  # of an iteration
    letter = 0.53 * _PHASE_SIZE * DPI / 72
    room = [pixels * (phase.last - phase.first + 1) for phase in phases[:-1]]  # the last has more
    if all(letter * len(name) <= each for name, each in zip(names, room, strict=False)):
        return PhaseLabels(phases, names, "")
    numbers = [str(number + 1) for number in range(len(names))]
    told = ", ".join(f"{n} {name}" for n, name in zip(numbers, names, strict=True))
    return PhaseLabels(phases, numbers, f"Phases: {told}.\n")


def mark_phases(ax: Axes, labels: PhaseLabels) -> None:
    """Shades the phases and names them between the panel and its title."""
    if not labels.phases:
        return
    limits = ax.get_xlim()
    for phase, text in zip(labels.phases, labels.texts, strict=True):
        left, right = max(phase.first - 0.5, limits[0]), min(phase.last + 0.5, limits[1])
        ax.axvspan(left, right, color=_TINTS[phase.name], linewidth=0, zorder=0)
        if phase.first:
            ax.axvline(left, color="#c7cdd6", linewidth=0.8, zorder=0.1)
        ax.text(
            left, 1.015, text, transform=ax.get_xaxis_transform(), fontsize=_PHASE_SIZE,
            color=GREY, va="bottom", clip_on=False,
        )  # fmt: skip
    ax.set_xlim(limits)
    ax.set_title(ax.get_title(loc="left"), pad=20)


def figure_legend(figure: Figure, ax: Axes) -> None:
    """Draws the legend of one panel in one row above all panels, where it hides no line."""
    handles, labels = ax.get_legend_handles_labels()
    # "condition 0", "1", "2": there is a title to the left.
    short = [label if i == 0 else label.split()[-1] for i, label in enumerate(labels)]
    if handles:
        figure.legend(
            handles, short, loc="outside upper right", ncols=len(handles),
            handlelength=1.3, handletextpad=0.5, columnspacing=1.2,
        )  # fmt: skip


class Reduction(Protocol):
    """A function that reduces an array along one axis, such as `np.nanmean`."""

    def __call__(self, values: np.ndarray, /, *, axis: int) -> np.ndarray:
        """Returns the values without that axis."""
        ...


def over_conditions(reduce: Reduction, values: np.ndarray) -> np.ndarray:
    """Reduces [I, C] along the last axis; NaN, without a warning, where a row has no number."""
    result = np.full(len(values), np.nan)
    some = np.isfinite(values).any(axis=1)
    result[some] = reduce(np.where(np.isfinite(values[some]), values[some], np.nan), axis=1)
    return result
