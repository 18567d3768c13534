"""Runs what jgps is compared with: Crocoddyl, open-loop MuJoCo rollouts, a plain NumPy loop."""

import importlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from mujoco import rollout as mujoco_rollout

from jgps.bench import reference
from jgps.mujoco_log import quiet_mujoco
from jgps.simulation import condition_models, initial_act, num_threads
from jgps.tasks import Task

# Milliseconds of its backwardPass (nx 26, nu 7, T 100) on the machine that targets are set for.
CROCODDYL_NOMINAL_MS = 1.8
REFERENCE_PARTS = ("fit", "backward", "solve", "sample")


def crocoddyl_backward(dX: int, dU: int, horizon: int) -> Callable[[], Any] | None:
    """Makes Crocoddyl's Riccati pass of an LQ problem, on one thread; None if not installed."""
    if importlib.util.find_spec("crocoddyl") is None:
        return None
    crocoddyl: Any = importlib.import_module("crocoddyl")
    model = crocoddyl.ActionModelLQR(dX, dU, False)
    problem = crocoddyl.ShootingProblem(np.zeros(dX), [model] * horizon, model)
    problem.nthreads = 1
    solver = crocoddyl.SolverDDP(problem)
    states, controls = [np.zeros(dX)] * (horizon + 1), [np.zeros(dU)] * horizon
    solver.setCandidate(states, controls, False)
    problem.calc(states, controls)
    problem.calcDiff(states, controls)
    return solver.backwardPass


def open_loop_rollout(task: Task, controls: np.ndarray) -> Callable[[], Any]:
    """Makes MuJoCo's threaded rollout with all controls [C, N, T, nu] known in advance.

    It has the same models, physics steps and controls as the closed loop, in one call into C.
    """
    num, samples, horizon, _ = controls.shape
    models = [m for m in condition_models(task.model, task.train) for _ in range(samples)]
    data = [mujoco.MjData(task.model) for _ in range(min(num_threads(), len(models)))]
    pool = mujoco_rollout.Rollout(nthread=len(data) if len(data) > 1 else 0)
    full = mujoco.mjtState.mjSTATE_FULLPHYSICS
    start = np.empty((num * samples, mujoco.mj_stateSize(task.model, full)))
    act = initial_act(task.model, task.train)
    for b in range(num * samples):
        mujoco.mj_resetData(task.model, data[0])
        data[0].qpos[:] = task.train.qpos[b // samples]
        data[0].qvel[:] = task.train.qvel[b // samples]
        data[0].act[:] = act[b // samples]
        mujoco.mj_getState(task.model, data[0], start[b], full)
    held = np.repeat(controls[:, :, :-1].reshape(num * samples, horizon - 1, -1), task.substeps, 1)
    held = np.ascontiguousarray(held, np.float64)
    states = np.empty((*held.shape[:2], start.shape[-1]))

    @quiet_mujoco()
    def run():
        pool.rollout(models, data, start, held, state=states, skip_checks=True, nstep=held.shape[1])
        return states

    return run


def numpy_seconds(problem: dict[str, Any], parts: tuple[str, ...], repeats: int) -> dict[str, Any]:
    """Measures the parts of the plain NumPy loop in a process with one BLAS thread, seconds.

    Args:
      problem: arrays of the problem by name, as `_numpy_problem` of `suites` makes them.
      parts: names of the parts to measure, of `REFERENCE_PARTS`.
      repeats: number of runs of each part.

    Raises:
      RuntimeError: if that process fails, with the end of what it wrote.
    """
    code = "import sys; from jgps.bench import peers; peers.reference_process(*sys.argv[1:])"
    one = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "VECLIB")}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "problem.npz"
        np.savez(path, **problem)
        done = subprocess.run(
            [sys.executable, "-c", code, str(path), ",".join(parts), str(repeats)],
            env={**os.environ, **one, "JAX_PLATFORMS": "cpu"},
            capture_output=True,
            text=True,
        )
    if done.returncode:
        raise RuntimeError(f"the NumPy reference process failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def reference_process(path: str, parts: str, repeats: str) -> None:
    """Prints the seconds of every run as JSON; `numpy_seconds` starts a process that calls this."""
    with np.load(path) as file:
        problem = {
            key: file[key].astype(np.float64) if file[key].dtype == np.float32 else file[key]
            for key in file.files
        }
    result = {}
    for part in parts.split(","):
        function = _run_part(part, problem)
        function()
        seconds = []
        for _ in range(int(repeats)):
            start = time.perf_counter()
            function()
            seconds.append(time.perf_counter() - start)
        result[part] = seconds
    print(json.dumps(result))


def _run_part(part: str, p: dict[str, Any]) -> Callable[[], Any]:
    """Returns a part of the NumPy loop on a problem whose arrays have leading axis condition."""

    def controller(c):
        return p["K"][c], p["k"][c], p["C"][c]

    def model(c):
        return p["F"][c], p["f"][c], p["W"][c]

    def fit():
        points = p["points"]
        init = reference.Mixture(p["mix_weights"], p["mix_mean"], p["mix_cov"])
        mixture = reference.fit_mixture(points, init, int(p["em_iterations"]), float(p["em_ridge"]))
        return [
            reference.fit_dynamics(x, u, mixture, len(points), 1.0, float(p["ridge"]))
            for x, u in zip(p["x"], p["u"], strict=True)
        ]

    def backward():
        return reference.backward(p["F"][0], p["f"][0], p["H"][0], p["g"][0], 1.0)

    def solve():
        return [
            reference.solve_kl_constrained(
                model(c),
                (p["H"][c], p["g"][c]),
                controller(c),
                (p["x0_mean"][c], p["x0_cov"][c]),
                float(p["epsilon"][c]),
                float(p["eta"][c]),
            )
            for c in range(len(p["K"]))
        ]

    if part == "sample":
        return _sampling(p)
    return {"fit": fit, "backward": backward, "solve": solve}[part]


def _sampling(p: dict[str, Any]) -> Callable[[], Any]:
    """Makes closed-loop rollouts: one physics step per call, one rollout after the other."""
    from jgps import tasks

    task = tasks.make(str(p["task"]))
    models = condition_models(task.model, task.train)
    act, noise = initial_act(task.model, task.train), p["noise"]

    @quiet_mujoco()
    def sample():
        num, samples, horizon, _ = noise.shape
        x = np.zeros((num, samples, horizon, task.state_dim))
        for c in range(num):
            chol = np.linalg.cholesky(p["C"][c])
            for n in range(samples):
                data = mujoco.MjData(models[c])
                data.qpos[:], data.qvel[:] = task.train.qpos[c], task.train.qvel[c]
                data.act[:] = act[c]
                for t in range(horizon):
                    mujoco.mj_forward(models[c], data)
                    x[c, n, t] = task.layout.of(data)
                    u = p["K"][c, t] @ x[c, n, t] + p["k"][c, t] + chol[t] @ noise[c, n, t]
                    data.ctrl[:] = u
                    for _ in range(task.substeps):
                        mujoco.mj_step(models[c], data)
        return x

    return sample
