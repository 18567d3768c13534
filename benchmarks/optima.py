"""iLQG beside Crocoddyl: the same problems from the same states, in double precision.

Every problem is solved from random starts, and from the same random controls, by `jgps` with the
dynamics' second derivatives (DDP), all starts at once, and by Crocoddyl's BoxFDDP, one after the
other on one thread. Crocoddyl's models are straight-line Python code; its time is given with and
without what is spent in them.

These problems have many local optima. `jgps` searches from every start in both ways in which it can
deal with second derivatives that leave the cost no minimum; the better result counts, what each of
them finds stands beside it. The batch, for the time, is searched in one way and with the first seed
alone.
"""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from reproduce import SEEDS, Claim, Column, Row, run_seeds, status

from jgps import tasks
from jgps.bench.ilqg import longer
from jgps.optimise.ilqg.plan import NEGATIVE_CURVATURE
from jgps.optimise.ilqg.solve import CONVERGED, IlqgState, SearchConfig, make_solve
from jgps.optimise.ilqg.system import Paths, analytic
from jgps.simulation.system import control_ranges
from jgps.tasks import Task

PUBLISHED = "none: the same problems solved by Crocoddyl's BoxFDDP in the same run."
PROBLEMS = ("pendulum", "cartpole", "car")
STARTS, BATCH, ITERATIONS = 20, 256, 500
CHUNK = 32  # searches that go on at once
LONG = 100  # steps of the batch, of which the last alone costs as the end does
SAME = 1e-4  # relative difference of costs up to which two optima are the same
NOISE = 0.01  # of the first controls, a share of their range


def main(
    seeds: tuple[int, ...] = SEEDS,
    problems: tuple[str, ...] = PROBLEMS,
    starts: int = STARTS,
    batch: int = BATCH,
    out: Path | None = None,
    quick: bool = False,
) -> int:
    """Optima, limits and times of iLQG and of Crocoddyl (the extra `bench`).

    Args:
      seeds: of starts and first controls.
      problems: tasks that have dynamics of their own.
      starts: how many of each.
      batch: how many of the cart-pole's at once, for the time, with the first seed alone; 0 leaves
        it out.
      out: JSON file of the result, Markdown goes beside it; benchmarks/results/optima.json, or
        runs/optima.json where other settings are not the default ones.
      quick: show within a minute or two that the script runs; no claim is judged, and the result
        goes to runs.
    """
    if quick:
        seeds, problems, starts, batch = seeds[:1], problems[:1], 2, 0
    rows = [_row(name, starts) for name in problems]
    if batch:
        rows.append(_batch_row(batch))
    whole = (seeds, problems, starts, batch) == (SEEDS, PROBLEMS, STARTS, BATCH)
    with jax.enable_x64(True):
        result = run_seeds(
            "optima",
            rows,
            seeds,
            columns=COLUMNS,
            claims=() if quick else tuple(_claims([row.name for row in rows])),
            published=PUBLISHED,
            out=out,
            whole=whole,
        )
    return 0 if quick else status(result)


COLUMNS = (
    Column("same or better", "same optimum or better", ".0%"),
    Column("same or better, drop", "of `drop` alone", ".0%"),
    Column("same or better, firm", "of `firm` alone", ".0%"),
    Column("better", "better by more than 1e-4", ".0%"),
    Column("cost, drop", "mean cost, `drop`", ".3f"),
    Column("cost, firm", "mean cost, `firm`", ".3f"),
    Column("their cost", "of Crocoddyl", ".3f"),
    Column("beyond limits", "beyond limits", ".1e"),
    Column("success", "task solved", ".0%"),
    Column("converged", "converged", ".0%"),
    Column("iterations", "iterations, median", ".0f"),
    Column("their iterations", "of Crocoddyl", ".0f"),
    Column("our seconds", "seconds for all", ".2f"),
    Column("their seconds", "of Crocoddyl", ".1f"),
    Column("their solver seconds", "without its models", ".2f"),
    Column("our cpu seconds", "of all processors", ".2f"),
    Column("their cpu seconds", "of Crocoddyl, with its models", ".1f"),
)


def _claims(names: list[str]) -> list[Claim]:
    def same(name: str) -> Claim:
        return Claim(
            f"{name}: the optimum of Crocoddyl or a better one from 90% of starts with every seed",
            lambda r: _all(np.min, r.values(name, "same or better")) >= 0.9,
        )

    def within(name: str) -> Claim:
        return Claim(
            f"{name}: no control is beyond its limits by more than 1e-9",
            lambda r: _all(np.max, r.values(name, "beyond limits")) <= 1e-9,
        )

    def no_slower(name: str) -> Claim:
        return Claim(
            f"{name}: not more time than Crocoddyl with its models, in a loop",
            lambda r: r.mean(name, "our seconds") <= r.mean(name, "their seconds"),
        )

    def fast(name: str) -> Claim:
        return Claim(
            f"{name}: in a fifth of Crocoddyl's time, even without the time of its models",
            lambda r: 5 * r.mean(name, "our seconds") <= r.mean(name, "their solver seconds"),
        )

    timed = [each(name) for name in names if "at once" in name for each in (no_slower, fast)]
    return [each(name) for name in names for each in (same, within)] + timed


def _all(over: Callable[..., Any], values: Sequence[Any]) -> float:
    """Of all seeds' values; NaN, which satisfies no comparison, if one has none."""
    return float(over(np.array(values, float)))


