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
from typing import Annotated

from jgps.core.checks import Config, Range
from jgps.core.lifted import shared_jit
from jgps.optimise.algorithm import Algorithm, Metrics
from jgps.optimise.factory import factory
from jgps.optimise.ilqg import solve
from jgps.optimise.ilqg.run import IlqgRun, conclude_run, first_run, forget_results
from jgps.optimise.ilqg.solve import SearchConfig
from jgps.optimise.ilqg.task_system import seen, task_system
from jgps.optimise.inspection import make_inspect
from jgps.simulation import SimulationRollouts
from jgps.simulation.derivatives import DerivativesConfig, MjxDerivativesConfig
from jgps.tasks import Task


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
    initial_noise: Annotated[float, Range("[0, 1]", "usually 0.01")] = 0.01
    temperature: Annotated[float, Range("> 0", "usually 1e-4 to 1")] = 1e-3


@factory
def ilqg(task: Task, config: IlqgConfig = IlqgConfig(), backend: str = "auto") -> Algorithm:
    """The algorithm on a task; see the file's head for what it does.

    Raises:
      ValueError: for an unknown backend, and for a task whose state does not tell where the
        simulation is.
    """
    derivatives, second = config.derivatives, config.second_order
    known = task_system(task, task.train, backend, derivatives=derivatives, second_order=second)
    system, begin, goal = known.system, known.begin, known.goal
    parts = solve.make_iteration(system, config.search)
    conclude = shared_jit(functools.partial(conclude_run, task, known, config.temperature))

    def step(run: IlqgRun) -> tuple[IlqgRun, Metrics]:
        before = solve.replay(system, begin._replace(u=run.u), goal)
        state = solve.at(before, run.search)
        after = solve.iterate(system, parts, config.search, state, goal)
        return conclude(run, before.cost, after.search, seen(after.paths))

    first = first_run(
        task, system, begin, (config.search, config.temperature, config.initial_noise)
    )
    inspect = make_inspect(task, backend)

    def samples(run: IlqgRun) -> SimulationRollouts:
        return known.rollouts(solve.replay(system, begin._replace(u=run.u), goal))

    return Algorithm(
        init=shared_jit(first),
        step=shared_jit(step) if system.jittable else step,
        inspect=lambda run: inspect(run.key, run.policy.controllers),
        samples=samples,
        forget_results=forget_results,
        rollouts_per_step=task.train.num * (1 + config.search.step_sizes),
    )
