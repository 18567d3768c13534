"""Measures iLQG on known dynamics: searches, plans of model predictive control, and memory."""

import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jgps import tasks
from jgps.bench.measure import Row, row, times
from jgps.optimise.ilqg import solve
from jgps.optimise.ilqg.solve import SearchConfig
from jgps.optimise.ilqg.system import analytic
from jgps.optimise.ilqg.task_system import task_system
from jgps.optimise.mpc.config import MpcConfig
from jgps.optimise.mpc.loop import endless, make_planner, start_of
from jgps.optimise.mpc.run import make_run
from jgps.optimise.mpc.sampling import PredictiveSamplingConfig
from jgps.recipes import recipe
from jgps.simulation import Conditions
from jgps.simulation.derivatives import DerivativesConfig
from jgps.simulation.system import control_ranges
from jgps.tasks import Task

SEED = 0
BATCH, LONG = 256, 100  # cart-poles, and their control steps
ITERATIONS = 20  # of one timed search, which none of them ends before
MEMORY = (("pendulum", 4096, 256), ("walker", 512, 64))  # states, and how many at once
MOST_GIB = 4.0
MANY, ROLLOUTS, STEPS = 1024, 4096, 50  # on an accelerator
SMALL, FEW = 4, 8  # states and rollouts without one, and steps, which show that it runs


def ilqg() -> list[Row]:
    """Measures searches, plans, memory, and both on MJX where there is an accelerator."""
    rows = [search(BATCH, LONG, repeats=5)]
    rows += [each for physics_steps in ("all", "first") for each in replans(25, physics_steps)]
    rows += [each for case in MEMORY for each in memory(*case)]
    on_cpu = jax.default_backend() == "cpu"
    return rows + (on_mjx(SMALL, SMALL, FEW, 1) if on_cpu else on_mjx(MANY, ROLLOUTS, STEPS, 5))


def search(num: int, steps: int, repeats: int) -> Row:
    """Measures iterations a second over a batch of cart-poles with second derivatives."""
    task = longer(tasks.make("cartpole"), steps)
    assert task.dynamics is not None
    limits = control_ranges([task.model])[:, 0]
    system = analytic(task.dynamics, task.cost, task.state_dim, limits, second_order=True)
    # Without a tolerance nothing converges within so few iterations.
    config = SearchConfig(iterations=ITERATIONS, tolerance=0.0, chunk=num)
    run = solve.make_solve(system, config)
    begin = task_system(task, starts(task, num), "analytic").begin
    began = time.perf_counter()
    state, _ = jax.block_until_ready(run(begin))
    first = time.perf_counter() - began
    seconds = times({"search": lambda: run(begin)}, repeats, warm_up=0)["search"]
    done = int(np.sum(state.search.iterations))
    name = f"iLQG with second derivatives, {num} cart-poles, {steps} steps"
    note = "iterations of one trajectory each, in float32"
    return row(name, seconds, "iterations/s", done, compile_s=first, batch=num, note=note)


def longer(task: Task, horizon: int) -> Task:
    """The task with more steps before its end."""
    shift = horizon - task.horizon
    return dataclasses.replace(
        task, horizon=horizon, cost=lambda x, u, t: task.cost(x, u, t - shift)
    )


def starts(task: Task, num: int) -> Conditions:
    """States near the first training condition's, all different."""
    chosen = task.train.select(np.zeros(num, int))
    noise = np.random.default_rng(SEED).normal(size=(num, task.model.nv))
    return chosen._replace(qvel=np.asarray(chosen.qvel) + 0.01 * noise)


class _Clock:
    """Seconds by what was done, of every call."""

    def __init__(self):
        self.spent: dict[str, float] = {}

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            began = time.perf_counter()
            result = jax.block_until_ready(function(*args))
            self.spent[name] = self.spent.get(name, 0.0) + time.perf_counter() - began
            return result

        return call


