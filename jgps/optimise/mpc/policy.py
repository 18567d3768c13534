"""Plans as a policy for a batch of states: estimates and commands in, controls out."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jgps.core import linalg
from jgps.core.lifted import shared_jit
from jgps.optimise.ilqg.system import Goal, KnownSystem
from jgps.optimise.mpc.command import CommandRange, check_command, check_range
from jgps.optimise.mpc.config import MpcConfig
from jgps.optimise.mpc.planner import Plan, Planner, follow


class Acting(NamedTuple):
    """What an `MpcPolicy` remembers from one control step to the next."""

    key: jax.Array
    memory: Any  # the planner's
    plan: Plan
    command: Any  # which the plan follows


class MpcPolicy(NamedTuple):
    """Acts on a batch of B states by plans that are made anew as they go on.

    `begin(states, u [B, H, dU], key)` is what it remembers at first; the search of the first plan
    starts from controls u.

    `act(acting, states, command, step)` returns what it remembers and controls [B, dU]. A command
    is like the params of the conditions, leaves [B, ...], or without the axis of states the same
    for all; None is the conditions' own. `step` [] or [B] is the number of the control step, from
    which the cost knows the time. Plans are made every `replan_every` steps, and whenever the
    command changes; in between acts the plan's feedback.

    A state that is not finite has no plan (`acting.plan.outcome`) and controls of zero, within the
    limits; the others don't notice. In a batch of another size the same state has the same plan up
    to rounding, which contacts make large: see `jgps.algorithms.mpc`.
    """

    begin: Callable[[Any, Any, jax.Array], Acting]
    act: Callable[..., tuple[Acting, Any]]


def make_policy(
    system: KnownSystem,
    planner: Planner,
    config: MpcConfig,
    params: Any = None,
    allowed: CommandRange | None = None,
) -> MpcPolicy:
    """The policy of a planner.

    Args:
      system: what is planned on.
      planner: a planner of that system.
      config: how often to plan.
      params: of the conditions, leaves [B, ...], as commands have to be; None for no commands.
      allowed: range of the commands; None is any that are finite.

    Raises:
      ValueError: if the range does not fit the params.
    """
    if allowed is not None:
        allowed = check_range(allowed, params)
    check = functools.partial(check_command, params=params, allowed=allowed)
    control = functools.partial(follow, system)
    control = shared_jit(control) if system.jittable else control

    def act(acting: Acting, states: Any, command: Any, step: Any) -> tuple[Acting, Any]:
        command = check(params if command is None else command)
        now = np.broadcast_to(np.asarray(step, np.int32), len(states))
        acting = replanned(planner, config, acting, states, Goal(now, command))
        age = np.asarray(now - acting.plan.first)
        return acting, control(acting.plan, age, states)

    return MpcPolicy(functools.partial(begin, planner, params), act)


def begin(
    planner: Planner, params: Any, states: Any, u: Any, key: jax.Array, step: int = 0
) -> Acting:
    """What is remembered in states [B, nx] before there is a plan; `MpcPolicy` says what of."""
    goal = Goal(np.full(len(states), step, np.int32), params)
    return Acting(key, *planner.init(states, u, goal), params)


def replanned(
    planner: Planner, config: MpcConfig, acting: Acting, states: Any, goal: Goal
) -> Acting:
    """The same with a new plan, where it is time for one or the command has changed."""
    age = np.asarray(goal.first) - np.asarray(acting.plan.first)
    new = bool(np.any(np.asarray(acting.plan.first) < 0))
    due = new or bool(np.any((age >= config.replan_every) | (age < 0)))
    if not due and same(acting.command, goal.params):
        return acting
    iterations = 0
    for _ in range(config.first_iterations if new else 1):
        key, own = jax.random.split(acting.key)
        memory, plan = planner.plan(acting.memory, states, goal, own)
        iterations = iterations + plan.iterations
        acting = Acting(key, memory, plan._replace(iterations=iterations), goal.params)
    return acting


def same(one: Any, other: Any) -> bool:
    """Whether two commands are equal."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def gaussian_covariance(plan: Plan) -> jax.Array:
    """Covariances [B, H, dU, dU] of the controllers that have the most entropy, Quu^-1.

    They are zero where the curvature is not positive definite.
    """
    inverse, _, ok = linalg.inverse_psd(jnp.asarray(plan.Quu))
    return jnp.where(ok[..., None, None], inverse, 0)
