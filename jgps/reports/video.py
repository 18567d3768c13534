"""Writes videos and film strips of rollouts, drawn by the ray caster or by OpenGL."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from jgps.rendering import Camera, RenderConfig, render, render_opengl, write_png, write_video
from jgps.reports.plots.features import TRAIL, draw_points
from jgps.reports.plots.style import INK, style
from jgps.reports.policy_view import PolicyView
from jgps.reports.poses import poses_at
from jgps.reports.quality import affordable_quality
from jgps.simulation import condition_models
from jgps.tasks import Task
from jgps.tasks.functions import over_rollouts, params_of
from jgps.training.files import writing

MAX_CONDITIONS = 6  # in one video
_MAX_ROWS = 4  # in one poster
_TILE, _SMALL_TILE = (320, 240), (256, 192)  # pixels; small ones where there are more than four,
# and beside images of policies, whose 64 pixels are three times as high then
_MAX_FPS = 30
_HOLD = 1.0  # seconds that the last frame stays
_GAP = 2  # pixels between tiles, on each side
VIDEO = RenderConfig(shadows=1, supersample=2)
_STILL = RenderConfig(shadows=16, supersample=3)


class VideoRollouts(NamedTuple):
    """Rollouts of all training conditions, or of all test conditions, and what a video shows."""

    qpos: np.ndarray  # joint positions [C, T, nq]
    x: np.ndarray | None = None  # states [C, T, dX]; with them the distance to the target is shown
    unseen: bool = False  # whether they are those of the test conditions
    conditions: Sequence[int] | None = None  # to show, `thin_out` of them; None for all
    policy_view: PolicyView | None = None  # of the conditions that are shown, drawn beside each

    def shown(self) -> list[int]:
        """The conditions that a video shows.

        Raises:
          ValueError: a condition is out of range, or `policy_view` is of other rollouts.
        """
        num, horizon = self.qpos.shape[:2]
        conditions = list(range(num) if self.conditions is None else self.conditions)
        _check_indices("condition", conditions, num)
        shown = thin_out(conditions)
        view = self.policy_view
        if view is not None and view.images.shape[:2] != (len(shown), horizon):
            raise ValueError(
                f"policy_view has images {view.images.shape[:2]} of rollouts and steps; the "
                f"video shows {(len(shown), horizon)}"
            )
        return shown


class VideoOptions(NamedTuple):
    """How the pictures of a video are drawn."""

    tile: tuple[int, int] | None = None  # a condition's width and height, pixels, even;
    # None chooses a size for the number of conditions
    config: RenderConfig | None = None  # the ray caster's quality; None chooses what the model's
    # meshes leave time for, see `jgps.reports.quality`
    opengl: bool = False  # whether MuJoCo's own renderer draws the conditions


def write_task_video(
    task: Task,
    rollouts: VideoRollouts,
    path: Path,
    *,
    poster: Path | None = None,
    options: VideoOptions = VideoOptions(),
) -> list[Path]:
    """Writes a video of rollouts of several conditions side by side, in real time.

    Args:
      task: the task whose model, camera and control step are used.
      rollouts: the rollouts, and which of them are shown.
      path: where the mp4 is written.
      poster: where a PNG with four moments (three with a `policy_view`) is written, made from the
        same pictures; None writes none.
      options: size and quality of the pictures.

    Returns:
      The files written.

    Raises:
      ValueError: a wrong shape, an index out of range, or a model that the renderer cannot draw.
    """
    stride = max(1, math.ceil(1 / (task.control_dt * _MAX_FPS) - 1e-9))
    horizon = rollouts.qpos.shape[1]
    steps = np.unique([*range(0, horizon, stride), horizon - 1])
    pictures = _draw_pictures(task, rollouts, steps, options)
    num, whole = len(pictures.tiles), pictures.tiles.shape[3]
    columns = math.ceil(math.sqrt(num * pictures.text_width / whole))
    frames = [pictures.compose(num, [i], columns) for i in range(len(steps))]
    fps = 1 / (task.control_dt * stride)
    frames += [frames[-1]] * round(_HOLD * fps)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, np.stack(frames), fps=fps)
    if poster is None:
        return [path]
    # Movements are fast at first: the moments get further apart.
    parts = (0, 0.1, 0.3, 1) if rollouts.policy_view is None else (0, 0.2, 1)
    moments = np.round(np.array(parts) * (len(steps) - 1)).astype(int).tolist()
    with writing(poster):
        poster.parent.mkdir(parents=True, exist_ok=True)
        write_png(poster, pictures.compose(min(num, _MAX_ROWS), moments, len(moments)))
    return [path, poster]


class _Pictures(NamedTuple):
    """Pictures of C conditions at I moments, and what is written and drawn on them."""

    tiles: np.ndarray  # [C, I, height, width, 3] uint8
    captions: list[list[tuple[str, str]]]  # I lists of C pairs of texts
    text_width: int  # of the part of a tile that has the texts, pixels
    beside: _Beside | None  # the policy's images, which are part of the tiles

    def compose(self, rows: int, moments: Sequence[int], columns: int) -> np.ndarray:
        """Puts the first `rows` conditions at some moments into one image, row by row."""
        tile = (self.tiles.shape[2], self.tiles.shape[3])
        image = _grid(self.tiles[:rows, moments].reshape(-1, *tile, 3), columns)
        texts = [self.captions[i][m] for m in range(rows) for i in moments]
        points = None if self.beside is None else self.beside.trails(rows, moments, columns)
        return _labelled(image, texts, tile, columns, self.text_width, points)


def _draw_pictures(
    task: Task, rollouts: VideoRollouts, steps: np.ndarray, options: VideoOptions
) -> _Pictures:
    """Draws the conditions that the video shows at some steps, and the policy's images of them."""
    qpos, view = rollouts.qpos, rollouts.policy_view
    models, shown = _models(task, qpos, rollouts.unseen), rollouts.shown()
    few = len(shown) <= 4 and view is None
    width, height = options.tile or (_TILE if few else _SMALL_TILE)
    draw, remark = _drawer(task.model, options)
    conditions = task.test if rollouts.unseen else task.train
    poses = {c: poses_at(conditions, models[c], c, qpos[c], steps) for c in shown}
    tiles = np.stack(
        [draw(models[c], poses[c], task.camera, width=width, height=height) for c in shown]
    )
    params = jax.tree.map(lambda leaf: leaf[np.asarray(shown)], params_of(conditions))
    distances = (
        None if rollouts.x is None else _distances(task, rollouts.x[shown][:, steps], params)
    )
    name = "unseen" if rollouts.unseen else "condition"
    captions = [
        [
            (f"{name} {c}{remark}", _reading(step * task.control_dt, distances, m, i))
            for m, c in enumerate(shown)
        ]
        for i, step in enumerate(steps)
    ]
    if view is None:
        return _Pictures(tiles, captions, width, None)
    beside = _beside(view, steps, (height, width), task.control_dt)
    return _Pictures(np.concatenate([tiles, beside.images], axis=3), captions, width, beside)


