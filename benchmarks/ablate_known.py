"""Trajectories and a network that agree on known dynamics: what each ingredient is worth.

    python benchmarks/ablate_known.py

A pendulum with a torque that can't lift it at once swings up from four starts, by a network of two
layers of 20 tanh units. Rows leave out an ingredient each of `cgps` and of `admm`. The cost of the
network is compared with that of trajectories that nothing pulls, by `ilqg` from the same starts.
Violations are those of the constraint: of `cgps` nats per step, of `admm` the mean squared
difference of actions as a share of the mean squared action.
"""

import dataclasses
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from reproduce import Claim, Column, Results, Row, refuse, run_seeds, status

import jgps
from jgps import tasks
from jgps.algorithms import ALGORITHMS
from jgps.configs import AdmmConfig, CgpsConfig
from jgps.simulation import Conditions
from jgps.tasks import Task

SEEDS = (0, 1, 2, 3, 4)
ITERATIONS = {"cgps": 45, "admm": 30}
SEARCHES = 150  # iterations of `ilqg`
WITHIN, VIOLATION = 1.05, 1e-3
UNSEEN = 16  # starts about those of the training
PUSHES, PUSH = 64, 0.5  # rollouts of each start with noise on the torque, its deviation in N m
HORIZON, DT, TORQUE, DAMPING = 60, 0.05, 4.0, 0.1  # steps, s, N m, N m s
MASS, LENGTH, GRAVITY = 1.0, 0.5, 9.81
STARTS = np.array([2.1, 2.37, 2.63, 2.9])  # rad from upright
MODEL = f"""
<mujoco>
  <option timestep="{DT}"/>
  <worldbody>
    <body>
      <joint name="pivot" axis="0 1 0"/>
      <geom type="capsule" fromto="0 0 0 0 0 {LENGTH}" size="0.02" mass="{MASS}"/>
    </body>
  </worldbody>
  <actuator><motor joint="pivot" ctrlrange="-{TORQUE} {TORQUE}"/></actuator>
</mujoco>
"""


def make_task(horizon: int = HORIZON) -> Task:
    """The swing-up, x = [angle from upright, velocity]."""

    def step(x: jax.Array, u: jax.Array, t: jax.Array) -> jax.Array:
        pulled = MASS * GRAVITY * LENGTH * jnp.sin(x[0]) - DAMPING * x[1]
        velocity = x[1] + DT * (u[0] + pulled) / (MASS * LENGTH**2)
        return jnp.stack([x[0] + DT * velocity, velocity])

    def cost(x: jax.Array, u: jax.Array, t: jax.Array) -> jax.Array:
        # Upright is at 0 alone, so that every search ends in the same way there.
        return jnp.sqrt(1 + x[0] ** 2) - 1 + 0.05 * x[1] ** 2 + 0.05 * u[0] ** 2

    draws = np.random.default_rng(0).uniform(-1, 1, (2, UNSEEN))
    about = np.resize(STARTS, UNSEEN) + 0.15 * draws[0]
    return tasks.from_mjcf(
        MODEL, cost=lambda layout: cost, dynamics=lambda layout: step, state=("qpos", "qvel"),
        qpos=STARTS[:, None], test=Conditions(about[:, None], draws[1][:, None], {}),
        horizon=horizon, control_dt=DT, name="swing_up",
    )  # fmt: skip


def optimum(task: Task, iterations: int) -> np.ndarray:
    """What the best trajectory of `ilqg` from every start costs, of as many tries as seeds."""
    algorithm = ALGORITHMS["ilqg"][0](task)
    best = np.full(task.train.num, np.inf)
    for seed in SEEDS:
        state = algorithm.init(jax.random.key(seed))
        for _ in range(iterations):
            state, metrics = algorithm.step(state)
        best = np.minimum(best, metrics["noise_free_cost"])
    return best


def disturbed_cost(task: Task, policy: Any) -> float:
    """What the network costs on average while noise pushes it off its way; the same for all rows.

    The torque of every step has noise of deviation `PUSH`, which costs nothing by itself.
    """
    return float(_disturbed(policy, jnp.asarray(STARTS, jnp.float32), task.cost, task.dynamics))


