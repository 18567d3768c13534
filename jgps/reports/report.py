"""Writes reports: figures and a video of one run, or curves and a table of several runs."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from rich.console import Console
from rich.table import Table

from jgps import tasks
from jgps.rendering import NotDrawableError
from jgps.reports.comparison import comparison_curves
from jgps.reports.plots.diagnostics import draw_diagnostics, draw_learning_curve
from jgps.reports.plots.features import draw_feature_points
from jgps.reports.plots.paths import draw_actions, draw_paths
from jgps.reports.plots.policy import draw_policy
from jgps.reports.policy_view import draw_policy_view, load_policy
from jgps.reports.quality import affordable_quality
from jgps.reports.run_data import RunData, read_run
from jgps.reports.video import VIDEO, VideoOptions, VideoRollouts, thin_out, write_task_video
from jgps.simulation import condition_models
from jgps.tasks import Task
from jgps.training.files import as_path, exists, write_bytes, writing

_FEATURE_ROWS = 3  # unseen conditions whose feature points are shown
Groups = dict[tuple[str, str], list[RunData]]  # (task, label) -> runs that differ in the seed alone


def write_report(
    directory: str | os.PathLike[str],
    task: Task | None = None,
    *,
    say: Callable[[str], None] = print,
    opengl: bool = False,
) -> list[Path]:
    """Draws the figures of a run and a video of its result.

    Args:
      directory: the run directory.
      task: the task of the run; None looks it up among the tasks that jgps ships.
      say: is called with one sentence about everything that could not be drawn.
      opengl: whether MuJoCo's renderer draws the video instead of the ray caster.

    Returns:
      The files written, under `figures/` and `videos/` of the directory.

    Raises:
      ValueError: the directory holds no run, one without whole metrics, or one of another task; or
        there is no OpenGL. What else is damaged is left out, with a warning that names it.
    """
    run = read_run(directory)
    name = str(run.config["task"])
    if task is None and name in tasks.names():
        task = tasks.make(name)
    out = run.directory / "figures"
    written = [draw_learning_curve(run, out / "learning_curve.png")]
    for drawn in (
        draw_policy(run, out / "policy.png"),
        draw_diagnostics(run, out / "diagnostics.png"),
    ):
        if drawn is not None:
            written.append(drawn)
    data = run.trajectories
    if data is None:
        if not exists(run.directory / "trajectories.npz"):  # else it is damaged, as a warning says
            say("The run has not finished (no trajectories.npz): only its curves are drawn.")
        return written
    if task is not None:
        _check_task(run, task)
    if np.isfinite(data["sample_x"]).any():
        written.append(draw_paths(run, out / "paths.png", task))
        written.append(draw_actions(run, out / "actions.png", task))
    else:
        say("No sample of the final controllers is finite: paths and actions are not drawn.")
    if task is None:
        say(
            f"{name!r} is not a task of jgps itself: no video, and no names of actuators. "
            "Call write_report(directory, task) for them."
        )
        return written
    return written + _pictures(run, task, say, opengl)


def _check_task(run: RunData, task: Task) -> None:
    assert run.trajectories is not None
    expected = (task.train.num, task.horizon, task.state_dim)
    if run.trajectories["x"].shape != expected:
        raise ValueError(
            f"{run.directory} holds trajectories of shape {run.trajectories['x'].shape}, but task "
            f"{task.name!r} has {expected}; pass the task that the run was trained on"
        )


def _pictures(run: RunData, task: Task, say: Callable[[str], None], opengl: bool) -> list[Path]:
    """Writes the video of the result, with a poster, and the figure of feature points.

    The video shows a network in unseen conditions and local controllers in those that they were
    trained in. Beside a policy with feature points it shows the images that the policy got; only
    for such a policy there is the figure of feature points.
    """
    assert run.trajectories is not None
    prefix, unseen = ("test_", True) if run.trains_network else ("", False)
    kind = "unseen condition" if unseen else "condition"
    qpos, x = (run.trajectories[prefix + name] for name in ("qpos", "x"))
    finite = _finite(qpos, x, kind, say)
    if not finite:
        return []
    shown = thin_out(finite)
    written, policy_view, policy = [], None, load_policy(run, task, say)
    if policy is not None:
        models = condition_models(task.model, task.test if unseen else task.train)
        shown_rollouts = {f"unseen {c}": (models[c], qpos[c]) for c in shown}
        shown_rollouts |= _distracted(run, task)
        policy_view = draw_policy_view(task, policy, list(shown_rollouts.values()))
        names = list(shown_rollouts)
        rows = [*range(min(len(shown), _FEATURE_ROWS)), *range(len(shown), len(names))]
        written.append(
            draw_feature_points(
                policy_view.select(rows),
                [names[row] for row in rows],
                task.control_dt,
                run.title + "  ·  what the policy sees",
                run.directory / "figures" / "feature_points.png",
            )
        )
        policy_view = policy_view.select(range(len(shown)))
    rollouts = VideoRollouts(qpos, x, unseen, shown, policy_view)
    return written + _video(run, task, rollouts, say, opengl)


def _video(
    run: RunData,
    task: Task,
    rollouts: VideoRollouts,
    say: Callable[[str], None],
    opengl: bool,
) -> list[Path]:
    """Writes the video and its poster; tells `say` what the ray caster cannot draw."""
    if not opengl and (remark := affordable_quality(task.model, VIDEO).explanation):
        say(remark)
    try:
        return write_task_video(
            task,
            rollouts,
            run.directory / "videos" / "final.mp4",
            poster=run.directory / "figures" / "final.png",
            options=VideoOptions(opengl=opengl),
        )
    except NotDrawableError as error:
        say(f"No video: {error} MuJoCo's own renderer may draw it (opengl).")
        return []


def _finite(qpos: np.ndarray, x: np.ndarray, kind: str, say: Callable[[str], None]) -> list[int]:
    """Returns the conditions whose rollouts are finite, and tells `say` of the others."""
    finite = np.isfinite(qpos).all(axis=(1, 2)) & np.isfinite(x).all(axis=(1, 2))
    if not finite.all():
        diverged = ", ".join(str(c) for c in np.flatnonzero(~finite))
        say(f"The final policy diverges in {kind} {diverged}: left out of the video.")
    return np.flatnonzero(finite).tolist()


def _distracted(run: RunData, task: Task) -> dict[str, tuple[mujoco.MjModel, np.ndarray]]:
    """Returns name, model and joint positions of the first distracted condition that is finite."""
    assert run.trajectories is not None
    qpos = run.trajectories.get("distracted_qpos")  # runs of before have none
    if task.distracted is None or qpos is None:
        return {}
    for c in np.flatnonzero(np.isfinite(qpos).all(axis=(1, 2)))[:1]:
        return {f"distracted {c}": (condition_models(task.model, task.distracted)[c], qpos[c])}
    return {}


def compare(
    directories: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    console: Console | None = None,
) -> list[Path]:
    """Puts several runs side by side: learning curves per task, and a table.

    Runs of one task and algorithm form a group. Where their settings differ in more than the seed,
    each setting is a group of its own, labelled with what differs.

    Args:
      directories: of the runs.
      out: directory for the files.
      console: prints the table; None writes to standard output.

    Returns:
      The files written: `comparison_<task>.png` per task, `comparison.md` (mean and standard
      deviation over the runs of a group) and `comparison.csv` (one row per run).

    Raises:
      ValueError: no directory, or one that holds no run.
    """
    if not directories:
        raise ValueError("no run directories to compare; name at least one")
    groups = group_runs([read_run(directory) for directory in directories])
    out = as_path("out", out)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    written = []
    for task in dict.fromkeys(task for task, _ in groups):
        curves = {label: runs for (name, label), runs in groups.items() if name == task}
        written.append(comparison_curves(curves, out / f"comparison_{_file_name(task)}.png"))
    header, rows = _table(groups)
    (console or Console()).print(_rich_table(header, rows))
    written.append(_write_markdown(out / "comparison.md", header, rows))
    written.append(_write_csv(out / "comparison.csv", groups))
    return written


def _file_name(task: str) -> str:
    """A task's name as part of a file's name: without slashes, and short enough."""
    return re.sub(r"[^\w.-]", "_", task)[:100]


def group_runs(runs: Sequence[RunData]) -> Groups:
    """Groups runs by task and label, see `compare`."""
    settings = [_settings(run) for run in runs]
    groups: Groups = {}
    for run, its in zip(runs, settings, strict=True):
        pair = (str(run.config["task"]), str(run.config["algorithm"]))
        alike = [
            other
            for peer, other in zip(runs, settings, strict=True)
            if (str(peer.config["task"]), str(peer.config["algorithm"])) == pair
        ]
        keys = dict.fromkeys(key for other in alike for key in other)
        differing = [key for key in keys if any(o.get(key) != its.get(key) for o in alike)]
        label = ", ".join([pair[1], *(f"{key} {its.get(key)}" for key in differing)])
        groups.setdefault((pair[0], label), []).append(run)
    return groups


def _settings(run: RunData) -> dict[str, str]:
    """Returns the settings of a run other than its seed as flat text."""
    flat: dict[str, str] = {}

    def add(value: Any, name: str) -> None:
        if isinstance(value, dict):
            for key, each in value.items():
                add(each, f"{name}.{key}" if name else key)
        else:
            flat[name] = json.dumps(value)

    add(run.config.get("config"), "")
    for key in ("backend", "float64"):
        add(run.config.get(key), key)
    return flat


_SETS = {"train": "training", "test": "unseen", "distracted": "distracted"}


def _table(groups: Groups) -> tuple[list[str], list[tuple[str, ...]]]:
    """Returns headings and one row per group, without columns in which no run has a number."""
    rows = [_row(key, runs) for key, runs in groups.items()]
    empty = {f"{kind}, distracted" for kind in ("cost", "success")}
    header = [name for name in rows[0] if not (name in empty and {r[name] for r in rows} == {"–"})]
    return header, [tuple(row[name] for name in header) for row in rows]


def _row(key: tuple[str, str], runs: Sequence[RunData]) -> dict[str, str]:
    """Returns the cells of a group's row by heading."""
    values = [_numbers(run) for run in runs]

    def spread(name: str, scale: float = 1.0, unit: str = "", digits: int = 3) -> str:
        numbers = [v[name] for v in values if v[name] is not None]
        if not numbers:
            return "–"
        mean, deviation = scale * np.mean(numbers), scale * np.std(numbers)
        text = f"{mean:.{digits}g}{unit}"
        return text if len(numbers) < 2 else f"{text} ± {deviation:.2g}{unit}"

    def span(name: str) -> str:
        numbers = sorted({int(v[name]) for v in values if v[name] is not None})
        return (
            "–"
            if not numbers
            else "–".join(str(n) for n in dict.fromkeys((numbers[0], numbers[-1])))
        )

    return {
        "task": key[0],
        "algorithm": key[1],
        "runs": str(len(runs)),
        "iterations": span("iterations"),
        "rollouts": span("rollouts"),
        **{f"cost, {name}": spread(f"cost_{each}") for each, name in _SETS.items()},
        "final distance (cm)": spread("distance", 100),
        **{f"success, {name}": spread(f"success_{each}", 100, "%") for each, name in _SETS.items()},
        "s / iteration": spread("seconds_per_iteration"),
    }


