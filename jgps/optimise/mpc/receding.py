"""iLQG in a receding horizon: each plan begins with what is left of the last one.

    repeat: shift the last plan by the steps that passed; roll it out from the new states under
            its feedback; one or a few iterations of iLQG, with the regularisation of before

Source: Tassa, Erez & Todorov (2012), "Synthesis and stabilization of complex behaviors through
online trajectory optimization".
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jgps.core.lifted import shared_jit
from jgps.optimise.ilqg import solve
from jgps.optimise.ilqg.solve import IlqgState, SearchConfig
from jgps.optimise.ilqg.system import Feedback, Goal, KnownSystem, Paths
from jgps.optimise.models import default_dtype
from jgps.optimise.mpc.planner import (
    Plan,
    Planner,
    along,
    check_memory,
    follow,
    later,
    no_plan,
    taken,
    waiting,
    where,
)

# Far from where a plan expected to be its feedback may do harm: less of it is tried as well.
SHARES = (1.0, 0.3, 0.0)


class RecedingMemory(NamedTuple):
    """The last plan, finite, and how firmly the next one is searched; leaves [B, ...]."""

    first: Any  # int32, its first control step
    state: Any  # [B, H, nx]
    x: Any  # [B, H, dX], what the cost reads there, NaN where it is not known; dX may be 0
    u: Any  # [B, H, dU]
    K: Any  # [B, H, dU, dS]
    regularisation: Any
    factor: Any


class _Parts(NamedTuple):
    """What plans are made with."""

    system: KnownSystem
    config: SearchConfig
    horizon: int
    once: Callable[[IlqgState, Goal], IlqgState]  # one iteration


def receding_ilqg(system: KnownSystem, config: SearchConfig, horizon: int) -> Planner:
    """The planner of a system of B states, for plans of `horizon` H >= 2 steps.

    `config.iterations` is how many iterations a plan takes; a trajectory that has converged takes
    none.
    """
    parts = solve.make_iteration(system, config)
    once = functools.partial(solve.iterate, system, parts, config)
    plan = functools.partial(_plan, _Parts(system, config, horizon, once))
    init = functools.partial(first_memory, config, (system.x_dim, system.tangent_dim))
    return Planner(init, shared_jit(plan) if system.jittable else plan, horizon)


def first_memory(
    config: SearchConfig, sizes: tuple[int, int], states: Any, u: Any, goal: Goal
) -> tuple[RecedingMemory, Plan]:
    """What there is before the first plan, from states [B, nx] and controls u [B, H, dU].

    Args:
      config: of the planner.
      sizes: dX and dS of the system.
      states, u, goal: see `Planner.init`.
    """
    x_dim, tangent_dim = sizes
    B, H, dU = u.shape
    dtype = default_dtype()
    firm = np.full(B, config.first_regularisation, dtype)
    memory = RecedingMemory(
        first=np.asarray(goal.first, np.int32),
        state=waiting(states, H),
        x=np.full((B, H, x_dim), np.nan),
        u=np.asarray(u, dtype),
        K=np.zeros((B, H, dU, tangent_dim), dtype),
        regularisation=firm,
        factor=np.ones_like(firm),
    )
    return memory, no_plan(memory.state, memory.u, tangent_dim, dtype)


def _shift(memory: RecedingMemory, goal: Goal) -> RecedingMemory:
    """What is left of the last plan; behind its end its last controls, without feedback."""
    H = memory.u.shape[1]
    steps, left = later(memory.first, goal.first, H)
    # No state follows from the last controls of a plan, so that they are those that cost least.
    last = H - 2
    passed = steps[:, :1] > 0
    held = taken(memory.u, (np if isinstance(steps, np.ndarray) else jnp).minimum(steps, last))
    return memory._replace(
        first=goal.first,
        state=taken(memory.state, steps),
        x=taken(memory.x, steps),
        u=where(passed[:, 0], held, memory.u),
        K=taken(memory.K, steps) * along(left, memory.K),
    )


def _plan(
    parts: _Parts,
    memory: RecedingMemory,
    states: Any,
    goal: Goal,
    key: jax.Array,
) -> tuple[RecedingMemory, Plan]:
    del key
    check_memory(memory, states, goal, (parts.horizon, memory.state.shape[-1]))
    kept = _shift(memory, goal)
    xp = np if isinstance(states, np.ndarray) else jnp
    sound = xp.isfinite(states).all(axis=-1)
    states = where(sound, states, kept.state[:, 0])
    paths = _expected(parts.system, memory, kept, states, goal)
    if paths is None:
        paths = _begin(parts.system, kept, states, goal)
    found = _search(parts, kept, paths, goal)
    return _finish(parts, kept, states, sound, found)


def _roll(system: KnownSystem, paths: Paths, K: Any, goal: Goal) -> Paths:
    k, size = np.zeros(paths.u.shape, K.dtype), np.zeros(1, K.dtype)
    tried = system.roll_out(Feedback(paths, k, K, size), goal)
    return jax.tree.map(lambda a: a[:, 0], tried)


def _expected(
    system: KnownSystem, memory: RecedingMemory, kept: RecedingMemory, states: Any, goal: Goal
) -> Paths | None:
    """The last plan's paths and what follows, where the states are those that it expected.

    To the last bit they are what rolling all out from there would be, which takes longer. None
    where some state is another one.
    """
    H = kept.u.shape[1]
    if system.costs is None or not np.array_equal(states, kept.state[:, 0]):
        return None
    passed = np.unique(np.asarray(goal.first) - np.asarray(memory.first))
    if len(passed) > 1 or not 0 <= passed[0] < H - 1 or not np.isfinite(memory.x).all():
        return None
    known = H - 1 - int(passed[0])  # steps before the last plan's last state
    state, x = kept.state, kept.x
    if known < H - 1:
        at, u = kept.state[:, known:], kept.u[:, known:]
        tail = _roll(system, Paths(at, at, u, None), kept.K[:, known:], goal)
        if not np.isfinite(tail.cost).all():
            return None
        state = np.concatenate([state[:, :known], tail.state], axis=1)
        x = np.concatenate([x[:, :known], tail.x], axis=1)
    return Paths(state, x, kept.u, system.costs(x, kept.u, goal))


def _followed(
    system: KnownSystem, kept: RecedingMemory, states: Any, goal: Goal, share: float
) -> Paths:
    """Where what is left of the last plan leads from the states, under a share of its feedback."""
    xp = np if isinstance(states, np.ndarray) else jnp
    kept = kept._replace(K=kept.K * np.asarray(share, kept.K.dtype))
    control = follow(system, kept, np.zeros(len(states), np.int32), states)[:, None]
    state = xp.concatenate([states[:, None], kept.state[:, 1:]], axis=1)
    u = xp.concatenate([xp.asarray(control, kept.u.dtype), kept.u[:, 1:]], axis=1)
    return _roll(system, Paths(state, state, u, None), kept.K, goal)


def _begin(system: KnownSystem, kept: RecedingMemory, states: Any, goal: Goal) -> Paths:
    """Where what is left of the last plan leads from the states; no control where it fails."""
    B, _, dU = kept.u.shape
    xp = np if isinstance(states, np.ndarray) else jnp
    found = _followed(system, kept, states, goal, SHARES[0])
    for share in SHARES[1:]:
        other = _followed(system, kept, states, goal, share)
        found = where(~(found.cost <= other.cost), other, found)

    def anew(found: Paths) -> Paths:
        state = xp.broadcast_to(states[:, None], kept.state.shape)
        lower, upper = system.limits
        rest = xp.clip(xp.zeros((B, dU), kept.u.dtype), lower, upper).astype(kept.u.dtype)
        u = xp.broadcast_to(rest[:, None], kept.u.shape)
        still = _roll(system, Paths(state, state, u, None), kept.K * 0, goal)
        return where(jnp.isfinite(found.cost), found, still)

    good = jnp.isfinite(found.cost).all()
    if system.jittable:
        return jax.lax.cond(good, lambda found: found, anew, found)
    return found if good else anew(found)


def _search(parts: _Parts, kept: RecedingMemory, paths: Paths, goal: Goal) -> IlqgState:
    system, config, _, once = parts
    begin = solve.first_search(system, jnp.asarray(kept.u, kept.K.dtype), config)
    kept_on = {name: jnp.asarray(getattr(kept, name)) for name in ("K", "regularisation", "factor")}
    state = solve.at(paths, begin._replace(**kept_on))
    if system.jittable:
        return jax.lax.fori_loop(0, config.iterations, lambda _, state: once(state, goal), state)
    for _ in range(config.iterations):
        if not np.any(np.asarray(state.search.outcome) == solve.RUNNING):
            break
        state = once(state, goal)
    return state


def _finish(
    parts: _Parts, kept: RecedingMemory, states: Any, sound: Any, found: IlqgState
) -> tuple[RecedingMemory, Plan]:
    paths, search = found
    config, known = parts.config, parts.system.costs is not None
    xp = np if isinstance(states, np.ndarray) else jnp
    search = jax.tree.map(xp.asarray, search)
    usable = xp.isfinite(search.cost) & sound
    still = xp.zeros_like(kept.u)
    state = where(usable, paths.state, xp.broadcast_to(states[:, None], kept.state.shape))
    u = where(usable, paths.u, still)
    K = where(usable, search.K, xp.zeros_like(kept.K))
    # The firmest gains were no help there: what comes next is searched anew.
    again = (search.outcome == solve.STUCK) | ~usable
    first = xp.asarray(config.first_regularisation, kept.regularisation.dtype)
    memory = RecedingMemory(
        first=xp.asarray(kept.first, xp.int32),
        state=state,
        x=where(usable, paths.x, np.full_like(kept.x, np.nan)) if known else kept.x,
        u=xp.asarray(u, kept.u.dtype),
        K=K,
        regularisation=xp.where(again, first, search.regularisation),
        factor=xp.where(again, xp.ones_like(search.factor), search.factor),
    )
    plan = Plan(
        first=memory.first,
        state=state,
        u=memory.u,
        K=K,
        Quu=search.Quu,
        cost=xp.where(usable, search.cost, xp.inf),
        outcome=xp.where(sound, search.outcome, solve.NON_FINITE).astype(xp.int32),
        iterations=search.iterations,
        regularisation=memory.regularisation,
    )
    return memory, plan
