"""Measures guided policy search with its network, as a whole and in parts."""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jgps import tasks
from jgps.algorithms.mdgps import MdgpsConfig, mdgps
from jgps.bench import peers
from jgps.bench.measure import Row, row, times
from jgps.optimise.guided import loop as guided
from jgps.optimise.guided.projection import pooled, targets

ITERATIONS = 12
WARM = 4  # iterations before a part is timed, so that the windows are full


def network(task_name: str, seed: int, runs: int = 3) -> list[Row]:
    """Measures a run of mirror descent guided policy search without compiling, and its parts.

    Args:
      task_name: of the task, with its default settings.
      seed: of the first run; the others take the next ones.
      runs: whole runs, at least 1.
    """
    task, config = tasks.make(task_name), MdgpsConfig()
    algorithm, parts = mdgps(task, config), guided.make_parts(task, config, "auto")
    crocoddyl = peers.crocoddyl_backward(task.state_dim, task.action_dim, task.horizon)
    state = algorithm.init(jax.random.key(seed))
    for _ in range(WARM):
        state, _ = algorithm.step(state)
    key = jax.random.key(seed + 1)
    sampled = parts.sample(state, key)
    fitted, _, _ = parts.fit(state, sampled)
    label = jax.jit(lambda s, r: pooled(targets(s, r), s.controllers.C))
    supervision = label(fitted, sampled)
    functions: dict[str, Callable[[], Any]] = {
        "sampling": lambda: parts.sample(state, key),
        "fitting": lambda: parts.fit(state, sampled),
        "training the network": lambda: parts.distil(fitted, supervision, key),
        "rolling the network out without noise": lambda: parts.select_best(fitted, key),
        "iteration": lambda: algorithm.step(state),
    }
    if crocoddyl is not None:
        functions["Crocoddyl backwardPass x 20"] = lambda: [crocoddyl() for _ in range(20)]
    seconds = times(functions, repeats=7)
    whole = float(np.median(seconds["iteration"]))
    rows = [
        row(part, seconds[part], share=float(np.median(seconds[part])) / whole)
        for part in functions
        if not part.startswith("Crocoddyl")
    ]
    for line in rows[:-1]:
        line["note"] = f"{line['share']:.0%} of an iteration"
    runs_s = [_run(algorithm, seed + number) for number in range(runs)]
    rollouts = ITERATIONS * algorithm.rollouts_per_step
    whole_run = row(f"{ITERATIONS} iterations, {rollouts} rollouts in all", runs_s, "s", 1.0)
    rows.append(whole_run)
    if crocoddyl is not None:
        values = seconds["Crocoddyl backwardPass x 20"] / 20
        scale = float(np.median(values)) * 1e3 / peers.CROCODDYL_NOMINAL_MS
        nominal = whole_run["median"] / scale
        note = f"at {peers.CROCODDYL_NOMINAL_MS} ms the run would take {nominal:.0f} s"
        rows.append(row("Crocoddyl backwardPass, one thread", values, note=note))
        rows[-1]["machine_scale"] = scale
    return rows


def _run(algorithm: Any, seed: int) -> float:
    """Measures the seconds of all iterations from the start, with everything compiled."""
    state = algorithm.init(jax.random.key(seed))
    jax.block_until_ready(state)
    began = time.perf_counter()
    for _ in range(ITERATIONS):
        state, _ = jax.block_until_ready(algorithm.step(state))
    return time.perf_counter() - began
