"""Draws the figure of a policy's camera images over time, with feature points on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba

from jgps.reports.plots.style import COLOURS, DPI, INK, WIDTH, new_figure, save, style
from jgps.reports.policy_view import PolicyView

# Okabe and Ito's with yellow and white: on pictures both are seen.
POINT_COLOURS = (*COLOURS, "#F0E442", "#FFFFFF")
# Of the rollout: movements are fast at first, so that the moments get further apart.
MOMENTS = (0, 0.05, 0.12, 0.25, 0.5, 1)
TRAIL = 0.5  # seconds that points leave a trail for
_LEAP = 0.2  # of an image's height in one step: a channel found something else, nothing moved
_LEFT, _ABOVE, _BELOW, _GAP = 24, 76, 34, 4  # pixels beside and between the pictures


def draw_feature_points(
    policy_view: PolicyView, names: Sequence[str], control_dt: float, title: str, path: Path
) -> Path:
    """Draws camera images with feature points: one row per rollout, one column per moment.

    Args:
      policy_view: images and feature points of M rollouts.
      names: names of the M rollouts' conditions.
      control_dt: seconds per step.
      title: title of the figure.
      path: where the PNG is written.
    """
    steps = np.unique(np.round(np.array(MOMENTS) * (policy_view.images.shape[1] - 1)).astype(int))
    rows, columns = len(names), len(steps)
    height, width = policy_view.images.shape[2:4]
    room = (WIDTH - _LEFT - _GAP * (columns - 1)) // columns
    scale = room // width or room / width  # whole pixels, if they are at all enlarged
    tile = np.array([scale * width, scale * height])
    total = round(_ABOVE + rows * (tile[1] + _GAP) + _BELOW)
    caption = f"{policy_view.caption}  Trails: where they have been in the last {TRAIL} s."
    trail = round(TRAIL / control_dt)
    with style():
        figure = new_figure(total, title, caption)
        figure.set_layout_engine("none")  # pictures have their places to the pixel
        suptitle, below = figure.texts[0], figure.texts[1]
        suptitle.set(y=1 - 14 / total, va="top")
        below.set(y=10 / total, va="bottom")
        for m, name in enumerate(names):
            top = _ABOVE + m * (tile[1] + _GAP)
            figure.text(
                12 / WIDTH, 1 - (top + tile[1] / 2) / total, name,
                rotation=90, ha="center", va="center",
            )  # fmt: skip
            for k, step in enumerate(steps):
                left = _LEFT + k * (tile[0] + _GAP)
                place = (left / WIDTH, 1 - (top + tile[1]) / total)
                ax = figure.add_axes((*place, tile[0] / WIDTH, tile[1] / total))
                ax.imshow(policy_view.images[m, step], interpolation="nearest", aspect="auto")
                past = policy_view.points[m, None, max(0, step - trail) : step + 1]
                draw_points(ax, past, height, tile[1] / height)
                ax.set_axis_off()
                if m == 0:
                    text = f"{step * control_dt:.1f} s"
                    ax.set_title(text, loc="left", fontsize=9.5, pad=4)
        return save(figure, path)


def draw_points(
    ax: Axes, trails: np.ndarray, height: float, scale: float = 1.0, dpi: float = DPI
) -> None:
    """Draws a dot in its colour for each point, with a fading trail; limits stay as they are.

    Args:
      ax: with its limits set.
      trails: where points have been, in coordinates of the axes, [M, S, K, 2], the newest last.
      height: of an image, in the same coordinates.
      scale: pixels of the figure per unit of these.
      dpi: of the figure.
    """
    num, steps, points = trails.shape[:3]
    size, unit = height * scale / 24, 72 / dpi
    colours = np.array([to_rgba(POINT_COLOURS[k % len(POINT_COLOURS)]) for k in range(points)])
    segments = np.stack([trails[:, :-1], trails[:, 1:]], axis=-2)
    leaps = np.linalg.norm(segments[..., 1, :] - segments[..., 0, :], axis=-1) > _LEAP * height
    fading = np.empty((num, steps - 1, points, 4))
    fading[...] = colours
    fading[..., 3] = np.where(leaps, 0, np.linspace(0.15, 1, steps)[1:, None])
    lines = LineCollection(
        segments.reshape(-1, 2, 2).tolist(),
        colors=fading.reshape(-1, 4).tolist(),
        linewidths=0.28 * size * unit,
        capstyle="butt",  # round ends of segments that are seen through would show as beads
        zorder=2,
    )
    ax.add_collection(lines, autolim=False)
    limits = ax.get_xlim(), ax.get_ylim()
    last = trails[:, -1].reshape(-1, 2)
    ax.scatter(
        last[:, 0], last[:, 1], s=(size * unit) ** 2, c=np.tile(colours, (num, 1)),
        edgecolors=INK, linewidths=0.1 * size * unit, zorder=3,
    )  # fmt: skip
    ax.set(xlim=limits[0], ylim=limits[1])
