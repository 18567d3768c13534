"""Derivatives of control steps on native threads: which method is cheaper, and what key steps cost.

    python -m pip install -e .[sweep]
    python benchmarks/derivatives.py

First table, by model of gymnasium and dm_control: processor time for one control step of 20 ms by
each method, of all threads together; how far the chained method's F is from that of the copies
(the median of control steps of their largest difference beside the largest number), both with
centred differences; and whether the chained one is right for the model: "auto" then chooses it.

Second table: iLQG on gymnasium's walker2d from 8 states, 80 control steps of 10 ms, derivatives
at every, or every so many, control steps: processor time for an iteration, and the cost that is
left after 10 and 30 iterations, the median over states.
"""

import sys
import time
import warnings
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import mujoco
import numpy as np
import tyro
from reproduce import Claim, Column, Results, Row, refuse, run_seeds, status
from sweep_models import find_models

from jgps import tasks
from jgps.mujoco_log import quiet_mujoco
from jgps.optimise.ilqg.simulated import known_system
from jgps.optimise.ilqg.solve import SearchConfig, make_solve
from jgps.simulation import System, load_model
from jgps.simulation.derivatives import DerivativesConfig, Differentiator, method_of

STEPS, CONTROL_DT = 8, 0.02  # of each model's trajectory
HORIZON, STATES = 80, 8  # of the walker
SPEED, HEIGHT = 2.0, 1.2  # m/s, metres
WALKER = "gymnasium/walker2d_v5"
ITERATIONS = (10, 30)
KEY_STEPS = (1, 2, 3, 5)
STATE = mujoco.mjtState.mjSTATE_INTEGRATION

METHOD_COLUMNS = (
    Column("nv", "nv", ".0f", missing="template"),
    Column("controls", "dU", ".0f"),
    Column("substeps", "physics steps", ".0f"),
    Column("chained", "chained ms", ".3f"),
    Column("copies", "copies ms", ".3f"),
    Column("ratio", "copies/chained", ".1f"),
    Column("difference", "difference", ".0e"),
    Column("right", "chain is right", ".0f"),
)
KEY_COLUMNS = (
    Column("milliseconds", "ms per iteration", ".0f"),
    *(Column(f"cost_{n}", f"cost after {n}", ".3g") for n in ITERATIONS),
)


def main(
    only: tuple[str, ...] = (), seed: int = 0, out: Path | None = None, quick: bool = False
) -> int:
    """Measures both tables.

    Args:
      only: models, such as gymnasium/hopper, of the first table; none is all of them.
      seed: of the trajectories.
      out: folder of the results; benchmarks/results, or runs where not everything was measured.
      quick: show within a minute that the script runs: two models, one iteration.
    """
    found = find_models()
    if WALKER not in found:
        return refuse("gymnasium is not installed; pip install jgps[sweep]")
    unknown = [name for name in only if name not in found]
    if unknown:
        return refuse(f"no model {', '.join(unknown)}; models: {', '.join(found)}")
    chosen = [name for name in found if not only or name in only][: 2 if quick else None]
    whole = not only and not quick

    def path(name: str) -> Path | None:
        return None if out is None else out / f"{name}.json"

    methods = run_seeds(
        "derivatives",
        [Row(name, lambda seed, name=name: compare(found[name], seed)) for name in chosen],
        (seed,),
        columns=METHOD_COLUMNS,
        claims=() if quick else METHOD_CLAIMS,
        out=path("derivatives"),
        whole=whole,
    )
    iterations = (1,) * len(ITERATIONS) if quick else ITERATIONS
    keys = run_seeds(
        "key_steps",
        [Row(f"every {n}", lambda seed, n=n: optimise(found[WALKER], n, seed, iterations))
         for n in KEY_STEPS],
        (seed,),
        columns=KEY_COLUMNS,
        claims=() if quick else KEY_CLAIMS,
        out=path("key_steps"),
        whole=whole,
    )  # fmt: skip
    return status(methods) or status(keys)


