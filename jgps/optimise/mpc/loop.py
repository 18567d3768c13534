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

from jgps.controllers import linear_gaussian
from jgps.controllers.nearest import NearestController
from jgps.core.doubles import packed, unpacked
from jgps.core.host import to_device
from jgps.core.lifted import shared_jit
from jgps.core.types import NON_FINITE, OK, Controller
from jgps.mujoco_log import quiet_mujoco
from jgps.optimise.algorithm import Algorithm, Inspection, Metrics, inspection_key
from jgps.optimise.ilqg.simulated import simulated
from jgps.optimise.ilqg.solve import SolveConfig
from jgps.optimise.models import FittedModelsConfig, default_dtype, fitted_models, predict
from jgps.optimise.mpc.config import EPISODE, MpcConfig
from jgps.optimise.mpc.planner import until_end, where
from jgps.optimise.mpc.policy import controllers_on_state
from jgps.optimise.mpc.receding import receding_ilqg
from jgps.optimise.mpc.run import Executed, Run, RunState, Start, make_run
from jgps.optimise.mpc.sampling import sampling_planner
from jgps.optimise.rollouts.sampling import FixedStartsConfig, make_sample, rollouts_each
from jgps.simulation import SimulationRollouts, resolve_backend
from jgps.simulation.conditions import condition_models
from jgps.simulation.derivatives import Differentiator
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
    policy_cost: jax.Array  # [C], infinite until there is one


class Parts(NamedTuple):
    """What the loop is made of."""

    run: Run
    start: Start
    controllers_of: Callable[[Executed], Controller]  # of what was done, leaves [C, n, ...]
    first: Controller  # what acts where nothing was done yet
    observe: Callable[[Any], Any]  # observations [C, n, dO] at states [C, n, nx]


def make_mpc(task: Task, config: MpcConfig, backend: str) -> Algorithm:
    """The loop on native threads.

    Raises:
      ValueError: for another backend, and where controllers on the task's state can't do what gains
        on the simulator's state do.
    """
    if backend not in ("auto", "native"):
        resolve_backend(backend)
        raise ValueError(f"backend is {backend!r}; mpc plans on native threads: pass 'native'")
    parts = _make_parts(task, config)
    features = condition_features(task, task.train)
    return Algorithm(
        init=functools.partial(_init, task, parts, features),
        step=functools.partial(_step, task, config, parts),
        inspect=functools.partial(_inspect, task),
        samples=functools.partial(_samples, task, config, parts),
        forget_results=functools.partial(_forget_results, features),
        rollouts_per_step=task.train.num,
    )


def make_planner(system: Any, config: MpcConfig, num: int) -> Any:
    """The planner that the settings say, of a system of `num` states."""
    if isinstance(config.planner, SolveConfig):
        return receding_ilqg(system, config.planner, config.horizon)
    return sampling_planner(system, config.planner, config.horizon, num)


def make_task_run(task: Task, config: MpcConfig, **settings: Any) -> tuple[Run, Start]:
    """A closed loop of the task's training conditions, and its start.

    Args:
      task: the task; from its last step on time stands still for its cost.
      config: horizon, planner, and how often to plan.
      settings: see `make_run`.
    """
    cost = until_end(task.cost, task.horizon - 1)
    system, begin, goal = simulated(dataclasses.replace(task, cost=cost), task.train)
    planner = make_planner(system, config, task.train.num)
    u = np.repeat(begin.u[:, :1], config.horizon, axis=1)
    start = Start(begin.state[:, 0], u, goal.params)
    return make_run(system, planner, config, cost, start, **settings), start


