"""Models that nobody here wrote: what jgps makes of those of gymnasium and dm_control.

    python -m pip install -e .[sweep]
    python benchmarks/sweep_models.py

Of every model: whether it loads; how far rollouts are from plain `mj_step` after 50 control steps
of random controls; how far joints that are driven move in a second under the initial controller
without noise, and whether it holds its pose where it can; by how much trajectory optimisation with
its defaults improves the cost: that of samples from the first iteration to the last, and without
noise from the initial controllers to the last ones; and whether the report is written. A file
without actuators is a template, which its package fills in: it is counted apart.

The task is made for the model: where the robot moves along the ground, do so at 1 m/s, or at what
is in reach where weak actuators come to nothing like it; else turn every driven joint by 0.3. Where
the model has keyframes, it starts at the first one.
"""

import concurrent.futures
import dataclasses
import importlib.util
import multiprocessing
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import tyro
from reproduce import Claim, Column, Results, Row, refuse, run_seeds, status

import jgps
from jgps import costs, tasks
from jgps.controllers import NearestController
from jgps.reports.report import write_report
from jgps.simulation import StateLayout, load_model, make_sampler
from jgps.tasks import Task
from jgps.tasks.hold import places_of
from jgps.tasks.start import initial_controllers, initial_states

PACKAGES = {"gymnasium": "envs/mujoco/assets", "dm_control": "suite"}
ITERATIONS, HORIZON, CONTROL_DT, SEED = 10, 30, 0.04, 0
EXACT = 1e-9  # of qpos beside plain MuJoCo
STEPS = 50  # control steps of that comparison
SPEED, TURN, EFFORT = 1.0, 0.3, 1e-3
LEVEL = 0.1  # of the vertical part of an axis
HELD = 0.05  # radians or metres in a second
LEAST_GAIN = 0.3
LEARNERS = tuple(
    f"gymnasium/{name}"
    for name in (
        "ant", "half_cheetah", "hopper", "humanoid", "pusher", "reacher", "swimmer", "walker2d",
    )
)  # fmt: skip
TRIALS = 24  # of random controls that say which speed is in reach


