"""Contact-rich manipulation: a network pushes a block to a goal and opens a door.

Success of the newest network after some iterations, and of the result, in the training conditions
and in those that it never saw.
"""

import sys
from pathlib import Path

import tyro
from network_success import RESULT_TEST, columns, network_row
from reproduce import SEEDS, Claim, run_seeds, status

from jgps.algorithms import FixedStartsConfig, MdgpsConfig, mdgps

PUBLISHED = (
    "Chebotar et al. (2017a, 2017b) push blocks and open doors with other robots and other "
    "tolerances; no numbers on these tasks."
)
ITERATIONS = (8, 12, 16)
LEAST = 0.8  # success in unseen conditions
CONFIG = MdgpsConfig(
    rollouts=FixedStartsConfig(num_samples=10)
)  # contacts are harder to fit than free motion
TASKS = ("pusher", "door_opening")


def main(
    seeds: tuple[int, ...] = SEEDS,
    tasks: tuple[str, ...] = TASKS,
    backend: str = "auto",
    out: Path | None = None,
    quick: bool = False,
) -> int:
    """Success after 8, 12 and 16 iterations of MDGPS on the pusher and the door.

    Args:
      seeds: one run on every task with each.
      tasks: one row for each, with a success test.
      backend: "native", "mjx" or "auto".
      out: JSON file of the result, Markdown beside it; benchmarks/results/manipulation.json,
        or runs/manipulation.json where tasks or seeds are not the default ones.
      quick: show within a minute or two that the script runs: one seed, as little as it can do;
        no claim is judged, and the result goes to runs.
    """
    iterations = (1, 2) if quick else ITERATIONS
    seeds = seeds[:1] if quick else seeds
    rows = [network_row(task, task, mdgps, CONFIG, iterations, backend) for task in tasks]
    result = run_seeds(
        "manipulation", rows, seeds,
        columns=columns(iterations), claims=() if quick else claims(tasks), published=PUBLISHED,
        out=out,
        whole=tasks == TASKS and seeds == SEEDS,
    )  # fmt: skip
    return status(result)


def claims(tasks: tuple[str, ...]) -> tuple[Claim, ...]:
    """What has to show after the last iteration."""

    def claim(task: str) -> Claim:
        return Claim(
            f"{task}: success of at least {LEAST:.0%} in unseen conditions after "
            f"{ITERATIONS[-1]} iterations",
            lambda results: results.mean(task, RESULT_TEST) >= LEAST,
        )

    return tuple(claim(task) for task in tasks)


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
