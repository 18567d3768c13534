"""DAgger against plain behaviour cloning: the same teacher, the same number of rollouts.

Both let local controllers learn for some iterations, and then collect as many rounds of rollouts,
all labelled by those controllers. Behaviour cloning collects where the teacher goes, DAgger, after
the first round, where the network goes. Everything else is the same, seeds included.
"""

import functools
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from reproduce import SEEDS, Claim, Column, Row, refuse, run_seeds, status

import jgps
from jgps import tasks
from jgps.algorithms import DaggerConfig, dagger

PUBLISHED = (
    "errors of behaviour cloning grow with the square of the horizon, those of DAgger linearly "
    "(Ross, Gordon & Bagnell 2011, theorems 2.1 and 3.2); no numbers on these tasks. The peg of "
    "`peg_insertion_round` has round ends."
)
TASK, ITERATIONS = "peg_insertion_round", 16
DAGGER, CLONING = "DAgger", "behaviour cloning"


def main(
    seeds: tuple[int, ...] = SEEDS,
    task: str = TASK,
    iterations: int = ITERATIONS,
    backend: str = "auto",
    out: Path | None = None,
    quick: bool = False,
) -> int:
    """Success and cost on training and unseen conditions of DAgger and of behaviour cloning.

    Args:
      seeds: one run of both with each.
      task: a task with a success test.
      iterations: of which the network learns in the last ones, see `DaggerConfig`.
      backend: "native", "mjx" or "auto".
      out: JSON file of the result, Markdown goes beside it; benchmarks/results/dagger.json, or
        runs/dagger.json where other settings are not the default ones.
      quick: show within a minute or two that the script runs: one seed, as little as it can do;
        no claim is judged, and the result goes to runs.
    """
    shortest = DaggerConfig().teacher_iterations + 2
    if quick:
        seeds, iterations = seeds[:1], shortest
    if iterations < shortest:
        return refuse(
            f"--iterations is {iterations}; it has to be at least {shortest}: in the first round "
            "of the network both methods are the same"
        )
    rows = [
        Row(name, functools.partial(train, task, config, iterations, backend), settings=config)
        for name, config in (
            (DAGGER, DaggerConfig(beta=(1.0, 0.0))),
            (CLONING, DaggerConfig(beta=(1.0,))),
        )
    ]
    result = run_seeds(
        "dagger", rows, seeds,
        columns=(
            Column("train", "training conditions", ".0%"),
            Column("test", "unseen conditions", ".0%"),
            Column("train_cost", "cost, training", ".1f"),
            Column("test_cost", "cost, unseen", ".1f"),
            Column("teacher_cost", "teacher's cost", ".1f"),
            Column("rollouts", "rollouts", ".0f"),
        ),
        claims=() if quick else claims(), published=PUBLISHED, out=out,
        whole=(seeds, task, iterations) == (SEEDS, TASK, ITERATIONS),
    )  # fmt: skip
    return status(result)


@functools.cache
def _algorithm(task: str, config: DaggerConfig, backend: str) -> Any:
    """Compiled once for all seeds."""
    return dagger(tasks.make(task), config, backend)


def train(
    task: str, config: DaggerConfig, iterations: int, backend: str, seed: int
) -> dict[str, Any]:
    """One run, and what the best network on the training conditions does."""
    algorithm = _algorithm(task, config, backend)
    state = algorithm.init(jax.random.key(seed))
    for _ in range(iterations):
        state, _ = algorithm.step(state)
    found = jgps.evaluate(tasks.make(task), state.policy, key=jax.random.key(seed), backend=backend)
    return {
        "train": found.train.success_rate,
        "test": found.test.success_rate,
        "train_cost": float(np.mean(found.train.cost)),
        "test_cost": float(np.mean(found.test.cost)),
        "teacher_cost": float(np.mean(state.memory.teacher_cost)),
        "rollouts": iterations * algorithm.rollouts_per_step,
    }


def claims() -> tuple[Claim, ...]:
    """What has to show."""
    return (
        Claim(
            "DAgger succeeds on unseen conditions at least as often as behaviour cloning",
            lambda r: r.mean(DAGGER, "test") >= r.mean(CLONING, "test"),
        ),
    )


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
