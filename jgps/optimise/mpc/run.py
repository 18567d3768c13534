"""A closed loop: plans from the states as they are, and what follows of them, step after step.

It takes memory for what it remembers and for the steps of one call, however long it runs.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jgps.core.lifted import shared_jit
from jgps.optimise.ilqg.system import Feedback, Goal, KnownSystem, Paths
from jgps.optimise.mpc.command import CommandRange, check_command, check_range
from jgps.optimise.mpc.config import MpcConfig
from jgps.optimise.mpc.planner import Plan, Planner, follow, where
from jgps.optimise.mpc.policy import Acting, replanned, same
from jgps.optimise.mpc.policy import begin as begin_acting
from jgps.tasks.functions import with_params


class RunState(NamedTuple):
    """Where a run is; leaves [B, ...] but for the key."""

    acting: Acting
    states: Any  # [B, nx]
    step: Any  # [] int32, control steps done
    cost: Any  # [B], of all steps so far
    lost: Any  # [B] int32, how often a simulation diverged and was put back where it started


class Executed(NamedTuple):
    """What was done in n steps; leaves [B, ...]."""

    state: Any  # [B, n, nx]
    x: Any  # [B, n, dX]
    u: Any  # [B, n, dU]
    K: Any  # [B, n, dU, dS], feedback about these states
    cost: Any  # [B, n]
    valid: Any  # [B], false where the simulation diverged or no plan was found
    plan: Plan  # the last one
    iterations: Any  # [B], of all plans in these steps


Command = Any  # a pytree like the params, or a function of the control step that returns one


class Run(NamedTuple):
    """A closed loop of B states.

    `begin(states, key, u)` is its state before the first step; states None for those in which the
    conditions begin, u None for the controls from which the first search starts there.
    `advance(state, steps, command)` does so many control steps and returns the state and what was
    done. The command is one for all of them, or a function of the number of the control step; None
    is what the conditions' own params say. A new plan is made when it changes.

    A state whose simulation diverges, or that is not finite, is put back where it started and says
    so; the others don't notice.
    """

    begin: Callable[..., RunState]
    advance: Callable[..., tuple[RunState, Executed]]


class Start(NamedTuple):
    """What a run begins with."""

    states: Any  # [B, nx]
    u: Any  # [B, H, dU]
    params: Any = None  # of the conditions, leaves [B, ...]


def make_run(
    system: KnownSystem,
    planner: Planner,
    config: MpcConfig,
    cost: Callable[..., jax.Array],
    start: Start,
    allowed: CommandRange | None = None,
    plant: KnownSystem | None = None,
) -> Run:
    """The closed loop of a planner.

    Args:
      system: what plans are made on.
      planner: of that system.
      config: how often to plan.
      cost: `cost(x, u, t)`, or with params as a last argument: what is counted.
      start: where it starts, and the controls from which the first search starts.
      allowed: range of the commands; None is any that are finite.
      plant: what happens really; None is what is planned on.

    Raises:
      ValueError: if the range does not fit the params.
    """
    if allowed is not None:
        allowed = check_range(allowed, start.params)
    check = functools.partial(check_command, params=start.params, allowed=allowed)
    plan = functools.partial(replanned, planner, config)
    execute = _make_execute(system if plant is None else plant, cost)

    def begin(states: Any = None, key: jax.Array | None = None, u: Any = None) -> RunState:
        B = len(start.states)
        key = jax.random.key(0) if key is None else key
        states = start.states if states is None else np.asarray(states)
        known = where(np.isfinite(states).all(axis=-1), states, np.asarray(start.states))
        return RunState(
            acting=begin_acting(planner, start.params, known, start.u if u is None else u, key),
            states=states,
            step=np.zeros((), np.int32),
            cost=np.zeros(B),
            lost=np.zeros(B, np.int32),
        )

    def advance(state: RunState, steps: int, command: Command = None) -> tuple[RunState, Executed]:
        at = _commands(start.params if command is None else command, check)
        done, iterations = 0, 0
        pieces, valid = [], np.ones(len(state.states), bool)
        while done < steps:
            now, asked = int(state.step), at(int(state.step))
            goal = Goal(np.full(len(state.states), now, np.int32), asked)
            acting = plan(state.acting, state.states, goal)
            if acting is not state.acting:
                iterations = iterations + np.asarray(acting.plan.iterations)
            age = now - int(acting.plan.first[0])
            n = _until(at, asked, now, min(config.replan_every - age, steps - done))
            piece, after, good = execute(acting.plan, age, n, state.states, goal)
            good &= np.isfinite(np.asarray(acting.plan.cost))
            state = _after(planner, start, state._replace(acting=acting), n, (piece, after, good))
            pieces.append(piece)
            valid &= good
            done += n
        joined = jax.tree.map(lambda *a: np.concatenate(a, axis=1), *pieces)
        return state, Executed(*joined, valid=valid, plan=state.acting.plan, iterations=iterations)

    return Run(begin, advance)


def _commands(command: Command, check: Callable[[Any], Any]) -> Callable[[int], Any]:
    """The command of every step, checked."""
    if callable(command):
        return lambda step: check(command(step))
    fixed = check(command)
    return lambda step: fixed


def _until(at: Callable[[int], Any], asked: Any, now: int, most: int) -> int:
    """How many steps, at least one and at most `most`, pass until the command changes."""
    changed = (n for n in range(1, most) if not same(asked, at(now + n)))
    return next(changed, most)


class _Piece(NamedTuple):
    state: Any
    x: Any
    u: Any
    K: Any
    cost: Any


def _make_execute(plant: KnownSystem, cost: Callable[..., jax.Array]) -> Callable[..., Any]:
    """`execute(plan, age, n, states, goal)`: n steps of a plan that is `age` steps old.

    It returns the `_Piece`, the states after it, and which of them are sound.
    """
    costs = shared_jit(functools.partial(_step_costs, cost))
    control: Any = functools.partial(follow, plant)
    roll = plant.roll_out
    if plant.jittable:
        control, roll = shared_jit(control), shared_jit(roll)

    def execute(plan: Plan, age: int, n: int, states: Any, goal: Goal) -> Any:
        # The state after the last step is one more, of which the controls don't count.
        steps = np.minimum(np.arange(age, age + n + 1), plan.u.shape[1] - 1)
        at, u, K = (np.asarray(a)[:, steps] for a in (plan.state, plan.u, plan.K))
        finite = np.isfinite(states).all(axis=-1)
        begin = np.where(finite[:, None], states, at[:, 0])
        first = control(plan, np.full(len(states), age), begin)
        u = np.concatenate([np.asarray(first, u.dtype)[:, None], u[:, 1:]], axis=1)
        at = np.concatenate([begin[:, None], at[:, 1:]], axis=1)
        none = np.zeros(1, K.dtype)
        found = roll(Feedback(Paths(at, at, u, None), np.zeros_like(u), K, none), goal)
        found = jax.tree.map(lambda a: np.asarray(a)[:, 0], found)
        good = finite & np.isfinite(found.cost)
        x, u = found.x[:, :n], found.u[:, :n]
        piece = _Piece(found.state[:, :n], x, u, K[:, :n], np.asarray(costs(x, u, goal)))
        return piece, found.state[:, n], good

    return execute


def _step_costs(cost: Callable[..., jax.Array], x: jax.Array, u: jax.Array, goal: Goal) -> Any:
    """What every step of trajectories [B, n, ...] costs, [B, n]."""

    def along(x, u, goal):
        times = goal.first + jnp.arange(u.shape[0], dtype=jnp.int32)
        return jax.vmap(with_params(cost, goal.params))(x, u, times)

    return jax.vmap(along)(jnp.asarray(x), jnp.asarray(u), goal)


def _after(planner: Planner, start: Start, state: RunState, n: int, done: Any) -> RunState:
    """The state of the run n steps later; what diverged begins again."""
    piece, after, good = done
    step = np.asarray(state.step + n, np.int32)
    acting = state.acting
    if not good.all():
        after = np.where(good[:, None], after, start.states)
        now = Goal(np.full(len(good), step, np.int32), None)
        anew, _ = planner.init(start.states, start.u, now)
        acting = acting._replace(memory=where(good, acting.memory, anew))
    cost = state.cost + np.where(good, piece.cost.sum(axis=1, dtype=np.float64), 0)
    return RunState(acting, after, step, cost, state.lost + ~good)