def main(
    only: tuple[str, ...] = (),
    iterations: int = ITERATIONS,
    seed: int = SEED,
    processes: int = 1,
    out: Path | None = None,
    quick: bool = False,
) -> int:
    """Sweeps over the models of gymnasium and dm_control.

    Args:
      only: models, such as gymnasium/hopper; none is all of them.
      iterations: of trajectory optimisation.
      seed: of trajectory optimisation.
      processes: how many models are swept at once, each in a process of its own.
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
    whole = not only and (iterations, seed) == (ITERATIONS, SEED)
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(processes, mp_context=spawn) as pool:
        lines = {name: pool.submit(sweep, path, iterations, seed) for name, path in chosen.items()}
        result = run_seeds(
            "models",
            [Row(name, lambda seed, name=name: lines[name].result()) for name in chosen],
            (seed,),
            columns=COLUMNS,
            claims=() if quick else claims([n for n in LEARNERS if whole or n in chosen]),
            published="what stands in the way, by model: see `note` in the JSON file.",
            out=out,
            whole=whole,
        )
    return status(result)


COLUMNS = (
    Column("states", "dX", ".0f"),
    Column("actions", "dU", ".0f"),
    Column("loads", "loads", ".0f", missing="template"),
    Column("difference", "beside mj_step", ".0e"),
    Column("moves", "moves in 1 s", ".3f"),
    Column("holds", "holds its pose", ".0f"),
    Column("improves", "cost improves", ".0%"),
    Column("improves_noise_free", "without noise", ".0%"),
    Column("reports", "report", ".0f"),
)


def claims(learners: Sequence[str] = LEARNERS) -> list[Claim]:
    """What the table has to show of every model that is no template, and of those that learn."""

    def all_known(results: Results, key: str, holds: Callable[[float], bool]) -> bool:
        models = [name for name in results.names if None not in results.values(name, "loads")]
        values = [v for name in models for v in results.values(name, key)]
        return all(value is not None and holds(value) for value in values)

    def improve(results: Results) -> bool:
        keys = ("improves", "improves_noise_free")
        return set(learners) <= set(results.names) and all(
            results.mean(name, key) >= LEAST_GAIN for name in learners for key in keys
        )

    def hold(results: Results) -> bool:
        return all(0 not in results.values(name, "holds") for name in results.names)

    learn = Claim(
        f"each of {', '.join(learners)} improves its cost by {LEAST_GAIN:.0%} in {ITERATIONS} "
        "iterations, that of samples and that without noise",
        improve,
    )
    return [
        Claim("every model loads", lambda r: all_known(r, "loads", bool)),
        Claim(
            f"rollouts are MuJoCo's to {EXACT:g}",
            lambda r: all_known(r, "difference", lambda v: v < EXACT),
        ),
        Claim(f"what can hold its pose moves by less than {HELD:g} in a second", hold),
        *([learn] if learners else []),
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
    began = time.perf_counter()
    keys = ("states", "actions", "difference", "moves", "holds", "improves", "improves_noise_free")
    line: dict[str, Any] = dict.fromkeys(keys)
    line |= {"loads": 0, "reports": 0, "note": ""}
    try:
        if is_template(path):
            note = "a template without actuators, which its package fills in"
            return {**line, "loads": None, "reports": None, "note": note}
        task = make_task(path)
        line |= {"loads": 1, "states": task.state_dim, "actions": task.action_dim}
        line["difference"] = difference(task, seed)
        line["moves"] = movement(task)
        line["holds"] = int(line["moves"] < HELD) if can_hold(task) else None
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder) / "run"
            line |= optimise(task, iterations, seed, run)
            line |= report(task, run)
    except (ValueError, RuntimeError) as error:  # what jgps raises: the table says it
        line["note"] = f"{type(error).__name__}: {error}"
        print(f"{path.name}: {line['note']}", file=sys.stderr)
    return {**line, "seconds": round(time.perf_counter() - began, 1)}


def is_template(path: Path) -> bool:
    """Whether a file has no actuator of its own."""
    return not mujoco.MjSpec.from_file(str(path)).actuators


def make_task(path: Path) -> Task:
    """A task of the model, see the head of this file."""
    model = load_model(path, ("qpos", "qvel"))[0]
    state = ("qpos", "qvel", "act") if model.na else ("qpos", "qvel")
    substeps = max(1, round(CONTROL_DT / model.opt.timestep))
    named = model.nkey > 0 and bool(model.key(0).name)
    qpos = model.key(0).name if named else model.qpos0
    start = model.key_qpos[0] if named else model.qpos0
    ahead = forward(model)
    speed = SPEED if ahead is None else speed_in_reach(model, start, ahead, substeps)

    def cost(layout: StateLayout) -> Callable[..., jax.Array]:
        if ahead is not None:
            velocity = layout["qvel"].start + ahead
            return lambda x, u, t: 0.5 * (x[velocity] / speed - 1) ** 2 + 0.5 * EFFORT * u @ u
        joints = driven(model, start)
        entries = places_of(model, layout).position[model.jnt_dofadr[joints]]
        goal = jnp.asarray(goals(model, start, joints), jnp.float32)
        return lambda x, u, t: 0.5 * jnp.sum((x[entries] - goal) ** 2) + 0.5 * EFFORT * u @ u

    return tasks.from_mjcf(
        path, cost=cost, state=state, qpos=qpos, horizon=HORIZON,
        control_dt=substeps * model.opt.timestep, name=path.stem,
    )  # fmt: skip


def forward(model: mujoco.MjModel) -> int | None:
    """The degree of freedom along which a robot moves on level ground; None for one that can't.

    That is the first of a free joint, which comes first, or a slide joint of the first body that
    moves, where its axis is level.
    """
    if int(model.jnt_type[0]) == int(mujoco.mjtJoint.mjJNT_FREE):
        return 0
    for joint in np.flatnonzero(model.jnt_bodyid == model.jnt_bodyid[0]):
        slides = int(model.jnt_type[joint]) == int(mujoco.mjtJoint.mjJNT_SLIDE)
        if slides and abs(model.jnt_axis[joint, 2]) < LEVEL:
            return int(model.jnt_dofadr[joint])
    return None


def speed_in_reach(model: mujoco.MjModel, qpos: np.ndarray, dof: int, substeps: int) -> float:
    """`SPEED`, or twice the best of random controls where that is not a fifth of it."""
    draws, data, speeds = np.random.default_rng(SEED), mujoco.MjData(model), []
    limited = model.actuator_ctrllimited.astype(bool)
    low, high = np.where(limited[:, None], model.actuator_ctrlrange, [-1.0, 1.0]).T
    for _ in range(TRIALS):
        mujoco.mj_resetData(model, data)
        data.qpos[:] = qpos
        offset, phase = draws.uniform(-1, 1, model.nu), draws.uniform(0, 2 * np.pi, model.nu)
        rate, total = draws.uniform(2, 15), 0.0  # rad/s
        for step in range(HORIZON):
            part = np.clip(offset + np.sin(rate * step * CONTROL_DT + phase), -1, 1)
            data.ctrl[:] = low + (high - low) * (part + 1) / 2
            for _ in range(substeps):
                mujoco.mj_step(model, data)
            total += float(data.qvel[dof])
        speeds.append(total / HORIZON)
    best = max(speeds)
    return SPEED if best >= SPEED / 5 else max(2 * best, 1e-3)


def driven(model: mujoco.MjModel, qpos: np.ndarray) -> np.ndarray:
    """Hinge and slide joints that have an actuator of their own; of tendons where none has."""
    scalar = np.isin(
        model.jnt_type, (int(mujoco.mjtJoint.mjJNT_HINGE), int(mujoco.mjtJoint.mjJNT_SLIDE))
    )
    by_joint = (int(mujoco.mjtTrn.mjTRN_JOINT), int(mujoco.mjtTrn.mjTRN_JOINTINPARENT))
    own = model.actuator_trnid[np.isin(model.actuator_trntype, by_joint), 0]
    own = np.unique(own[scalar[own]])
    if own.size:
        return own
    data = mujoco.MjData(model)
    data.qpos[:] = qpos
    mujoco.mj_forward(model, data)
    moment = np.zeros((model.nu, model.nv))
    mujoco.mju_sparse2dense(
        moment, data.actuator_moment, data.moment_rownnz, data.moment_rowadr, data.moment_colind
    )
    return np.flatnonzero(scalar & np.any(moment[:, model.jnt_dofadr] != 0, axis=0))


def goals(model: mujoco.MjModel, qpos: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """Turned by `TURN`, the other way where the joint's range ends; never beyond it."""
    start = qpos[model.jnt_qposadr[joints]]
    limited = model.jnt_limited[joints].astype(bool)
    low, high = np.where(limited[:, None], model.jnt_range[joints], [-np.inf, np.inf]).T
    turned = np.where(start + TURN <= high, start + TURN, start - TURN)
    return np.clip(turned, low, high)


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
    joints = driven(task.model, task.train.qpos[0])
    entries = task.model.jnt_qposadr[joints]
    return float(np.abs(qpos[:, entries] - qpos[0, entries]).max(initial=0))


