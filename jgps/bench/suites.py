"""Defines what `jgps bench` measures; a suite returns rows for the table and the JSON file."""

import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jgps import dynamics, tasks
from jgps.algorithms import trajopt
from jgps.algorithms.trajopt import TrajoptConfig, TrajoptState
from jgps.bench import peers
from jgps.bench.ilqg import ilqg
from jgps.bench.measure import Row, compiled, row, times
from jgps.bench.network import network
from jgps.bench.policy import policy
from jgps.bench.render import render
from jgps.controllers import linear_gaussian
from jgps.controllers.nearest import NearestController
from jgps.core import lqr
from jgps.core.types import Dynamics, QuadraticCost, Rollouts
from jgps.dynamics import MixturePriorConfig
from jgps.optimise.local_loop import LocalParts, make_parts
from jgps.optimise.models import FittedModelsConfig, LocalModels, fitted_models
from jgps.optimise.steps.bounded import bounded_step
from jgps.simulation import make_sampler, resolve_backend
from jgps.tasks import Task
from jgps.tasks.start import initial_controllers, initial_states

TASK = "peg_insertion_round"
SEED = 0
PRIOR = MixturePriorConfig()
MODELS = FittedModelsConfig(prior=PRIOR)
WINDOW = 4  # iterations before anything is timed, so that the mixture's window is full
DX, DU, HORIZON = 26, 7, 100  # of the task, and of the random LQ problems


class _Problem(NamedTuple):
    """The task after a few iterations: real trajectories, models and controllers."""

    task: Task
    config: TrajoptConfig
    parts: LocalParts
    fit: Callable
    improve: Callable
    compile_s: dict[str, float]
    state: TrajoptState
    key: jax.Array  # of the next iteration's noise
    rollouts: Rollouts
    models: LocalModels
    metrics: dict[str, jax.Array]


@functools.cache
def _problem() -> _Problem:
    """Runs the first iterations once for all suites of this process."""
    task, config = tasks.make(TASK), TrajoptConfig(models=MODELS)
    parts = make_parts(
        task, config, "auto", fitted_models(task, MODELS, config.shape(task)),
        bounded_step(task, config.step),
    )  # fmt: skip
    state = trajopt(task, config).init(jax.random.key(SEED))
    keys = jax.random.split(jax.random.key(SEED + 1), WINDOW + 1)
    start = time.perf_counter()
    rollouts = parts.sample(state.controllers, keys[0]).rollouts
    seconds = {"sampling": time.perf_counter() - start}
    fit, seconds["fitting"] = compiled(parts.fit, state, rollouts)
    fitted, models, metrics = fit(state, rollouts)
    improve, seconds["LQR"] = compiled(parts.improve, fitted, models, rollouts)
    for key in keys[1:]:
        state, _ = improve(fitted, models, rollouts)
        rollouts = parts.sample(state.controllers, key).rollouts
        fitted, models, metrics = jax.block_until_ready(fit(state, rollouts))
    return _Problem(
        task, config, parts, fit, improve, seconds, state, keys[-1], rollouts, models, metrics
    )


def _numpy_problem() -> dict[str, Any]:
    """Returns the arrays of the same problem for the NumPy loop, by name."""
    p = _problem()
    _, step = p.improve(p.state, p.models, p.rollouts)
    prior = p.fit(p.state, p.rollouts)[0].models
    mixture = jax.tree.map(lambda leaf: leaf[0], p.state.models.mixture)
    used = np.asarray(mixture.weights) > 0
    points = np.asarray(prior.points)[np.asarray(prior.valid)].reshape(-1, 2 * DX + DU)
    controllers, models = p.state.controllers, p.models
    shape = (*p.config.shape(p.task), HORIZON, DU)
    return {
        "task": TASK,
        "points": points,
        "mix_weights": np.asarray(mixture.weights)[used],
        "mix_mean": np.asarray(mixture.mean)[used],
        "mix_cov": np.asarray(mixture.cov)[used],
        "em_iterations": np.asarray(p.metrics["mixture_iterations"])[0],
        "em_ridge": PRIOR.em.ridge,
        "ridge": MODELS.fit.ridge,
        "x": p.rollouts.x,
        "u": p.rollouts.u,
        **controllers._asdict(),
        **models.dynamics._asdict(),
        "H": models.cost.H,
        "g": models.cost.g,
        "x0_mean": models.initial.mean,
        "x0_cov": models.initial.cov,
        "epsilon": step["kl_bound"],
        "eta": p.state.memory.eta,
        "noise": np.random.default_rng(SEED).normal(size=shape),
    }


