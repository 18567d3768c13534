"""The two tables of the visuomotor paper: success of policies that see, and what eyes they need.

Success by task and set of conditions, of the network trained end to end and of the paper's
baselines, which keep the convolutions that were pretrained; and the error of poses told from images
by four architectures. A run takes minutes to hours and is done once: see `visuomotor_runs`.
"""

import functools
import sys
from pathlib import Path
from typing import Literal, NamedTuple

import tyro
from reproduce import ELSEWHERE, SEEDS, Claim, Column, Results, Row, refuse, run_seeds, status
from visuomotor_runs import (
    POSE_IMAGES,
    cost_key,
    count_key,
    pose_error,
    pose_settings,
    settings,
    success,
)

from jgps import tasks as all_tasks
from jgps.cli.machine import enable_compilation_cache
from jgps.policies import ARCHITECTURES

SETS = {"train": "training", "test": "unseen places", "distracted": "distractors"}
NAMES = {
    "visuomotor": "end to end",
    "pose_features": "pose features",
    "pose_prediction": "pose prediction",
}
END_TO_END, BASELINE = "visuomotor", "pose_features"


class Entry(NamedTuple):
    """One task: successes in the order of `SETS`."""

    least: tuple[float, ...]  # that the network trained end to end has to show
    published: dict[str, tuple[float, ...]]  # by policy


ENTRIES = {
    "shape_sorting_cube": Entry(
        (0.95, 0.85, 0.75), {END_TO_END: (0.96, 0.92, 0.88), BASELINE: (0.70, 0.83, 0.40)}
    ),
    "hanger": Entry(
        (0.95, 0.85, 0.75), {END_TO_END: (1.0, 1.0, 1.0), BASELINE: (0.89, 0.88, 0.83)}
    ),
    "hammer": Entry(
        (0.85, 0.80, 0.60), {END_TO_END: (0.91, 0.87, 0.78), BASELINE: (0.62, 0.75, 0.53)}
    ),
    "bottle": Entry(
        (0.85, 0.80, 0.60), {END_TO_END: (0.89, 0.83, 0.63), BASELINE: (0.56, 0.58, 0.28)}
    ),
}
TASKS, POLICIES = tuple(ENTRIES), tuple(NAMES)
SUCCESS_SEEDS = {"small": SEEDS[:1], "full": SEEDS, "quick": SEEDS[:1]}
PUBLISHED = (
    "Levine, Finn, Darrell & Abbeel (2016), with a PR2 and 240x240 images of its camera; our tasks "
    "are simulated, their places and clutter our own, with as many trials in unseen places and "
    "with distractors as theirs. Before a network imitates them controllers improve alone for 10 "
    "iterations, the hammer's for 5: chosen after seeing seed 0, with these sets. How far off the "
    "ways between it learns to act was chosen after seeing seed 1 of the hanger, with these sets "
    "too; nothing was after seeing seed 2 of any task, or seed 1 of the cube and the bottle. Costs "
    "tell policies apart that succeed equally; less is better."
)

POSE_TASK = "shape_sorting_cube"
POSE_NAMES = {
    "feature_points": "spatial softmax",
    "softmax_dense": "softmax, dense layer",
    "dense": "dense layer",
    "max_pool_dense": "max-pooling, dense layer",
}
POSE_PUBLISHED: dict[str, float] = dict(
    zip(ARCHITECTURES, (1.30, 2.59, 4.75, 3.71), strict=True)
)  # cm
MEMORY = Column("peak_memory_gib", "peak memory, GiB", ".1f")