def _numbers(run: RunData) -> dict[str, Any]:
    """Returns the numbers that the table shows of one run; None where a number is not known."""
    known = _known(run.summary.get("distance_last"))
    cost = run.metrics["cost"][-1]
    return {
        "seed": run.config.get("seed"),
        "iterations": len(run.metrics["iteration"]),
        "rollouts": run.summary.get("rollouts_total"),
        "cost_samples": float(np.nanmean(cost)) if np.isfinite(cost).any() else None,
        **{
            f"cost_{name}": float(np.mean(costs)) if costs else None
            for name in _SETS
            for costs in [_known(run.summary.get(f"cost_{name}"))]
        },
        "distance": float(np.mean(known)) if known else None,
        "distance_worst": float(np.max(known)) if known else None,
        **{f"success_{name}": run.summary.get(f"success_{name}") for name in _SETS},
        "seconds_per_iteration": run.summary.get("seconds_per_iteration"),
        "wall_seconds": run.summary.get("wall_seconds"),
    }


def _known(values: Any) -> list[float]:
    """Returns the entries of a list that are not None; nothing where there is no list."""
    return [each for each in values if each is not None] if isinstance(values, list) else []


def _rich_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Makes a table with one column per group, because terminals are narrow."""
    table = Table(title="Mean ± standard deviation over runs", title_justify="left")
    table.add_column(header[0])
    for row in rows:
        table.add_column(row[0], justify="right", overflow="fold")
    for name, *cells in list(zip(header, *rows, strict=True))[1:]:
        table.add_row(name, *cells)
    return table


def _write_markdown(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Path:
    ruler = ["---" if i < 2 else "---:" for i in range(len(header))]
    lines = ["| " + " | ".join(cells) + " |" for cells in (header, ruler, *rows)]
    write_bytes(path, "\n".join([*lines, ""]).encode())
    return path


def _write_csv(path: Path, groups: Groups) -> Path:
    rows = [
        {"directory": str(run.directory), "task": task, "group": label, **_numbers(run)}
        for (task, label), runs in groups.items()
        for run in runs
    ]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(path, text.getvalue().encode())
    return path
