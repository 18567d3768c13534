"""Model predictive control as an algorithm: its iterations are parts of an episode.

repeat: some control steps of the episode in every condition, under plans made anew every few
steps; at its end it begins again, and the first plans from what was done before
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jgps.controllers.nearest import NearestController
from jgps.core.doubles import packed, unpacked
from jgps.core.host import to_device
from jgps.core.lifted import shared_jit
from jgps.core.types import NON_FINITE, OK, Controller
from jgps.mujoco_log import quiet_mujoco
from jgps.optimise.algorithm import Algorithm, Metrics
from jgps.optimise.ilqg.solve import SearchConfig
from jgps.optimise.ilqg.system import KnownSystem, Paths
from jgps.optimise.ilqg.task_system import TaskSystem, task_system
from jgps.optimise.inspection import make_inspect
from jgps.optimise.models import default_dtype
from jgps.optimise.mpc.config import EPISODE, MpcConfig
from jgps.optimise.mpc.planner import Planner, until_end, where
from jgps.optimise.mpc.receding import receding_ilqg
from jgps.optimise.mpc.run import Executed, Run, RunState, Start, make_run
from jgps.optimise.mpc.sampling import sampling_planner
from jgps.simulation import SimulationRollouts
from jgps.simulation.conditions import condition_models
from jgps.simulation.system import control_ranges
from jgps.tasks import Task
from jgps.tasks.functions import over_rollouts, params_of
from jgps.tasks.start import condition_features, initial_controllers, initial_states


class MpcState(NamedTuple):
    """What `mpc` keeps from one iteration to the next."""

    key: jax.Array
    iteration: jax.Array  # [] int32
    run: Any  # a `RunState`, with float64 as bits
    u: Any  # [C, T, dU], what was done in this episode so far, and in the last one after that
    controllers: Controller  # [C, T, ...], the same with feedback
    policy: NearestController  # of the best whole episode; until there is one, of this one
    policy_cost: Any  # [C], infinite until there is one


class Parts(NamedTuple):
    """What the loop is made of."""

    known: TaskSystem
    run: Run
    start: Start
    controllers_of: Callable[..., Controller]  # of what was done, leaves [C, n, ...]
    variance: Any  # [C, 1, dU, dU], of their noise
    first: Controller  # what acts where nothing was done yet
    observe: Callable[[Any], Any] | None  # o [C, n, dO] at states [C, n, nx]; None where it is x


def make_mpc(task: Task, config: MpcConfig, backend: str) -> Algorithm:
    """The loop.

    Raises:
      ValueError: for a backend that can't plan, and a task whose state does not tell where its
        simulation is.
    """
    parts = _make_parts(task, config, backend)
    inspect = make_inspect(task, backend)
    features = condition_features(task, task.train)
    return Algorithm(
        init=functools.partial(_init, task, parts, features),
        step=functools.partial(_step, task, config, parts),
        inspect=lambda state: inspect(state.key, state.policy.controllers),
        samples=functools.partial(_samples, task, config, parts),
        forget_results=functools.partial(_forget_results, features),
        rollouts_per_step=task.train.num,
    )


def make_planner(system: KnownSystem, config: MpcConfig, num: int) -> Planner:
    """The planner that the settings say, of a system of `num` states."""
    if isinstance(config.planner, SearchConfig):
        return receding_ilqg(system, config.planner, config.horizon)
    return sampling_planner(system, config.planner, config.horizon, num)


def endless(task: Task) -> Task:
    """The task with a cost for which time stands still from the last step on."""
    return dataclasses.replace(task, cost=until_end(task.cost, task.horizon - 1))


def start_of(known: TaskSystem, config: MpcConfig) -> Start:
    """Where runs of a task start, and what holds it there, as the first search's controls."""
    u = np.repeat(np.asarray(known.begin.u)[:, :1], config.horizon, axis=1)
    return Start(np.asarray(known.begin.state)[:, 0], u, known.goal.params)


def make_task_run(
    task: Task, config: MpcConfig, backend: str = "auto", **settings: Any
) -> tuple[Run, Start]:
    """A closed loop of the task's training conditions, and its start.

    Args:
      task: from its last step on time stands still for its cost.
      config: horizon, planner, and how often to plan.
      backend: "native", "analytic" or "auto".
      settings: see `make_run`.
    """
    task = endless(task)
    known = task_system(task, task.train, backend, derivatives=config.derivatives)
    start = start_of(known, config)
    planner = make_planner(known.system, config, task.train.num)
    return make_run(known.system, planner, config, task.cost, start, **settings), start


def _make_parts(task: Task, config: MpcConfig, backend: str) -> Parts:
    whole = endless(task)
    known = task_system(whole, task.train, backend, derivatives=config.derivatives)
    start = start_of(known, config)
    planner = make_planner(known.system, config, task.train.num)
    run = make_run(known.system, planner, config, whole.cost, start)
    models = condition_models(task.model, task.train)
    lower, upper = control_ranges(models)
    half = np.where(np.isfinite(upper - lower), 0.5 * (upper - lower), 1)
    variance = np.square(config.noise * half)[:, None, :, None] * np.eye(task.action_dim)
    controllers_of = shared_jit(functools.partial(_controllers_of, known.left))
    first = jax.device_get(initial_controllers(task, initial_states(task, task.train)))
    observe = None
    if task.observation is not None and not known.system.jittable:
        observe = functools.partial(observe_states, task, models)
    return Parts(known, run, start, controllers_of, variance, first, observe)


