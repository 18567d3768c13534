"""What `ilqg` keeps from one iteration to the next: how it begins, and what a search comes to."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jgps.controllers.nearest import NearestController
from jgps.core import linalg
from jgps.core.types import NON_FINITE, OK, Controller, Rollouts
from jgps.optimise.algorithm import Metrics
from jgps.optimise.ilqg import solve
from jgps.optimise.ilqg.solve import CONVERGED, RUNNING, Search, SearchConfig
from jgps.optimise.ilqg.system import KnownSystem, Paths
from jgps.optimise.ilqg.task_system import TaskSystem
from jgps.optimise.models import noise_free_metrics
from jgps.tasks import Task
from jgps.tasks.start import condition_features


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


def first_run(
    task: Task, system: KnownSystem, begin: Paths, settings: tuple[SearchConfig, float, float]
) -> Callable[[jax.Array], IlqgRun]:
    """Makes the state before the first iteration from a key: controls that hold the start, noisy.

    Args:
      task: the task.
      system: the same from its training conditions.
      begin: paths whose controls hold the start.
      settings: how to search, the worth of entropy, and the noise of controls, see `IlqgConfig`.
    """
    config, temperature, initial_noise = settings
    x0, held = condition_features(task, task.train), jnp.asarray(begin.u)
    lower, upper = (limit[..., None, :] for limit in jnp.asarray(system.limits))
    limited = jnp.isfinite(lower) & jnp.isfinite(upper)
    spread = (initial_noise * jnp.where(limited, upper - lower, 1)).astype(held.dtype)

    def first(key: jax.Array) -> IlqgRun:
        key, noise_key = jax.random.split(key)
        noise = spread * jax.random.normal(noise_key, held.shape, held.dtype)
        u = jnp.clip(held + noise, lower, upper)
        # Without gains: what holds the start.
        K = jnp.zeros((*u.shape, task.state_dim), u.dtype)
        C = temperature * jnp.broadcast_to(jnp.eye(u.shape[-1]), (*u.shape, u.shape[-1]))
        policy = NearestController(Controller(K=K, k=u, C=C.astype(u.dtype)), x0)
        search = solve.first_search(system, u, config)
        return IlqgRun(key, jnp.zeros((), jnp.int32), u, search, policy)

    return first


def conclude_run(
    task: Task,
    known: TaskSystem,
    temperature: float,
    run: IlqgRun,
    cost: jax.Array,
    search: Search,
    found: tuple[jax.Array, jax.Array],
) -> tuple[IlqgRun, Metrics]:
    """The state after an iteration that came to `search` and paths `found` [C, T, ...]."""
    policy = run.policy._replace(controllers=controllers_of(known, temperature, *found, search))
    after = run._replace(iteration=run.iteration + 1, u=found[1], search=search, policy=policy)
    return after, search_metrics(task, cost, search, found)


def forget_results(run: IlqgRun) -> IlqgRun:
    """The state with which every search goes on from its controls, and costs count anew."""
    running = jnp.full_like(run.search.outcome, RUNNING)
    return run._replace(
        iteration=jnp.zeros_like(run.iteration), search=run.search._replace(outcome=running)
    )


def controllers_of(
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


def search_metrics(
    task: Task, cost: jax.Array, search: Search, found: tuple[jax.Array, jax.Array]
) -> Metrics:
    """Of an iteration that began with costs [C] and came to x and u [C, T, ...]."""
    x, u = found
    failed = search.outcome == solve.NON_FINITE
    measured = noise_free_metrics(
        task, Rollouts(x=x[:, None], u=u[:, None], valid=jnp.isfinite(search.cost)[:, None])
    )
    return {
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
