"""Trajectories by the derivatives of known dynamics, from all initial states at once: iLQG.

    repeat: A_t, B_t <- derivatives of the simulator along every trajectory; the cost's quadratics
            k_t, K_t <- gains by dynamic programming, k_t within the limits of the controls
            roll out u_t + a k_t + K_t (s - s_t) with all step sizes a at once
            keep the best that lowers the cost as promised, or firm up the gains

It learns from derivatives, not from samples: it needs a simulator of the task, but no exploration.
With the second derivatives of dynamics that are a JAX function it is differential dynamic
programming (DDP).

Source: Todorov & Li (2005), "A generalized iterative LQG method"; Tassa, Erez & Todorov (2012),
"Synthesis and stabilization of complex behaviors through online trajectory optimization"; Tassa,
Mansard & Todorov (2014), "Control-limited differential dynamic programming".
"""

import dataclasses
import functools
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from jgps.controllers.nearest import NearestController
from jgps.core import linalg
from jgps.core.checks import Config, Range
from jgps.core.lifted import shared_jit
from jgps.core.types import NON_FINITE, OK, Controller, Rollouts
from jgps.optimise.algorithm import Algorithm, Metrics
from jgps.optimise.factory import factory
from jgps.optimise.ilqg import solve
from jgps.optimise.ilqg.solve import CONVERGED, RUNNING, Search, SearchConfig
from jgps.optimise.ilqg.task_system import TaskSystem, seen, task_system
from jgps.optimise.inspection import make_inspect
from jgps.optimise.models import noise_free_metrics
from jgps.simulation import SimulationRollouts
from jgps.simulation.derivatives import DerivativesConfig, MjxDerivativesConfig
from jgps.tasks import Task
from jgps.tasks.start import condition_features


@dataclasses.dataclass(frozen=True, kw_only=True)
class IlqgConfig(Config):
    """Settings of `ilqg`.

    Attributes:
      search: how a trajectory is searched for, see `SearchConfig`; its `iterations` and `chunk` are
        not read: `jgps.train` says how many iterations there are.
      derivatives: how the simulator is differentiated, by the backend's kind of settings; None is
        its defaults.
      second_order: whether second derivatives of the dynamics count (DDP): near the optimum the
        search then converges quadratically. They take dynamics that are a JAX function; None is
        where these are.
      initial_noise: standard deviation of what is added at random to the controls that hold the
        start, with which the search begins, >= 0, as a share of each control's range (of 1 in its
        own unit where it has none): from a rest that no slope leads out of, such as a pendulum that
        hangs, there is nothing to improve without it.
      temperature: what a nat of the actions' entropy is worth, > 0, in units of the cost: the
        controllers' covariance is this times the inverse of the cost's curvature by the action. The
        trajectories are without noise; it shows where the result acts with noise.
    """

    search: SearchConfig = SearchConfig()
    derivatives: DerivativesConfig | MjxDerivativesConfig | None = None
    second_order: bool | None = None
    initial_noise: Annotated[float, Range(">= 0", "usually 0.01")] = 0.01
    temperature: Annotated[float, Range("> 0", "usually 1e-4 to 1")] = 1e-3


class IlqgRun(NamedTuple):
    """What `ilqg` keeps from one iteration to the next."""

    key: jax.Array
    iteration: jax.Array  # [] int32
    u: jax.Array  # [C, T, dU], the trajectories' controls
    search: Search  # of every trajectory
    policy: NearestController  # the trajectories with their gains

    @property
    def controllers(self) -> Controller:
        """Those of the training conditions [C, ...], which are the result as well."""
        return self.policy.controllers