def physics() -> list[Row]:
    """Measures closed-loop sampling of 128 rollouts beside MuJoCo's open-loop rollout."""
    task, samples = tasks.make(TASK), 32
    controllers = initial_controllers(task, initial_states(task, task.train))
    params, _ = jax.jit(jax.vmap(linear_gaussian.factor))(controllers)
    shape = (task.train.num, samples, task.horizon, task.action_dim)
    noise = jax.random.normal(jax.random.key(SEED), shape)
    steps = (task.horizon - 1) * task.substeps * task.train.num * samples
    rows = []
    for backend in ("native",) if jax.default_backend() == "cpu" else ("native", "mjx"):
        sampler = make_sampler(task.system, task.train, NearestController.act, backend)
        sample = jax.jit(sampler.sample) if sampler.jittable else sampler.sample
        start = time.perf_counter()
        rollouts = jax.block_until_ready(sample(params, noise).rollouts)
        first = time.perf_counter() - start
        peer = f"mujoco.rollout, open loop, beside {backend}"
        controls = np.asarray(rollouts.u)
        if not np.all(rollouts.valid):
            raise RuntimeError(f"some rollouts of {TASK} diverged: their speed means nothing")
        seconds = times(
            {
                f"closed loop, {backend}": lambda sample=sample: sample(params, noise).rollouts,
                peer: peers.open_loop_rollout(task, controls),
            },
            repeats=9,
        )
        note = "useful physics steps; native takes one more per control step for exact sensors"
        rows += [
            row(name, s, "steps/s", steps, batch=shape[0] * samples, note=note)
            for name, s in seconds.items()
        ]
        rows[-2]["compile_s"] = first
        rows[-2]["ratio"] = {peer: rows[-2]["median"] / rows[-1]["median"]}
    return rows


def fit() -> list[Row]:
    """Measures mixture prior and fit at the scale of peg insertion, beside the NumPy loop."""
    p = _problem()
    prior = dynamics.make_prior(
        PRIOR,
        DX,
        DU,
        *p.config.shape(p.task),
        HORIZON,
        jnp.float32,
    )  # fmt: skip

    def fit_all(state, rollouts):
        state, metrics = prior.update(state, rollouts)
        fitted = jax.vmap(lambda r, s: dynamics.fit(r, s, MODELS.fit))(
            rollouts, prior.evaluate(state, rollouts)
        )
        return fitted, metrics

    executable, compile_s = compiled(fit_all, p.state.models, p.rollouts)
    seconds = times({"fit": lambda: executable(p.state.models, p.rollouts)}, repeats=15)["fit"]
    iterations = int(np.asarray(p.metrics["mixture_iterations"])[0])
    slow = peers.numpy_seconds(_numpy_problem(), ("fit",), repeats=3)["fit"]
    loop = row("NumPy loop, float64, one BLAS thread", slow, note="the same EM iterations")
    ours = row(
        "mixture prior and fit, 4 conditions x 5 samples", seconds, compile_s=compile_s,
        em_iterations=iterations, ratio={loop["name"]: np.median(slow) / np.median(seconds)},
        ratio_is="times faster",
    )  # fmt: skip
    return [ours, loop]


def riccati_batch(batch: int, horizon: int = HORIZON, dX: int = DX, dU: int = DU):
    """Draws different LQ problems: Dynamics and QuadraticCost with leaves [batch, ...]."""
    d = dX + dU
    keys = jax.random.split(jax.random.key(SEED), 3)
    noise = 0.05 * jax.random.normal(keys[0], (batch, horizon - 1, dX, d))
    root = jax.random.normal(keys[1], (batch, horizon, d, d)) / jnp.sqrt(d)
    motion = Dynamics(
        F=noise.at[..., :dX].add(0.95 * jnp.eye(dX)),
        f=jnp.full((batch, horizon - 1, dX), 0.01),
        W=jnp.broadcast_to(1e-3 * jnp.eye(dX), (batch, horizon - 1, dX, dX)),
    )
    cost = QuadraticCost(
        H=root @ jnp.swapaxes(root, -1, -2) + 0.1 * jnp.eye(d),
        g=jax.random.normal(keys[2], (batch, horizon, d)),
        h=jnp.zeros((batch, horizon)),
    )
    return motion, cost


def riccati() -> list[Row]:
    """Measures Riccati passes beside Crocoddyl and the NumPy loop, and the whole bounded solve."""
    batch = 512
    problem = jax.block_until_ready(jax.jit(lambda: riccati_batch(batch))())
    backward, backward_s = compiled(jax.vmap(lambda d, c: lqr.backward(d, c)), *problem)
    crocoddyl = peers.crocoddyl_backward(DX, DU, HORIZON)
    functions: dict[str, Callable[[], Any]] = {"ours": lambda: backward(*problem)}
    if crocoddyl is not None:
        functions["crocoddyl"] = lambda: [crocoddyl() for _ in range(20)]
    seconds = times(functions, repeats=15)

    p = _problem()
    solve_s = times({"solve": lambda: p.improve(p.state, p.models, p.rollouts)}, repeats=15)[
        "solve"
    ]
    _, step = p.improve(p.state, p.models, p.rollouts)
    slow = peers.numpy_seconds(_numpy_problem(), ("backward", "solve"), repeats=5)
    loop, slow_solve = (np.median(slow[part]) for part in ("backward", "solve"))
    per_pass = np.median(seconds["ours"]) / batch
    name = f"Riccati pass of one trajectory in a batch of {batch}, float32"
    ours = row(name, seconds["ours"] / batch, compile_s=backward_s, batch=batch)
    ours["ratio"] = {"NumPy loop": loop / per_pass}
    rows = [ours, row("NumPy loop, one pass", slow["backward"])]
    if crocoddyl is not None:
        passes = seconds["crocoddyl"] / 20
        ours["ratio"]["Crocoddyl"] = np.median(passes) / per_pass
        rows.append(row("Crocoddyl backwardPass, one thread", passes))
    return [
        *rows,
        row(
            "KL-constrained solve, 4 conditions", solve_s, compile_s=p.compile_s["LQR"],
            rounds=np.asarray(step["search_rounds"]).tolist(),
            ratio={"NumPy loop": slow_solve / np.median(solve_s)},
        ),
        row("NumPy loop, KL-constrained solve", slow["solve"]),
    ]  # fmt: skip


