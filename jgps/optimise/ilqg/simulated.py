"""A task's simulator as a known system, on native threads or in MJX."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jgps.core import linalg
from jgps.core.host import to_device
from jgps.core.lifted import shared_jit
from jgps.mujoco_log import quiet_mujoco
from jgps.optimise.ilqg.system import Expansion, Feedback, Goal, KnownSystem, Paths, quadratic_of
from jgps.optimise.ilqg.system import goal as plain_goal
from jgps.optimise.models import default_dtype
from jgps.simulation import Conditions, Inputs
from jgps.simulation.conditions import condition_models, initial_act
from jgps.simulation.derivatives import (
    DerivativesConfig,
    Differentiator,
    MjxDerivativesConfig,
)
from jgps.simulation.native import Stepper
from jgps.simulation.state_jacobian import tangent_dim
from jgps.simulation.system import control_ranges
from jgps.simulation.tangent import change_of_state
from jgps.simulation.tracking import Followed, Tracker
from jgps.tasks import Task
from jgps.tasks.functions import params_of, with_params


class Simulator:
    """One simulation for each condition [B], and copies of them to try step sizes in."""

    def __init__(self, task: Task, conditions: Conditions, config: DerivativesConfig):
        """Prepares threads, which stay.

        Raises:
          ValueError: if the model's derivatives can't be taken.
        """
        _refuse_delays(task)
        self._task, self._conditions = task, conditions
        self._models = condition_models(task.model, conditions)
        self._trackers: dict[int, Tracker] = {}
        self._differentiate = Differentiator(task.system, self._models, config)
        self.limits = control_ranges(self._models)  # [2, B, dU]
        self._costs = shared_jit(functools.partial(_costs, task.cost))
        self._pulled_back = shared_jit(functools.partial(_pulled_back, task.cost))

    def initial(self) -> np.ndarray:
        """The states [B, nstate] in which the conditions begin."""
        conditions, stepper = self._conditions, Stepper(self._task.system, self._models)
        act = initial_act(self._task.model, conditions)
        with quiet_mujoco():
            stepper.start(conditions.qpos, conditions.qvel, act)
        states = stepper.states
        if conditions.inputs:  # of the first step, which hold on
            Inputs(self._task.model, conditions.inputs).write(states, 0)
        return states

    def roll_out(self, feedback: Feedback, goal: Goal) -> Paths:
        """All sizes at once, [B, S, T, ...]."""
        paths, k, K, size = jax.tree.map(np.asarray, feedback)
        if len(size) not in self._trackers:
            self._trackers[len(size)] = Tracker(self._task.system, self._models, len(size))
        tracked = self._trackers[len(size)](Followed(paths.state, paths.u, k, K, size))
        cost = self._costs(to_device(tracked.x), to_device(tracked.u), goal)
        cost = jnp.where(to_device(tracked.sound), cost, jnp.inf)
        return Paths(tracked.states, tracked.x, tracked.u, cost)

    def costs(self, x: np.ndarray, u: np.ndarray, goal: Goal) -> jax.Array:
        """Of trajectories [B, T, ...]."""
        return self._costs(to_device(x[:, None]), to_device(u[:, None]), goal)[:, 0]

    def expand(self, paths: Paths, goal: Goal) -> Expansion:
        """Derivatives along paths [B, T, ...]."""
        found = self._differentiate(paths.state, paths.u)
        F, G, x, u = map(to_device, (found.F, found.G, paths.x, paths.u))
        H, g = self._pulled_back(G, x, u, goal)
        return Expansion(F, H, g)

    def difference(self, states: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """What changes states `reference` [..., nstate] to `states`, [..., dS]."""
        return change_of_state(self._task.model, states, reference)


def _refuse_delays(task: Task) -> None:
    """Refuses actuators with a delay.

    Raises:
      ValueError: naming the first one.
    """
    delayed = np.flatnonzero(task.model.actuator_delay > 0)
    if len(delayed):
        raise ValueError(
            f"actuator {task.model.actuator(int(delayed[0])).name!r} has a delay: what it "
            "remembers is not among positions, velocities and activations, of which known dynamics "
            "are made; take the delay out, or use an algorithm that learns models from rollouts"
        )


def _costs(cost: Any, x: jax.Array, u: jax.Array, goal: Goal) -> jax.Array:
    """Of trajectories [B, S, T, ...]."""
    of = functools.partial(_total, cost)
    return jax.vmap(jax.vmap(of, in_axes=(None, 0, 0)))(goal, x, u)


def _total(cost: Any, goal: Goal, x: jax.Array, u: jax.Array) -> jax.Array:
    """Of one trajectory x [T, dX], u [T, dU]."""
    times = goal.first + jnp.arange(u.shape[0], dtype=jnp.int32)
    return jnp.sum(jax.vmap(with_params(cost, goal.params))(x, u, times))


@linalg.full_precision
def _pulled_back(
    cost: Any, G: jax.Array, x: jax.Array, u: jax.Array, goal: Goal
) -> tuple[jax.Array, jax.Array]:
    """The cost's quadratics along trajectories [B, T, ...] by [ds; du]."""

    def along(G, x, u, goal):
        times = goal.first + jnp.arange(u.shape[0], dtype=jnp.int32)
        H, g = jax.vmap(quadratic_of(cost, goal.params))(x, u, times)

        def pull(G, H, g):
            dX = G.shape[0]
            rows = [G.T @ H[:dX], H[dX:]]
            half = jnp.concatenate(rows)
            whole = jnp.concatenate([half[:, :dX] @ G, half[:, dX:]], axis=1)
            return linalg.symmetrise(whole), jnp.concatenate([G.T @ g[:dX], g[dX:]])

        return jax.vmap(pull)(G, H, g)

    return jax.vmap(along)(G, x, u, goal)