def _row(name: str, starts: int) -> Row:
    def run(seed: int) -> dict[str, Any]:
        return compare(tasks.make(name), starts, seed, NEGATIVE_CURVATURE)

    return Row(name, run, settings=_settings(starts, NEGATIVE_CURVATURE))


def _batch_row(starts: int) -> Row:
    """For the time: Crocoddyl takes minutes for each seed, so there is one."""
    ways = NEGATIVE_CURVATURE[:1]

    def run(seed: int) -> dict[str, Any]:
        return compare(longer(tasks.make("cartpole"), LONG), starts, seed, ways)

    settings = _settings(starts, ways)
    return Row(f"cartpole, {starts} at once", run, settings=settings, first_seed_alone=True)


def _settings(starts: int, ways: Sequence[str]) -> dict[str, Any]:
    return {"starts": starts, "iterations": ITERATIONS, "negative_curvature": ways}


def compare(task: Task, starts: int, seed: int, ways: Sequence[str]) -> dict[str, Any]:
    """Both solvers from `starts` states, ours with these ways of `negative_curvature`."""
    from baselines.crocoddyl_shooting import ShootingProblem  # an optional package

    assert task.success is not None
    limits = control_ranges([task.model])[:, 0]
    begin = _begin(task, starts, seed, limits)
    ours = {way: _searched(task, begin, limits, way) for way in ways}
    seconds, cpu_seconds = (sum(each[i] for each in ours.values()) for i in (1, 2))
    costs = np.stack([np.asarray(each[0].search.cost) for each in ours.values()])
    best, rows = np.argmin(costs, axis=0), np.arange(starts)
    state = jax.tree.map(
        lambda *each: np.stack(each)[best, rows], *(each[0] for each in ours.values())
    )

    problem = ShootingProblem(task)
    problem.solve(np.asarray(begin.x[0, 0]), np.asarray(begin.u[0]), 2)  # writes its models
    began_cpu = time.process_time()
    theirs = [
        problem.solve(np.asarray(x[0]), np.asarray(u), ITERATIONS)
        for x, u in zip(begin.x, begin.u, strict=True)
    ]
    their_cpu_seconds = time.process_time() - began_cpu
    cost, their_cost = np.asarray(state.search.cost), np.array([each.cost for each in theirs])
    least = their_cost + SAME * np.abs(their_cost)
    u = np.asarray(state.paths.u)
    beyond = np.max(np.maximum(u - limits[1], limits[0] - u))
    return {
        "same or better": float(np.mean(cost <= least)),
        **{
            f"{what}, {way}": None
            for what in ("same or better", "cost")
            for way in NEGATIVE_CURVATURE
        },
        **{
            f"same or better, {way}": float(np.mean(each <= least))
            for way, each in zip(ours, costs, strict=True)
        },
        **{f"cost, {way}": float(np.mean(each)) for way, each in zip(ours, costs, strict=True)},
        "their cost": float(np.mean(their_cost)),
        "better": float(np.mean(cost < their_cost - SAME * np.abs(their_cost))),
        "beyond limits": float(max(beyond, 0.0)),
        "success": float(np.mean(jax.vmap(task.success)(state.paths.x, state.paths.u))),
        "converged": float(np.mean(np.asarray(state.search.outcome) == CONVERGED)),
        "iterations": float(np.median(state.search.iterations)),
        "their iterations": float(np.median([each.iterations for each in theirs])),
        "our seconds": seconds,
        "our cpu seconds": cpu_seconds,
        "their cpu seconds": their_cpu_seconds,
        "their seconds": sum(each.seconds for each in theirs),
        "their solver seconds": sum(each.seconds - each.model_seconds for each in theirs),
        "costs": cost.tolist(),
        "their costs": their_cost.tolist(),
    }


def _searched(
    task: Task, begin: Paths, limits: np.ndarray, way: str
) -> tuple[IlqgState, float, float]:
    """The searches' ends, and their seconds and processor seconds, compiling not counted."""
    assert task.dynamics is not None
    system = analytic(task.dynamics, task.cost, task.state_dim, limits, second_order=True)
    config = SearchConfig(
        iterations=ITERATIONS, tolerance=1e-9, chunk=CHUNK, negative_curvature=way
    )
    solve = make_solve(system, config)
    jax.block_until_ready(solve(begin))  # compiles
    began, began_cpu = time.perf_counter(), time.process_time()
    state, _ = jax.block_until_ready(solve(begin))
    return state, time.perf_counter() - began, time.process_time() - began_cpu


def _begin(task: Task, starts: int, seed: int, limits: np.ndarray) -> Paths:
    """Paths from random starts under small random controls."""
    assert task.random_start is not None
    start_key, control_key = jax.random.split(jax.random.key(seed))
    qpos, qvel = jax.vmap(task.random_start)(jax.random.split(start_key, starts))
    model = task.model
    sizes = (model.na, model.nsensordata, model.nu)
    act, sensors, ctrl = (np.zeros((starts, size)) for size in sizes)
    x0 = task.layout.state(np.asarray(qpos), np.asarray(qvel), act, sensors, ctrl, 0)
    x = jnp.repeat(jnp.asarray(x0, float)[:, None], task.horizon, axis=1)
    shape = (starts, task.horizon, task.action_dim)
    u = NOISE * (limits[1] - limits[0]) * jax.random.normal(control_key, shape)
    return Paths(x, x, jnp.clip(u, *limits), jnp.zeros(starts))


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
