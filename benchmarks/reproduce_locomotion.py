"""Networks that walk, swim, trot on command and survive pushes: trained, then asked anew.

    python benchmarks/reproduce_locomotion.py quadruped_velocity     # three seeds, see `--help`
    python benchmarks/reproduce_locomotion.py biped_push --seeds 0 --film film.png

A task is trained with `mpc_dagger` by its recipe, and the network is rolled out with what it
observes and nothing else, in 100 episodes of which training knows nothing: random starts, commands
on a grid of 5 x 5 and such that change every 2 s for 60 s, other friction, masses and latency,
pushes of 300 and 400 N at random times. Errors are those of mean velocities after the first two
seconds, over episodes without a fall.
"""

import argparse
import dataclasses
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from reproduce import SEEDS, Claim, Column, Row, run_seeds, status

from jgps import tasks
from jgps.algorithms import mpc_dagger
from jgps.optimise.labelling.config import MpcDaggerConfig
from jgps.recipes import recipe
from jgps.rendering import render, write_png
from jgps.simulation import Conditions, make_sampler
from jgps.tasks.functions import fallen, over_rollouts
from jgps.tasks.locomotion.commanded import errors
from jgps.tasks.locomotion.legged import SETTLING, commanded
from jgps.tasks.locomotion.quadruped_velocity import FEET
from jgps.tasks.locomotion.stance import foot_site

EPISODES = 100
FORCES, PUSHED = (300.0, 400.0), 5  # N, and for how many steps
STANDS = 0.025  # height of the middle of a foot that stands, metres; its radius is 0.023
AHEAD = (-0.9, -0.45, 0.05, 0.5, 0.95)  # m/s
TURNS = (-0.9, -0.45, 0.05, 0.5, 0.9)  # rad/s
ASIDE = (0.0, 0.4, -0.2, -0.4, 0.2)  # m/s, in turn along the grid
SWITCHING = 3000  # steps, 60 s
# What training does not draw.
OTHER_PHYSICS = tasks.Episodes(friction=(0.4, 1.2), mass=(0.8, 1.2), latency=(0.02, 0.02))


def grid() -> np.ndarray:
    """Commands [25, 3]."""
    return np.array(
        [
            (ahead, ASIDE[(i + 2 * j) % 5], turn)
            for i, ahead in enumerate(AHEAD)
            for j, turn in enumerate(TURNS)
        ]
    )


def starts(task: tasks.Task, commands: np.ndarray, seed: int) -> Conditions:
    """Conditions that start as the task draws, under commands [C, L, 3]."""
    episodes = dataclasses.replace(tasks.Episodes(), command=task.episodes.command)
    drawn = tasks.draw(dataclasses.replace(task, episodes=episodes), seed, len(commands), 1)
    return drawn._replace(inputs={"mocap_pos:command": commands})