@functools.partial(jax.jit, static_argnums=(2, 3))
def _disturbed(policy: Any, starts: jax.Array, cost: Callable, dynamics: Callable) -> jax.Array:
    noise = PUSH * jax.random.normal(jax.random.key(0), (PUSHES, len(starts), HORIZON))

    def roll_out(start: jax.Array, noise: jax.Array) -> jax.Array:
        def step(x: jax.Array, now: tuple) -> tuple[jax.Array, jax.Array]:
            t, push = now
            wanted = jnp.clip(policy.mean(x[None])[0], -TORQUE, TORQUE)
            return dynamics(x, wanted + push, t), cost(x, wanted, t)

        x = jnp.stack([start, jnp.zeros_like(start)])
        return jnp.sum(jax.lax.scan(step, x, (jnp.arange(HORIZON), noise))[1])

    each = jax.vmap(jax.vmap(roll_out), in_axes=(None, 0))
    return jnp.mean(each(starts, noise))


def train(
    algorithm: str, config: Any, task: Task, best: np.ndarray, iterations: int, seed: int
) -> dict[str, Any]:
    """One run: what the network costs beside `best`, and how far the two are apart."""
    made = ALGORITHMS[algorithm][0](task, config)
    state = made.init(jax.random.key(seed))
    ratios, violations, began = [], [], time.process_time()
    for _ in range(iterations):
        state, metrics = made.step(state)
        ratios.append(np.asarray(metrics["noise_free_cost"]) / best)
        violations.append(np.asarray(metrics["policy_violation"]))
    found = jgps.evaluate(task, made.newest(state), key=jax.random.key(seed))
    agreed = [
        number
        for number in range(config.trajectory_iterations, iterations)
        if ratios[number].mean() <= WITHIN and violations[number].max() <= VIOLATION
    ]
    last = slice(-5, None)  # iterations
    return {
        "cost": float(np.mean(ratios[last])),
        "worst": float(np.max(np.mean(ratios[last], axis=0))),
        "violation": float(np.mean(violations[last])),
        "worst_violation": float(np.max(np.median(violations[last], axis=0))),
        "agreed": agreed[0] + 1 if agreed else None,
        "unseen": float(np.mean(found.test.cost)),
        "disturbed": disturbed_cost(task, made.newest(state)),
        "ratios": np.mean(ratios, axis=1, dtype=float).round(4).tolist(),
        "violations": np.mean(violations, axis=1, dtype=float).round(6).tolist(),
        "cpu_seconds": round(time.process_time() - began, 1),
    }


NOTHING = 1e-6  # of a weight that may not be 0
CGPS, ADMM = CgpsConfig(), AdmmConfig()


def _training(**changes: Any) -> AdmmConfig:
    """ADMM with other settings of the network's training."""
    distil = dataclasses.replace(ADMM.policy.distil, **changes)
    return dataclasses.replace(ADMM, policy=dataclasses.replace(ADMM.policy, distil=distil))


VARIANTS = {
    "CGPS": CGPS,
    "CGPS, multipliers stay 1": dataclasses.replace(CGPS, dual_rate=0.0),
    "CGPS, no multipliers: the network imitates": dataclasses.replace(
        CGPS, initial_multiplier=NOTHING, dual_rate=0.0
    ),
    "ADMM": ADMM,
    "ADMM, no gain matching": _training(gain_weight=0.0),
    "ADMM, no input noise": _training(input_noise=0.0),
    "ADMM, neither": _training(gain_weight=0.0, input_noise=0.0),
    "ADMM, no duals": dataclasses.replace(ADMM, dual_rate=0.0),
    "ADMM, no penalty: the network imitates": dataclasses.replace(
        ADMM, penalty=NOTHING, dual_rate=0.0
    ),
}
COLUMNS = (
    Column("cost", "cost beside iLQG's", ".3f"),
    Column("worst", "in the worst condition", ".3f"),
    Column("violation", "violation", ".1e"),
    Column("worst_violation", "in the worst condition", ".1e"),
    Column("agreed", "iterations until both hold", ".0f", missing="never"),
    Column("unseen", "cost from unseen starts", ".1f"),
    Column("disturbed", "cost with noise on the torque", ".1f"),
    Column("cpu_seconds", "CPU seconds", ".0f"),
)
WHAT = (
    "not published. Cost and violation are those of the last five iterations, in the worst "
    f"condition their mean and their median; both hold where the cost is within {WITHIN - 1:.0%} "
    f"of iLQG's and the violation below {VIOLATION:g} in every condition. Unseen starts are "
    f"{UNSEEN} about those of the training, up to 0.15 rad away and at up to 1 rad/s. With "
    f"noise on the torque, of {PUSH} N m in every step, all networks meet the same {PUSHES} draws "
    "from every training start."
)


