"""PLATO, DAgger and MPC-GPS with one planner: what happens while a network learns to park a car.

PLATO and DAgger have it for a teacher, which labels all that is visited, and all have the same
number of episodes. With PLATO a plan acts that stays near the network, with DAgger, after the first
iteration, the network. With MPC-GPS such a plan acts too, and is what the network imitates, moved
by multipliers; there is no second plan. Touching a pillar or a parked car is a violation.
Everything else is the same, seeds included.
"""

import functools
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from parking_lot import parking_lot, violates
from reproduce import SEEDS, Claim, Column, Row, refuse, run_seeds, status

import jgps
from jgps.algorithms import MpcGpsConfig, PlatoConfig, mpc_gps, plato

PUBLISHED = (
    "quadrotors trained by PLATO crash seldom, those trained by DAgger often, and its policies are "
    "as good or better (Kahn, Zhang, Levine & Abbeel 2017); no numbers on this task."
)
ITERATIONS = 8
PLATO, DAGGER, HALF = "PLATO", "DAgger", "DAgger, beta 1/2, 1/4, ..."
MPC_GPS = "MPC-GPS"
SHARE = 0.1  # of DAgger's violations that PLATO may have at most
SLACK = 0.05  # of the success, by which both may differ


def main(
    seeds: tuple[int, ...] = SEEDS,
    iterations: int = ITERATIONS,
    out: Path | None = None,
    quick: bool = False,
) -> int:
    """Violations while training, and success afterwards, of PLATO and of DAgger.

    Args:
      seeds: one run of each with each.
      iterations: of all of them.
      out: JSON file of the result, Markdown goes beside it; benchmarks/results/plato.json, or
        runs/plato.json where other settings are not the default ones.
      quick: show within a minute or two that the script runs: one seed, as little as it can do;
        no claim is judged, and the result goes to runs.
    """
    if quick:
        seeds, iterations = seeds[:1], 2
    if iterations < 2:
        return refuse(
            f"--iterations is {iterations}; it has to be at least 2: in the first one the teacher "
            "acts with every method"
        )
    halves = (1.0, *(0.5**i for i in range(1, iterations)))
    rows = [
        Row(name, functools.partial(train, config, iterations), settings=config)
        for name, config in (
            (PLATO, PlatoConfig()),
            (DAGGER, PlatoConfig(acting="mixture", beta=(1.0, 0.0))),
            (HALF, PlatoConfig(acting="mixture", beta=halves)),
            (MPC_GPS, MpcGpsConfig()),
        )
    ]
    result = run_seeds(
        "plato", rows, seeds,
        columns=(
            Column("violations", "control steps in contact, training", ".0f"),
            Column("crashed", "episodes with a contact, training", ".1%"),
            Column("worst", "episodes with a contact, worst iteration", ".1%"),
            Column("train", "success, training conditions", ".0%"),
            Column("test", "success, unseen conditions", ".0%"),
            Column("teacher", "teacher's success, first iteration", ".0%"),
            Column("episodes", "episodes", ".0f"),
        ),
        claims=() if quick else claims(), published=PUBLISHED, out=out,
        whole=(seeds, iterations) == (SEEDS, ITERATIONS),
    )  # fmt: skip
    return status(result)


@functools.cache
def _algorithm(config: PlatoConfig | MpcGpsConfig) -> Any:
    """Compiled once for all seeds."""
    if isinstance(config, MpcGpsConfig):
        return mpc_gps(parking_lot(), config)
    return plato(parking_lot(), config)


def train(config: PlatoConfig | MpcGpsConfig, iterations: int, seed: int) -> dict[str, Any]:
    """One run: what was touched in it, and what the best network on training conditions does."""
    algorithm = _algorithm(config)
    state = algorithm.init(jax.random.key(seed))
    touched, teacher = [], 0.0
    for iteration in range(iterations):
        state, metrics = algorithm.step(state)
        touched.append(np.asarray(violates(state.episodes.x)))  # [C, N, T]
        if iteration == 0:
            teacher = float(np.mean(metrics["success"]))
    found = jgps.evaluate(parking_lot(), state.policy, key=jax.random.key(seed))
    crashed = np.any(touched, axis=-1)  # [iterations, C, N]
    return {
        "violations": int(np.sum(touched)),
        "crashed": float(np.mean(crashed)),
        "worst": float(np.max(np.mean(crashed, axis=(1, 2)))),
        "train": found.train.success_rate,
        "test": found.test.success_rate,
        "teacher": teacher,
        "episodes": int(crashed.size),
        "by_iteration": np.sum(touched, axis=(1, 2, 3)).tolist(),
    }


def claims() -> tuple[Claim, ...]:
    """What has to show."""
    return (
        Claim(
            "DAgger touches something while it trains, with every seed",
            lambda r: min(r.values(DAGGER, "violations")) > 0,
        ),
        Claim(
            f"PLATO does for at most {SHARE:.0%} of DAgger's control steps",
            lambda r: r.mean(PLATO, "violations") <= SHARE * r.mean(DAGGER, "violations"),
        ),
        Claim(
            f"its network succeeds in unseen conditions as often as DAgger's, within {SLACK:.0%}",
            lambda r: r.mean(PLATO, "test") >= r.mean(DAGGER, "test") - SLACK,
        ),
    )


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