def _drawer(model: mujoco.MjModel, options: VideoOptions) -> tuple[Callable[..., np.ndarray], str]:
    """What draws the conditions, and what the captions say of it."""
    if options.opengl:
        return render_opengl, ""
    if options.config is not None:
        return functools.partial(render, config=options.config), ""
    quality = affordable_quality(model, VIDEO)
    remark = quality.caption and f" ({quality.caption})"
    return functools.partial(render, config=quality.config), remark


def thin_out(conditions: Sequence[int]) -> list[int]:
    """Returns the conditions that a video shows.

    These are all of them, or `MAX_CONDITIONS` at equal distances, the first and the last among
    them, where there are more.
    """
    places = np.linspace(0, len(conditions) - 1, min(len(conditions), MAX_CONDITIONS))
    return [conditions[place] for place in places.round().astype(int)]


class _Beside(NamedTuple):
    """The images that a policy got, in pixels of the video."""

    images: np.ndarray  # [C, I, height, width, 3] uint8
    points: np.ndarray  # [C, T, K, 2] from the upper left corner of a tile
    steps: np.ndarray  # [I] of T
    trail: int  # steps
    tile: tuple[int, int]  # height and width of a tile with the image

    def trails(self, rows: int, moments: Sequence[int], columns: int) -> np.ndarray:
        """Returns the points of the last `trail` steps, in pixels of tiles row by row.

        The shape is [rows len(moments), trail + 1, K, 2].
        """
        found = []
        for m in range(rows):
            for i in moments:
                past = np.maximum(np.arange(-self.trail, 1) + self.steps[i], 0)
                row, column = divmod(len(found), columns)
                corner = np.array([column * self.tile[1], row * self.tile[0]])
                found.append(self.points[m, past] + corner)
        return np.stack(found)


def _beside(
    policy_view: PolicyView, steps: np.ndarray, tile: tuple[int, int], control_dt: float
) -> _Beside:
    """Enlarges the policy's images, without smoothing, to the height of the tiles beside them."""
    height, left = tile
    rows, columns = policy_view.images.shape[2:4]
    width = 2 * round(height * columns / rows / 2)  # even, for the encoder
    y, x = np.arange(height) * rows // height, np.arange(width) * columns // width
    images = policy_view.images[:, steps][:, :, y[:, None], x]
    images[:, :, :, :_GAP] = 255
    scale = np.array([width / columns, height / rows])
    return _Beside(
        images=images,
        points=(policy_view.points + 0.5) * scale + (left, 0),
        steps=steps,
        trail=round(TRAIL / control_dt),
        tile=(height, left + width),
    )


class StripOptions(NamedTuple):
    """Size and quality of a film strip."""

    width: int = 1200  # of the whole picture, pixels; tiles have the aspect 4 to 3
    config: RenderConfig | None = None  # the ray caster's quality; None chooses as for videos


