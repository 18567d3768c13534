"""Draws what the controllers do: paths of points, and actions over time."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Ellipse

from jgps.core.lifted import shared_jit
from jgps.reports.plots.style import COLOURS, GREY, INK, WIDTH, new_figure, save, style
from jgps.reports.run_data import RunData
from jgps.simulation import condition_models
from jgps.simulation.system import control_ranges
from jgps.tasks import Task
from jgps.tasks.functions import params_of, with_params

MAX_CONDITIONS, MAX_ACTUATORS = 4, 8  # more of them would be too small to read
_ELLIPSES = 12  # per path
_SIGMAS = 2


class Point(NamedTuple):
    """A named point whose coordinates are two or three entries of the state."""

    name: str
    entries: np.ndarray  # into x
    axes: tuple[str, ...]  # labels, one per entry


def draw_paths(run: RunData, path: Path, task: Task | None = None) -> Path:
    """Draws paths of the samples and two-sigma ellipses of the marginals, per condition."""
    data = _trajectories(run)
    points = find_points(task, data["x"].shape[-1])
    num, total = min(len(data["sample_x"]), MAX_CONDITIONS), len(data["sample_x"])
    targets = [None] * num if task is None else _targets(task, data["x"], num)
    network = data["x"] if run.trains_network and run.locals_are == "condition" else None
    planes = _planes(data["sample_x"][:num], points)
    limits = [[_limits(data, num, points, axis) for axis in plane] for plane in planes]
    width = min(WIDTH / num - 55, 480)
    heights = [float(np.clip(width * np.ptp(y) / np.ptp(x), 150, 520)) for x, y in limits]
    caption = "Thin: samples.  Thick: mean of the fitted model.  "
    if _ellipses_show(data, num, points, planes, limits, width):
        caption += f"Ellipses: {_SIGMAS}σ of it.  "
    caption += "Circles: start."
    if network is not None:
        caption += "  Dotted: the network, without noise."
    if any(target is not None for target in targets):
        caption += "  Cross: target."
    with style():
        figure = new_figure(
            110 + round(sum(height + 50 for height in heights)),
            f"{run.title}  ·  paths" + _some(num, total, f"{run.locals_are}s"),
            caption,
        )
        grid = figure.subplots(
            len(planes), num, squeeze=False, sharex="row", sharey="row", height_ratios=heights
        )
        for row, plane, (x_limits, y_limits) in zip(grid, planes, limits, strict=True):
            row[0].set_ylabel(points[0].axes[plane[1]])
            for c, ax in enumerate(row):
                for i, point in enumerate(points):
                    _draw_point(ax, data, c, point, plane, COLOURS[i % len(COLOURS)])
                    if network is not None:
                        ax.plot(*_pick(network[c], point, plane), ":", color=INK, lw=1.4, zorder=4)
                target = targets[c]
                if target is not None:
                    ax.plot(*_pick(target, points[0], plane), "x", color=INK, ms=8, mew=2, zorder=5)
                ax.set(xlim=x_limits, ylim=y_limits)
                ax.set_aspect("equal", adjustable="box")
                ax.set_xlabel(points[0].axes[plane[0]])
        for c, ax in enumerate(grid[0]):
            ax.set_title(f"{run.locals_are.capitalize()} {c}")
        if len(points) > 1:
            grid[0, -1].legend(loc="best")
        return save(figure, path)


def find_points(task: Task | None, state_dim: int) -> list[Point]:
    """Returns the task's points; where it has none, the first two entries of the state."""
    if task is not None and task.points:
        return [
            Point(
                name=entry.partition(":")[2],
                entries=np.arange(task.layout.size)[task.layout[entry]],
                axes=("x (m)", "y (m)", "z (m)"),
            )
            for entry in task.points
        ]
    entries = np.arange(min(2, state_dim))
    names = [f"x[{i}]" for i in entries]
    if task is not None:
        for entry, place in task.layout.slices.items():
            for i in entries[(entries >= place.start) & (entries < place.stop)]:
                names[i] = f"{entry}[{i - place.start}]"
    return [Point("state", entries, tuple(names))]


def _targets(task: Task, x: np.ndarray, num: int) -> list[np.ndarray | None]:
    """Targets of the conditions or groups that are shown: one for all, or each has its own."""
    if task.train.params is None:
        return [find_target(task, x[0])] * num
    return [find_target(task, x[c], c) for c in range(num)]


