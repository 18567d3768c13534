"""Success of an algorithm's network while it learns, on training and on unseen conditions.

After an iteration the network that was trained last is evaluated, as in published curves; at the
end also the algorithm's result, the one of all iterations that did best without noise in training
conditions (whose rollouts count).
"""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from reproduce import SEEDS, Claim, Column, Results, Row, refuse, run_seeds, status

from jgps import tasks
from jgps.algorithms import Algorithm
from jgps.training import make_evaluator

ITERATIONS = (6, 9, 12)  # after which newest networks are judged, as in the published table
TRAIN, TEST, SECONDS = "train", "test", "seconds_per_iteration"
RESULT_TRAIN, RESULT_TEST = "result_train", "result_test"
FARTHEST = "farthest"  # metres left at the end in the worst training condition, of the result


def key_at(conditions: str, iteration: int) -> str:
    """Of the number of a run, for TRAIN or TEST conditions."""
    return f"{conditions}_{iteration}"


def columns(iterations: Sequence[int]) -> list[Column]:
    """Success after these iterations and of the result, and how long an iteration takes."""
    return [
        *(Column(key_at(TRAIN, at), f"training, iteration {at}", ".0%") for at in iterations),
        Column(RESULT_TRAIN, "training, result", ".0%"),
        *(Column(key_at(TEST, at), f"unseen, iteration {at}", ".0%") for at in iterations),
        Column(RESULT_TEST, "unseen, result", ".0%"),
        Column(SECONDS, "seconds per iteration", ".2f"),
    ]


class Table(NamedTuple):
    """A table of success while learning."""

    name: str  # of its files
    title: str  # what its script shows, in a sentence
    entries: Mapping[str, Any]  # of the rows, by the names that the command line has
    row: Callable[[Any, tuple[int, ...], str], Row]  # of an entry, iterations and a backend
    claims: Callable[[tuple[str, ...]], tuple[Claim, ...]]  # of rows, by name
    published: str
    seeds: tuple[int, ...] = SEEDS
    columns: Callable[[Sequence[int]], list[Column]] = columns


def make_main(table: Table) -> Callable[..., int]:
    """What the script of a table runs, whose arguments are its options."""
    names = tuple(table.entries)

    def main(
        seeds: tuple[int, ...] = table.seeds,
        rows: tuple[str, ...] = names,
        backend: str = "auto",
        out: Path | None = None,
        quick: bool = False,
    ) -> int:
        if not rows or not set(rows) <= set(names):
            return refuse(f"--rows is {' '.join(rows)}; it has to name some of {', '.join(names)}")
        iterations = (1, 2) if quick else ITERATIONS
        result = run_seeds(
            table.name, [table.row(table.entries[name], iterations, backend) for name in rows],
            seeds[:1] if quick else seeds, columns=table.columns(iterations),
            claims=() if quick else table.claims(rows), published=table.published, out=out,
            whole=rows == names and seeds == table.seeds and not quick,
        )  # fmt: skip
        return status(result)

    main.__doc__ = f"""{table.title}

    Args:
      seeds: one run of every row with each.
      rows: which: {", ".join(names)}.
      backend: "native", "mjx" or "auto".
      out: JSON file of the result, Markdown goes beside it; benchmarks/results/{table.name}.json,
        or runs/{table.name}.json where rows or seeds are not the default ones.
      quick: show within a minute or two that the script runs: one seed, as little as it can do;
        no claim is judged, and the result goes to runs.
    """
    return main


def every_seed(name: str, conditions: str, key: str, share: float) -> Claim:
    """Of the newest network after the last of `ITERATIONS`, with whichever seed does least."""
    return Claim(
        f"{name}: success of at least {share:.0%} in {conditions} conditions after "
        f"{ITERATIONS[-1]} iterations, with every seed",
        lambda results: numbers(results, name, key).min() >= share,
    )


def numbers(results: Results, row: str, key: str) -> np.ndarray:
    """Of every seed; NaN, which satisfies no comparison, where one has no value."""
    return np.asarray(results.values(row, key), float)


def network_row(
    name: str,
    task: str,
    make: Callable[..., Algorithm],
    config: Any,
    iterations: Sequence[int],
    backend: str = "auto",
    published: dict[str, float] | None = None,
) -> Row:
    """A row of success while learning; what is compiled is compiled once for all seeds.

    Args:
      name: of the row.
      task: with a success test.
      make: the algorithm, made by `make(task, config, backend)`.
      config: its settings.
      iterations: after which the newest network is evaluated, ascending; after the last one the
        result is, too.
      backend: "native", "mjx" or "auto".
      published: values by `key_at`.
    """
    once = functools.cache(lambda: _prepare(task, make, config, backend))
    run = functools.partial(_train, once, tuple(iterations))
    return Row(name, run=run, published=published or {}, settings=config)


def _prepare(task: str, make: Callable[..., Algorithm], config: Any, backend: str) -> Any:
    made = tasks.make(task)
    algorithm = make(made, config, backend)
    act = algorithm.init(jax.random.key(0)).policy.act
    return algorithm, make_evaluator(made, act, backend)


def _train(once: Callable[[], Any], iterations: tuple[int, ...], seed: int) -> dict[str, Any]:
    algorithm, evaluate = once()
    key = jax.random.key(seed)
    state = algorithm.init(key)
    numbers, seconds = {}, []
    for iteration in range(1, iterations[-1] + 1):
        began = time.perf_counter()
        state, _ = jax.block_until_ready(algorithm.step(state))
        seconds.append(time.perf_counter() - began)
        if iteration in iterations:
            found = evaluate(algorithm.newest(state).params_for, key)
            numbers[key_at(TRAIN, iteration)] = found.train.success_rate
            numbers[key_at(TEST, iteration)] = found.test.success_rate
    result = evaluate(state.policy.params_for, key)
    numbers |= {RESULT_TRAIN: result.train.success_rate, RESULT_TEST: result.test.success_rate}
    if result.train.distance is not None:
        numbers[FARTHEST] = float(np.max(result.train.distance))
    # The median: the first iterations of the first seed compile.
    return {**numbers, SECONDS: float(np.median(seconds))}
