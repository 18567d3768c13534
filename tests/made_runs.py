"""Run directories as `jgps train` leaves them, with random numbers in them (seed 0)."""

import json
import re
import subprocess
from pathlib import Path

import imageio_ffmpeg
import mediapy
import numpy as np
import pytest

from jgps.rendering import RenderConfig
from jgps.reports import report
from jgps.reports.video import write_task_video

MODEL = """
<mujoco>
  <option timestep="0.05"/>
  <worldbody>
    <body><joint name="slide" type="slide" axis="1 0 0"/><geom size="0.1" mass="1"/>
      <body pos="0.2 0 0"><joint name="lift" type="slide" axis="0 0 1"/><geom size="0.05"/>
        <site name="tip" pos="0 0 0.1"/></body></body>
  </worldbody>
  <actuator><motor name="push" joint="slide"/><motor joint="lift"/></actuator>
</mujoco>
"""
TARGET = (0.5, 0.0, 0.3)
C, N, T, ITERATIONS = 2, 3, 6, 4
TEST = 8  # unseen conditions


def make_run(
    directory: Path,
    *,
    seed: int = 0,
    algorithm: str = "trajopt",
    kl_step: float = 1.0,
    finished: bool = True,
) -> Path:
    """A run directory as `jgps train` leaves it, with random numbers in it."""
    rng = np.random.default_rng(seed)
    directory.mkdir(parents=True)
    description = {"task": "lifter", "algorithm": algorithm, "seed": seed, "backend": "native"}
    config = {"type": "TrajoptConfig", "step": {"type": "S", "kl_step": kl_step}}
    (directory / "config.json").write_text(json.dumps({**description, "config": config}))
    with (directory / "metrics.jsonl").open("w") as file:
        for i in range(ITERATIONS):
            row = {"iteration": i, "iteration_seconds": 0.1}
            for key in ("cost", "distance", "kl", "kl_bound", "eta", "step_multiplier"):
                row[key] = (10.0**-i * rng.uniform(1, 2, C)).tolist()
            row |= {"success": [0.0, 1.0], "cost_expected": [5.0 - i] * C}
            row |= {"cost_predicted": [4.0 - i, None], "samples_valid": [N] * C}
            row |= {"success_train": i / 4, "success_test": i / 8}
            row |= {"cost_train_policy": 9.0 - i, "cost_test_policy": None if i == 1 else 10.0 - i}
            if algorithm == "mdgps":
                row |= {"policy_loss": 1.0, "policy_cost_expected": [6.0 - i] * C}
                row |= {"policy_kl": [0.0, 0.0] if i == 0 else [3.0, 40.0]}
            file.write(json.dumps(row) + "\n")
    if finished:
        summary = {**description, "iterations": ITERATIONS, "rollouts_total": ITERATIONS * C * N}
        summary |= {"distance_last": [0.01, 0.02 + 0.01 * seed], "success_train": 1.0}
        summary |= {"cost_train": [6.0, 7.0], "cost_test": [8.0, None]}
        summary |= {"success_test": 0.5, "seconds_per_iteration": 0.1, "wall_seconds": 3.0}
        (directory / "summary.json").write_text(json.dumps(summary))
        save_trajectories(directory, make_trajectories(rng))
    return directory


def save_trajectories(directory: Path, arrays: dict[str, np.ndarray]) -> None:
    np.savez(directory / "trajectories.npz", allow_pickle=False, **arrays)


def make_trajectories(rng: np.random.Generator) -> dict[str, np.ndarray]:
    dX, dU = 7, 2
    factor = 0.1 * rng.normal(size=(C, T, dX + dU, dX + dU))
    return {
        "x": rng.normal(size=(C, T, dX)),
        "u": rng.normal(size=(C, T, dU)),
        "qpos": 0.1 * rng.normal(size=(C, T, 2)),
        "sample_x": rng.normal(size=(C, N, T, dX)),
        "sample_u": rng.normal(size=(C, N, T, dU)),
        "sample_valid": np.ones((C, N), bool),
        "mean": rng.normal(size=(C, T, dX + dU)),
        "cov": factor @ factor.swapaxes(-1, -2),
        "K": np.zeros((C, T, dU, dX)),
        "k": np.zeros((C, T, dU)),
        "C": np.ones((C, T, dU, dU)),
        "test_x": rng.normal(size=(TEST, T, dX)),
        "test_qpos": 0.1 * rng.normal(size=(TEST, T, 2)),
    }


def draw_roughly(patch: pytest.MonkeyPatch) -> None:
    """Videos of reports become ones without shadows and smooth edges, quick to compile and draw."""

    def rough_video(*arguments, options, **keywords):
        options = options._replace(config=RenderConfig(shadows=0, supersample=1))
        return write_task_video(*arguments, options=options, **keywords)

    patch.setattr(report, "write_task_video", rough_video)


def check_picture(path: Path, width: int | None = 1200) -> None:
    image = mediapy.read_image(path)
    assert width is None or image.shape[1] == width
    assert image.shape[0] >= 200
    assert image[..., :3].std() > 5, "blank"


def read_video(path: Path) -> tuple[str, np.ndarray]:
    """What ffmpeg says of the stream, and its frames [I, H, W, 3]."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(path)]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    done = subprocess.run(command, capture_output=True, check=True)
    stream = next(line for line in done.stderr.decode().splitlines() if "Video:" in line)
    size = re.search(r" (\d{2,})x(\d{2,})", stream)
    assert size is not None, stream
    width, height = int(size[1]), int(size[2])
    return stream, np.frombuffer(done.stdout, np.uint8).reshape(-1, height, width, 3)