def find_target(task: Task, x: np.ndarray, condition: int = 0) -> np.ndarray | None:
    """Finds the state that the task's distance is measured to, if it is that of a point.

    Then its gradient is the unit vector away from the target, so that one step along it ends there.

    Args:
      task: any task.
      x: a trajectory, [T, dX].
      condition: the training condition that it is of; it counts where these have params.

    Returns:
      A state [dX] at distance zero, equal to the trajectory's last one in all entries that do not
      matter; None where there is no such state.
    """
    if task.distance is None:
        return None
    params = jax.tree.map(lambda leaf: leaf[condition], params_of(task.train))
    step = shared_jit(functools.partial(_step_to_target, with_params(task.distance, params)))
    end, found = step(jnp.asarray(x))
    return np.asarray(end) if found else None


def _step_to_target(
    of: Callable[[jax.Array], jax.Array], trajectory: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The last state [dX] after a step down the distance, and whether it is at the target."""
    distance, gradient = jax.value_and_grad(of)(trajectory)
    end = trajectory.at[-1].add(-distance * gradient[-1])
    return end[-1], jnp.isfinite(end).all() & (of(end) <= 1e-3 * (distance + 1e-2))


def _trajectories(run: RunData) -> dict[str, np.ndarray]:
    if run.trajectories is None:
        raise ValueError(f"{str(run.directory)!r} has no trajectories.npz; the run did not finish")
    return run.trajectories


def _planes(samples: np.ndarray, points: list[Point]) -> list[tuple[int, int]]:
    """Returns the one or two projections in which the paths spread most."""
    positions = np.concatenate([samples[..., p.entries].reshape(-1, len(p.axes)) for p in points])
    extent = np.ptp(positions[np.isfinite(positions).all(axis=1)], axis=0)
    ranked = sorted(
        combinations(range(len(extent)), 2), key=lambda ij: -extent[ij[0]] * extent[ij[1]]
    )
    # A movement in one plane has nothing to show in the others.
    return [
        p for k, p in enumerate(ranked[:2]) if k == 0 or min(extent[list(p)]) > 0.05 * max(extent)
    ]


def _limits(data, num: int, points: list[Point], axis: int) -> np.ndarray:
    """Returns limits of an axis around all samples, and ellipses if samples stay readable."""
    entries = [point.entries[axis] for point in points]
    samples = data["sample_x"][:num][..., entries]
    mean = data["mean"][:num][..., entries]
    variance = np.diagonal(data["cov"][:num], axis1=-2, axis2=-1)[..., entries]
    reach = _SIGMAS * np.sqrt(np.maximum(variance, 0))
    inner = np.array([np.nanmin(samples), np.nanmax(samples)])
    outer = np.array([np.nanmin(mean - reach), np.nanmax(mean + reach)])
    extent = max(np.ptp(inner), 1e-3)
    ends = np.clip(outer, inner[0] - 0.4 * extent, inner[1] + 0.4 * extent)
    ends = np.array([min(ends[0], inner[0]), max(ends[1], inner[1])])
    return ends + 0.06 * extent * np.array([-1, 1])


def _ellipses_show(data, num: int, points, planes, limits, width: float) -> bool:
    """Says whether any ellipse is wider than a pixel."""
    variance = np.diagonal(data["cov"][:num], axis1=-2, axis2=-1)
    for plane, (x_limits, _) in zip(planes, limits, strict=True):
        entries = [point.entries[list(plane)] for point in points]
        diameter = 2 * _SIGMAS * np.sqrt(np.maximum(variance[..., np.concatenate(entries)], 0))
        if np.any(diameter[np.isfinite(diameter)] * width / np.ptp(x_limits) > 1):
            return True
    return False


def _pick(x: np.ndarray, point: Point, plane: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    return x[..., point.entries[plane[0]]], x[..., point.entries[plane[1]]]


def _draw_point(ax: Axes, data, c: int, point: Point, plane: tuple[int, int], colour: str) -> None:
    for sample in data["sample_x"][c]:
        ax.plot(*_pick(sample, point, plane), color=colour, linewidth=0.8, alpha=0.55)
    entries = point.entries[list(plane)]
    horizon = data["mean"].shape[1]
    for t in np.unique(np.linspace(0, horizon - 1, _ELLIPSES).round().astype(int)):
        mean, cov = data["mean"][c, t, entries], data["cov"][c, t][np.ix_(entries, entries)]
        if np.isfinite(mean).all() and np.isfinite(cov).all():
            ax.add_patch(_ellipse(mean, cov, colour))
    ax.plot(*_pick(data["mean"][c], point, plane), color=colour, linewidth=1.6, label=point.name)
    ax.plot(
        *_pick(data["mean"][c, 0], point, plane),
        "o",
        color=colour,
        mfc="white",
        ms=6,
        mew=1.6,
        zorder=4,
    )


def _ellipse(mean: np.ndarray, cov: np.ndarray, colour: str) -> Ellipse:
    values, vectors = np.linalg.eigh((cov + cov.T) / 2)
    width, height = 2 * _SIGMAS * np.sqrt(np.maximum(values, 0))
    angle = np.degrees(np.arctan2(vectors[1, 0], vectors[0, 0]))
    return Ellipse(
        (float(mean[0]), float(mean[1])), width, height, angle=angle,
        facecolor=(colour, 0.12), edgecolor=(colour, 0.6), linewidth=0.8,
    )  # fmt: skip


def _some(shown: int, total: int, what: str) -> str:
    return "" if shown == total else f"  ·  first {shown} of {total} {what}"


def draw_actions(run: RunData, path: Path, task: Task | None = None) -> Path:
    """Draws mean actions over time, two standard deviations, the samples and limits."""
    data = _trajectories(run)
    dX, horizon = data["x"].shape[-1], data["u"].shape[1]
    total = len(data["sample_u"])
    rows, columns = min(data["u"].shape[-1], MAX_ACTUATORS), min(total, MAX_CONDITIONS)
    mean = data["mean"][..., dX:]
    deviation = np.sqrt(np.maximum(np.diagonal(data["cov"], axis1=-2, axis2=-1)[..., dX:], 0))
    low, high = (mean + s * _SIGMAS * deviation for s in (-1, 1))
    time = np.arange(horizon) * (1 if task is None else task.control_dt)
    limits = _control_limits(task, columns, data["u"].shape[-1])
    caption = f"Line and band: mean and ±{_SIGMAS}σ of the model, before clipping.  Thin: samples."
    if np.isfinite(limits[:, :, :rows]).any():
        caption += "  Dashed: limits of the actuator, where they are in view."
    with style():
        figure = new_figure(
            170 + 105 * rows if rows > 2 else 200 + 180 * rows,
            f"{run.title}  ·  actions"
            + _some(columns, total, f"{run.locals_are}s")
            + _some(rows, data["u"].shape[-1], "actuators"),
            caption,
        )
        grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey="row")
        for i in range(rows):
            for c, ax in enumerate(grid[i]):
                ax.plot(time, data["sample_u"][c, :, :, i].T, color=GREY, linewidth=0.6, alpha=0.6)
                band = {"color": COLOURS[0], "alpha": 0.22, "linewidth": 0, "zorder": 3}
                ax.fill_between(time, low[c, :, i], high[c, :, i], **band)
                ax.plot(time, mean[c, :, i], color=COLOURS[0], linewidth=1.7, zorder=4)
                ax.margins(x=0)
                ax.locator_params(axis="y", nbins=4)
            _draw_limits(grid[i], limits[:, :, i].T)
            grid[i, 0].set_ylabel(
                _actuator(task, i), rotation=0, ha="right", va="center", labelpad=8
            )
        for c in range(columns):
            grid[0, c].set_title(f"{run.locals_are.capitalize()} {c}")
            grid[-1, c].set_xlabel("control step" if task is None else "time (s)")
        figure.align_ylabels(grid[:, 0])
        return save(figure, path)


def _control_limits(task: Task | None, columns: int, num_controls: int) -> np.ndarray:
    """Returns the least and the greatest controls [2, columns, dU], infinite without limits."""
    if task is None:
        return np.full((2, columns, num_controls), np.inf)
    shown = task.train.select(np.minimum(np.arange(columns), task.train.num - 1))
    return control_ranges(condition_models(task.model, shown))


def _draw_limits(row: Sequence[Axes], limits: np.ndarray) -> None:
    """Draws those of limits [columns, 2] that are finite."""
    view = row[0].get_ylim()  # limits far away would flatten what there is to see
    for ax, each in zip(row, limits, strict=True):
        for limit in each[np.isfinite(each)]:
            ax.axhline(limit, color=INK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=2)
    row[0].set_ylim(view)


def _actuator(task: Task | None, index: int) -> str:
    """Returns the name of the actuator of a control, or that of the joint that it moves."""
    name = ""
    if task is not None:
        actuator = int(np.searchsorted(task.model.actuator_ctrladr, index, side="right")) - 1
        name = task.model.actuator(actuator).name
        kind = mujoco.mjtTrn(int(task.model.actuator_trntype[actuator]))
        if not name and kind in (mujoco.mjtTrn.mjTRN_JOINT, mujoco.mjtTrn.mjTRN_JOINTINPARENT):
            name = task.model.joint(task.model.actuator_trnid[actuator, 0]).name
    return name.replace("_", " ").replace(" ", "\n", 1) or f"action {index}"