def replans(plans: int, physics_steps: str) -> list[Row]:
    """Measures how long a plan of walkers takes in a closed loop, and the shares of its parts.

    Args:
      plans: how many are timed.
      physics_steps: which of a control step are differentiated, see `DerivativesConfig`.
    """
    task = endless(tasks.make("walker"))
    derivatives = DerivativesConfig(physics_steps=physics_steps)
    config = dataclasses.replace(recipe("walker", "mpc").config, derivatives=derivatives)
    clock = _Clock()
    known = task_system(task, task.train, "native", derivatives=config.derivatives)
    system = known.system._replace(
        expand=clock.timed("derivatives", known.system.expand),
        roll_out=clock.timed("line search", known.system.roll_out),
    )
    planner = make_planner(system, config, task.train.num)
    planner = planner._replace(plan=clock.timed("plan", planner.plan))
    run = make_run(known.system, planner, config, task.cost, start_of(known, config))
    state, _ = run.advance(run.begin(), config.replan_every)  # compiles
    took: dict[str, list[float]] = {"plan": [], "derivatives": [], "line search": []}
    for _ in range(plans):
        clock.spent.clear()
        state, _ = run.advance(state, config.replan_every)
        for name, seconds in took.items():
            seconds.append(clock.spent.get(name, 0.0))
    took["LQ and the rest"] = list(
        np.array(took["plan"]) - np.array(took["derivatives"]) - np.array(took["line search"])
    )
    whole = float(np.median(took["plan"]))
    size = f"{task.train.num} walkers, {config.horizon} steps"
    return [
        row(
            f"{name} of iLQG, receding horizon, {size}, physics steps: {physics_steps}", seconds,
            note=f"{np.median(seconds) / whole:.0%} of the plan; one iteration",
        )
        for name, seconds in took.items()
    ]  # fmt: skip


def memory(name: str, num: int, chunk: int) -> list[Row]:
    """Measures the peak memory of a fresh process that searches from so many states.

    Raises:
      RuntimeError: if the process fails.
    """
    code = f"from jgps.bench import ilqg; ilqg.memory_process({name!r}, {num}, {chunk})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the search from {num} states failed:\n{done.stderr[-2000:]}")
    two, all_of_them = json.loads(done.stdout.splitlines()[-1])
    note = f"{two:.2f} GiB after two chunks; at most {MOST_GIB:g} GiB is wanted"
    label = f"peak memory, {name}, {num} states, {chunk} at once"
    return [row(label, [all_of_them], "GiB", 1.0, note=note)]


def memory_process(name: str, num: int, chunk: int) -> None:
    """Prints GiB as JSON, after two chunks and after all; `memory` starts processes for this."""
    import resource

    task = tasks.make(name)
    config = SearchConfig(iterations=2, step_sizes=4, chunk=chunk)
    peaks = []
    for states in (2 * chunk, num):
        known = task_system(task, starts(task, states), "auto", second_order=None)
        jax.block_until_ready(solve.make_solve(known.system, config)(known.begin, known.goal)[0])
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        peaks.append(peak / (2**30 if sys.platform == "darwin" else 2**20))
    print(json.dumps(peaks))


def on_mjx(states: int, samples: int, steps: int, repeats: int) -> list[Row]:
    """Measures one iteration of iLQG over walkers, and plans by samples, in MJX."""
    small = states < MANY
    note = "a smoke run: on an accelerator not yet measured" if small else ""
    task = dataclasses.replace(tasks.make("walker"), horizon=steps)
    known = task_system(task, starts(task, states), "mjx")
    run = solve.make_solve(known.system, SearchConfig(iterations=1, step_sizes=4, chunk=states))
    began = time.perf_counter()
    jax.block_until_ready(run(known.begin, known.goal)[0])
    first = time.perf_counter() - began
    seconds = times({"one": lambda: run(known.begin, known.goal)[0]}, repeats, warm_up=0)["one"]
    name = f"iteration of iLQG in MJX, {states} walkers, {steps} steps"
    rows = [row(name, seconds, compile_s=first, note=note)]

    config = MpcConfig(horizon=steps, planner=PredictiveSamplingConfig(samples=samples))
    one = task_system(endless(task), starts(task, 1), "mjx")
    planner, start = make_planner(one.system, config, 1), start_of(one, config)
    memory, _ = planner.init(start.states, start.u, one.goal)
    keys = jax.random.split(jax.random.key(SEED), 1)

    def plan():
        return planner.plan(memory, jnp.asarray(start.states), one.goal, keys[0])

    began = time.perf_counter()
    jax.block_until_ready(plan())
    first = time.perf_counter() - began
    seconds = times({"plan": plan}, repeats, warm_up=0)["plan"]
    name = f"plan by predictive sampling in MJX, walker, {samples} rollouts of {steps} steps"
    return [*rows, row(name, seconds, "replans/s", 1, compile_s=first, note=note)]
