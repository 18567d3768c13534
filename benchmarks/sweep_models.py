"""Models that nobody here wrote: what jgps makes of those of gymnasium and dm_control.

    python -m pip install -e .[sweep]
    python benchmarks/sweep_models.py

Of every model: whether it loads; how far rollouts are from plain `mj_step` after 50 control steps
of random controls; how far joints that are driven move in a second under the initial controller
without noise (a robot that falls moves its joints little); by how much trajectory optimisation with
its defaults improves the cost, of samples and without noise; and whether the report is written.

The task is made for the model: where the first joint is free or slides, move along it at 1 m/s,
else turn every driven joint by 0.3. Where the model has keyframes, it starts at the first one.
"""

import dataclasses
import functools
import importlib.util
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import tyro
from reproduce import Claim, Column, Results, Row, refuse, run_seeds, status

import jgps
from jgps import tasks
from jgps.controllers import NearestController
from jgps.reports.report import write_report
from jgps.simulation import StateLayout, load_model, make_sampler
from jgps.tasks import Task
from jgps.tasks.hold import places_of
from jgps.tasks.start import initial_controllers, initial_states

PACKAGES = {"gymnasium": "envs/mujoco/assets", "dm_control": "suite"}
ITERATIONS, HORIZON, CONTROL_DT, SEED = 5, 30, 0.04, 0
EXACT = 1e-9  # of qpos beside plain MuJoCo
STEPS = 50  # control steps of that comparison
SPEED, TURN, EFFORT = 1.0, 0.3, 1e-3


def main(
    only: tuple[str, ...] = (),
    iterations: int = ITERATIONS,
    out: Path | None = None,
    quick: bool = False,
) -> int:
    """Sweeps over the models of gymnasium and dm_control.

    Args:
      only: models, such as gymnasium/hopper; none is all of them.
      iterations: of trajectory optimisation.
      out: JSON file of the result, Markdown goes beside it; benchmarks/results/models.json, or
        runs/models.json where not everything was swept.
      quick: show within a minute that the script runs: two models, one iteration.
    """
    found = find_models()
    if not found:
        return refuse("neither gymnasium nor dm_control is installed; pip install jgps[sweep]")
    if quick:
        only, iterations = tuple(list(found)[:2]), 1
    unknown = [name for name in only if name not in found]
    if unknown:
        return refuse(f"no model {', '.join(unknown)}; models: {', '.join(found)}")
    chosen = {name: path for name, path in found.items() if not only or name in only}
    result = run_seeds(
        "models",
        [Row(name, functools.partial(sweep, path, iterations)) for name, path in chosen.items()],
        (SEED,),
        columns=(
            Column("states", "dX", ".0f"),
            Column("actions", "dU", ".0f"),
            Column("loads", "loads", ".0f"),
            Column("difference", "beside mj_step", ".0e"),
            Column("moves", "moves in 1 s", ".3f"),
            Column("improves", "cost improves", ".0%"),
            Column("improves_noise_free", "without noise", ".0%"),
            Column("reports", "report", ".0f"),
        ),
        claims=() if quick else claims(),
        published="what stands in the way, by model: see `note` in the JSON file.",
        out=out,
        whole=not only and iterations == ITERATIONS,
    )
    return status(result)


def claims() -> list[Claim]:
    """What the table has to show of every model."""

    def all_known(results: Results, key: str, holds: Callable[[float], bool]) -> bool:
        values = [v for name in results.names for v in results.values(name, key)]
        return all(value is not None and holds(value) for value in values)

    return [
        Claim("every model loads", lambda r: all_known(r, "loads", bool)),
        Claim(
            f"rollouts are MuJoCo's to {EXACT:g}",
            lambda r: all_known(r, "difference", lambda v: v < EXACT),
        ),
        Claim("every report is written", lambda r: all_known(r, "reports", bool)),
    ]


def find_models() -> dict[str, Path]:
    """MJCF files of the packages that are installed, by names such as gymnasium/hopper."""
    found = {}
    for package, folder in PACKAGES.items():
        spec = importlib.util.find_spec(package)
        for root in (spec.submodule_search_locations or ()) if spec is not None else ():
            for path in sorted((Path(root) / folder).glob("*.xml")):
                found[f"{package}/{path.stem}"] = path
    return found


def sweep(path: Path, iterations: int, seed: int) -> dict[str, Any]:
    """One line of the table; what could not be found out is None, and `note` says why."""
    line: dict[str, Any] = dict.fromkeys(
        ("states", "actions", "difference", "moves", "improves", "improves_noise_free")
    )
    line |= {"loads": 0, "reports": 0, "note": ""}
    try:
        task = make_task(path)
        line |= {"loads": 1, "states": task.state_dim, "actions": task.action_dim}
        line["difference"] = difference(task, seed)
        line["moves"] = movement(task)
        line |= optimise(task, iterations, seed)
    except (ValueError, RuntimeError) as error:  # what jgps raises: the table says it
        line["note"] = f"{type(error).__name__}: {error}"
        print(f"{path.name}: {line['note']}", file=sys.stderr)
    return line