def _native_system(
    task: Task, conditions: Conditions, config: DerivativesConfig
) -> tuple[KnownSystem, np.ndarray]:
    """On threads, and the states [B, nstate] in which the conditions begin."""
    simulator = Simulator(task, conditions, config)
    system = KnownSystem(
        roll_out=simulator.roll_out,
        expand=simulator.expand,
        limits=jnp.asarray(simulator.limits),
        tangent_dim=tangent_dim(task.model),
        jittable=False,
        rows=lambda numbers: _native_system(task, conditions.select(numbers), config)[0],
        difference=simulator.difference,
        costs=simulator.costs,
        x_dim=task.state_dim,
    )
    return system, simulator.initial()


def _mjx_system(
    task: Task, conditions: Conditions, config: MjxDerivativesConfig
) -> tuple[KnownSystem, np.ndarray]:
    """In MJX, and the states [B, nstate] in which the conditions begin."""
    _refuse_delays(task)
    # MJX takes a second to import, and says on the terminal what it could not find.
    from jgps.simulation.mjx_derivatives import MjxDynamics

    dynamics = MjxDynamics(task.system, conditions, config)
    simulations = dynamics.simulations

    def roll_out_one(simulation, path: Paths, k, K, size, goal: Goal) -> Paths:
        def advance(state, at):
            reference, u, k, K = at
            feed = size * k + K @ dynamics.tangent(state, reference)
            u = jnp.clip(u + feed, *simulation.limits)
            after, x = dynamics.step(simulation, state, u)
            return after, (state, x, u)

        steps = (path.state, path.u, k, K)
        _, (states, x, u) = jax.lax.scan(advance, path.state[0], steps)
        return Paths(states, x, u, _total(task.cost, goal, x, u))

    def roll_out(feedback: Feedback, goal: Goal) -> Paths:
        over_sizes = jax.vmap(roll_out_one, in_axes=(None, None, None, None, 0, None))
        over_all = jax.vmap(over_sizes, in_axes=(dynamics.axes, 0, 0, 0, None, 0))
        return over_all(simulations, *feedback, goal)

    def expand(paths: Paths, goal: Goal) -> Expansion:
        F, G = dynamics.derivatives(simulations, paths.state, paths.u)
        return Expansion(F, *_pulled_back(task.cost, G, paths.x, paths.u, goal))

    system = KnownSystem(
        roll_out=roll_out,
        expand=expand,
        limits=simulations.limits,
        tangent_dim=dynamics.tangent_dim,
        jittable=True,
        rows=lambda numbers: _mjx_system(task, conditions.select(numbers), config)[0],
        difference=dynamics.tangent,
    )
    return system, np.asarray(dynamics.initial)


def known_system(
    task: Task,
    conditions: Conditions,
    config: DerivativesConfig | MjxDerivativesConfig = DerivativesConfig(),
) -> tuple[KnownSystem, Paths, Goal]:
    """The task's simulator from the conditions' initial states [B].

    Args:
      task: whose simulator it is.
      conditions: where trajectories start, and what is special about the model there.
      config: how to differentiate; its type says where: `DerivativesConfig` on native threads,
        `MjxDerivativesConfig` in MJX, whose system is jittable.

    Returns:
      The system; paths of which the first states and the controls count, which are those that hold
      the start (zero where nothing is known to); and the goal that the conditions' params say.

    Raises:
      ValueError: if the model or the state has no derivatives there.
    """
    if isinstance(config, MjxDerivativesConfig):
        system, initial = _mjx_system(task, conditions, config)
    else:
        system, initial = _native_system(task, conditions, config)
    u = np.zeros((conditions.num, task.horizon, task.action_dim), default_dtype())
    if conditions.ctrl is not None:
        u += np.asarray(conditions.ctrl)[:, None]
    lower, upper = np.asarray(system.limits)[:, :, None]
    states = np.repeat(initial[:, None], task.horizon, axis=1)
    x = np.zeros((conditions.num, task.horizon, task.state_dim), default_dtype())
    begin = Paths(states, x, np.clip(u, lower, upper).astype(u.dtype), jnp.zeros(conditions.num))
    if system.jittable:
        begin = jax.tree.map(to_device, begin)
    return system, begin, plain_goal(conditions.num, params_of(conditions))
