"""A task's simulator as a known system, on native threads."""

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
from jgps.simulation import Conditions
from jgps.simulation.conditions import condition_models, initial_act
from jgps.simulation.derivatives import DerivativesConfig, Differentiator
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

    def begin(self, u: np.ndarray) -> Paths:
        """Paths that start where the conditions do, of which states and controls u count."""
        conditions = self._conditions
        stepper = Stepper(self._task.system, self._models)
        act = initial_act(self._task.model, conditions)
        with quiet_mujoco():
            x, _ = stepper.start(conditions.qpos, conditions.qvel, act)
        B, T, _ = u.shape
        states = np.repeat(stepper.states[:, None], T, axis=1)
        return Paths(states, np.repeat(x[:, None], T, axis=1), np.asarray(u), jnp.zeros(B))

    def roll_out(self, feedback: Feedback, goal: Goal) -> Paths:
        """All sizes at once, [B, S, T, ...]."""
        paths, k, K, size = jax.tree.map(np.asarray, feedback)
        if len(size) not in self._trackers:
            self._trackers[len(size)] = Tracker(self._task.system, self._models, len(size))
        tracked = self._trackers[len(size)](Followed(paths.state, paths.u, k, K, size))
        cost = self._costs(to_device(tracked.x), to_device(tracked.u), goal)
        cost = jnp.where(to_device(tracked.sound), cost, jnp.inf)
        return Paths(tracked.states, tracked.x, tracked.u, cost)

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

    def total(goal, x, u):
        times = goal.first + jnp.arange(u.shape[0], dtype=jnp.int32)
        return jnp.sum(jax.vmap(with_params(cost, goal.params))(x, u, times))

    return jax.vmap(jax.vmap(total, in_axes=(None, 0, 0)))(goal, x, u)


@linalg.full_precision
def _pulled_back(
    cost: Any, G: jax.Array, x: jax.Array, u: jax.Array, goal: Goal
) -> tuple[jax.Array, jax.Array]:
    """The cost's quadratics along trajectories [B, T, ...] by [ds; du]."""

    def along(G, x, u, goal):
        times = goal.first + jnp.arange(u.shape[0], dtype=jnp.int32)
        H, g = jax.vmap(quadratic_of(cost, goal.params))(x, u, times)

        def pull(G, H, g):
            J = jax.scipy.linalg.block_diag(G, jnp.eye(u.shape[-1], dtype=G.dtype))
            return linalg.symmetrise(J.T @ H @ J), J.T @ g

        return jax.vmap(pull)(G, H, g)

    return jax.vmap(along)(G, x, u, goal)


def known_system(
    task: Task, conditions: Conditions, config: DerivativesConfig = DerivativesConfig()
) -> tuple[KnownSystem, Paths, Goal]:
    """The task's simulator from the conditions' initial states [B].

    Returns:
      The system, paths that begin there under what holds the start (controls of zero where nothing
      is known to), and the goal that the conditions' params say.
    """
    simulator = Simulator(task, conditions, config)

    def rows(numbers: np.ndarray) -> KnownSystem:
        return _system(task, Simulator(task, conditions.select(numbers), config))

    u = np.zeros((conditions.num, task.horizon, task.action_dim), default_dtype())
    if conditions.ctrl is not None:
        u += np.asarray(conditions.ctrl)[:, None]
    lower, upper = simulator.limits[:, :, None]
    begin = simulator.begin(np.clip(u, lower, upper))
    system = _system(task, simulator)._replace(rows=rows)
    return system, begin, plain_goal(conditions.num, params_of(conditions))


def _system(task: Task, simulator: Simulator) -> KnownSystem:
    return KnownSystem(
        roll_out=simulator.roll_out,
        expand=simulator.expand,
        limits=jnp.asarray(simulator.limits),
        tangent_dim=tangent_dim(task.model),
        jittable=False,
        difference=simulator.difference,
    )
