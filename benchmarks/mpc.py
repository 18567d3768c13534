"""Model predictive control: how long a plan takes, and whether it solves what it should.

    python benchmarks/mpc.py                     on native threads
    python benchmarks/mpc.py --backend mjx       sampling alone, 4,096 rollouts of 50 steps

Replans of iLQG are those of a planar walker: 4 states, 80 steps ahead, one iteration, made anew
every 2 control steps, in a closed loop and after everything is compiled. Seconds are those of the
clock, and beside them those of all processors, which a busy machine hardly changes. Swing-up is of
a pendulum whose motor bears 40% of its weight, from 3 angles with each seed: up is within 0.45 rad
of upright all through the fifth second.
"""

import argparse
import collections
import json
import os
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jgps
from jgps.configs import CemConfig, MpcConfig, MppiConfig, PredictiveSamplingConfig
from jgps.optimise.ilqg import solve
from jgps.optimise.ilqg.task_system import task_system
from jgps.optimise.mpc.loop import endless, make_planner, make_task_run, start_of
from jgps.optimise.mpc.run import make_run
from jgps.recipes import recipe
from jgps.tasks import Task, from_mjcf

RESULTS = pathlib.Path(__file__).parent / "results"
HORIZON, EVERY, STATES = 80, 2, 4
MOST_MS, MOST_LQ = 60.0, 0.15
SAMPLES, STEPS, LEAST_RATE = 4096, 50, 20.0
SAMPLERS = (PredictiveSamplingConfig, CemConfig, MppiConfig)
SEEDS = 5
PENDULUM = """
<mujoco>
  <option timestep="0.01"/>
  <worldbody>
    <body>
      <joint name="hinge" axis="0 1 0" damping="0.02"/>
      <geom type="capsule" fromto="0 0 0 0 0 -0.5" size="0.02" mass="0"/>
      <geom type="sphere" pos="0 0 -0.5" size="0.05" mass="1"/>
    </body>
  </worldbody>
  <actuator><motor joint="hinge" ctrlrange="-2 2"/></actuator>
</mujoco>
"""


