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

from baselines.straight_line import straight_line
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
    The functions are straight-line Python code, which is a tenth of the time of calls of JAX.
    """

    def __init__(self, task: Task):
        assert task.dynamics is not None
        lower, upper = control_ranges([task.model])[:, 0]
        dX, dU = task.state_dim, task.action_dim
        values, derivatives = (
            straight_line(function, (dX, dU), range(task.horizon)) for function in functions(task)
        )
        spent = self._spent = [0.0]
        clock = time.perf_counter

        class Node(crocoddyl.ActionModelAbstract):
            def __init__(self, t: int):
                crocoddyl.ActionModelAbstract.__init__(self, crocoddyl.StateVector(dX), dU, 1)
                self._values, self._derivatives = values[t], derivatives[t]
                self.u_lb, self.u_ub = lower, upper

            def calc(self, data: Any, x: Any, u: Any = None) -> None:
                began = clock()
                *following, cost = self._values(x.tolist(), still if u is None else u.tolist())
                data.cost = cost
                data.xnext = x if u is None else np.array(following)
                spent[0] += clock() - began

            def calcDiff(self, data: Any, x: Any, u: Any = None) -> None:
                began = clock()
                found = self._derivatives(x.tolist(), still if u is None else u.tolist())
                *F, g, H = np.split(np.array(found), cuts)
                data.Fx, data.Fu = F[0].reshape(dX, dX), F[1].reshape(dX, dU)
                data.Lx, data.Lu = g[:dX], g[dX:]
                H = H.reshape(dX + dU, dX + dU)
                data.Lxx, data.Lxu, data.Luu = H[:dX, :dX], H[:dX, dX:], H[dX:, dX:]
                spent[0] += clock() - began

        still, cuts = [0.0] * dU, np.cumsum([dX * dX, dX * dU, dX + dU])
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


def functions(task: Task) -> tuple[Any, Any]:
    """Next state and cost at x, u, t; A, B, and the cost's gradient and Hessian by [x; u]."""
    dynamics: Any = task.dynamics

    def values(x, u, t):
        return dynamics(x, u, t), task.cost(x, u, t)

    def derivatives(x, u, t):
        dX = x.shape[0]
        A, B = jax.jacfwd(dynamics, argnums=(0, 1))(x, u, t)

        def of(z):
            return task.cost(z[:dX], z[dX:], t)

        z = jnp.concatenate([x, u])
        return A, B, jax.jacfwd(of)(z), jax.jacfwd(jax.jacfwd(of))(z)

    return values, derivatives
