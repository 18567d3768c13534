"""Walks and swims in a receding horizon from random starts; says how many stay up and keep pace.

    python benchmarks/locomotion.py walker --starts 20 --seconds 10 --seed 300

The plans are those of `jgps train TASK --algorithm mpc`: one iteration of iLQG every 20 ms of
motion, begun with what is left of the plan before, with its feedback in between. `--out FILE.npz`
keeps joint positions and controls, `--film FILE.png` draws one of the starts.
"""

import argparse
import dataclasses
import time
from pathlib import Path

import jax
import numpy as np

from jgps import tasks
from jgps.optimise.mpc.loop import make_task_run
from jgps.recipes import recipe
from jgps.rendering import render, write_png
from jgps.simulation import Conditions
from jgps.tasks.locomotion.progress import TOLERANCE
from jgps.tasks.locomotion.walker import LOWEST


def random_conditions(task: tasks.Task, num: int, seed: int, speed: float) -> Conditions:
    """Starts that the task draws, under one command."""
    assert task.random_start is not None
    keys = jax.random.split(jax.random.key(seed), num)
    qpos, qvel = (np.asarray(each, np.float64) for each in jax.vmap(task.random_start)(keys))
    return Conditions(qpos, qvel, params={"speed": np.full(num, speed)})


def main() -> None:
    """Runs one task and prints what came of every start."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("task", choices=("walker", "swimmer"))
    parser.add_argument("--starts", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=300)
    parser.add_argument("--speed", type=float, help="m/s; the task's own unless given")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--film", type=Path, help="a picture with a row of poses for each second")
    parser.add_argument("--film-start", type=int, default=0, help="which start to draw")
    parser.add_argument("--film-from", type=int, default=0, help="the first second that is drawn")
    args = parser.parse_args()
    if args.film and not 0 <= args.film_from <= args.seconds - 1:
        parser.error("--film draws whole seconds: --film-from has to be at least 1 below --seconds")

    task = tasks.make(args.task)
    speed = float(task.train.params["speed"][0]) if args.speed is None else args.speed
    starts = random_conditions(task, args.starts, args.seed, speed)
    task = dataclasses.replace(task, train=starts)
    config = recipe(args.task, "mpc").config
    run, _ = make_task_run(task, config, "native")
    steps, state, pieces = round(args.seconds / task.control_dt), run.begin(), []
    began = (time.time(), time.process_time())
    per_second = round(1 / task.control_dt)
    for first in range(0, steps, per_second):
        state, done = run.advance(state, min(per_second, steps - first))
        pieces.append((np.asarray(done.x), np.asarray(done.u)))
        print(f"{first / per_second + 1:.0f} s, {time.time() - began[0]:.0f} s of wall", flush=True)
    spent = (time.time() - began[0], time.process_time() - began[1])
    x, u = (np.concatenate(each, axis=1) for each in zip(*pieces, strict=True))
    qpos = x[..., task.layout["qpos"]]
    if args.out:
        np.savez_compressed(args.out, x=x, u=u)
    _report(args.task, qpos, x, task, speed)
    print(f"lost {np.asarray(state.lost).sum()}, wall {spent[0]:.0f} s, CPU {spent[1]:.0f} s")
    if args.film:
        shown = qpos[args.film_start, args.film_from * per_second :: per_second // 10]
        shown = shown[: len(shown) // 10 * 10].reshape(-1, 10, qpos.shape[-1])
        images = render(task.model, shown, task.camera, width=160, height=180)
        write_png(args.film, np.concatenate(np.concatenate(list(images), axis=1), axis=1))


def _report(name: str, qpos: np.ndarray, x: np.ndarray, task: tasks.Task, speed: float) -> None:
    seconds = task.control_dt * (qpos.shape[1] - 1)
    mean = (qpos[:, -1, 0] - qpos[:, 0, 0]) / seconds
    near = np.abs(mean - speed) <= TOLERANCE * abs(speed)
    print("start  mean speed  lowest torso")
    up = np.ones(len(qpos), bool)
    for row, each in enumerate(mean):
        lowest = qpos[row, :, 1].min() if name == "walker" else np.nan
        up[row] = name != "walker" or lowest >= LOWEST
        print(f"{row:5d}  {each:10.3f}  {lowest:12.3f}")
    print(f"never fell {up.sum()}, within {TOLERANCE:.0%} of {speed} m/s {near.sum()}", end=", ")
    print(f"both {(up & near).sum()} of {len(qpos)}; mean speed of all {mean.mean():.3f} m/s")
    if name == "walker":
        _sliding(x, task)


def _sliding(x: np.ndarray, task: tasks.Task) -> None:
    """How fast points of feet that touch the floor move along it."""
    s, speeds = task.layout, []
    for entry in (e for e in s.slices if e.startswith("site_pos:")):
        height = x[..., s[entry].start + 2]
        along = x[..., s[entry.replace("site_pos", "site_vel")].start]
        speeds.append(np.abs(along[height < 0.003]))
    speeds = np.concatenate(speeds)
    print(f"points of feet on the floor: median {np.median(speeds):.3f} m/s, ", end="")
    print(f"95% below {np.quantile(speeds, 0.95):.2f} m/s")


if __name__ == "__main__":
    main()