@factory
def ilqg(task: Task, config: IlqgConfig = IlqgConfig(), backend: str = "auto") -> Algorithm:
    """The algorithm on a task; see the file's head for what it does.

    Raises:
      ValueError: for an unknown backend, and for a task whose state does not tell where the
        simulation is.
    """
    known = task_system(
        task,
        task.train,
        backend,
        derivatives=config.derivatives,
        second_order=config.second_order,
    )
    system, begin, goal = known.system, known.begin, known.goal
    parts = solve.make_iteration(system, config.search)
    conclude = shared_jit(functools.partial(_conclude, task, known, config.temperature))

    def step(run: IlqgRun) -> tuple[IlqgRun, Metrics]:
        before = solve.replay(system, begin._replace(u=run.u), goal)
        state = solve.at(before, run.search)
        after = solve.iterate(system, parts, config.search, state, goal)
        return conclude(run, before.cost, after.search, seen(after.paths))

    x0 = condition_features(task, task.train)
    limits = jnp.asarray(system.limits)
    lower, upper = (limit[..., None, :] for limit in limits)
    limited = jnp.isfinite(lower) & jnp.isfinite(upper)
    spread = config.initial_noise * jnp.where(limited, upper - lower, 1)
    held = jnp.asarray(begin.u)

    def init(key: jax.Array) -> IlqgRun:
        key, noise_key = jax.random.split(key)
        noise = spread.astype(held.dtype) * jax.random.normal(noise_key, held.shape, held.dtype)
        u = jnp.clip(held + noise, lower, upper)
        search = solve.first_search(system, u, config.search)
        # Without gains: what holds the start.
        K = jnp.zeros((*u.shape, task.state_dim), u.dtype)
        C = config.temperature * jnp.broadcast_to(
            jnp.eye(task.action_dim, dtype=u.dtype), (*u.shape, task.action_dim)
        )
        policy = NearestController(controllers=Controller(K=K, k=u, C=C), x0=x0)
        return IlqgRun(key, jnp.zeros((), jnp.int32), u, search, policy)

    inspect = make_inspect(task, backend)

    def samples(run: IlqgRun) -> SimulationRollouts:
        paths = solve.replay(system, begin._replace(u=run.u), goal)
        return known.rollouts(paths)

    return Algorithm(
        init=shared_jit(init),
        step=shared_jit(step) if system.jittable else step,
        inspect=lambda run: inspect(run.key, run.policy.controllers),
        samples=samples,
        forget_results=_forget_results,
        rollouts_per_step=task.train.num * (1 + config.search.step_sizes),
    )


def _controllers(
    known: TaskSystem, temperature: float, x: jax.Array, u: jax.Array, search: Search
) -> Controller:
    """The trajectories x, u [C, T, ...] with their gains, on the task's state."""
    K = jnp.einsum("ctus,ctsx->ctux", search.K, known.left(x), precision="highest")
    k = u - jnp.einsum("ctux,ctx->ctu", K, x, precision="highest")
    inverse, _, ok = linalg.inverse_psd(search.Quu)
    # Where the curvature is not positive its diagonal says how well each action is known.
    firm = 1 / jnp.maximum(jnp.abs(jnp.diagonal(search.Quu, axis1=-2, axis2=-1)), 1e-6)
    rough = firm[..., None] * jnp.eye(u.shape[-1], dtype=u.dtype)
    C = temperature * jnp.where(ok[..., None, None], inverse, rough)
    return Controller(K=K, k=k, C=linalg.symmetrise(C))


def _conclude(
    task: Task,
    known: TaskSystem,
    temperature: float,
    run: IlqgRun,
    cost: jax.Array,
    search: Search,
    found: tuple[jax.Array, jax.Array],
) -> tuple[IlqgRun, Metrics]:
    """The state after an iteration that came to `search` and paths `found` [C, T, ...]."""
    x, u = found
    controllers = _controllers(known, temperature, x, u, search)
    failed = search.outcome == solve.NON_FINITE
    measured = noise_free_metrics(
        task, Rollouts(x=x[:, None], u=u[:, None], valid=jnp.isfinite(search.cost)[:, None])
    )
    metrics = {
        "cost": cost,
        **measured,
        # Until gains could be computed neither is known.
        "cost_promised": jnp.where(jnp.isfinite(search.promised), search.promised, jnp.nan),
        "gradient": jnp.where(jnp.isfinite(search.gradient), search.gradient, jnp.nan),
        "regularisation": search.regularisation,
        "search_iterations": search.iterations,
        "converged": (search.outcome == CONVERGED).astype(cost.dtype),
        "outcome": search.outcome,
        "samples_valid": jnp.isfinite(cost).astype(jnp.int32),
        "status": jnp.where(failed, NON_FINITE, OK).astype(jnp.int32),
        "status_step": jnp.full_like(search.outcome, -1),
    }
    after = run._replace(
        iteration=run.iteration + 1,
        u=u,
        search=search,
        policy=run.policy._replace(controllers=controllers),
    )
    return after, metrics


def _forget_results(run: IlqgRun) -> IlqgRun:
    """The state with which every search goes on from its controls, and costs count anew."""
    running = jnp.full_like(run.search.outcome, RUNNING)
    return run._replace(
        iteration=jnp.zeros_like(run.iteration), search=run.search._replace(outcome=running)
    )