def _make_parts(task: Task, config: MpcConfig) -> Parts:
    run, start = make_task_run(task, config)
    models = condition_models(task.model, task.train)
    differentiate = None
    if isinstance(config.planner, SolveConfig):  # samples have no gains
        differentiate = Differentiator(task.system, models)
        _check_state(task, differentiate, start)
    lower, upper = control_ranges(models)
    half = np.where(np.isfinite(upper - lower), 0.5 * (upper - lower), 1)
    variance = np.square(config.noise * half)[:, None, :, None] * np.eye(task.action_dim)

    def controllers_of(done: Executed) -> Controller:
        K, k = np.zeros((*done.u.shape, task.state_dim)), done.u
        if differentiate is not None:
            G = differentiate(done.state, np.asarray(done.u, np.float64)).G
            K, k = controllers_on_state(done.x, done.u, done.K, G)
        C = np.broadcast_to(variance, (*done.u.shape, task.action_dim))
        return Controller(*(np.asarray(a, default_dtype()) for a in (K, k, C)))

    first = initial_controllers(task, initial_states(task, task.train))
    observe = functools.partial(_observe, task, models)
    return Parts(run, start, controllers_of, jax.device_get(first), observe)


@quiet_mujoco()
def _observe(task: Task, models: list[mujoco.MjModel], states: np.ndarray) -> np.ndarray:
    """The observation [C, n, dO] at states [C, n, nx]."""
    kind = mujoco.mjtState.mjSTATE_INTEGRATION
    rows = []
    for model, own in zip(models, states, strict=True):
        data = mujoco.MjData(model)
        for state in own:
            mujoco.mj_setState(model, data, state, kind)
            mujoco.mj_forward(model, data)
            seen = task.system.layouts.observe(data.qpos, data.qvel, data.act, data.sensordata)
            rows.append(seen[1])
    return np.reshape(rows, (*states.shape[:2], -1))


def _check_state(task: Task, differentiate: Differentiator, start: Start) -> None:
    """Refuses a task whose x does not tell all that the simulator goes on from.

    Raises:
      ValueError: says how much is missing.
    """
    G = differentiate(start.states[:, None], np.asarray(start.u[:, :1], np.float64)).G[:, 0]
    size, rank = G.shape[-1], int(np.linalg.matrix_rank(G).min())
    if rank < size:
        raise ValueError(
            f"the state x of task {task.name!r} tells {rank} of the {size} numbers from which its "
            "simulation goes on, and the controllers that mpc returns read x alone; put qpos, qvel "
            "and act in its state, or plan with samples, which give no feedback"
        )


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
    for whole, piece in zip(controllers, parts.controllers_of(done), strict=True):
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
    x, u = to_device(done.x)[:, None], to_device(done.u)[:, None]
    o = x if task.observation is None else to_device(parts.observe(done.state))[:, None]
    qpos = done.state[:, None, :, 1 : 1 + task.model.nq]
    return SimulationRollouts(x=x, u=u, valid=to_device(done.valid)[:, None], qpos=qpos, o=o)


def _inspect(task: Task, state: MpcState) -> Inspection:
    """Rollouts of the policy with its noise, and a Gaussian model of them."""
    controllers = jax.tree.map(jnp.asarray, state.policy.controllers)
    sample_key, models_key = jax.random.split(inspection_key(state.key))
    starts = FixedStartsConfig()
    roll_out = make_sample(task, NearestController.act, "native", starts)
    factored, _ = shared_jit(jax.vmap(linear_gaussian.factor))(controllers)
    sampled = roll_out(factored, sample_key)
    models = fitted_models(
        task, FittedModelsConfig(), (task.train.num, rollouts_each(task, starts))
    )
    _, fitted, _ = shared_jit(models.fit)(models.init(models_key), sampled.rollouts, None)
    assert fitted is not None
    return Inspection(sampled, predict(controllers, fitted), controllers)


def _forget_results(features: jax.Array, state: MpcState) -> MpcState:
    """The state of a run that looks for the best policy anew, in conditions of these features."""
    return state._replace(
        policy=state.policy._replace(x0=features),
        iteration=jnp.zeros_like(state.iteration),
        policy_cost=jnp.full_like(state.policy_cost, jnp.inf),
    )
