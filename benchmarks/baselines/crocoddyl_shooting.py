"""A task with dynamics of its own as Crocoddyl's shooting problem, solved by its BoxFDDP.

Source: Mastalli et al. (2020), "Crocoddyl: An efficient and versatile framework for multi-contact
optimal control"; Mastalli et al. (2022), "A feasibility-driven approach to control-limited DDP".
"""

import importlib
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jgps.simulation.system import control_ranges
from jgps.tasks import Task

crocoddyl: Any = importlib.import_module("crocoddyl")


class Solution(NamedTuple):
    """What the solver came to from one state."""

    cost: float
    iterations: int
    seconds: float  # in all
    model_seconds: float  # of these in the functions of the model, which are Python's


class ShootingProblem:
    """The task's dynamics and cost, in double precision, with exact first and second derivatives.

    The cost is that of jgps to the second order, and dynamics to the first, as Crocoddyl has them.
    Its last node has no control; the last control costs least at rest, which is what jgps chooses.
    """

    def __init__(self, task: Task):
        assert task.dynamics is not None
        self._task, (lower, upper) = task, control_ranges([task.model])[:, 0]
        values, derivatives = _functions(task)
        spent = self._spent = [0.0]

        class Node(crocoddyl.ActionModelAbstract):
            def __init__(self, t: int):
                dX, dU = task.state_dim, task.action_dim
                crocoddyl.ActionModelAbstract.__init__(self, crocoddyl.StateVector(dX), dU, 1)
                self._t, self._still = t, np.zeros(dU)
                self.u_lb, self.u_ub = lower, upper

            def calc(self, data: Any, x: Any, u: Any = None) -> None:
                began = time.perf_counter()
                following, cost = values(x, self._still if u is None else u, self._t)
                data.cost = float(cost)
                data.xnext = x if u is None else np.asarray(following)
                spent[0] += time.perf_counter() - began

            def calcDiff(self, data: Any, x: Any, u: Any = None) -> None:
                began = time.perf_counter()
                A, B, g, H = map(
                    np.asarray, derivatives(x, self._still if u is None else u, self._t)
                )
                dX = len(x)
                data.Fx, data.Fu = np.array(A), np.array(B)
                data.Lx, data.Lu = np.array(g[:dX]), np.array(g[dX:])
                data.Lxx = np.array(H[:dX, :dX])
                data.Lxu, data.Luu = np.array(H[:dX, dX:]), np.array(H[dX:, dX:])
                spent[0] += time.perf_counter() - began

        nodes = [Node(t) for t in range(task.horizon)]
        self._nodes, self._last = nodes[:-1], nodes[-1]

    def solve(self, x0: np.ndarray, u: np.ndarray, iterations: int) -> Solution:
        """Searches from a state [dX] and controls [T, dU], which it is rolled out with."""
        problem = crocoddyl.ShootingProblem(x0, self._nodes, self._last)
        solver = crocoddyl.SolverBoxFDDP(problem)
        solver.th_stop = 1e-12
        controls = list(u[:-1])
        states = problem.rollout(controls)
        self._spent[0], began = 0.0, time.perf_counter()
        solver.solve(states, controls, iterations, True)
        seconds = time.perf_counter() - began
        return Solution(solver.cost, solver.iter + 1, seconds, self._spent[0])


def _functions(task: Task) -> tuple[Any, Any]:
    dynamics: Any = task.dynamics

    def values(x, u, t):
        return dynamics(x, u, t), task.cost(x, u, t)

    def derivatives(x, u, t):
        dX = x.shape[0]
        A, B = jax.jacfwd(dynamics, argnums=(0, 1))(x, u, t)

        def of(z):
            return task.cost(z[:dX], z[dX:], t)

        z = jnp.concatenate([x, u])
        return A, B, jax.grad(of)(z), jax.hessian(of)(z)

    return jax.jit(values), jax.jit(derivatives)