def can_hold(task: Task) -> bool:
    """Whether actuators drive all joints of the trees that they drive at all."""
    model = task.model
    moved = model.jnt_bodyid[driven(model, task.train.qpos[0])]
    trees = np.isin(model.body_rootid[model.jnt_bodyid], model.body_rootid[moved])
    scalar = places_of(model, task.layout).position[model.jnt_dofadr] >= 0
    return bool(np.all(scalar[trees])) and int(trees.sum()) == len(moved)


def start_cost(task: Task) -> float:
    """What the initial controllers cost without noise."""
    x0 = initial_states(task, task.train)
    policy = NearestController(controllers=initial_controllers(task, x0), x0=x0)
    sampler = make_sampler(task.system, task.train, policy.act, "native")
    noise = jnp.zeros((1, 1, task.horizon, task.action_dim))
    x, u, _ = sampler.sample(policy.params_for(x0), noise).rollouts
    return float(jnp.sum(costs.evaluate(task.cost, x, u)))


def optimise(task: Task, iterations: int, seed: int, run: Path) -> dict[str, Any]:
    """By which part the cost falls, of samples and without noise."""
    result = jgps.train(
        task, "trajopt", iterations=iterations, seed=seed, out=run,
        backend="native", evaluate_every=0,
    )  # fmt: skip
    records = result.metrics
    means = [float(np.mean(record["cost"])) for record in records]
    # That of an iteration is of the controllers that it made: what they began as costs this.
    last = float(np.mean(records[-1]["noise_free_cost"]))
    return {
        "improves": gain(means[0], means[-1]),
        "improves_noise_free": gain(start_cost(task), last),
        "statuses": [record["status"] for record in records],
    }


def report(task: Task, run: Path) -> dict[str, Any]:
    """Whether the report of a run is written, and what it says is coarse or missing in it."""
    told: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of figures
        written = write_report(run, task, say=told.append)
    return {"reports": int(bool(written)), "note": "; ".join(told)}


def gain(before: float, after: float) -> float | None:
    """The part by which a cost fell; None where one of them is not finite."""
    return 1 - after / before if np.isfinite([before, after]).all() and before else None


if __name__ == "__main__":
    raise SystemExit(tyro.cli(main))
