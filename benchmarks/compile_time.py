"""Which programs are compiled when a command runs, those that take longest first.

    python benchmarks/compile_time.py                   the demo of `make demo`, for two iterations
    python benchmarks/compile_time.py train reacher     any other command of `jgps`

The command runs twice with a cache of programs that is empty at first: cold, where every program
is compiled, and warm, where it is read. Of each program the table has the seconds to trace it in
Python, to lower it to what XLA reads, and to compile it or read it from the cache. Tracing of one
function inside another counts for both. Small programs that run outside of `jax.jit` show under
the names of their operations, such as add. On a busy machine seconds say little: compare the
processor time, and the numbers of programs.
"""

import argparse
import collections
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import jax

from jgps.cli.main import main as jgps_main
from jgps.core import lifted

DEMO = ("train", "peg_insertion", "--algorithm", "mdgps", "--iterations", "2")
EVENTS = {
    "/jax/core/compile/jaxpr_trace_duration": "trace",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "lower",
    "/jax/core/compile/backend_compile_duration": "compile",
}
SHARED = "jit(_call)"  # what `shared_jit` compiles, whatever the function
COLUMNS = tuple(EVENTS.values())


def watch(arguments: list[str]) -> dict:
    """Runs a command of `jgps`; seconds by program and stage, and how many of each there were."""
    rows = collections.defaultdict(lambda: dict.fromkeys((*COLUMNS, "programs"), 0.0))
    latest = [SHARED]  # the function that was lifted last is the one that is compiled next
    lift = lifted.lift

    def named_lift(function, *args, **options):
        inner = function
        while hasattr(inner, "func"):
            inner = inner.func
        latest[0] = getattr(inner, "__qualname__", repr(inner)).replace(".<locals>", "")
        return lift(function, *args, **options)

    def listen(event: str, seconds: float, fun_name: str | None = None, **_) -> None:
        if event not in EVENTS or fun_name is None:
            return
        stage = EVENTS[event]
        row = rows[latest[0] if fun_name == SHARED else fun_name]
        row[stage] += seconds
        row["programs"] += stage == "compile"

    lifted.lift = named_lift
    jax.monitoring.register_event_duration_secs_listener(listen)
    began = time.perf_counter()
    code = jgps_main(arguments)
    seconds, processor = time.perf_counter() - began, time.process_time()
    if code:
        raise SystemExit(code)
    return {"seconds": seconds, "processor": processor, "rows": rows}


def run_apart(arguments: list[str], cache: str) -> dict:
    """The same in a process of its own, whose programs are kept in a folder."""
    with tempfile.TemporaryDirectory() as folder:
        result = pathlib.Path(folder) / "found.json"
        command = [sys.executable, __file__, "--save", str(result), *arguments]
        if arguments[0] == "train" and "--out" not in arguments:
            command += ["--out", str(pathlib.Path(folder) / "run")]
        environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": cache}
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
        return json.loads(result.read_text())


def show(title: str, found: dict, most: int) -> None:
    """Prints the table of one run."""
    rows = found["rows"]
    total = {key: sum(row[key] for row in rows.values()) for key in (*COLUMNS, "programs")}
    print(
        f"{title}: {found['seconds']:.1f} s ({found['processor']:.1f} s of processor time), of it "
        f"{total['lower'] + total['compile']:.1f} s to lower and compile or read "
        f"{total['programs']:.0f} programs"
    )
    print(f"{'':44}{'programs':>9}" + "".join(f"{name:>9}" for name in COLUMNS))
    ranked = sorted(rows.items(), key=lambda item: -sum(item[1][name] for name in COLUMNS))
    for name, row in [*ranked[:most], ("all", total)]:
        numbers = "".join(f"{row[column]:9.2f}" for column in COLUMNS)
        print(f"{name[-43:]:44}{row['programs']:9.0f}{numbers}")
    print()


def main() -> None:
    """Runs a command twice, or once for the process that asks for its numbers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--most", type=int, default=25, help="rows of each table")
    parser.add_argument("--save", type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("command", nargs=argparse.REMAINDER, help="of jgps; the demo without one")
    options = parser.parse_args()
    command = options.command or list(DEMO)
    if options.save is not None:
        options.save.write_text(json.dumps(watch(command)))
        return
    with tempfile.TemporaryDirectory() as cache:
        for title in ("cold", "warm"):
            show(title, run_apart(command, cache), options.most)


if __name__ == "__main__":
    main()
