"""Reads the files that training wrote into a run directory."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jgps.optimise.rollouts.random_starts import RandomStartsConfig
from jgps.training.codec import decode
from jgps.training.directory import read_config
from jgps.training.metrics import read_metrics
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
        return "  ·  ".join(part for part in parts if part)

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
        except (TypeError, ValueError):  # of another version of jgps
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


def read_run(directory: str | os.PathLike[str]) -> RunData:
    """Reads a run directory; a run that has been interrupted lacks its summary and trajectories.

    Raises:
      ValueError: the directory does not exist, or a file in it, which the message names, is missing
        or damaged.
    """
    directory = Path(directory)
    config = read_config(directory)
    path = directory / "metrics.jsonl"
    records = read_metrics(directory)
    if not records:
        raise ValueError(f"{path} holds no whole iteration; there is nothing to report yet")
    finished = (directory / "summary.json").is_file()
    metrics = _stack_records(path, records)
    needed = _TRAJECTORIES + _TEST_TRAJECTORIES * ("policy_loss" in metrics)
    return RunData(
        directory=directory,
        config=config,
        summary=_read_json(directory / "summary.json") if finished else {},
        metrics=metrics,
        trajectories=_read_trajectories(directory / "trajectories.npz", needed),
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds a {type(value).__name__}, not an object")
    return value


def _stack_records(path: Path, records: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    keys = dict.fromkeys(key for record in records for key in record)
    if "cost" not in keys:
        raise ValueError(f"{path} records no cost")
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
        raise ValueError(f"{path}: {key} has {sorted(sizes)} entries in different iterations")
    size = sizes.pop() if sizes else 1
    rows = [value if isinstance(value, list) else [value] * size for value in values]
    array = np.array([[np.nan if v is None else v for v in row] for row in rows], np.float64)
    return array if any(isinstance(value, list) for value in values) else array[:, 0]


def _read_trajectories(path: Path, needed: Sequence[str]) -> dict[str, np.ndarray] | None:
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file, np.load(file) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    for name in ("sample_x", "sample_u"):  # rollouts that diverged are not drawn
        if name in arrays and "sample_valid" in arrays:
            valid = arrays["sample_valid"].astype(bool)[..., None, None]
            arrays[name] = np.where(valid, arrays[name], np.nan)
    missing = [name for name in needed if name not in arrays]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}")
    return arrays