class Clock:
    """Seconds of the clock and of all processors, by what was done."""

    def __init__(self) -> None:
        self.spent: dict[str, list[float]] = collections.defaultdict(lambda: [0.0, 0.0, 0.0])

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, which waits for its result."""

        def call(*args: Any) -> Any:
            wall, cpu = time.perf_counter(), time.process_time()
            result = jax.block_until_ready(function(*args))
            own = self.spent[name]
            own[0] += time.perf_counter() - wall
            own[1] += time.process_time() - cpu
            own[2] += 1
            return result

        return call


def replans(task: Task, seconds: float) -> dict[str, Any]:
    """How long a plan of iLQG takes on a task, and where the run comes to."""
    config = recipe(task.name, "mpc").config
    whole, clock = endless(task), Clock()
    known = task_system(whole, task.train, "native", derivatives=config.derivatives)
    system = known.system._replace(
        expand=clock.timed("derivatives", known.system.expand),
        roll_out=clock.timed("rollouts", known.system.roll_out),
    )
    make = solve.make_iteration

    def timed_parts(*args: Any) -> solve.Iteration:
        parts = make(*args)
        return solve.Iteration(clock.timed("LQ", parts.plan), clock.timed("choice", parts.decide))

    solve.make_iteration = timed_parts
    try:
        planner = make_planner(system, config, task.train.num)
    finally:
        solve.make_iteration = make
    planner = planner._replace(plan=clock.timed("plan", planner.plan))
    run = make_run(known.system, planner, config, whole.cost, start_of(known, config))
    state, _ = run.advance(run.begin(), config.replan_every)
    clock.spent.clear()
    first = np.array(state.states)
    steps = round(seconds / task.control_dt)
    state, done = run.advance(state, steps)
    number = clock.spent["plan"][2]
    parts = {
        name: {"ms": 1e3 * own[0] / number, "cpu_ms": 1e3 * own[1] / number}
        for name, own in clock.spent.items()
    }
    inner = sum(own["ms"] for name, own in parts.items() if name != "plan")
    parts["rest"] = {"ms": parts["plan"]["ms"] - inner, "cpu_ms": float("nan")}
    return {
        "task": task.name,
        "states": task.train.num,
        "horizon": config.horizon,
        "parts": parts,
        "lq_share": parts["LQ"]["ms"] / parts["plan"]["ms"],
        "speed": ((np.asarray(state.states)[:, 1] - first[:, 1]) / seconds).tolist(),
        "lowest": done.state[:, :, 2].min(axis=1).tolist(),
        "lost": state.lost.tolist(),
    }


def pendulum(starts: tuple[float, ...] = (0.3, -0.6, 1.0), horizon: int = 100) -> Task:
    """The task of swing-up; it hangs at 0."""

    def cost(x: jax.Array, u: jax.Array, t: jax.Array) -> jax.Array:
        return 0.5 * (1 + jnp.cos(x[0])) + 0.005 * x[1] ** 2 + 0.0025 * u[0] ** 2

    return from_mjcf(
        PENDULUM,
        cost=lambda s: cost,
        qpos=np.asarray(starts)[:, None],
        qvel=np.zeros((len(starts), 1)),
        horizon=horizon,
        name="pendulum",
    )


def swing_up(seeds: int) -> list[dict[str, Any]]:
    """How many of all starts and seeds each sampler swings up and holds."""
    rows = []
    for kind in SAMPLERS:
        config = MpcConfig(horizon=40, replan_every=2, planner=kind(), first_iterations=10)
        run, start = make_task_run(pendulum(), config, "native")
        up, cpu = [], time.process_time()
        for seed in range(seeds):
            state, _ = run.advance(run.begin(None, jax.random.key(seed)), 80)
            _, done = run.advance(state, 20)
            up += (np.cos(done.x[:, :, 0]) < -0.9).all(axis=1).tolist()
        each = (time.process_time() - cpu) / (seeds * 60)
        row = {"planner": kind.__name__, "up": sum(up), "of": len(up), "seeds": seeds}
        rows.append({**row, "cpu_ms_a_replan": 1e3 * each, "states": len(start.states)})
        print(rows[-1], flush=True)
    return rows


def rate(backend: str, samples: int) -> dict[str, Any]:
    """Replans a second of predictive sampling from one state of the pendulum."""
    task = pendulum((0.3,), horizon=STEPS)
    config = MpcConfig(horizon=STEPS, planner=PredictiveSamplingConfig(samples=samples))
    known = task_system(endless(task), task.train, backend)
    planner, start = make_planner(known.system, config, 1), start_of(known, config)
    memory, _ = planner.init(start.states, start.u, known.goal)
    took = []
    for number in range(12):
        began = time.perf_counter()
        memory, plan = planner.plan(memory, start.states, known.goal, jax.random.key(number))
        jax.block_until_ready(plan)
        took.append(time.perf_counter() - began)
    return {
        "backend": backend,
        "device": str(jax.devices()[0]) if backend == "mjx" else f"{os.cpu_count()} cores",
        "rollouts": samples,
        "steps": STEPS,
        "replans_a_second": 1 / float(np.median(took[2:])),
    }


def table(found: dict[str, Any]) -> str:
    """What was found, as Markdown."""
    lines = ["# Model predictive control", "", (__doc__ or "").split("\n\n")[2].strip(), ""]
    if "load" in found:
        lines += [f"The machine had {found['cores']} cores and a load of {found['load']:.0f}.", ""]
    for each in found.get("replans", []):
        lines += [
            f"## A plan of iLQG: {each['task']}, {each['states']} states, {each['horizon']} steps",
            "",
            "| Part | ms | ms of all processors |",
            "| --- | --- | --- |",
        ]
        for name, own in each["parts"].items():
            cpu = "" if np.isnan(own["cpu_ms"]) else f"{own['cpu_ms']:.1f}"
            lines.append(f"| {name} | {own['ms']:.1f} | {cpu} |")
        speeds = ", ".join(f"{speed:.2f}" for speed in each["speed"])
        lines += ["", f"LQ: {each['lq_share']:.1%}. Mean speeds: {speeds} m/s.", ""]
    if "swing_up" in found:
        lines += [
            "## Swing-up by samples",
            "",
            "| Planner | up | seeds | ms a replan, all processors |",
        ]
        lines.append("| --- | --- | --- | --- |")
        for row in found["swing_up"]:
            cells = f"{row['planner']} | {row['up']} of {row['of']} | {row['seeds']}"
            lines.append(f"| {cells} | {row['cpu_ms_a_replan']:.1f} |")
        lines.append("")
    lines += [
        "## Replans a second, one state",
        "",
        "| Backend | Device | rollouts x steps | a second |",
    ]
    lines.append("| --- | --- | --- | --- |")
    for row in found.get("rates", []):
        size = f"{row['rollouts']:,} x {row['steps']}"
        lines.append(
            f"| {row['backend']} | {row['device']} | {size} | {row['replans_a_second']:.1f} |"
        )
    if not any(row["backend"] == "mjx" for row in found.get("rates", [])):
        lines.append(f"| mjx | one H200 | {SAMPLES:,} x {STEPS} | not yet measured |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measures, writes results, and says what does not hold."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--backend", choices=("native", "mjx"), default="native")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="of swing-up")
    parser.add_argument("--quick", action="store_true", help="a few steps, written to runs")
    arguments = parser.parse_args()
    out = pathlib.Path("runs") if arguments.quick else RESULTS
    out.mkdir(exist_ok=True)
    path, wrong = out / "mpc.json", []
    found = json.loads(path.read_text()) if path.exists() else {}

    def keep(**parts: Any) -> None:
        found.update(parts, load=os.getloadavg()[1], cores=os.cpu_count())
        path.write_text(json.dumps(found, indent=1) + "\n")
        path.with_suffix(".md").write_text(table(found))

    if arguments.backend == "native":
        each = replans(jgps.tasks.make("walker"), 0.2 if arguments.quick else 3.0)
        keep(replans=[each])
        if each["parts"]["plan"]["ms"] > MOST_MS:
            wrong.append(f"a plan takes {each['parts']['plan']['ms']:.0f} ms, not {MOST_MS:g}")
        if each["lq_share"] > MOST_LQ:
            wrong.append(f"LQ takes {each['lq_share']:.0%} of it")
        keep(swing_up=swing_up(1 if arguments.quick else arguments.seeds))
    samples = SAMPLES if arguments.backend == "mjx" and not arguments.quick else 64
    mine = rate(arguments.backend, samples)
    if arguments.backend == "mjx" and mine["replans_a_second"] < LEAST_RATE:
        wrong.append(f"{mine['replans_a_second']:.1f} replans a second, not {LEAST_RATE:g}")
    others = [row for row in found.get("rates", []) if row["backend"] != arguments.backend]
    keep(rates=[*others, mine])
    print(table(found))
    for sentence in wrong:
        print(f"does not hold: {sentence}")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