def make_task(path: Path) -> Task:
    """A task of the model, see the head of this file."""
    model = load_model(path, ("qpos", "qvel"))[0]
    state = ("qpos", "qvel", "act") if model.na else ("qpos", "qvel")
    first = int(model.jnt_type[0])
    moves = first in (int(mujoco.mjtJoint.mjJNT_FREE), int(mujoco.mjtJoint.mjJNT_SLIDE))
    substeps = max(1, round(CONTROL_DT / model.opt.timestep))
    named = model.nkey > 0 and bool(model.key(0).name)
    qpos = model.key(0).name if named else model.qpos0
    start = model.key_qpos[0] if named else model.qpos0

    def cost(layout: StateLayout) -> Callable[..., jax.Array]:
        if moves:
            velocity = layout["qvel"].start
            return lambda x, u, t: 0.5 * (x[velocity] - SPEED) ** 2 + 0.5 * EFFORT * u @ u
        places = places_of(model, layout).position
        entries = places[places >= 0]
        scalar = [j for j in range(model.njnt) if places[model.jnt_dofadr[j]] >= 0]
        goal = jnp.asarray(start[model.jnt_qposadr[scalar]] + TURN, jnp.float32)
        return lambda x, u, t: 0.5 * jnp.sum((x[entries] - goal) ** 2) + 0.5 * EFFORT * u @ u

    return tasks.from_mjcf(
        path, cost=cost, state=state, qpos=qpos, horizon=HORIZON,
        control_dt=substeps * model.opt.timestep, name=path.stem,
    )  # fmt: skip


def difference(task: Task, seed: int) -> float:
    """The largest difference of qpos from plain `mj_step` after 50 steps of random controls."""
    horizon = STEPS + 1
    draws = np.random.default_rng(seed).uniform(-1, 1, (horizon, task.action_dim))
    limited = task.model.actuator_ctrllimited.astype(bool)
    low, high = task.model.actuator_ctrlrange.T
    spread = np.where(limited, high - low, 2) / 2
    controls = np.where(limited, (high + low) / 2, 0) + 0.3 * spread * draws
    controls = np.float32(controls)  # as the simulation gets them
    system = task.system._replace(horizon=horizon)
    sampler = make_sampler(system, task.train, lambda params, x, o, t, noise: params[t], "native")
    noise = jnp.zeros((1, 1, horizon, task.action_dim))
    sampled = sampler.sample(jnp.asarray(controls)[None], noise)
    data = mujoco.MjData(task.model)
    data.qpos[:], data.qvel[:] = task.train.qpos[0], task.train.qvel[0]
    if task.train.act is not None:
        data.act[:] = task.train.act[0]
    poses = []
    for control in controls:
        poses.append(data.qpos.copy())
        data.ctrl[:] = control
        for _ in range(task.substeps):
            mujoco.mj_step(task.model, data)
    return float(np.abs(np.asarray(sampled.qpos)[0, 0] - poses).max())


def movement(task: Task) -> float:
    """How far driven hinge and slide joints move in a second without noise, radians or metres."""
    horizon = max(2, round(1 / task.control_dt))
    longer = dataclasses.replace(task, horizon=horizon)
    x0 = initial_states(longer, longer.train)
    policy = NearestController(controllers=initial_controllers(longer, x0), x0=x0)
    sampler = make_sampler(longer.system, longer.train, policy.act, "native")
    noise = jnp.zeros((1, 1, horizon, task.action_dim))
    qpos = np.asarray(sampler.sample(policy.params_for(x0), noise).qpos)[0, 0]
    driven = places_of(task.model, task.layout).position >= 0
    joints = [j for j in range(task.model.njnt) if driven[task.model.jnt_dofadr[j]]]
    entries = task.model.jnt_qposadr[joints]
    return float(np.abs(qpos[:, entries] - qpos[0, entries]).max(initial=0))


def optimise(task: Task, iterations: int, seed: int) -> dict[str, Any]:
    """By which part the cost falls from the first iteration to the last, and the report."""
    with tempfile.TemporaryDirectory() as folder:
        result = jgps.train(
            task, "trajopt", iterations=iterations, seed=seed, out=Path(folder) / "run",
            backend="native", evaluate_every=0,
        )  # fmt: skip
        told: list[str] = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of figures
            written = write_report(Path(folder) / "run", task, say=told.append)
        costs = [float(np.mean(record["cost"])) for record in result.metrics]
        noise_free = [float(np.mean(record["noise_free_cost"])) for record in result.metrics]
    return {
        "improves": gain(costs[0], costs[-1]),
        "improves_noise_free": gain(noise_free[0], noise_free[-1]),
        "reports": int(bool(written) and not told),
        "statuses": [record["status"] for record in result.metrics],
        "note": "; ".join(told),
    }


def gain(before: float, after: float) -> float | None:
    """The part by which a cost fell; None where one of them is not finite."""
    return 1 - after / before if np.isfinite([before, after]).all() and before else None


if __name__ == "__main__":
    raise SystemExit(tyro.cli(main))
