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
from jgps.simulation.derivatives import Differentiator, tangent_dim
from jgps.simulation.native import Stepper
from jgps.simulation.system import control_ranges
from jgps.simulation.tangent import difference
from jgps.tasks import Task
from jgps.tasks.functions import params_of, with_params


class Simulator:
    """One simulation for each condition [B], and copies of them to try step sizes in."""

    def __init__(self, task: Task, conditions: Conditions):
        self._task = task
        self._models = condition_models(task.model, conditions)
        self._steppers: dict[int, Stepper] = {}
        self._differentiate = Differentiator(task.system, self._models)
        self.limits = control_ranges(self._models)  # [2, B, dU]
        self._conditions = conditions
        self._costs = shared_jit(functools.partial(_costs, task.cost))
        self._pulled_back = shared_jit(functools.partial(_pulled_back, task.cost))

    def begin(self, u: np.ndarray) -> Paths:
        """Paths that start where the conditions do, of which states and controls u count."""
        conditions = self._conditions
        stepper = self._stepper(1)
        act = initial_act(self._task.model, conditions)
        x, _ = stepper.start(conditions.qpos, conditions.qvel, act)
        B, T, _ = u.shape
        states = np.repeat(stepper.states[:, None], T, axis=1)
        return Paths(states, np.repeat(x[:, None], T, axis=1), np.asarray(u), jnp.zeros(B))

    def roll_out(self, feedback: Feedback, goal: Goal) -> Paths:
        """All sizes at once, [B, S, T, ...]."""
        paths, k, K, size = (jax.tree.map(np.asarray, each) for each in feedback)
        B, T, dU = k.shape
        S = len(size)
        stepper = self._stepper(S)
        states = np.empty((T, B * S, paths.state.shape[-1]))
        x_all = np.empty((T, B * S, self._task.state_dim))
        # What acts is in the precision of JAX, so that anyone can repeat it.
        u_all = np.empty((T, B * S, dU), default_dtype())
        limits = np.repeat(within(self.limits, u_all.dtype), S, axis=1)
        sound = np.ones(B * S, bool)
        # A trial that diverges overflows, and is left out.
        with quiet_mujoco(), np.errstate(over="ignore", invalid="ignore"):
            x, _ = stepper.resume(np.repeat(paths.state[:, 0], S, axis=0))
            for t in range(T):
                states[t] = stepper.states
                x_all[t] = x
                ds = self.difference(states[t].reshape(B, S, -1), paths.state[:, None, t])
                feed = ds @ K[:, t].swapaxes(1, 2) + size[:, None] * k[:, None, t]
                u = (paths.u[:, None, t] + feed).reshape(B * S, dU)
                sound &= np.isfinite(u).all(axis=1)
                u = np.clip(u.astype(u_all.dtype), *limits)
                u_all[t] = np.where(sound[:, None], u, 0)
                if t + 1 < T:
                    x, _ = stepper.step(u_all[t], sound)
                    sound &= stepper.sound()
        x, u = (np.moveaxis(a, 0, 1) for a in (x_all, u_all))
        states, x, u = (a.reshape(B, S, *a.shape[1:]) for a in (np.moveaxis(states, 0, 1), x, u))
        cost = self._costs(to_device(x), to_device(u), goal)
        return Paths(states, x, u, jnp.where(sound.reshape(B, S), cost, jnp.inf))

    def expand(self, paths: Paths, goal: Goal) -> Expansion:
        """Derivatives along paths [B, T, ...]."""
        found = self._differentiate(paths.state, paths.u)
        dtype = jax.dtypes.canonicalize_dtype(float)
        F, G, x, u = (jnp.asarray(a, dtype) for a in (found.F[:, :-1], found.G, paths.x, paths.u))
        H, g = self._pulled_back(G, x, u, goal)
        return Expansion(F, H, g)

    def _stepper(self, copies: int) -> Stepper:
        if copies not in self._steppers:
            repeated = [model for model in self._models for _ in range(copies)]
            self._steppers[copies] = Stepper(self._task.system, repeated)
        return self._steppers[copies]

    def difference(self, states: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """What changes states `reference` [..., nstate] to `states`, [..., dS]."""
        model = self._task.model
        q, rest = slice(1, 1 + model.nq), slice(1 + model.nq, 1 + model.nq + model.nv + model.na)
        dq = difference(model, states[..., q], reference[..., q], np)
        return np.concatenate([dq, states[..., rest] - reference[..., rest]], axis=-1)


def within(limits: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Limits [2, ...] in this precision, rounded inwards."""
    lower, upper = limits.astype(dtype)
    inward = np.nextafter(lower, np.inf, dtype=dtype), np.nextafter(upper, -np.inf, dtype=dtype)
    return np.stack(
        [
            np.where(lower < limits[0], inward[0], lower),
            np.where(upper > limits[1], inward[1], upper),
        ]
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


def simulated(task: Task, conditions: Conditions) -> tuple[KnownSystem, Paths, Goal]:
    """The task's simulator from the conditions' initial states [B].

    Returns:
      The system, paths that begin there under what holds the start (controls of zero where nothing
      is known to), and the goal that the conditions' params say.
    """
    simulator = Simulator(task, conditions)

    def rows(numbers: np.ndarray) -> KnownSystem:
        return _system(task, Simulator(task, conditions.select(numbers)))

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
