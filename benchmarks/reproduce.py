"""What the reproduce scripts share: runs over seeds, and tables of ours beside the published.

A script makes rows, each with a function from a seed to numbers, and claims on the result:

    ROWS = (Row("MDGPS", run=lambda seed: {"success": 0.97}, published={"success": 0.85}),)
    COLUMNS = (Column("success", "success at iteration 12", ".0%"),)
    CLAIMS = (Claim("MDGPS succeeds", lambda r: r.mean("MDGPS", "success") >= 0.95),)
    sys.exit(status(run_seeds("mdgps", ROWS, seeds=(0, 1, 2), columns=COLUMNS, claims=CLAIMS)))

The result is printed, and after every run written as `benchmarks/results/NAME.json` and `.md`.
"""

import importlib.metadata
import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from jgps.bench.measure import environment
from jgps.training.codec import encode
from jgps.training.files import write_bytes
from jgps.training.metrics import plain

RESULTS = Path(__file__).parent / "results"
ELSEWHERE = Path("runs")  # for results of other settings than those that are kept
SEEDS = (0, 1, 2)
INTERVALS = (
    " In brackets: Wilson's 95% interval of a share of successes, over conditions and seeds as if "
    "all were independent trials."
)
_PACKAGES = ("flax", "optax", "evosax")


class Row(NamedTuple):
    """One line of the table.

    `run(seed)` returns numbers by column; None where there is none, such as a threshold not
    reached. What no column names is only written, and may be any JSON; of that, "seconds" stands
    for how long the run took and "revision" for the code's, where they were kept from earlier.
    """

    name: str
    run: Callable[[int], Mapping[str, Any]]
    published: Mapping[str, float | str] = {}  # by column
    settings: Any = None  # configs, to be written
    first_seed_alone: bool = False  # whether it is run with that and no other; the table says so


class Column(NamedTuple):
    """One number of every run."""

    key: str
    heading: str
    spec: str = ".3g"  # how it is formatted
    missing: str = "-"  # what stands for None
    count: str = ""  # key of the number of trials that a share is of; its interval is stated then


class Interval(NamedTuple):
    """Wilson's, at 95%, of a probability of success."""

    low: float
    high: float
    successes: int
    trials: int


def wilson(successes: int, trials: int) -> Interval:
    """From independent trials, at least one."""
    z = NormalDist().inv_cdf(0.975)
    share, shrunk = successes / trials, 1 + z**2 / trials
    centre = (share + z**2 / (2 * trials)) / shrunk
    half = z / shrunk * math.sqrt(share * (1 - share) / trials + (z / (2 * trials)) ** 2)
    return Interval(max(0.0, centre - half), min(1.0, centre + half), successes, trials)


class Results:
    """What the runs returned, by row, column and seed."""

    def __init__(self, rows: Mapping[str, Sequence[Mapping[str, Any]]]):
        self._rows = rows

    @property
    def names(self) -> list[str]:
        """Of all rows."""
        return list(self._rows)

    def values(self, row: str, key: str) -> list[float | None]:
        """One value per seed; None where there is none."""
        return [run[key] for run in self._rows[row]]

    def mean(self, row: str, key: str) -> float:
        """Over the seeds; NaN, which satisfies no comparison, if one has no value."""
        values = self.values(row, key)
        return float("nan") if None in values else float(np.mean(np.asarray(values, float)))


class Claim(NamedTuple):
    """What the result has to show."""

    text: str
    holds: Callable[[Results], bool]


