"""What a finished run leaves: its summary, and the trajectories that figures and videos draw."""

import io
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jgps.algorithms import Inspection
from jgps.simulation import SimulationRollouts
from jgps.training.description import versions
from jgps.training.evaluate import EvaluationResult
from jgps.training.files import cannot_write, write_bytes
from jgps.training.metrics import Record, plain


def summarise(
    description: dict[str, Any],
    records: list[Record],
    evaluation: EvaluationResult,
    *,
    rollouts_per_step: int,
    compile_seconds: float,
    evaluation_seconds: float,
    wall_seconds: float,
) -> dict[str, Any]:
    """What `summary.json` holds.

    First and last cost are means over conditions and samples. `rollouts_total` counts the rollouts
    of training and none that only shows how well a policy does; `evaluation_seconds` are those of
    all evaluations, compiling included, and no part of `seconds_per_iteration`. The argument
    `compile_seconds` is of what was compiled before the first iteration; the iterations' own is in
    their records. What the lost record of an iteration would say is left out.
    """
    device = jax.devices()[0]
    train, test, distracted = evaluation
    steps = [
        record["iteration_seconds"] - record["compile_seconds"]
        for record in records
        if {"iteration_seconds", "compile_seconds"} <= set(record)
    ]
    return plain(
        {
            **{key: description[key] for key in ("task", "algorithm", "seed", "backend")},
            "device": f"{device.platform}: {device.device_kind}",
            "iterations": len(records),
            "rollouts_total": rollouts_per_step * len(records),
            "success_train": train.success_rate,
            "success_test": test.success_rate,
            **({} if distracted is None else {"success_distracted": distracted.success_rate}),
            **{
                f"falls_{name}": each.fall_rate
                for name, each in evaluation.sets.items()
                if each.fall_rate is not None
            },
            "cost_first": _mean(records[0].get("cost", [])),
            "cost_last": _mean(records[-1].get("cost", [])),
            "cost_train": train.cost,
            "cost_test": test.cost,
            **({} if distracted is None else {"cost_distracted": distracted.cost}),
            "distance_last": train.distance,
            "distance_test": test.distance,
            "success_train_conditions": train.success,
            "success_test_conditions": test.success,
            **({} if distracted is None else {"success_distracted_conditions": distracted.success}),
            "wall_seconds": wall_seconds,
            "compile_seconds": compile_seconds
            + sum(record.get("compile_seconds", 0) for record in records),
            "evaluation_seconds": evaluation_seconds
            + sum(record.get("evaluation_seconds", 0) for record in records),
            "seconds_per_iteration": float(np.median(steps)) if steps else None,
            "versions": versions(),
        }
    )


def _mean(values: list[float | None]) -> float | None:
    numbers = [each for each in values if each is not None]
    return float(np.mean(numbers)) if numbers else None


def trajectories(evaluation: EvaluationResult, inspection: Inspection) -> dict[str, np.ndarray]:
    """What `trajectories.npz` holds.

    Of the final policy without noise, on training conditions: x, u, qpos [C, T, .], valid [C];
    the same of test conditions with the prefix `test_`, and of distracted ones, where the task has
    them, with `distracted_`. With noise: sample_x, sample_u [C, N, T, .], sample_valid [C, N], and
    the Gaussian model of z = [x; u]: mean, cov [C, T, ...]. The local controllers: K, k, C
    [C, T, ...].
    """
    arrays = {}
    for key, result in evaluation.sets.items():
        prefix = "" if key == "train" else f"{key}_"
        for name in ("x", "u", "qpos", "valid"):
            arrays[prefix + name] = np.asarray(getattr(result.rollouts, name))[:, 0]
    sampled, marginals, controllers = inspection
    arrays |= {f"sample_{name}": getattr(sampled, name) for name in ("x", "u", "valid")}
    arrays |= {"mean": marginals.mean, "cov": marginals.cov}
    arrays |= {"K": controllers.K, "k": controllers.k, "C": controllers.C}
    return {name: np.asarray(array) for name, array in arrays.items()}


def save_samples(directory: Path, iteration: int, sampled: SimulationRollouts) -> None:
    """Writes the rollouts of one iteration into a run directory.

    Raises:
      WriteError: they cannot be written, for instance because the disk is full.
    """
    folder = directory / "samples"
    path = folder / f"{iteration:06d}.npz"
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise cannot_write(path, 0, error) from None
    names = ("x", "u", "qpos", "valid")
    save_trajectories(path, {name: np.asarray(getattr(sampled, name)) for name in names})


def save_trajectories(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes an `.npz` file as a whole or not at all.

    Raises:
      WriteError: it cannot be written, for instance because the disk is full.
    """
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **arrays)
    write_bytes(path, content.getvalue())