def film_strip(
    task: Task,
    qpos: np.ndarray,
    path: Path,
    *,
    conditions: Sequence[int] = (0,),
    steps: Sequence[int] | None = None,
    camera: Camera | None = None,
    options: StripOptions = StripOptions(),
) -> Path:
    """Writes a picture with one row per condition and one column per moment.

    Args:
      task: the task whose model, camera and control step are used.
      qpos: joint positions of the training conditions, [C, T, nq].
      path: where the PNG is written.
      conditions: the conditions to draw, counted from 0.
      steps: the control steps to draw; None draws the first, two between, and the last.
      camera: the camera to draw with; None takes the task's own.
      options: size and quality of the picture.

    Raises:
      ValueError: an index out of range, or what the renderer does not take.
    """
    models, horizon = _models(task, qpos, unseen=False), qpos.shape[1]
    moments = np.linspace(0, horizon - 1, 4).round().astype(int) if steps is None else steps
    steps = [int(step) for step in moments]
    _check_indices("condition", conditions, len(qpos))
    _check_indices("step", steps, horizon)
    view = task.camera if camera is None else camera
    width = options.width // len(steps)
    config = options.config or affordable_quality(task.model, _STILL).config
    tile = (width * 3 // 4, width)
    tiles = np.concatenate(
        [
            render(
                models[c], poses_at(task.train, models[c], c, qpos[c], np.asarray(steps)), view,
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
    with writing(path):
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


def _distances(task: Task, x: np.ndarray, params: Any) -> np.ndarray | None:
    """Computes the distance [C, I] that is left where the state of a moment lasts to the end.

    Args:
      task: the task.
      x: states of some moments in some conditions, [C, I, dX].
      params: of these conditions, leaves [C, ...], or None.
    """
    distance = task.distance
    if distance is None:
        return None

    def held(state, *extra):
        return distance(jnp.broadcast_to(state, (task.horizon, *state.shape)), *extra)

    return np.asarray(jax.jit(lambda params, x: over_rollouts(params, held, x))(params, x))


def _reading(time: float, distances: np.ndarray | None, row: int, column: int) -> str:
    text = f"{time:.1f} s"
    return text if distances is None else f"{100 * distances[row, column]:.1f} cm  ·  {text}"


def _grid(tiles: np.ndarray, columns: int) -> np.ndarray:
    """Puts tiles [M, H, W, 3] into one image, row by row, with white gaps and empty places."""
    rows = -(-len(tiles) // columns)
    _, height, width, _ = tiles.shape
    grid = np.full((rows * height, columns * width, 3), 255, np.uint8)
    for m, tile in enumerate(tiles):
        top, left = m // columns * height, m % columns * width
        inside = tile[_GAP : height - _GAP, _GAP : width - _GAP]
        grid[top + _GAP : top + height - _GAP, left + _GAP : left + width - _GAP] = inside
    return grid


def _labelled(
    image: np.ndarray,
    captions: Sequence[tuple[str, str]],
    tile: tuple[int, int],
    columns: int,
    text_width: int | None = None,
    trails: np.ndarray | None = None,
) -> np.ndarray:
    """Writes two texts over every tile, at the upper left and upper right corner.

    Args:
      image: of all tiles, [H, W, 3].
      captions: two for each tile, row by row.
      tile: its height and width, pixels.
      columns: of tiles.
      text_width: of a tile's part on which they are; None for all of it.
      trails: of points to draw, pixels from the upper left corner; see `draw_points`.
    """
    height, width = image.shape[:2]
    text_width = text_width or tile[1]
    dpi = 100
    with style():
        figure = Figure(figsize=(width / dpi, height / dpi), dpi=dpi, facecolor="none")
        canvas = FigureCanvasAgg(figure)
        size = np.clip(tile[0] / 24, 7, 13) * 72 / dpi * 1.15
        halo = [withStroke(linewidth=2.5, foreground="white")]  # legible on any background
        for m, (left, right) in enumerate(captions):
            top = 1 - (m // columns * tile[0] + 0.045 * tile[0]) / height
            start, end = (m % columns * tile[1] + part * text_width for part in (0.035, 0.965))
            for x, text, side, weight in (
                (start, left, "left", "bold"),
                (end, right, "right", None),
            ):
                figure.text(
                    x / width, top, text, size=size, color=INK, va="top", ha=side, weight=weight,
                    path_effects=halo,
                )  # fmt: skip
        if trails is not None:
            ax = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
            ax.set_axis_off()
            draw_points(ax, trails, tile[0], dpi=dpi)
        canvas.draw()
    overlay = np.asarray(canvas.buffer_rgba()).astype(np.float32) / 255
    alpha = overlay[..., 3:]
    blended = image / 255 * (1 - alpha) + overlay[..., :3] * alpha
    return np.round(blended * 255).astype(np.uint8)
