"""Reads the files that training wrote into a run directory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import numpy as np

from jgps.core.warn import warn
from jgps.optimise.rollouts.random_starts import RandomStartsConfig
from jgps.training import metrics_file
from jgps.training.codec import decode
from jgps.training.directory import read_config
from jgps.training.errors import DamagedError
from jgps.training.files import as_path, exists, read_arrays, read_json
from jgps.vision.config import NetworkPolicyConfig


class Phase(NamedTuple):
    """A span of iterations in which a network that reads images learns in one way."""

    name: str
    first: int
    last: int  # the last iteration that belongs to the phase


class RunData(NamedTuple):
    """The contents of one run directory."""

    directory: Path
    config: dict[str, Any]
    summary: dict[str, Any]  # empty where the run has not finished
    metrics: dict[str, np.ndarray]  # [I] or [I, C] over iterations; NaN where there is no number
    trajectories: dict[str, np.ndarray] | None  # None where the run has not finished

    def value(self, key: str, default: Any = None) -> Any:
        """Returns a field of the summary, or of the config where the summary lacks it."""
        return self.summary.get(key, self.config.get(key, default))

    @property
    def title(self) -> str:
        """The title of figures: task, algorithm and seed."""
        task = str(self.value("task", "unnamed task")).replace("_", " ")
        parts = [task[:1].upper() + task[1:], str(self.value("algorithm", ""))]
        if self.value("seed") is not None:
            parts.append(f"seed {self.value('seed')}")
        return "  ·  ".join(part for part in parts if part).replace("$", r"\$")  # no formula

    @property
    def trains_network(self) -> bool:
        """Whether the result is one network, not a bank of local controllers."""
        return "policy_loss" in self.metrics

    @property
    def locals_are(self) -> str:
        """What each local controller belongs to: "condition", or "group" of random starts."""
        rollouts = (self.config.get("config") or {}).get("rollouts") or {}
        return "group" if rollouts.get("type") == RandomStartsConfig.__name__ else "condition"

    @property
    def phases(self) -> list[Phase]:
        """The phases that the run has reached; empty where it learns in one way throughout."""
        settings = self.config.get("config") or {}
        if not isinstance(settings.get("policy"), dict):
            return []
        try:
            policy = decode(NetworkPolicyConfig, settings["policy"])
        except ValueError:  # of another version of jgps
            return []
        alone = settings.get("trajectory_iterations", settings.get("teacher_iterations", 0))
        starts = policy.phases(alone)
        over = int(self.metrics["iteration"][-1]) + 1
        phases = [
            Phase(name, first, min(end, over) - 1)
            for name, (first, end) in zip(starts, pairwise([*starts.values(), over]), strict=True)
        ]
        return [phase for phase in phases if phase.first <= phase.last]

    def conditions(self, key: str) -> np.ndarray:
        """Returns an entry of `metrics` as [I, C], with C = 1 where it has no condition axis."""
        values = self.metrics[key]
        return values.reshape(len(values), -1)


_TRAJECTORIES = ("x", "u", "qpos", "sample_x", "sample_u", "mean", "cov", "K", "k", "C")
_TEST_TRAJECTORIES = ("test_x", "test_qpos")  # a network's video shows test conditions
# Axes of trajectories: those of the same letter are equally long in all arrays.
_AXES = {
    "x": "CTX", "u": "CTU", "qpos": "CTQ", "valid": "C",
    "test_x": "DTX", "test_u": "DTU", "test_qpos": "DTQ", "test_valid": "D",
    "distracted_x": "ETX", "distracted_u": "ETU", "distracted_qpos": "ETQ", "distracted_valid": "E",
    "sample_x": "GNTX", "sample_u": "GNTU", "sample_valid": "GN",
    "mean": "GTZ", "cov": "GTZZ", "K": "GTUX", "k": "GTU", "C": "GTUU",
}  # fmt: skip
_AGAIN = "resume the finished run, which writes it anew, or put a copy back"


class Summary(TypedDict, total=False):
    """What reports read of `summary.json`."""

    task: str
    algorithm: str
    seed: int
    iterations: int
    rollouts_total: int
    seconds_per_iteration: float | None
    wall_seconds: float
    success_train: float | None
    success_test: float | None
    success_distracted: float | None
    distance_last: list[float | None] | None
    distance_test: list[float | None] | None
    cost_train: list[float | None]
    cost_test: list[float | None]
    cost_distracted: list[float | None]


def read_run(directory: str | os.PathLike[str]) -> RunData:
    """Reads a run directory; a run that has been interrupted lacks its summary and trajectories.

    What is damaged beside `config.json` is left out, with a warning that names it.

    Raises:
      ValueError: the directory does not exist, its `config.json` is missing or damaged, or none of
        its metrics are whole; the message names the file.
    """
    directory = as_path("directory", directory)
    config = read_config(directory)
    path = directory / metrics_file.NAME
    records, problem = metrics_file.read_metrics(directory)
    if not any(len(record) > 1 for record in records):
        detail = f"; {problem}" if problem else ""
        raise ValueError(f"{path} holds no whole iteration{detail}; there is nothing to report yet")
    if problem:
        _warn(problem)
    metrics = _stack_records(path, records)
    needed = _TRAJECTORIES + _TEST_TRAJECTORIES * ("policy_loss" in metrics)
    return RunData(
        directory=directory,
        config=config,
        summary=_read_summary(directory / "summary.json") or {},
        metrics=metrics,
        trajectories=_read_trajectories(directory / "trajectories.npz", needed),
    )


def _warn(text: str) -> None:
    warn(text)


def _read_summary(path: Path) -> dict[str, Any] | None:
    """The summary; None where the run has not finished or the file is damaged, with a warning."""
    if not exists(path):
        return None
    remedy = f"the report does without; {_AGAIN}"
    try:
        return decode(Summary, read_json(path, remedy), "what it says")
    except DamagedError as error:
        _warn(str(error))
    except ValueError as error:
        _warn(f"{path} is damaged ({error}); {remedy}")
    return None


def _stack_records(path: Path, records: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    keys = dict.fromkeys(key for record in records for key in record)
    if "cost" not in keys:
        raise ValueError(f"{path} records no cost; there is nothing to report")
    first = {key: next(r[key] for r in records if key in r) for key in keys}
    return {
        key: _stack(path, key, [record.get(key) for record in records])
        for key in keys
        if _is_number(first[key])
    }


def _is_number(value: Any) -> bool:
    first = value[0] if isinstance(value, list) and value else value
    return first is None or isinstance(first, int | float)


def _stack(path: Path, key: str, values: list[Any]) -> np.ndarray:
    """Stacks a metric as [I] or [I, C], with NaN for null and for iterations without it."""
    sizes = {len(value) for value in values if isinstance(value, list)}
    if len(sizes) > 1:
        raise ValueError(
            f"{path}: {key} has {sorted(sizes)} entries in different iterations; put a copy of "
            "the file back"
        )
    size = sizes.pop() if sizes else 1
    rows = [value if isinstance(value, list) else [value] * size for value in values]
    if not all(_is_number(v) for row in rows for v in row):
        raise ValueError(f"{path}: {key} holds more than numbers; put a copy of the file back")
    array = np.array([[np.nan if v is None else v for v in row] for row in rows], np.float64)
    return array if any(isinstance(value, list) for value in values) else array[:, 0]


def _read_trajectories(path: Path, needed: Sequence[str]) -> dict[str, np.ndarray] | None:
    """The trajectories; None where the run has not finished or the file is damaged: that is said.

    Samples that are not valid are NaN.
    """
    if not exists(path):
        return None
    remedy = f"only curves are drawn; {_AGAIN}"
    try:
        arrays = read_arrays(path, remedy)
        _check_trajectories(path, arrays, needed, remedy)
    except DamagedError as error:
        _warn(str(error))
        return None
    for name in ("sample_x", "sample_u"):  # rollouts that diverged are not drawn
        if "sample_valid" in arrays:
            valid = arrays["sample_valid"].astype(bool)[..., None, None]
            arrays[name] = np.where(valid, arrays[name], np.nan)
    return arrays


def _check_trajectories(
    path: Path, arrays: dict[str, np.ndarray], needed: Sequence[str], remedy: str
) -> None:
    """Refuses arrays that are missing or whose axes do not fit each other.

    Raises:
      DamagedError: which, and what to do.
    """
    missing = [name for name in needed if name not in arrays]
    if missing:
        raise DamagedError(f"{path} lacks {', '.join(missing)}; {remedy}")
    sizes: dict[str, int] = {}
    for name, axes in _AXES.items():
        shape = arrays[name].shape if name in arrays else ()
        if name in arrays and len(shape) != len(axes):
            raise DamagedError(f"{path}: {name} has shape {shape}, not [{axes}]; {remedy}")
        for axis, size in zip(axes, shape, strict=False):
            if size == 0 or sizes.setdefault(axis, size) != size:
                raise DamagedError(
                    f"{path}: {name} has shape {shape}, which does not fit the others; {remedy}"
                )