def compare(path: Path, seed: int) -> dict[str, Any]:
    """One line of the first table."""
    line: dict[str, Any] = dict.fromkeys(column.key for column in METHOD_COLUMNS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of attributes that MuJoCo gives up
            model, layout, _ = load_model(path, ("qpos", "qvel"))
    except ValueError as error:
        return {**line, "note": str(error)}
    system = System(model, layout, STEPS, max(1, round(CONTROL_DT / model.opt.timestep)))
    states, control = trajectory(system, seed)
    line |= {"nv": model.nv, "controls": model.nu, "substeps": system.substeps}
    auto, centred = method_of(model), {}
    line["right"] = int(auto == "chained")
    for method in ("chained", "copies") if line["right"] else ("copies",):
        line[method] = processor_time(system, method, states, control)
        config = DerivativesConfig(method=method, centred=True)
        centred[method] = Differentiator(system, [model], config)(states, control).F[0]
    if len(centred) == 2:
        line["ratio"] = line["copies"] / line["chained"]
        apart = np.abs(centred["chained"] - centred["copies"]).max(axis=(1, 2))
        line["difference"] = float(np.median(apart / np.abs(centred["copies"]).max(axis=(1, 2))))
    return line


def trajectory(system: System, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """States and controls [1, T, ...] of half the controls' range at random."""
    model, draws = system.model, np.random.default_rng(seed)
    limited = model.actuator_ctrllimited.astype(bool)
    low, high = np.where(limited[:, None], model.actuator_ctrlrange, [-1.0, 1.0]).T
    centre, spread = (low + high) / 2, (high - low) / 4
    control = centre + spread * draws.uniform(-1, 1, (1, STEPS, model.nu))
    states = np.empty((1, STEPS, mujoco.mj_stateSize(model, STATE)))
    data = mujoco.MjData(model)
    if model.nkey:
        mujoco.mj_resetDataKeyframe(model, data, 0)
    with quiet_mujoco():
        for t in range(STEPS):
            mujoco.mj_getState(model, data, states[0, t], STATE)
            data.ctrl[:] = control[0, t]
            mujoco.mj_step(model, data, nstep=system.substeps)
    return states, control


def processor_time(system: System, method: str, states: np.ndarray, control: np.ndarray) -> float:
    """Milliseconds for a control step, the lesser of two calls after the first."""
    differentiate = Differentiator(system, [system.model], DerivativesConfig(method=method))
    differentiate(states, control)
    times = []
    for trial in range(1, 3):
        # What was differentiated in the last call is not again.
        others = (1 - 1e-6 * trial) * control
        began = time.process_time()
        differentiate(states, others)
        times.append(time.process_time() - began)
    return 1e3 * min(times) / (STEPS - 1)


def optimise(path: Path, every: int, seed: int, iterations: tuple[int, ...]) -> dict[str, float]:
    """One line of the second table."""

    def cost(s):
        def of(x, u, t):
            speed, height, lean = x[s["qvel"].start], x[1], x[2]
            upright = 5 * (height - HEIGHT) ** 2 + 0.5 * lean**2
            return 0.5 * (speed - SPEED) ** 2 + upright + 0.01 * jnp.sum(u**2)

        return of

    draws = np.random.default_rng(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spec = mujoco.MjSpec.from_file(str(path))
        spec.option.timestep = 0.005
        spec.option.integrator = mujoco.mjtIntegrator.mjINT_EULER  # its own is RK4
        rest = spec.compile().qpos0
        task = tasks.from_mjcf(
            spec, cost=cost, horizon=HORIZON, control_dt=0.01,
            qpos=rest + 0.03 * draws.normal(size=(STATES, len(rest))),
        )  # fmt: skip
    config = DerivativesConfig(key_steps=every)
    system, begin, goal = known_system(task, task.train, config=config)
    most = max(iterations)
    solve = make_solve(system, SearchConfig(iterations=most, step_sizes=6, smallest_step=0.03))
    began = time.process_time()
    state, trace = solve(begin, goal)
    spent = time.process_time() - began
    costs = np.asarray(trace.cost)
    # Behind its end a search's cost is its last.
    final = np.asarray(state.search.cost)
    rows = [costs[n - 1] if n <= len(costs) else final for n in iterations]
    left = [float(np.median(np.where(np.isnan(row), final, row))) for row in rows]
    named = {f"cost_{n}": value for n, value in zip(ITERATIONS, left, strict=True)}
    return {"milliseconds": 1e3 * spent / max(1, len(costs)), **named}


def _both(results: Results) -> list[str]:
    """Models that both methods can do with."""
    return [name for name in results.names if results.values(name, "ratio") != [None]]


METHOD_CLAIMS = (
    Claim(
        "where both are right, the chained method takes at most 1.1 times the copies'",
        lambda r: all(r.mean(name, "ratio") >= 1 / 1.1 for name in _both(r)),
    ),
    Claim(
        "both agree to 1e-5 in the median of control steps",
        lambda r: all(r.mean(name, "difference") < 1e-5 for name in _both(r)),
    ),
)
KEY_CLAIMS = (
    Claim(
        "derivatives at every second control step take at most 2/3 of an iteration's time",
        lambda r: r.mean("every 2", "milliseconds") <= 2 / 3 * r.mean("every 1", "milliseconds"),
    ),
    Claim(
        "at every fifth they leave at least 10% more cost after 30 iterations than at every one",
        lambda r: r.mean("every 5", "cost_30") >= 1.1 * r.mean("every 1", "cost_30"),
    ),
)


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
