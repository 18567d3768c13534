"""Videos and film strips of final controllers, drawn by the ray caster."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from jgps.app.style import INK, style
from jgps.rendering import Camera, RenderConfig, render, write_png, write_video
from jgps.simulation import condition_models
from jgps.tasks import Task

MAX_CONDITIONS = 6  # in one video
_MAX_ROWS = 4  # in one poster
_TILE, _SMALL_TILE = (320, 240), (256, 192)  # pixels; small ones where there are more than four
_MAX_FPS = 30
_HOLD = 1.0  # seconds that the last frame stays
_GAP = 2  # pixels between tiles, on each side
_VIDEO = RenderConfig(shadows=1, supersample=2)
_STILL = RenderConfig(shadows=16, supersample=3)


def write_film(
    task: Task,
    qpos: np.ndarray,
    path: Path,
    *,
    x: np.ndarray | None = None,
    conditions: Sequence[int] | None = None,
    unseen: bool = False,
    poster: Path | None = None,
    tile: tuple[int, int] | None = None,
    config: RenderConfig = _VIDEO,
) -> list[Path]:
    """Films rollouts of several conditions side by side, in real time.

    Args:
      task: whose model, camera and control step to use.
      qpos: joint positions of the training conditions, or of the unseen ones, [C, T, nq].
      path: of the mp4.
      x: their states [C, T, dX]; with them, the distance to the target is shown.
      conditions: which to show, counted from 0; None for all, and of many every so manyth, so that
        six are left at most.
      unseen: they are the test conditions.
      poster: of a PNG with four moments, made from the same pictures; None for none.
      tile: width and height of each condition's picture, pixels, even; None fits their number.
      config: quality of the pictures.

    Returns:
      The files written.

    Raises:
      ValueError: a wrong shape, an index out of range, or what the renderer does not take.
    """
    models = _models(task, qpos, unseen)
    shown = list(range(len(qpos)) if conditions is None else conditions)
    _check_indices("condition", shown, len(qpos))
    if len(shown) > MAX_CONDITIONS:
        places = np.linspace(0, len(shown) - 1, MAX_CONDITIONS).round().astype(int)
        shown = [shown[place] for place in places]
    name = "unseen" if unseen else "condition"
    width, height = tile or (_TILE if len(shown) <= 4 else _SMALL_TILE)
    stride = max(1, math.ceil(1 / (task.control_dt * _MAX_FPS) - 1e-9))
    steps = np.unique([*range(0, qpos.shape[1], stride), qpos.shape[1] - 1])
    tiles = np.stack(
        [
            render(
                models[c], qpos[c, steps], task.camera, width=width, height=height, config=config
            )
            for c in shown
        ]
    )
    distances = None if x is None else _distances(task, x[shown][:, steps])
    captions = [
        [
            (f"{name} {c}", _reading(steps[i] * task.control_dt, distances, m, i))
            for m, c in enumerate(shown)
        ]
        for i in range(len(steps))
    ]
    columns = math.ceil(math.sqrt(len(shown)))
    frames = [
        _labelled(_grid(tiles[:, i], columns), captions[i], (height, width), columns)
        for i in range(len(steps))
    ]
    fps = 1 / (task.control_dt * stride)
    frames += [frames[-1]] * round(_HOLD * fps)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, np.stack(frames), fps=fps)
    if poster is None:
        return [path]
    # Movements are fast at first: the moments get further apart.
    moments = np.round(np.array([0, 0.1, 0.3, 1]) * (len(steps) - 1)).astype(int)
    rows = min(len(shown), _MAX_ROWS)
    strip = _grid(tiles[:rows, moments].reshape(-1, height, width, 3), len(moments))
    texts = [captions[i][m] for m in range(rows) for i in moments]
    poster.parent.mkdir(parents=True, exist_ok=True)
    write_png(poster, _labelled(strip, texts, (height, width), len(moments)))
    return [path, poster]


def film_strip(
    task: Task,
    qpos: np.ndarray,
    path: Path,
    *,
    conditions: Sequence[int] = (0,),
    steps: Sequence[int] | None = None,
    camera: Camera | None = None,
    width: int = 1200,
    config: RenderConfig = _STILL,
) -> Path:
    """A picture with one row per condition and one column per moment.

    Args:
      task: whose model, camera and control step to use.
      qpos: joint positions of the training conditions, [C, T, nq].
      path: of the PNG.
      conditions: which of them to draw, counted from 0.
      steps: control steps to draw; None for the first, two between, and the last.
      camera: where to look from; None for the task's own.
      width: of the whole picture, pixels; tiles have the aspect 4 to 3.
      config: quality of the picture.

    Raises:
      ValueError: an index out of range, or what the renderer does not take.
    """
    models, horizon = _models(task, qpos, unseen=False), qpos.shape[1]
    moments = np.linspace(0, horizon - 1, 4).round().astype(int) if steps is None else steps
    steps = [int(step) for step in moments]
    _check_indices("condition", conditions, len(qpos))
    _check_indices("step", steps, horizon)
    view = task.camera if camera is None else camera
    tile = (width // len(steps) * 3 // 4, width // len(steps))
    tiles = np.concatenate(
        [
            render(
                models[c], qpos[c, steps], view,
                width=tile[1], height=tile[0], config=config,
            )
            for c in conditions
        ]
    )  # fmt: skip
    labels = [f"{step * task.control_dt:.1f} s" for step in steps]
    captions = [
        (f"condition {c}" if k == 0 else "", label)
        for c in conditions
        for k, label in enumerate(labels)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(path, _labelled(_grid(tiles, len(steps)), captions, tile, len(steps)))
    return path


def _models(task: Task, qpos: np.ndarray, unseen: bool) -> list[mujoco.MjModel]:
    conditions = task.test if unseen else task.train
    if qpos.ndim != 3 or (qpos.shape[0], qpos.shape[2]) != (conditions.num, task.model.nq):
        raise ValueError(
            f"qpos has shape {qpos.shape}; {task.name} needs [{conditions.num}, T, {task.model.nq}]"
        )
    return condition_models(task.model, conditions)


def _check_indices(what: str, indices: Sequence[int], size: int) -> None:
    for index in indices:
        if not 0 <= index < size:
            raise ValueError(f"{what} {index} is not in 0..{size - 1}")


def _distances(task: Task, x: np.ndarray) -> np.ndarray | None:
    """Distance [C, I] that would be left if the state stayed as it is at each moment."""
    distance = task.distance
    if distance is None:
        return None

    def held(state):
        return distance(jnp.broadcast_to(state, (task.horizon, *state.shape)))

    return np.asarray(jax.jit(jax.vmap(jax.vmap(held)))(jnp.asarray(x)))


def _reading(time: float, distances: np.ndarray | None, row: int, column: int) -> str:
    text = f"{time:.1f} s"
    return text if distances is None else f"{100 * distances[row, column]:.1f} cm  ·  {text}"


def _grid(tiles: np.ndarray, columns: int) -> np.ndarray:
    """Tiles [M, H, W, 3] row by row with white gaps between; missing ones stay white."""
    rows = -(-len(tiles) // columns)
    _, height, width, _ = tiles.shape
    grid = np.full((rows * height, columns * width, 3), 255, np.uint8)
    for m, tile in enumerate(tiles):
        top, left = m // columns * height, m % columns * width
        inside = tile[_GAP : height - _GAP, _GAP : width - _GAP]
        grid[top + _GAP : top + height - _GAP, left + _GAP : left + width - _GAP] = inside
    return grid


def _labelled(
    image: np.ndarray, captions: Sequence[tuple[str, str]], tile: tuple[int, int], columns: int
) -> np.ndarray:
    """Writes two texts over every tile, at the upper left and upper right corner."""
    height, width = image.shape[:2]
    dpi = 100
    with style():
        figure = Figure(figsize=(width / dpi, height / dpi), dpi=dpi, facecolor="none")
        canvas = FigureCanvasAgg(figure)
        size = np.clip(tile[0] / 24, 7, 13) * 72 / dpi * 1.15
        halo = [withStroke(linewidth=2.5, foreground="white")]  # legible on any background
        for m, (left, right) in enumerate(captions):
            top = 1 - (m // columns * tile[0] + 0.045 * tile[0]) / height
            start, end = (m % columns + 0.035) * tile[1], (m % columns + 0.965) * tile[1]
            for x, text, side, weight in (
                (start, left, "left", "bold"),
                (end, right, "right", None),
            ):
                figure.text(
                    x / width, top, text, size=size, color=INK, va="top", ha=side, weight=weight,
                    path_effects=halo,
                )  # fmt: skip
        canvas.draw()
    overlay = np.asarray(canvas.buffer_rgba()).astype(np.float32) / 255
    alpha = overlay[..., 3:]
    blended = image / 255 * (1 - alpha) + overlay[..., :3] * alpha
    return np.round(blended * 255).astype(np.uint8)
