"""The flat-ended peg of 2016: the algorithms beside what the code of that year does.

Success in the training conditions after so many iterations, of the best controllers so far
(trajectory optimisation) or of the newest network, and in those that it never saw.
"""

import dataclasses
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tyro
from network_success import (
    FARTHEST,
    RESULT_TEST,
    RESULT_TRAIN,
    TEST,
    TRAIN,
    columns,
    key_at,
    network_row,
)
from reproduce import Claim, Column, Results, Row, refuse, run_seeds, status
from reproduce_mdgps import AS_PUBLISHED, ON_POLICY

from jgps import tasks
from jgps.algorithms import ALGORITHMS
from jgps.recipes import recipe

TASK = "peg_insertion"
SEEDS = (0, 1, 2, 3, 4)
ITERATIONS = (6, 9, 12)
TRIALS = {TRAIN: "train_conditions", TEST: "unseen_conditions"}
REACHED = 0.055  # metres; the guides stop a flat peg at 0.04 to 0.05
PUBLISHED = (
    'Montgomery & Levine (2016), peg insertion, networks in training conditions. "2016 code" was '
    "measured by us: the code of that year on its own model of the PR2's arm, 12 iterations, 5 "
    "rollouts per condition; trajectory optimisation with 3 seeds (75%, 100% and 50%), MDGPS with "
    "2, BADMM with 1. All pegs are flat-ended. Ours have the recipe's settings, 20 rollouts per "
    'condition among them; the row "as published" has the paper\'s step rule, linearisation and '
    "weights beside those."
)


class Entry(NamedTuple):
    """One row, and the least that it has to show after the last iteration with every seed."""

    name: str
    algorithm: str
    settings: Mapping[str, Any] = {}  # beside the recipe's
    published: tuple[float, ...] = ()  # after ITERATIONS
    code: tuple[float | None, ...] = ()  # the same of the code of 2016
    train: float | None = None
    test: float | None = None


ENTRIES = {
    "trajopt": Entry("trajectory optimisation", "trajopt", code=(None, None, 0.75)),
    "off_policy": Entry(
        "MDGPS, off-policy", "mdgps", {}, (0.22, 0.74, 0.93), (0.62, 0.75, 0.62), 0.95, 0.90
    ),
    "on_policy": Entry("MDGPS, on-policy", "mdgps", ON_POLICY, (0.33, 0.82, 0.85)),
    "published": Entry(
        "MDGPS, off-policy, as published", "mdgps", AS_PUBLISHED, (0.22, 0.74, 0.93)
    ),
    "badmm": Entry("BADMM", "badmm", {}, (0.52, 0.52, 0.78), (0.75, 1.0, 0.75), 0.80),
}


def main(
    seeds: tuple[int, ...] = SEEDS,
    rows: tuple[str, ...] = tuple(ENTRIES),
    backend: str = "auto",
    out: Path | None = None,
    quick: bool = False,
) -> int:
    """Success after 6, 9 and 12 iterations with a flat-ended peg, with 95% intervals.

    Args:
      seeds: one run of every row with each.
      rows: which: trajopt, off_policy, on_policy, published, badmm.
      backend: "native", "mjx" or "auto".
      out: JSON file of the result, Markdown goes beside it; benchmarks/results/2016.json, or
        runs/2016.json where rows or seeds are not the default ones.
      quick: show within a minute or two that the script runs: one seed, as little as it can do;
        no claim is judged, and the result goes to runs.
    """
    unknown = [row for row in rows if row not in ENTRIES]
    if unknown or not rows:
        return refuse(f"--rows is {' '.join(rows)}; it has to name some of {', '.join(ENTRIES)}")
    iterations = (1, 2) if quick else ITERATIONS
    result = run_seeds(
        "2016", [row(ENTRIES[name], iterations, backend) for name in rows],
        seeds[:1] if quick else seeds, columns=with_intervals(columns(iterations)),
        claims=() if quick else claims(rows), published=PUBLISHED, out=out,
        whole=rows == tuple(ENTRIES) and seeds == SEEDS and not quick,
    )  # fmt: skip
    return status(result)


def with_intervals(plain: list[Column]) -> list[Column]:
    """The columns, those of success with the number of conditions; and how far the peg stays."""
    counts = {RESULT_TRAIN: TRIALS[TRAIN], RESULT_TEST: TRIALS[TEST]}
    found = []
    for column in plain:
        kind = column.key.partition("_")[0]
        count = counts.get(column.key, TRIALS.get(kind, ""))
        found.append(column._replace(count=count))
    return [*found, Column(FARTHEST, "farthest from the slot's bottom, result, m", ".3f")]


def row(entry: Entry, iterations: tuple[int, ...], backend: str, task: str = TASK) -> Row:
    """What is run for one entry, judged after these iterations."""
    make, _ = ALGORITHMS[entry.algorithm]
    usual = recipe(task, entry.algorithm).config
    config = dataclasses.replace(usual, **{**entry.settings, "rollouts": usual.rollouts})
    plain = network_row(entry.name, task, make, config, iterations, backend)
    return plain._replace(
        run=_counted(plain.run, task),
        published={
            key_at(TRAIN, at): text
            for at, text in zip(ITERATIONS, _published(entry), strict=True)
            if text and at in iterations
        },
    )


def _published(entry: Entry) -> list[str]:
    """What is known from elsewhere, in words, by iteration; empty where nothing is."""
    paper = entry.published or (None,) * len(ITERATIONS)
    code = entry.code or (None,) * len(ITERATIONS)
    texts = []
    for one, other in zip(paper, code, strict=True):
        known = [] if one is None else [f"{one:.0%}"]
        texts.append(", ".join(known if other is None else [*known, f"2016 code {other:.0%}"]))
    return texts


def _counted(
    run: Callable[[int], Mapping[str, Any]], task: str
) -> Callable[[int], Mapping[str, Any]]:
    """The run with the numbers of conditions that its shares are of."""

    def counted(seed: int) -> Mapping[str, Any]:
        made = tasks.make(task)
        return {**run(seed), TRIALS[TRAIN]: made.train.num, TRIALS[TEST]: made.test.num}

    return counted


def claims(rows: tuple[str, ...]) -> tuple[Claim, ...]:
    """What every seed of the entries has to show after the last iteration."""

    def least(name: str, conditions: str, key: str, share: float) -> Claim:
        return Claim(
            f"{name}: success of at least {share:.0%} in {conditions} conditions after "
            f"{ITERATIONS[-1]} iterations, with every seed",
            lambda results: _numbers(results, name, key).min() >= share,
        )

    found = []
    for entry in (ENTRIES[name] for name in rows):
        if entry.train is not None:
            found.append(least(entry.name, "training", key_at(TRAIN, ITERATIONS[-1]), entry.train))
        if entry.test is not None:
            found.append(least(entry.name, "unseen", key_at(TEST, ITERATIONS[-1]), entry.test))
    if "trajopt" in rows:
        name = ENTRIES["trajopt"].name
        found.append(
            Claim(
                f"{name}: within {REACHED} m of the slot's bottom in all training conditions, with "
                "every seed",
                lambda results: _numbers(results, name, FARTHEST).max() <= REACHED,
            )
        )
    return tuple(found)


def _numbers(results: Results, row: str, key: str) -> np.ndarray:
    """Of every seed; NaN, which satisfies no comparison, where one has no value."""
    return np.asarray(results.values(row, key), float)


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