def claims() -> list[Claim]:
    """What the table has to show."""

    def every(results: Results, row: str, key: str, holds: Callable[[float], bool]) -> bool:
        return all(value is not None and holds(value) for value in results.values(row, key))

    agree = [
        Claim(
            f"{row}: cost within {WITHIN - 1:.0%} and violation below {VIOLATION:g} in every "
            "condition at once, with every seed",
            lambda r, row=row: every(r, row, "agreed", bool),
        )
        for row in ("CGPS", "ADMM")
    ]
    pairs = (
        ("CGPS", "CGPS, multipliers stay 1", "violation"),
        ("CGPS", "CGPS, no multipliers: the network imitates", "violation"),
        ("ADMM", "ADMM, no duals", "violation"),
        ("ADMM", "ADMM, no penalty: the network imitates", "violation"),
        ("ADMM", "ADMM, no gain matching", "disturbed"),
        ("ADMM", "ADMM, no input noise", "disturbed"),
        ("ADMM", "ADMM, neither", "disturbed"),
    )
    return agree + [
        Claim(
            f"{less} has more of '{_heading(key)}' than {row}, on average",
            lambda r, row=row, less=less, key=key: r.mean(less, key) > r.mean(row, key),
        )
        for row, less, key in pairs
    ]


def _heading(key: str) -> str:
    return next(column.heading for column in COLUMNS if column.key == key)


def main(
    seeds: tuple[int, ...] = SEEDS,
    only: tuple[str, ...] = (),
    out: Path | None = None,
    quick: bool = False,
) -> int:
    """Leaves out one ingredient after the other.

    Args:
      seeds: of the runs.
      only: rows; none is all of them.
      out: JSON file of the result, Markdown goes beside it; benchmarks/results/ablate_known.json,
        or runs/ablate_known.json where not everything was run.
      quick: show within a minute that the script runs: one row, few iterations.
    """
    unknown = sorted(set(only) - set(VARIANTS))
    if unknown:
        return refuse(f"no row {', '.join(unknown)}; rows: {', '.join(VARIANTS)}")
    if quick:
        seeds, only = seeds[:1], ("ADMM",)
    task = make_task(10 if quick else HORIZON)
    best = optimum(task, 5 if quick else SEARCHES)
    rows = [
        Row(name, functools.partial(_run, config, task, best, quick), settings=config)
        for name, config in VARIANTS.items()
        if not only or name in only
    ]
    result = run_seeds(
        "ablate_known",
        rows,
        seeds,
        columns=COLUMNS,
        claims=() if only else claims(),
        published=WHAT,
        out=out,
        whole=not only and seeds == SEEDS,
    )
    return status(result)


def _run(
    config: CgpsConfig | AdmmConfig, task: Task, best: np.ndarray, quick: bool, seed: int
) -> dict[str, Any]:
    algorithm = "cgps" if isinstance(config, CgpsConfig) else "admm"
    if quick:
        config = dataclasses.replace(config, trajectory_iterations=1)
    return train(algorithm, config, task, best, 3 if quick else ITERATIONS[algorithm], seed)


if __name__ == "__main__":
    raise SystemExit(tyro.cli(main))
