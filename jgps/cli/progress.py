"""What a person sees while a run goes on and when it is done."""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from rich.console import Console
from rich.status import Status
from rich.table import Table

from jgps.training import ConditionsResult, EvaluationResult
from jgps.training.failure import describe_failures, describe_policy
from jgps.training.metrics import Record

# heading, metric, format, how conditions become one number
_COST = ("cost", "cost", "{:.4g}", np.mean)
_DISTANCE = ("distance m", "distance", "{:.4f}", np.mean)
_KL = ("KL", "kl", "{:.3g}", np.mean)
_SECONDS = ("seconds", "iteration_seconds", "{:.2f}", np.mean)
_LOCAL_COLUMNS = (
    _COST,
    _DISTANCE,
    _KL,
    ("eta", "eta", "{:.3g}", np.median),
    ("step size", "step_multiplier", "{:.3g}", np.mean),
    _SECONDS,
)
_NETWORK_COLUMNS = (
    _COST,
    _DISTANCE,
    ("success", "success_train", "{:.0%}", np.mean),  # of the network, without noise
    ("unseen", "success_test", "{:.0%}", np.mean),
    ("net loss", "policy_loss", "{:.3g}", np.mean),
    _SECONDS,
)
_WIDTH = 11


class Progress:
    """Prints one line per iteration; on a terminal a spinner shows what goes on.

    Cost and distance are those of the samples, with exploration noise. Where a network is trained,
    success is its own without noise, on training and on unseen conditions.
    """

    def __init__(self, console: Console, iterations: int, grouped: int | None = None):
        """Prepares to show `iterations` iterations; `grouped` rollouts of each are in groups."""
        self._console = console
        self._iterations = iterations
        self._grouped = grouped
        self._status: Status | None = None
        self.seen = 0

    @contextlib.contextmanager
    def running(self) -> Iterator["Progress"]:
        """Shows that something goes on, until the block ends."""
        if self._console.is_terminal:
            with self._console.status("compiling; this is kept for the next run") as status:
                self._status = status
                yield self
            self._status = None
        else:
            yield self

    def __call__(self, record: Record) -> None:
        """Shows one iteration."""
        columns = _NETWORK_COLUMNS if "policy_loss" in record else _LOCAL_COLUMNS
        if self.seen == 0:
            headings = "".join(f"{heading:>{_WIDTH}}" for heading, *_ in columns)
            self._print(f"{'iteration':>9}{headings}")
        self.seen += 1
        cells = "".join(f"{_cell(record, *column[1:]):>{_WIDTH}}" for column in columns)
        self._print(f"{record['iteration']:>9}{cells}")
        if record["compile_seconds"] > 0.5:
            self._print(f"{'':>9}  of which compiling: {record['compile_seconds']:.1f} s")
        for problem in _problems(record, self._grouped):
            self._print(f"{'':>9}  {problem}")
        if self._status is not None:
            done = record["iteration"] + 1
            self._status.update(
                f"{done} of {self._iterations} iterations done"
                if done < self._iterations
                else "evaluating"
            )

    def _print(self, line: str) -> None:
        self._console.print(line, soft_wrap=True, markup=False, highlight=False)


def _cell(record: Record, metric: str, form: str, reduce: Any) -> str:
    value = record.get(metric)
    values = [v for v in (value if isinstance(value, list) else [value]) if v is not None]
    return form.format(reduce(values)) if values else "-"


def _problems(record: Record, grouped: int | None) -> list[str]:
    valid = record.get("samples_valid", [])
    if grouped is None:  # every condition has as many rollouts as any other
        lost = {f"condition {c}: ": max(valid) - count for c, count in enumerate(valid)}
    else:
        lost = {"": grouped - sum(valid)}
    problems = [
        f"{where}{count} rollouts were not finite and are left out"
        for where, count in lost.items()
        if count > 0
    ]
    return problems + [
        text for text in (describe_failures(record), describe_policy(record)) if text
    ]


def evaluation_table(evaluation: EvaluationResult) -> Table:
    """Success, distance and cost of every condition."""
    table = Table(title="without exploration noise")
    for heading in ("conditions", "number", "success", "distance m", "cost"):
        table.add_column(heading, justify="left" if heading == "conditions" else "right")
    names = {"train": "training", "test": "unseen", "distracted": "distracted"}
    for key, result in evaluation.sets.items():
        name = names[key]
        for c in range(len(result.cost)):
            last = c + 1 == len(result.cost)
            table.add_row(name, str(c), *_row(result, c), end_section=last)
        table.add_row(f"all {name}", str(len(result.cost)), *_means(result), end_section=True)
    return table


def _row(result: ConditionsResult, c: int) -> tuple[str, str, str]:
    return (
        "-" if result.success is None else f"{result.success[c]:.0%}",
        "-" if result.distance is None else f"{result.distance[c]:.4f}",
        f"{result.cost[c]:.4g}",
    )


def _means(result: ConditionsResult) -> tuple[str, str, str]:
    return (
        "-" if result.success_rate is None else f"{result.success_rate:.0%}",
        "-" if result.distance is None else f"{np.mean(result.distance):.4f}",
        f"{np.mean(result.cost):.4g}",
    )
