"""Measures how fast this machine is, beside peers in the same run: `jgps bench`."""

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from jgps.bench import suites
from jgps.bench.measure import Row, environment
from jgps.core.names import unknown

__all__ = ["SUITES", "main", "markdown", "run"]

SUITES = tuple(suites.SUITES)


def main(suite: str = "all", out: str | Path | None = None) -> int:
    """Measures one suite or all of them, prints tables, and writes `out`.

    Args:
      suite: one of `SUITES`, or "all".
      out: file for the result as JSON, in a directory that exists; Markdown goes beside it.

    Raises:
      ValueError: before anything is measured, for an unknown suite or a file that cannot be
        written.
    """
    _check(suite, out)
    console = Console()
    result = run(suite, console)
    if out is not None:
        path = Path(out)
        path.write_text(json.dumps(result, indent=1) + "\n")
        path.with_suffix(".md").write_text(markdown(result))
        console.print(f"written to {path} and {path.with_suffix('.md')}")
    return 0


def run(suite: str = "all", console: Console | None = None) -> dict[str, Any]:
    """Measures one suite or all of them, and returns the rows with hardware and versions."""
    _check(suite, None)
    console = console or Console(quiet=True)
    result = {"seed": suites.SEED, "environment": environment(), "suites": {}}
    machine = result["environment"]
    console.print(
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
        f"accelerator: {machine['accelerator'] or 'none'}, load {machine['load_average']}"
    )
    for name in SUITES if suite == "all" else (suite,):
        console.print(f"measuring {name}: up to a few minutes")
        rows = suites.SUITES[name]()
        result["suites"][name] = rows
        console.print(_table(name, rows))
    return result


def markdown(result: dict[str, Any]) -> str:
    """Writes the tables of a result as Markdown, under one line on the machine."""
    machine = result["environment"]
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores, "
        f"accelerator {machine['accelerator'] or 'none'}, "
        f"jax {machine['versions']['jax']}, mujoco {machine['versions']['mujoco']}, "
        f"revision {machine['revision']}, load {machine['load_average']}, {machine['time']}",
    ]
    for name, rows in result["suites"].items():
        lines += ["", f"### {name}", "", "| what | median | quartiles | ratio to the peer |"]
        lines.append("| --- | --- | --- | --- |")
        for line in rows:
            low, high = (_number(value) for value in line["quartiles"])
            ratios = ", ".join(f"{r:.2f}x {peer}" for peer, r in line.get("ratio", {}).items())
            median = f"{_number(line['median'])} {line['unit']}"
            lines.append(f"| {line['name']} | {median} | {low} to {high} | {ratios} |")
    return "\n".join(lines) + "\n"


def _check(suite: str, out: str | Path | None) -> None:
    if suite != "all" and suite not in SUITES:
        raise ValueError(unknown("benchmark", suite, ("all", *SUITES)))
    if out is None:
        return
    path = Path(out)
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError(
            f"cannot write {str(path)!r}: it has to be a file in a directory that exists"
        )


def _table(name: str, rows: list[Row]) -> Table:
    table = Table(title=f"jgps bench {name}", title_justify="left", show_lines=True)
    for heading in (
        "what",
        "median",
        "quartiles",
        "best",
        "runs",
        "compile",
        "speed / peer's",
    ):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    for line in rows:
        low, high = line["quartiles"]
        ratios = line.get("ratio", {})
        compile_s = line.get("compile_s")
        table.add_row(
            line["name"] + (f"\n  [dim]{line['note']}[/dim]" if "note" in line else ""),
            f"{_number(line['median'])} {line['unit']}",
            f"{_number(low)} to {_number(high)}",
            _number(line["best"]),
            str(line["runs"]),
            "" if compile_s is None else f"{compile_s:.1f} s",
            "\n".join(f"{ratio:.2f}x {peer}" for peer, ratio in ratios.items()),
        )
    return table


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
