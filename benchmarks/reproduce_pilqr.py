"""PILQR against its parts, LQR and PI2 alone, and a network trained with each of the latter two.

The task's cost jumps where no gradient says so. All methods have the same number of samples and
iterations; every iteration rolls the result out without noise too, once more per condition.
"""

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from reproduce import SEEDS, Claim, Column, Results, Row, refuse, run_seeds, status

import jgps
from jgps import tasks
from jgps.algorithms import ALGORITHMS, FixedStartsConfig

PUBLISHED = (
    "PILQR reaches lower cost than LQR and than PI2 on tasks with discontinuous cost or contact, "
    "and MDGPS with either path-integral method trains networks for those (Chebotar et al. 2017a, "
    "b); in plots and on other tasks, so that no number compares."
)
TASK, SAMPLES, ITERATIONS = "disc_point_mass", 20, 20
UNSEEN = 0.9  # least success of a network that solves the task where it never trained
LQR, PI2, PILQR = "LQR (trajopt)", "PI2", "PILQR"
PIGPS, MDGPS_PILQR = "PIGPS", "MDGPS-PILQR"
ROWS = {
    LQR: "trajopt",
    PI2: "pi2",
    PILQR: "pilqr",
    PIGPS: "pigps",
    MDGPS_PILQR: "mdgps_pilqr",
}


def main(
    seeds: tuple[int, ...] = SEEDS,
    task: str = TASK,
    samples: int = SAMPLES,
    iterations: int = ITERATIONS,
    backend: str = "auto",
    out: Path | None = None,
    quick: bool = False,
) -> int:
    """Final cost and success of LQR, PI2, PILQR, and of networks trained with PI2 and PILQR.

    Args:
      seeds: one run of every method with each.
      task: a task with a success test.
      samples: rollouts with noise per condition and iteration.
      iterations: of every method.
      backend: "native", "mjx" or "auto".
      out: JSON file of the result, Markdown goes beside it; benchmarks/results/pilqr.json, or
        runs/pilqr.json where other settings are not the default ones.
      quick: show within a minute or two that the script runs: one seed, as little as it can do;
        no claim is judged, and the result goes to runs.
    """
    if quick:
        seeds, iterations = seeds[:1], 2
    if iterations < 1:
        return refuse(f"--iterations is {iterations}; it has to be at least 1")
    result = run_seeds(
        "pilqr", rows(task, samples, iterations, backend), seeds,
        columns=(
            Column("cost", "cost, training", ".1f"),
            Column("train", "success, training", ".0%"),
            Column("test_cost", "cost, unseen", ".1f"),
            Column("test", "success, unseen", ".0%"),
            Column("solved_at", "iterations until solved", ".0f", f"> {iterations}"),
        ),
        claims=() if quick else claims(), published=PUBLISHED, out=out,
        whole=(seeds, task, samples, iterations) == (SEEDS, TASK, SAMPLES, ITERATIONS),
    )  # fmt: skip
    return status(result)


def rows(task: str, samples: int, iterations: int, backend: str) -> list[Row]:
    """One for every method, each with its default settings but for the samples."""

    def row(title: str, algorithm: str) -> Row:
        make, config_type = ALGORITHMS[algorithm]
        config = config_type(rollouts=FixedStartsConfig(num_samples=samples))
        compiled_once = functools.cache(lambda: make(tasks.make(task), config, backend))
        return Row(
            title,
            functools.partial(train, compiled_once, task, iterations, backend),
            settings=config,
        )

    return [row(title, algorithm) for title, algorithm in ROWS.items()]


def train(
    make: Callable[[], Any], task_name: str, iterations: int, backend: str, seed: int
) -> dict[str, Any]:
    """One run, and what its best policy does without noise.

    That is the network that succeeded in most training conditions when it was rolled out, of those
    the one that cost least; or the controllers that cost least in each of them, of which the
    nearest acts in unseen ones.
    """
    algorithm, solved_at, curve = make(), None, []
    state = algorithm.init(jax.random.key(seed))
    for iteration in range(1, iterations + 1):
        state, metrics = algorithm.step(state)
        success = float(np.mean(metrics["noise_free_success"]))
        curve.append([iteration, success, float(np.mean(metrics["noise_free_cost"]))])
        if success == 1 and solved_at is None:
            solved_at = iteration
    found = jgps.evaluate(
        tasks.make(task_name), state.policy, key=jax.random.key(seed), backend=backend
    )
    return {
        "cost": float(np.mean(found.train.cost)),
        "train": found.train.success_rate,
        "test_cost": float(np.mean(found.test.cost)),
        "test": found.test.success_rate,
        "solved_at": solved_at,
        "curve": curve,  # iteration, fraction of training conditions solved, mean cost
    }


def claims() -> tuple[Claim, ...]:
    """What has to show."""

    def solves(results: Results, row: str) -> bool:
        return results.mean(row, "train") == 1 and results.mean(row, "test") >= UNSEEN

    def below(row: str) -> Claim:
        return Claim(
            f"the final cost of {PILQR} is below that of {row}",
            lambda r: r.mean(PILQR, "cost") < r.mean(row, "cost"),
        )

    def solved(row: str) -> Claim:
        return Claim(
            f"the network of {row} succeeds in all training conditions, for every seed, and in at "
            f"least {UNSEEN:.0%} of the unseen ones",
            lambda r: solves(r, row),
        )

    return below(LQR), below(PI2), solved(PIGPS), solved(MDGPS_PILQR)


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