def run_seeds(
    name: str,
    rows: Sequence[Row],
    seeds: Sequence[int],
    *,
    columns: Sequence[Column],
    claims: Sequence[Claim] = (),
    published: str = "",
    out: str | Path | None = None,
    whole: bool = True,
    console: Console | None = None,
) -> dict[str, Any]:
    """Runs every row with its seeds, prints the table and writes it.

    Args:
      name: of the comparison, and of its files.
      rows, columns: of the table.
      seeds: at least one; a row may say that it takes the first alone.
      claims: judged when all runs are done.
      published: where the published values come from, or what they say in words; below the table.
      out: JSON file, Markdown goes beside it; None is `benchmarks/results/NAME.json`, which holds
        whole results alone, or `runs/NAME.json`.
      whole: whether this is all that the script runs by default.
      console: to print on.

    Returns:
      What is written.

    Raises:
      ValueError: without a seed, or if two rows have the same name.
    """
    names = [row.name for row in rows]
    if not seeds or len(set(names)) != len(names):
        raise ValueError(f"needs at least one seed and distinct rows; got {seeds} and {names}")
    console = console or Console()
    folder = RESULTS if whole else ELSEWHERE
    path = folder / f"{name}.json" if out is None else Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    result = {
        "name": name,
        "command": " ".join(["python", *sys.argv]),
        "seeds": list(seeds),
        "environment": _environment(),
        "published": published,
        "columns": [column._asdict() for column in columns],
        "rows": [],
        "claims": [],
        "complete": False,
        "wall_seconds": 0.0,
    }

    earlier = 0.0  # seconds of runs that were kept

    def save() -> None:
        result["wall_seconds"] = round(time.perf_counter() - began + earlier, 1)
        text = json.dumps(plain(result), indent=2)  # without infinities, which are not JSON
        write_bytes(path, f"{text}\n".encode())
        path.with_suffix(".md").write_text(markdown(result))

    for row in rows:
        runs: list[dict[str, Any]] = []
        own_seeds = list(seeds[:1] if row.first_seed_alone else seeds)
        entry = {"name": row.name, "published": dict(row.published), "seeds": own_seeds}
        entry["settings"] = encode(row.settings)
        intervals: dict[str, Any] = {}
        result["rows"].append({**entry, "intervals": intervals, "runs": runs})
        for seed in own_seeds:
            started = time.perf_counter()
            values = dict(row.run(seed))
            elapsed = round(time.perf_counter() - started, 1)
            seconds = values.pop("seconds", elapsed)
            earlier += seconds - elapsed
            runs.append({"seed": seed, **values, "seconds": seconds})
            intervals |= {c.key: _interval(runs, c)._asdict() for c in columns if c.count}
            shown = ", ".join(f"{c.heading}: {_format(values[c.key], c)}" for c in columns)
            console.print(f"{row.name}, seed {seed}: {shown} ({seconds:.0f} s)", highlight=False)
            save()
    measured = Results({row["name"]: row["runs"] for row in result["rows"]})
    result["claims"] = [{"text": c.text, "holds": bool(c.holds(measured))} for c in claims]
    result["complete"] = True
    save()
    console.print(_table(result))
    for claim in result["claims"]:
        console.print(f"{_verdict(claim)}: {claim['text']}", highlight=False)
    console.print(f"written to {path} and {path.with_suffix('.md')}", highlight=False)
    return result


def status(result: Mapping[str, Any]) -> int:
    """Exit status of a script: 0 if every claim holds, else 1."""
    return 0 if all(claim["holds"] for claim in result["claims"]) else 1


def refuse(mistake: str) -> int:
    """Says what is wrong with the command; the exit status of usage mistakes."""
    print(f"{Path(sys.argv[0]).name}: {mistake}", file=sys.stderr)
    return 2