def _controllers_of(left: Any, x: Any, u: Any, K: Any, variance: Any) -> Controller:
    """What was done [C, n, ...], with its feedback on the task's state."""
    gains = jnp.einsum("ctus,ctsx->ctux", K, left(x), precision="highest")
    k = u - jnp.einsum("ctux,ctx->ctu", gains, x, precision="highest")
    return Controller(gains, k, jnp.broadcast_to(variance, (*u.shape, u.shape[-1])))


@quiet_mujoco()
def observe_states(task: Task, models: list[mujoco.MjModel], states: np.ndarray) -> np.ndarray:
    """The observation [C, n, dO] at states [C, n, nx]."""
    kind = mujoco.mjtState.mjSTATE_INTEGRATION
    rows = []
    for model, own in zip(models, states, strict=True):
        data = mujoco.MjData(model)
        for state in own:
            mujoco.mj_setState(model, data, state, kind)
            mujoco.mj_forward(model, data)
            rows.append((task.observation or task.layout).of(data))
    return np.reshape(rows, (*states.shape[:2], -1))


def _init(task: Task, parts: Parts, features: jax.Array, key: jax.Array) -> MpcState:
    key, own = jax.random.split(key)
    held = np.repeat(np.asarray(parts.start.u[:, :1], default_dtype()), task.horizon, axis=1)
    return MpcState(
        key=key,
        iteration=jnp.zeros((), jnp.int32),
        run=packed(parts.run.begin(None, own)),
        u=held,
        controllers=parts.first,
        policy=NearestController(controllers=parts.first, x0=features),
        policy_cost=np.full(task.train.num, np.inf, default_dtype()),
    )


def _advanced(
    task: Task, config: MpcConfig, parts: Parts, state: MpcState
) -> tuple[RunState, RunState, Executed]:
    """The run before and after the steps of one iteration, and what was done in them."""
    before = jax.tree.map(_on_host, unpacked(state.run))
    if before.step >= task.horizon:  # the first plans begin with what was done before
        held = np.minimum(np.arange(config.horizon), task.horizon - 1)
        u = np.asarray(state.u)[:, held].astype(parts.start.u.dtype)
        before = parts.run.begin(None, before.acting.key, u)
    each = config.steps or -(-task.horizon // EPISODE)
    steps = min(each, task.horizon - int(before.step))
    return before, *parts.run.advance(before, steps)


def _on_host(leaf: Any) -> Any:
    return leaf if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else np.asarray(leaf)


def _step(task: Task, config: MpcConfig, parts: Parts, state: MpcState) -> tuple[MpcState, Metrics]:
    before, after, done = _advanced(task, config, parts, state)
    at = slice(int(before.step), int(after.step))
    u = np.array(state.u)
    u[:, at] = done.u
    # What comes behind the steps that were done is as it was before there were any.
    controllers = jax.tree.map(np.array, state.controllers if at.start else parts.first)
    told = (to_device(a, default_dtype()) for a in (done.x, done.u, done.K, parts.variance))
    for whole, piece in zip(controllers, parts.controllers_of(*told), strict=True):
        whole[:, at] = piece
    best, best_cost = jax.device_get((state.policy.controllers, state.policy_cost))
    sound, total = after.lost == 0, after.cost.astype(best_cost.dtype)
    if at.stop == task.horizon:
        better = sound & (total < best_cost)
        best_cost = np.where(better, total, best_cost)
    else:  # until there is one of a whole episode
        better = sound & np.isinf(best_cost)
    state = MpcState(
        key=state.key,
        iteration=state.iteration + 1,
        run=packed(after),
        u=u,
        controllers=controllers,
        policy=state.policy._replace(controllers=where(better, controllers, best)),
        policy_cost=best_cost,
    )
    return jax.tree.map(_to_device, state), _metrics(task, after, done)


def _to_device(leaf: Any) -> jax.Array:
    return to_device(leaf) if isinstance(leaf, np.ndarray) else leaf


def _metrics(task: Task, after: RunState, done: Executed) -> Metrics:
    """Of one iteration; [C] where they belong to conditions."""
    status = np.where(done.valid, OK, NON_FINITE).astype(np.int32)
    metrics = {
        "cost": done.cost.sum(axis=1),
        "cost_so_far": after.cost,
        "plan_cost": done.plan.cost,
        "plan_iterations": done.iterations,
        "plan_regularisation": done.plan.regularisation,
        "plan_outcome": done.plan.outcome,
        "control_step": after.step,
        "samples_valid": done.valid.astype(np.int32),
        "status": status,
        "status_step": np.full_like(status, -1),
    }
    if task.distance is not None:
        x, params = to_device(done.x)[:, None], params_of(task.train)
        metrics["distance"] = over_rollouts(params, task.distance, x)[:, 0]
    return {name: to_device(value) for name, value in metrics.items()}


def _samples(task: Task, config: MpcConfig, parts: Parts, state: MpcState) -> SimulationRollouts:
    """What the next iteration does, [C, 1, n, ...] of its n steps."""
    _, _, done = _advanced(task, config, parts, state)
    cost = np.where(done.valid, done.cost.sum(axis=1), np.inf)
    found = parts.known.rollouts(Paths(done.state, done.x, done.u, jnp.asarray(cost)))
    if parts.observe is None:
        return found
    return found._replace(o=to_device(parts.observe(done.state))[:, None])


def _forget_results(features: jax.Array, state: MpcState) -> MpcState:
    """The state of a run that looks for the best policy anew, in conditions of these features."""
    return state._replace(
        policy=state.policy._replace(x0=features),
        iteration=jnp.zeros_like(state.iteration),
        policy_cost=jnp.full_like(state.policy_cost, jnp.inf),
    )
