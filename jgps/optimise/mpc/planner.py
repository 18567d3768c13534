"""SLOT Planner: what is to be done from now on, from many states at once and again and again."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jgps.optimise.ilqg.system import Goal, KnownSystem


class Plan(NamedTuple):
    """What is to be done from states [B] on, for H control steps.

        u_t = clip(u_t + K_t (state - state_t)),    a difference of states in their tangent space

    Attributes:
      first: [B] int32, number of the plan's first control step; -1 before there is a plan.
      state: [B, H, nx], where the plan leads.
      u: [B, H, dU], within the limits.
      K: [B, H, dU, dS]; zeros where a planner finds no gains.
      Quu: [B, H, dU, dU], curvature of the cost to go by the controls: its inverse is the
        covariance of the controller that has the most entropy. Zeros where there are no gains.
      cost: [B], of the plan; not finite where there is none, and then controls are zero.
      outcome: [B] int32, one of `jgps.optimise.ilqg.solve.OUTCOME_TEXT`.
      iterations: [B] int32, that it took.
      regularisation: [B], with which the next one begins; zeros where a planner has none.
    """

    first: Any
    state: Any
    u: Any
    K: Any
    Quu: Any
    cost: Any
    outcome: Any
    iterations: Any
    regularisation: Any


class Planner(NamedTuple):
    """One way to plan; its functions are pure, and traced where the system can be.

    `init(states [B, nx], u [B, H, dU], goal)` is what is remembered before the first plan, which
    starts its search from controls u, and a plan that is none yet.

    `plan(memory, states, goal, key)` plans from states [B, nx] to a goal, of which `first` says
    which control step it is: the last plan goes on from there, as many steps later as have
    passed. It returns the memory and the plan. A state that is not finite has no plan, and the
    others are as if it were finite.

    `horizon` is H.
    """

    init: Callable[[Any, Any, Goal], tuple[Any, Plan]]
    plan: Callable[[Any, Any, Goal, jax.Array], tuple[Any, Plan]]
    horizon: int


def waiting(states: Any, horizon: int) -> Any:
    """Paths [B, H, nx] that stay in states [B, nx]; in zero where a state is not finite."""
    xp = jnp if isinstance(states, Tracer) else np
    known = xp.asarray(states)
    known = xp.where(xp.isfinite(known).all(axis=-1, keepdims=True), known, 0)
    return xp.repeat(known[:, None], horizon, axis=1)


def no_plan(state: Any, u: Any, tangent_dim: int, dtype: Any) -> Plan:
    """A plan that is none yet, of arrays like those of one.

    Args:
      state: [B, H, nx]; u: [B, H, dU].
      tangent_dim: dS.
      dtype: of all other numbers.
    """
    B, H, dU = u.shape
    zeros = np.zeros(B, dtype)
    return Plan(
        first=np.full(B, -1, np.int32),
        state=state,
        u=u,
        K=np.zeros((B, H, dU, tangent_dim), dtype),
        Quu=np.zeros((B, H, dU, dU), dtype),
        cost=zeros,
        outcome=np.zeros(B, np.int32),
        iterations=np.zeros(B, np.int32),
        regularisation=zeros,
    )


def check_memory(memory: Any, states: Any, goal: Goal, like: tuple[int, ...]) -> None:
    """Refuses a warm start that belongs to other states or another planner.

    Args:
      memory: of the last plan, with states [B, H, nx].
      states: [B, nx], to plan from.
      goal: of the plan.
      like: H and nx of the planner.

    Raises:
      ValueError: says which shapes don't fit.
    """
    expected = (states.shape[0], *like)
    if states.shape != (expected[0], expected[2]):
        raise ValueError(
            f"states have the shape {list(states.shape)}; they have to be a row of {like[1]} "
            "numbers for each state to plan from"
        )
    if memory.state.shape != expected:
        raise ValueError(
            f"the plan to go on from has states {list(memory.state.shape)}; here they have to be "
            f"{list(expected)}. Begin with what the planner's `init` returns"
        )
    shape = np.shape(goal.first)
    if shape != expected[:1]:
        raise ValueError(
            f"goal.first has the shape {list(shape)}; it has to have a number for each of the "
            f"{expected[0]} states"
        )


def later(first: Any, now: Any, horizon: int) -> tuple[Any, Any]:
    """Which steps [B, H] of plans that begin at `first` are those from `now` on, [B] each.

    Returns:
      The steps, the plan's last one where it has ended, and which of them it has.
    """
    xp = np if isinstance(first, np.ndarray) else jnp
    steps = xp.arange(horizon) + xp.clip(xp.asarray(now) - first, 0, horizon)[:, None]
    return xp.minimum(steps, horizon - 1), steps < horizon


def taken(values: Any, steps: Any) -> Any:
    """The steps [B, M] of values [B, H, ...]."""
    return values[np.arange(len(values))[:, None], steps]


def along(flags: Any, values: Any) -> Any:
    """Flags with as many axes as values."""
    return flags.reshape(*flags.shape, *[1] * (values.ndim - flags.ndim))


def where(flags: Any, yes: Any, no: Any) -> Any:
    """Rows of `yes` where flags [B] hold, of `no` elsewhere; on the host what is there."""

    def pick(a: Any, b: Any) -> Any:
        if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):  # of more digits than JAX has
            return np.where(along(np.asarray(flags), a), a, b)
        return jnp.where(along(jnp.asarray(flags), a), a, b)

    return jax.tree.map(pick, yes, no)


def follow(system: KnownSystem, plan: Any, step: Any, states: Any) -> Any:
    """Controls [B, dU] of plans at their step [B], in states [B, nx].

    Where a state is not finite they are those of the plan alone.
    """
    rows = np.arange(len(states))
    xp = np if isinstance(states, np.ndarray) else jnp
    ds = system.difference(states, plan.state[rows, step])
    feed = (plan.K[rows, step] @ xp.asarray(ds)[..., None])[..., 0]
    feed = xp.where(xp.isfinite(feed).all(axis=-1, keepdims=True), feed, 0)
    lower, upper = system.limits
    return xp.clip(plan.u[rows, step] + feed, lower, upper)


def with_term(cost: Callable[..., jax.Array], term: Callable[..., jax.Array]) -> Any:
    """A cost with one more term, such as what it costs to differ from a learner.

    Its params are a pair: those of the cost, None where it takes none, and those of the term, which
    may change from plan to plan.

    Args:
      cost: `cost(x, u, t)`, or with params as a last argument.
      term: `term(x, u, t, params)`. Where the cost has a function `residual`, the term has to have
        one as well, so that the curvature of both is of the same form.

    Raises:
      ValueError: if only one of the two has residuals.
    """
    parts: list[Any] = [getattr(each, "residual", None) for each in (cost, term)]
    if (parts[0] is None) != (parts[1] is None):
        which = "the cost" if parts[1] is None else "the term"
        raise ValueError(
            f"{which} has residuals and the other has none; write both as 1/2 r'r with a function "
            "`residual`, or neither"
        )
    if parts[0] is None:
        return lambda x, u, t, params: sum(_each((cost, term), x, u, t, params))
    return _Residuals(*parts)


def until_end(cost: Callable[..., jax.Array], last: int) -> Any:
    """A cost for which time stands still from step `last` on, as plans look beyond an end."""

    def stop(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
        return lambda x, u, t, *params: function(x, u, jnp.minimum(t, last), *params)

    stopped: Any = stop(cost)
    residual = getattr(cost, "residual", None)
    if residual is not None:
        stopped.residual = stop(residual)
    return stopped


def _each(functions: Any, x: Any, u: Any, t: Any, params: Any) -> list[Any]:
    own, extra = params
    first = functions[0](x, u, t) if own is None else functions[0](x, u, t, own)
    return [first, functions[1](x, u, t, extra)]


class _Residuals:
    """1/2 r'r of the residuals of two costs in a row."""

    def __init__(self, *parts: Callable[..., jax.Array]):
        self._parts = parts

    def residual(self, x: Any, u: Any, t: Any, params: Any) -> jax.Array:
        return jnp.concatenate(_each(self._parts, x, u, t, params))

    def __call__(self, x: Any, u: Any, t: Any, params: Any) -> jax.Array:
        return 0.5 * jnp.sum(jnp.square(self.residual(x, u, t, params)))
