"""The flat-ended peg of 2016: the algorithms beside what the code of that year does.

Success in the training conditions after so many iterations, of the best controllers so far
(trajectory optimisation) or of the newest network, and in those that it never saw.
"""

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import tyro
from network_success import (
    FARTHEST,
    ITERATIONS,
    RESULT_TEST,
    RESULT_TRAIN,
    TEST,
    TRAIN,
    Table,
    columns,
    every_seed,
    key_at,
    make_main,
    network_row,
    numbers,
)
from reproduce import Claim, Column, Row
from reproduce_mdgps import AS_PUBLISHED

from jgps import tasks
from jgps.algorithms import ALGORITHMS
from jgps.recipes import recipe

TASK = "peg_insertion"
TRIALS = {TRAIN: "train_conditions", TEST: "unseen_conditions"}
REACHED = 0.055  # metres; the guides stop a flat peg at 0.04 to 0.05
PUBLISHED = (
    'Montgomery & Levine (2016), peg insertion, networks in training conditions. "2016 code" was '
    "measured by us: the code of that year on its own model of the PR2's arm, 12 iterations, 5 "
    "rollouts per condition; trajectory optimisation with 3 seeds (75%, 100% and 50%), MDGPS with "
    "2, BADMM with 1. All pegs are flat-ended. Ours have the recipe's settings, 20 rollouts per "
    'condition and 40 of MDGPS among them; the row "as published" has the paper\'s step rule, '
    "linearisation and weights beside those."
)


class Entry(NamedTuple):
    """One row, and the least that it has to show after the last iteration with every seed."""

    name: str
    algorithm: str
    settings: Mapping[str, Any] = {}  # beside the recipe's
    sampling: str | None = None  # that the recipe is for
    published: tuple[float, ...] = ()  # after ITERATIONS
    code: tuple[float | None, ...] = ()  # the same of the code of 2016
    train: float | None = None
    test: float | None = None


ENTRIES = {
    "trajopt": Entry("trajectory optimisation", "trajopt", code=(None, None, 0.75)),
    "off_policy": Entry(
        "MDGPS, off-policy", "mdgps", {}, None, (0.22, 0.74, 0.93), (0.62, 0.75, 0.62), 0.95, 0.90
    ),
    "on_policy": Entry("MDGPS, on-policy", "mdgps", {}, "on_policy", (0.33, 0.82, 0.85)),
    "published": Entry(
        "MDGPS, off-policy, as published", "mdgps", AS_PUBLISHED, None, (0.22, 0.74, 0.93)
    ),
    "badmm": Entry("BADMM", "badmm", {}, None, (0.52, 0.52, 0.78), (0.75, 1.0, 0.75), 0.80),
}


def with_intervals(iterations: Sequence[int]) -> list[Column]:
    """The columns, those of success with the number of conditions; and how far the peg stays."""
    counts = {RESULT_TRAIN: TRIALS[TRAIN], RESULT_TEST: TRIALS[TEST]}
    found = []
    for column in columns(iterations):
        kind = column.key.partition("_")[0]
        count = counts.get(column.key, TRIALS.get(kind, ""))
        found.append(column._replace(count=count))
    return [*found, Column(FARTHEST, "farthest from the slot's bottom, result, m", ".3f")]


def row(entry: Entry, iterations: tuple[int, ...], backend: str, task: str = TASK) -> Row:
    """What is run for one entry, judged after these iterations."""
    make, _ = ALGORITHMS[entry.algorithm]
    usual = recipe(task, entry.algorithm, sampling=entry.sampling).config
    config = dataclasses.replace(usual, **entry.settings)
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
    last, found = ITERATIONS[-1], []
    for entry in (ENTRIES[name] for name in rows):
        if entry.train is not None:
            found.append(every_seed(entry.name, "training", key_at(TRAIN, last), entry.train))
        if entry.test is not None:
            found.append(every_seed(entry.name, "unseen", key_at(TEST, last), entry.test))
    if "trajopt" in rows:
        name = ENTRIES["trajopt"].name
        found.append(
            Claim(
                f"{name}: within {REACHED} m of the slot's bottom in all training conditions, with "
                "every seed",
                lambda results: numbers(results, name, FARTHEST).max() <= REACHED,
            )
        )
    return tuple(found)


main = make_main(
    Table(
        name="2016",
        title="Success after 6, 9 and 12 iterations with a flat-ended peg, with 95% intervals.",
        entries=ENTRIES,
        row=row,
        claims=claims,
        published=PUBLISHED,
        seeds=(0, 1, 2, 3, 4),
        columns=with_intervals,
    )
)


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