def main(
    scale: Literal["small", "full"] = "small",
    only: Literal["both", "success", "pose"] = "both",
    tasks: tuple[str, ...] = TASKS,
    policies: tuple[str, ...] = POLICIES,
    seeds: tuple[int, ...] | None = None,
    pose_task: str = POSE_TASK,
    backend: str = "auto",
    kept: Path = ELSEWHERE / "visuomotor",
    out: Path | None = None,
    quick: bool = False,
) -> int:
    """Success of policies that see, by task and policy, and errors of poses by architecture.

    Args:
      scale: small has 64x64 images and the settings of `jgps train TASK --policy POLICY`, for a
        CPU; full has 240x240 images and longer trainings, for an accelerator.
      only: one of the tables; both by default.
      tasks: of the table of success.
      policies: visuomotor, pose_features, pose_prediction.
      seeds: one run of every row with each; by default 0 for success at the small scale, else
        0, 1 and 2.
      pose_task: whose random scenes the poses are told of.
      backend: "native", "mjx" or "auto".
      kept: folder of finished runs, which are not done again with the same settings, and of
        interrupted ones, which go on. Several processes may share it if their runs differ.
      out: JSON file of the table of success, with that of poses beside it as NAME_pose.json and
        Markdown beside both; benchmarks/results/visuomotor.json (visuomotor_full.json), or in runs
        where tasks, policies or seeds are not the default ones.
      quick: show within minutes that the script runs: the first task and policy alone, few images,
        few steps; no claim is judged, and the result goes to runs.
    """
    size = "quick" if quick else scale
    if quick:
        tasks, policies, seeds = tasks[:1], policies[:1], (seeds or SEEDS)[:1]
    for option, chosen, known in (
        ("tasks", tasks, TASKS),
        ("policies", policies, POLICIES),
        ("pose-task", (pose_task,), TASKS),
    ):
        if not chosen or not set(chosen) <= set(known):
            return refuse(
                f"--{option} is {' '.join(chosen)}; it has to name some of {', '.join(known)}"
            )
    enable_compilation_cache()  # tasks, policies and seeds share programs
    ending = "" if size == "small" else f"_{size}"
    codes = []
    if only != "pose":
        chosen = SUCCESS_SEEDS[size] if seeds is None else seeds
        result = run_seeds(
            f"visuomotor{ending}",
            [success_row(task, policy, size, backend, kept) for task in tasks
             for policy in policies],
            chosen, columns=success_columns(),
            claims=() if size == "quick" else claims(tasks, policies),
            published=PUBLISHED, out=out,
            whole=size != "quick"
            and (tasks, policies, chosen) == (TASKS, POLICIES, SUCCESS_SEEDS[size]),
        )  # fmt: skip
        codes.append(status(result))
    if only != "success":
        chosen = SEEDS if seeds is None else seeds
        result = run_seeds(
            f"visuomotor_pose{ending}",
            [pose_row(architecture, pose_task, size, kept) for architecture in ARCHITECTURES],
            chosen, columns=pose_columns(), claims=() if size == "quick" else pose_claims(),
            published=(
                f"Levine et al. (2016), on images of a PR2's camera; ours of {pose_task}, "
                f"{POSE_IMAGES} with a tenth held out. Images, steps and rates were chosen after "
                "trying several with seed 0: with 1,800 images, 500 steps and a rate of 0.001 "
                "spatial softmax came last. Learning rates: "
                + "; ".join(
                    f"{name}: {pose_settings(pose_task, each, size).pretraining.learning_rate:g}"
                    for each, name in POSE_NAMES.items()
                )
                + "."
            ),
            out=None if out is None else out.with_name(f"{out.stem}_pose.json"),
            whole=size != "quick" and (pose_task, chosen) == (POSE_TASK, SEEDS),
        )  # fmt: skip
        codes.append(status(result))
    return max(codes)


def row_name(task: str, policy: str) -> str:
    return f"{task}, {NAMES[policy]}"


def success_row(task: str, policy: str, scale: str, backend: str, kept: Path) -> Row:
    """A task and a policy, beside what is published."""
    config, iterations = settings(task, policy, scale)
    run = functools.partial(success, all_tasks.make(task), config, iterations, backend, kept)
    values = ENTRIES[task].published.get(policy)
    published = {} if values is None else dict(zip(SETS, values, strict=True))
    return Row(row_name(task, policy), run=run, published=published, settings=config)


def success_columns() -> list[Column]:
    """Success in every set of conditions, costs where it never trained, and memory."""
    shares = [Column(key, name, ".0%", count=count_key(key)) for key, name in SETS.items()]
    costs = [
        Column(cost_key(key), f"cost, {name}", ".1f")
        for key, name in SETS.items()
        if key != "train"
    ]
    return [*shares, *costs, MEMORY]


def claims(tasks: tuple[str, ...], policies: tuple[str, ...]) -> tuple[Claim, ...]:
    """What the network that is trained end to end has to show on every task."""
    found = []
    for task in tasks if END_TO_END in policies else ():
        name = row_name(task, END_TO_END)
        least = dict(zip(SETS, ENTRIES[task].least, strict=True))
        found.append(
            Claim(
                f"{name}: success of at least "
                + ", ".join(f"{value:.0%} ({SETS[key]})" for key, value in least.items()),
                functools.partial(_reaches, name, least),
            )
        )
        if BASELINE in policies:
            other = row_name(task, BASELINE)
            found.append(
                Claim(
                    f"{name}: nowhere below {NAMES[BASELINE]}, and above them on the whole",
                    functools.partial(_above, name, other),
                )
            )
    return tuple(found)


def _reaches(name: str, least: dict[str, float], results: Results) -> bool:
    return all(results.mean(name, key) >= value for key, value in least.items())


def _above(name: str, other: str, results: Results) -> bool:
    gaps = [results.mean(name, key) - results.mean(other, key) for key in SETS]
    return min(gaps) >= 0 and sum(gaps) > 0


def pose_row(architecture: str, task: str, scale: str, kept: Path) -> Row:
    """An architecture, beside its published error."""
    config = pose_settings(task, architecture, scale)
    run = functools.partial(pose_error, all_tasks.make(task), architecture, config, kept)
    published = {"error": POSE_PUBLISHED[architecture]}
    return Row(POSE_NAMES[architecture], run=run, published=published, settings=config)


def pose_columns() -> list[Column]:
    """The error, that of the mean pose of the training images, and the memory that it took."""
    return [
        Column("error", "error on held-out images, cm", ".2f"),
        Column("error_constant", "of the mean pose, cm", ".2f"),
        MEMORY,
    ]


def pose_claims() -> tuple[Claim, ...]:
    """Spatial softmax tells best where things are."""
    best, *others = POSE_NAMES.values()
    return (
        Claim(
            f"{best} errs less than the other architectures",
            lambda r: all(r.mean(best, "error") < r.mean(other, "error") for other in others),
        ),
    )


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
