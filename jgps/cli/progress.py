"""Prints what a run does while it goes on, and a table of its evaluation at the end."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.status import Status
from rich.table import Table

from jgps.training import ConditionsResult, EvaluationResult
from jgps.training.failure import describe_failures, describe_policy, describe_ridges
from jgps.training.metrics import MAX_LISTED, NUM_WORST, Record, highest, quantiles

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
    ("KL factor", "step_multiplier", "{:.3g}", np.mean),
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
_PLAN_COLUMNS = (
    _COST,  # of the steps of the iteration
    ("so far", "cost_so_far", "{:.4g}", np.mean),  # of the episode
    _DISTANCE,
    ("plan", "plan_cost", "{:.4g}", np.mean),
    ("damping", "plan_regularisation", "{:.3g}", np.median),
    ("step", "control_step", "{:d}", np.max),
    _SECONDS,
)
_LABEL_COLUMNS = (
    _COST,  # of the steps of the iteration
    ("labels", "labels", "{:d}", np.max),
    ("falls", "episode_falls", "{:d}", np.max),  # in the episodes of the iteration
    ("success", "success_train", "{:.0%}", np.mean),
    ("unseen", "success_test", "{:.0%}", np.mean),
    ("net loss", "policy_loss", "{:.3g}", np.mean),
    _SECONDS,
)
_SEARCH_COLUMNS = (
    _COST,  # of the trajectories that the iteration began with
    ("after it", "noise_free_cost", "{:.4g}", np.mean),
    _DISTANCE,
    ("gradient", "gradient", "{:.2e}", np.nanmax),
    ("damping", "regularisation", "{:.1e}", np.median),
    ("converged", "converged", "{:.0%}", np.mean),
    _SECONDS,
)
_WIDTH = 11
_LOST = "rollouts were not finite and are left out"


class Progress:
    """Prints one line per iteration; on a terminal a spinner shows what goes on.

    Cost and distance are those of the samples, with exploration noise; of plans that are followed,
    those of what was done. Where a network is trained,
    success is that of the network without noise, on training and on unseen conditions.
    """

    def __init__(self, console: Console, iterations: int, grouped: int | None = None):
        """Prepares to show a run.

        Args:
          console: where to print.
          iterations: number of iterations of the run.
          grouped: number of rollouts of an iteration that are shared out in groups; None where
            each condition has its rollouts.
        """
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
        columns = _PLAN_COLUMNS if "plan_cost" in record else columns
        columns = _LABEL_COLUMNS if "labels" in record else columns
        columns = _SEARCH_COLUMNS if "gradient" in record else columns
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
    """Returns lines that say what went wrong in an iteration."""
    valid = record.get("samples_valid", [])
    if grouped is None:  # every condition has as many rollouts as any other
        problems = _lost_rollouts([max(valid) - count for count in valid])
    else:
        lost = grouped - sum(valid)
        problems = [f"{lost} {_LOST}"] if lost > 0 else []
    return problems + [
        text
        for text in (describe_failures(record), describe_policy(record), describe_ridges(record))
        if text
    ]


def _lost_rollouts(lost: Sequence[int]) -> list[str]:
    """Returns lines on the rollouts that each condition lost; one line for many conditions."""
    losers = [c for c, count in enumerate(lost) if count > 0]
    if len(lost) <= MAX_LISTED or len(losers) <= NUM_WORST:
        return [f"condition {c}: {lost[c]} {_LOST}" for c in losers]
    most = ", ".join(f"{c} ({lost[c]})" for c in highest(lost))
    return [
        f"{sum(lost)} rollouts in {len(losers)} of {len(lost)} conditions were not finite and are "
        f"left out, most of them in conditions {most}"
    ]


def evaluation_table(evaluation: EvaluationResult) -> Table:
    """Makes a table of success, distance and cost of every condition, and their means.

    Of a set with more than `MAX_LISTED` conditions, the table shows the quantiles of each column
    and the worst conditions: those of the least success and, where that is equal, of the highest
    cost.
    """
    table = Table(title="without exploration noise")
    falls = any(result.falls is not None for result in evaluation.sets.values())
    shown = ("success", *(("falls",) if falls else ()), "distance m", "cost")
    for heading in ("conditions", "number", *shown):
        table.add_column(heading, justify="left" if heading == "conditions" else "right")
    names = {"train": "training", "test": "unseen", "distracted": "distracted"}
    for key, result in evaluation.sets.items():
        name = names[key]
        if len(result.cost) > MAX_LISTED:
            _add_summary(table, name, result)
        else:
            for c in range(len(result.cost)):
                table.add_row(name, str(c), *_row(result, c))
        table.add_section()
        table.add_row(f"all {name}", str(len(result.cost)), *_means(result), end_section=True)
    return table


def _add_summary(table: Table, name: str, result: ConditionsResult) -> None:
    """Adds quantiles, the worst conditions and the number of those without a finite rollout."""
    columns = [
        _quantiles_as_text(result.success, "{:.0%}"),
        *([] if result.falls is None else [_quantiles_as_text(result.falls, "{:.0%}")]),
        _quantiles_as_text(result.distance, "{:.4f}"),
        _quantiles_as_text(result.cost, "{:.4g}"),
    ]
    for quantile in columns[-1]:
        table.add_row(name, quantile, *(column.get(quantile, "-") for column in columns))
    table.add_section()
    for c in _worst(result):
        table.add_row(f"worst {name}", str(c), *_row(result, c))
    diverged = int(np.sum(~np.isfinite(result.cost)))
    if diverged:
        table.add_row(f"not finite {name}", f"{diverged} of {len(result.cost)}")


def _quantiles_as_text(values: np.ndarray | None, form: str) -> dict[str, str]:
    if values is None:
        return {}
    return {name: form.format(number) for name, number in quantiles(values).items()}


def _worst(result: ConditionsResult) -> list[int]:
    """Returns the conditions of the least success and, where that is equal, of the highest cost."""
    by_cost = highest(result.cost, len(result.cost))
    if result.success is None:
        return by_cost[:NUM_WORST]
    return [by_cost[i] for i in highest(-result.success[by_cost])]


def _row(result: ConditionsResult, c: int) -> tuple[str, ...]:
    return (
        "-" if result.success is None else f"{result.success[c]:.0%}",
        *(() if result.falls is None else (f"{result.falls[c]:.0%}",)),
        "-" if result.distance is None else f"{result.distance[c]:.4f}",
        f"{result.cost[c]:.4g}",
    )


def _means(result: ConditionsResult) -> tuple[str, ...]:
    return (
        "-" if result.success_rate is None else f"{result.success_rate:.0%}",
        *(() if result.falls is None else (f"{result.fall_rate:.0%}",)),
        "-" if result.distance is None else f"{np.mean(result.distance):.4f}",
        f"{np.mean(result.cost):.4g}",
    )
