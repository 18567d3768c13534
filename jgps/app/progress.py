"""What a person sees while a run goes on and when it is done."""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from rich.console import Console
from rich.status import Status
from rich.table import Table

from jgps.training import ConditionsResult, EvaluationResult
from jgps.training.failure import describe_failures
from jgps.training.metrics import Record

_COLUMNS = (
    # heading, metric, format, how conditions become one number
    ("cost", "cost", "{:.4g}", np.mean),
    ("distance m", "distance", "{:.4f}", np.mean),
    ("KL", "kl", "{:.3g}", np.mean),
    ("eta", "eta", "{:.3g}", np.median),
    ("step size", "step_multiplier", "{:.3g}", np.mean),
    ("seconds", "iteration_seconds", "{:.2f}", np.mean),
)
_WIDTH = 11


class Progress:
    """Prints one line per iteration; on a terminal a spinner shows what goes on."""

    def __init__(self, console: Console, iterations: int):
        """Prepares to show `iterations` iterations."""
        self._console = console
        self._iterations = iterations
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
        if self.seen == 0:
            headings = "".join(f"{heading:>{_WIDTH}}" for heading, *_ in _COLUMNS)
            self._print(f"{'iteration':>9}{headings}")
        self.seen += 1
        cells = "".join(f"{_cell(record, *column[1:]):>{_WIDTH}}" for column in _COLUMNS)
        self._print(f"{record['iteration']:>9}{cells}")
        if record["compile_seconds"] > 0.5:
            self._print(f"{'':>9}  of which compiling: {record['compile_seconds']:.1f} s")
        for problem in _problems(record):
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


def _problems(record: Record) -> list[str]:
    problems = []
    valid = record.get("samples_valid", [])
    most = max(valid, default=0)
    for condition, count in enumerate(valid):
        if count < most:
            problems.append(
                f"condition {condition}: {most - count} rollouts were not finite and are left out"
            )
    failures = describe_failures(record)
    return [*problems, failures] if failures else problems


def evaluation_table(evaluation: EvaluationResult) -> Table:
    """Success, distance and cost of every condition."""
    table = Table(title="without exploration noise")
    for heading in ("conditions", "number", "success", "distance m", "cost"):
        table.add_column(heading, justify="left" if heading == "conditions" else "right")
    for name, result in (("training", evaluation.train), ("unseen", evaluation.test)):
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