def rolled_out(
    task: tasks.Task, policy: Any, conditions: Conditions, steps: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """States [C, T, dX], controls and joint positions of the network alone."""
    task = dataclasses.replace(task, horizon=steps)
    sample = make_sampler(task.system, conditions, policy.act, "native").sample
    noise = jax.numpy.zeros((conditions.num, 1, steps, task.action_dim))
    found = sample(policy.params_for(None), noise)
    return tuple(np.asarray(a)[:, 0] for a in (found.x, found.u, found.qpos))


def down(task: tasks.Task, params: Any, x: np.ndarray) -> np.ndarray:
    """Which episodes [C] end in a fall, or are no longer numbers."""
    assert task.fall is not None
    fell = np.asarray(fallen(params, task.fall, x[:, None]))[:, 0, -1]
    return fell | ~np.isfinite(x).all(axis=(1, 2))


def measured(task: tasks.Task, x: np.ndarray, u: np.ndarray) -> dict[str, float]:
    """Errors, falls, sliding of feet that stand, and how fast controls change."""
    fell = down(task, None, x)
    settling = round(SETTLING / task.control_dt)
    each = jax.vmap(lambda row: errors(commanded(task.layout, "root"), row, settling))(x)
    velocity, turn = (np.asarray(a)[~fell] for a in each)
    s, slid = task.layout, []
    for foot in (foot_site(f"{foot}_foot") for foot in FEET):
        height = x[~fell, settling:, s[f"site_pos:{foot}"].start + 2]
        speed = np.linalg.norm(x[~fell, settling:, s[f"site_vel:{foot}"]][..., :2], axis=-1)
        slid.append(speed[height < STANDS])
    slid = np.concatenate(slid)
    rate = np.abs(np.diff(u[~fell, settling:], axis=1)) / task.control_dt
    return {
        "falls": float(fell.mean()),
        "velocity": float(velocity.mean()) if len(velocity) else np.nan,
        "turn": float(turn.mean()) if len(turn) else np.nan,
        "slip": float(slid.mean()) if len(slid) else np.nan,
        "rate": float(rate.mean()) if rate.size else np.nan,
    }


def trotted(task: tasks.Task, policy: Any, seed: int) -> dict[str, Any]:
    """All that is asked of a network that follows commands."""
    still = np.repeat(grid(), 4, axis=0)[:, None]
    first = starts(task, still, 1000 + seed)
    x, u, _ = rolled_out(task, policy, first, task.horizon)
    found: dict[str, Any] = {f"grid_{k}": v for k, v in measured(task, x, u).items()}
    rng = np.random.default_rng(2000 + seed)
    low, high = np.asarray(task.episodes.command).T
    switched = np.repeat(rng.uniform(low, high, (100, SWITCHING // 100, 3)), 100, axis=1)
    x, u, _ = rolled_out(task, policy, starts(task, switched, 3000 + seed), SWITCHING)
    found["switch_falls"] = measured(task, x, u)["falls"]
    other = tasks.draw(dataclasses.replace(task, episodes=OTHER_PHYSICS), 4000 + seed, 100, 1)
    x, u, _ = rolled_out(task, policy, other._replace(inputs=first.inputs), task.horizon)
    found |= {f"other_{k}": v for k, v in measured(task, x, u).items()}
    return {**found, "episodes": EPISODES}


def went(task: tasks.Task, policy: Any, seed: int) -> dict[str, Any]:
    """Falls and speeds from random starts, of a task that asks for one speed."""
    drawn = tasks.draw(task, 1000 + seed, EPISODES)
    x, u, _ = rolled_out(task, policy, drawn, task.horizon)
    good = over_rollouts(drawn.params, task.success, x[:, None], u[:, None])[:, 0]
    place = task.layout["qpos"].start
    seconds = (task.horizon - 1) * task.control_dt
    speed = (x[:, -1, place] - x[:, 0, place]) / seconds
    falls = None
    if task.fall is not None:
        falls = float(np.mean(down(task, drawn.params, x)))
        good = good & ~down(task, drawn.params, x)
    return {
        "success": float(np.mean(good)),
        "falls": falls,
        "speed": float(np.mean(speed)),
        "episodes": EPISODES,
    }


def pushed(task: tasks.Task, policy: Any, seed: int) -> dict[str, Any]:
    """How many pushes of each force are survived for 5 s, forward and backward."""
    found: dict[str, Any] = {"episodes": EPISODES}
    rng = np.random.default_rng(1000 + seed)
    for force in FORCES:
        forces = np.zeros((EPISODES, task.horizon, 6))
        latest = task.horizon - round(5.0 / task.control_dt) - PUSHED
        for number, row in enumerate(forces):
            first = int(rng.integers(latest // 4, latest))
            row[first : first + PUSHED, 0] = force if number % 2 else -force
        calm = dataclasses.replace(task, episodes=tasks.Episodes())
        drawn = tasks.draw(calm, 2000 + seed + int(force), EPISODES)
        drawn = drawn._replace(inputs={"xfrc_applied:torso": forces})
        x, _, _ = rolled_out(task, policy, drawn, task.horizon)
        found[f"survived_{force:.0f}"] = float(1 - np.mean(down(task, None, x)))
    return found


def trained(
    name: str, seed: int, config: MpcDaggerConfig, iterations: int
) -> tuple[tasks.Task, Any, dict[str, Any]]:
    """A run of the recipe, the best network, and how long it took to get there."""
    task = tasks.make(name)
    algorithm = mpc_dagger(task, config)
    began, state, curve = time.time(), algorithm.init(jax.random.key(seed)), []
    for number in range(iterations):
        state, metrics = algorithm.step(state)
        record = {k: float(np.mean(metrics[k])) for k in KEPT if k in metrics}
        curve.append({"seconds": time.time() - began, **record})
        print(number + 1, {k: round(v, 4) for k, v in curve[-1].items()}, flush=True)
    spent = {
        "minutes": (time.time() - began) / 60,
        "environment_steps": float(state.environment_steps),
        "labels": sum(each["labels"] for each in curve),
        "curve": curve,
    }
    return task, state.policy, spent


KEPT = (
    *("labels", "episode_falls", "plan_cost", "policy_loss", "environment_steps"),
    *("noise_free_success", "noise_free_falls", "noise_free_cost"),
)
SPENT = (
    Column("minutes", "minutes of training", ".0f"),
    Column("environment_steps", "environment steps", ".2g"),
)
COLUMNS = {
    "quadruped_velocity": (
        Column("grid_velocity", "error, m/s", ".3f"),
        Column("grid_turn", "error of the turn rate, rad/s", ".3f"),
        Column("grid_falls", "falls", ".0%", count="episodes"),
        Column("switch_falls", "falls in 60 s of commands that switch", ".0%", count="episodes"),
        Column("other_velocity", "error with other physics, m/s", ".3f"),
        Column("other_turn", "turn rate with other physics, rad/s", ".3f"),
        Column("other_falls", "falls with other physics", ".0%", count="episodes"),
        Column("grid_slip", "sliding of feet that stand, m/s", ".3f"),
        Column("grid_rate", "change of controls, rad/s", ".1f"),
    ),
    "biped_push": (
        Column("survived_300", "300 N survived", ".0%", count="episodes"),
        Column("survived_400", "400 N survived", ".0%", count="episodes"),
    ),
    "walker_policy": (
        Column("success", "2.1 m/s within 10% for 10 s", ".0%", count="episodes"),
        Column("falls", "falls", ".0%", count="episodes"),
        Column("speed", "mean speed, m/s", ".2f"),
    ),
    "swimmer_policy": (
        Column("success", "2 m/s within 10%", ".0%", count="episodes"),
        Column("speed", "mean speed, m/s", ".2f"),
    ),
}
ASKED = {
    "quadruped_velocity": (
        ("error on the grid <= 0.10 m/s", "grid_velocity", -0.10),
        ("turn error on the grid <= 0.15 rad/s", "grid_turn", -0.15),
        ("falls on the grid <= 2%", "grid_falls", -0.02),
        ("falls while switching <= 5%", "switch_falls", -0.05),
        ("error with other physics <= 0.15 m/s", "other_velocity", -0.15),
    ),
    "biped_push": (
        ("300 N: >= 90% survived", "survived_300", 0.9),
        ("400 N: >= 80% survived", "survived_400", 0.8),
    ),
    "walker_policy": (("success >= 95%", "success", 0.95),),
    "swimmer_policy": (("success >= 95%", "success", 0.95),),
}
MEASURE = {
    "quadruped_velocity": trotted,
    "biped_push": pushed,
    "walker_policy": went,
    "swimmer_policy": went,
}


def claims(name: str) -> tuple[Claim, ...]:
    """What the issue's numbers ask for; those that are to be at most so much are negative."""

    def holds(key: str, limit: float) -> Any:
        return lambda r: r.mean(name, key) * np.sign(limit) >= limit

    return tuple(Claim(text, holds(key, limit)) for text, key, limit in ASKED[name])


def film(path: Path, task: tasks.Task, policy: Any) -> None:
    """A picture with a row of poses for each of some commands, or of some episodes."""
    conditions, steps, every = tasks.draw(task, 7, 5), min(task.horizon, 250), 4
    if task.name == "quadruped_velocity":
        told = [(0.8, 0, 0), (-0.6, 0, 0), (0, 0.4, 0), (0, 0, 0.9), (0.6, 0.2, 0.6)]
        conditions = starts(task, np.array(told)[:, None], 7)
    _, _, qpos = rolled_out(task, policy, conditions, steps)
    shown = qpos[:, 120 : 120 + 12 * every : every]
    images = render(task.model, shown, task.camera, width=150, height=130)
    write_png(path, np.concatenate(np.concatenate(list(images), axis=1), axis=1))


def main() -> int:
    """Trains, measures, and prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("task", choices=tuple(MEASURE))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--iterations", type=int, help="of training; the task's own unless given")
    parser.add_argument("--film", type=Path, help="a picture of the first seed's network")
    args = parser.parse_args()
    config, usual = recipe(args.task, "mpc_dagger")
    iterations = args.iterations or usual

    def run(seed: int) -> Mapping[str, Any]:
        task, policy, spent = trained(args.task, seed, config, iterations)
        if args.film and seed == args.seeds[0]:
            film(args.film, task, policy)
        return {**MEASURE[args.task](task, policy, seed), **spent}

    whole = args.iterations is None and tuple(args.seeds) == SEEDS
    found = run_seeds(
        f"locomotion_{args.task}",
        (Row(args.task, run=run, settings=config),),
        seeds=tuple(args.seeds),
        columns=(*COLUMNS[args.task], *SPENT),
        claims=claims(args.task),
        whole=whole,
    )
    return status(found)


if __name__ == "__main__":
    sys.exit(main())