def iteration() -> list[Row]:
    """Measures one iteration of peg insertion and its parts, and the first one separately."""
    p = _problem()
    step = trajopt(p.task, p.config).step
    crocoddyl = peers.crocoddyl_backward(DX, DU, HORIZON)
    functions: dict[str, Callable[[], Any]] = {
        "sampling": lambda: p.parts.sample(p.state.controllers, p.key).rollouts,
        "fitting": lambda: p.fit(p.state, p.rollouts),
        "LQR": lambda: p.improve(p.state, p.models, p.rollouts),
        "iteration": lambda: step(p.state)[1],
    }
    if crocoddyl is not None:
        functions["Crocoddyl backwardPass x 20"] = lambda: [crocoddyl() for _ in range(20)]
    seconds = times(functions, repeats=11)
    slow = peers.numpy_seconds(_numpy_problem(), ("sample", "fit", "solve"), repeats=3)
    loop: dict[str, Any] = dict(
        zip(
            ("sampling", "fitting", "LQR"),
            (slow[k] for k in ("sample", "fit", "solve")),
            strict=True,
        )
    )
    loop["iteration"] = np.sum(list(loop.values()), axis=0)
    rows = []
    for part, values in loop.items():
        peer = row(f"NumPy loop: {part}", values)
        faster = float(np.median(values) / np.median(seconds[part]))
        own = row(part, seconds[part], ratio={"NumPy loop": faster})
        own["compile_s"] = p.compile_s.get(part)
        rows += [own, peer]
    rows[2]["note"] = "ours differentiates the cost as well, the loop is given its derivatives"
    if crocoddyl is not None:
        values = seconds["Crocoddyl backwardPass x 20"] / 20
        scale = float(np.median(values)) * 1e3 / peers.CROCODDYL_NOMINAL_MS
        nominal = rows[-2]["median"] / scale
        note = f"at {peers.CROCODDYL_NOMINAL_MS} ms the iteration would take {nominal:.0f} ms"
        rows.append(row("Crocoddyl backwardPass, one thread", values, scale=1e3, note=note))
        rows[-1]["machine_scale"] = scale
    return rows + first_iterations()


def first_iterations() -> list[Row]:
    """Measures imports and first iteration of a process, with an empty and a filled cache."""
    code = "from jgps.bench import suites; suites.first_iteration_process()"
    rows = []
    with tempfile.TemporaryDirectory() as cache:
        settings = {
            "JAX_COMPILATION_CACHE_DIR": cache,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        for name, runs in (("cold", 1), ("warm cache", 3)):
            results = []
            for _ in range(runs):
                done = subprocess.run(
                    [sys.executable, "-c", code],
                    env={**os.environ, **settings},
                    capture_output=True,
                    text=True,
                )
                if done.returncode:
                    raise RuntimeError(f"the first iteration failed:\n{done.stderr[-2000:]}")
                results.append(json.loads(done.stdout.splitlines()[-1]))
            firsts = [result["first"] for result in results]
            second = float(np.median([result["second"] for result in results]))
            note = f"the second iteration of that process: {second:.2f} s"
            rows.append(row(f"first iteration, {name}", firsts, "s", 1.0, note=note))
    return rows


def first_iteration_process() -> None:
    """Prints seconds as JSON; `first_iterations` starts processes that call this."""
    start = time.perf_counter()
    algorithm = trajopt(tasks.make(TASK), TrajoptConfig(), resolve_backend("auto"))
    state = algorithm.init(jax.random.key(SEED))
    state, metrics = jax.block_until_ready(algorithm.step(state))
    first = time.perf_counter()
    jax.block_until_ready(algorithm.step(state))
    print(json.dumps({"first": first - start, "second": time.perf_counter() - first}))


SUITES: dict[str, Callable[[], list[Row]]] = {
    "physics": physics,
    "fit": fit,
    "lqr": riccati,
    "iteration": iteration,
    "network": functools.partial(network, TASK, SEED),
    "policy": policy,
    "render": render,
    "ilqg": ilqg,
}