def markdown(result: Mapping[str, Any]) -> str:
    """The table, the claims, and under what they were measured."""
    headings, lines = _cells(result)
    machine = result["environment"]
    versions = machine["versions"]
    text = [
        f"`{result['command']}`: seeds {', '.join(map(str, result['seeds']))}; mean ± standard "
        "deviation over them, or every one's value where one has none."
        + _fewer_seeds(result)
        + (INTERVALS if any(column.get("count") for column in result["columns"]) else ""),
        "",
        f"{machine['cpu']}, {machine['cores']} cores, "
        f"accelerator {machine['accelerator'] or 'none'}, jax {versions['jax']}, "
        f"mujoco {versions['mujoco']}, revision {machine['revision']}, {machine['time']}, "
        f"{result['wall_seconds']:.0f} s in all.",
        "",
    ]
    revisions = {run.get("revision") for row in result["rows"] for run in row["runs"]}
    others = sorted(revisions - {None, machine["revision"]})
    if others:
        text += [f"Some runs were kept from earlier, of revision {', '.join(others)}.", ""]
    if not result["complete"]:
        text += ["Not complete: the runs were stopped.", ""]
    text += [_line(headings), _line(["---"] * len(headings)), *map(_line, lines)]
    if result["published"]:
        text += ["", f"Published: {result['published']}"]
    if result["claims"]:
        text += ["", *(f"- {_verdict(claim)}: {claim['text']}" for claim in result["claims"])]
    return "\n".join(text) + "\n"


def _fewer_seeds(result: Mapping[str, Any]) -> str:
    """A sentence on each row that is, by design, run with some of the seeds."""
    text = ""
    for row in result["rows"]:
        own = row.get("seeds", result["seeds"])  # tables of before rows had their own have none
        if own != result["seeds"]:
            text += f" {row['name']}: by design with seed {', '.join(map(str, own))} alone."
    return text


def _environment() -> dict[str, Any]:
    machine = environment()
    for package in _PACKAGES:
        try:
            machine["versions"][package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            machine["versions"][package] = None
    return machine


def _table(result: Mapping[str, Any]) -> Table:
    headings, lines = _cells(result)
    table = Table(
        title=result["name"], title_justify="left", caption=result["published"] or None,
        caption_justify="left",
    )  # fmt: skip
    for heading in headings:
        table.add_column(heading, justify="left" if heading == headings[0] else "right")
    for line in lines:
        table.add_row(*line)
    return table


def _cells(result: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Headings and lines; a column with published values is followed by one of those."""
    columns = [Column(**column) for column in result["columns"]]
    rows = result["rows"]
    compared = {c.key for c in columns if any(c.key in row["published"] for row in rows)}
    headings = [""]
    for column in columns:
        headings += [column.heading, "published"] if column.key in compared else [column.heading]
    lines = []
    for row in rows:
        line = [row["name"]]
        for column in columns:
            line.append(_summary(row["runs"], column))
            if column.key in compared:
                line.append(_format(row["published"].get(column.key, ""), column))
        lines.append([*line, _seconds(row["runs"])])
    return [*headings, "seconds per run"], lines


def _interval(runs: list[dict[str, Any]], column: Column) -> Interval:
    trials = [run[column.count] for run in runs]
    successes = [round(run[column.key] * run[column.count]) for run in runs]
    return wilson(sum(successes), sum(trials))


def _summary(runs: list[dict[str, Any]], column: Column) -> str:
    values = [run[column.key] for run in runs]
    if not values:
        return ""
    known = np.asarray([value for value in values if value is not None], float)
    if known.size < len(values):
        shown = [_format(value, column) for value in values]
        return shown[0] if len(set(shown)) == 1 else ", ".join(shown)
    text = _format(float(known.mean()), column)
    if len(values) > 1:
        text += f" ± {_format(float(known.std()), column)}"
    if column.count:
        low, high, *_ = _interval(runs, column)
        text += f" ({_format(low, column)} to {_format(high, column)})"
    return text


def _format(value: float | str | None, column: Column) -> str:
    if value is None:
        return column.missing
    return value if isinstance(value, str) else format(value, column.spec)


def _seconds(runs: list[dict[str, Any]]) -> str:
    return f"{np.mean([run['seconds'] for run in runs]):.0f}" if runs else ""


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _verdict(claim: Mapping[str, Any]) -> str:
    return "holds" if claim["holds"] else "DOES NOT HOLD"
