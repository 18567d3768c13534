"""Sets how figures look; Matplotlib's global state is as before after each `with`."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from jgps.training.files import write_bytes, writing

WIDTH = 1200  # pixels
DPI = 120
INK, GREY, LIGHT = "#1b1f24", "#6b7280", "#e5e7eb"
# Okabe and Ito (2008): told apart with every common form of colour blindness.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")

_RC: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": "#9ca3af",
    "axes.labelcolor": INK,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LIGHT,
    "grid.linewidth": 0.8,
    "xtick.color": "#9ca3af",
    "ytick.color": "#9ca3af",
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.solid_capstyle": "round",
    "figure.constrained_layout.h_pad": 0.08,
    "figure.constrained_layout.w_pad": 0.08,
}


@contextmanager
def style() -> Iterator[None]:
    """Draws in the project's style within the block."""
    with matplotlib.rc_context(_RC):
        yield


def new_figure(height: int, title: str, caption: str = "", width: int = WIDTH) -> Figure:
    """Makes an empty figure of `width` x `height` pixels with a title above and a caption below."""
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, x=0.012, ha="left", fontsize=13, fontweight="bold")
    if caption:
        figure.supxlabel(caption, x=0.012, ha="left", fontsize=8.5, color=GREY)
    return figure


def save(figure: Figure, path: Path) -> Path:
    """Writes the figure as PNG, as a whole or not at all.

    Raises:
      WriteError: it cannot be written, for instance because the disk is full.
    """
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=DPI, facecolor="white")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, picture.getvalue())
    return path


def condition_colour(index: int, num: int) -> str:
    """Returns one colour per condition while there are enough of them, grey after that."""
    return COLOURS[index] if num <= len(COLOURS) else "#9ca3af"


def scale_y(ax: Axes, values: np.ndarray) -> None:
    """Makes the y axis logarithmic where all values are positive and span more than a factor 20."""
    values = values[np.isfinite(values)]
    if values.size and values.min() > 0 and values.max() > 20 * values.min():
        ax.set_yscale("log")
        decades = np.log10(values.max() / values.min())
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2.5 else (1,)))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
    elif values.size and values.min() >= 0:
        ax.set_ylim(0, 1.06 * values.max() or 1)


def iteration_axis(ax: Axes, first: float, last: float, label: str = "iteration") -> None:
    """Makes the x axis one of iterations: whole numbers from `first` to `last`."""
    ax.set_xlabel(label)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    ax.set_xlim(first - 0.3, max(last, first + 1) + 0.3)
    ax.grid(visible=False, axis="x")
