"""iLQG from many initial states at once, with limits of the controls.

    repeat: derivatives along every trajectory; gains by the boxed backward pass; all step sizes of
            the line search at once; keep the best that does what was promised, or firm up

Source: Tassa, Erez & Todorov (2012), "Synthesis and stabilization of complex behaviors through
online trajectory optimization"; Tassa, Mansard & Todorov (2014), "Control-limited differential
dynamic programming".
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jgps.core.checks import Config, OneOf, Range
from jgps.core.lifted import shared_jit
from jgps.core.lqr import boxed
from jgps.core.types import OK
from jgps.optimise.ilqg.lanes import Lanes, search_in_lanes
from jgps.optimise.ilqg.plan import NEGATIVE_CURVATURE, along, make_plan
from jgps.optimise.ilqg.system import Feedback, Goal, KnownSystem, Paths
from jgps.optimise.ilqg.system import goal as plain_goal

RUNNING = 0
CONVERGED = 1  # no control that is free to move has a slope, or the promised decrease is rounding
STUCK = 2  # no step size lowers the cost with the firmest gains
NON_FINITE = 3  # the cost or a derivative is not finite where the trajectory is
OUTCOME_TEXT = {
    RUNNING: "not converged",
    CONVERGED: "converged",
    STUCK: "no step lowers the cost",
    NON_FINITE: "the cost or a derivative is not finite",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchConfig(Config):
    """How iLQG searches.

    Attributes:
      iterations: most iterations of one call.
      tolerance: a trajectory has converged where the promised decrease of its cost is at most this
        share of the cost.
      step_sizes: how many step sizes are tried at once, from 1 down to `smallest_step`.
      smallest_step: the last of them.
      accept: least share of the promised decrease that a step has to bring.
      first_regularisation: what is added to the curvature at first; 0 for none.
      min_regularisation, max_regularisation: below the first it is zero; beyond the second the
        search ends.
      regularisation_factor: by which it changes; the factor itself grows while it has to.
      negative_curvature: what is done where second derivatives leave the cost no minimum along the
        way: "drop" leaves them out of that iteration, "firm" raises the regularisation until it has
        one, which takes more iterations and comes to other optima, with a mean cost that is 13%
        less on the car, 2% less on the pendulum and the same on the cart-pole.
      chunk: how many trajectories are searched at once; more take turns, so that memory is that of
        so many and of the results.
    """

    iterations: Annotated[int, Range("[1, 1e6]", "usually 50 to 500")] = 200
    tolerance: Annotated[float, Range("[0, 1)", "usually 1e-6")] = 1e-7
    step_sizes: Annotated[int, Range("[1, 64]", "usually 8 to 12")] = 10
    smallest_step: Annotated[float, Range("(0, 1]", "usually 1e-3")] = 1e-3
    accept: Annotated[float, Range("[0, 1)", "usually 1e-4 to 0.1")] = 1e-4
    first_regularisation: Annotated[float, Range(">= 0", "usually 0 to 1")] = 1e-6
    min_regularisation: Annotated[float, Range("> 0", "usually 1e-9 to 1e-6")] = 1e-9
    max_regularisation: Annotated[float, Range("> 0", "usually 1e6 to 1e10")] = 1e10
    regularisation_factor: Annotated[float, Range("> 1", "usually 1.6 to 10")] = 1.6
    negative_curvature: Annotated[str, OneOf(*NEGATIVE_CURVATURE)] = "drop"
    chunk: Annotated[int, Range(">= 1", "usually 64 to 4096")] = 512


class Search(NamedTuple):
    """How the search of every trajectory goes; leaves [B, ...]."""

    k: jax.Array  # [B, T, dU], of the last backward pass that worked
    K: jax.Array  # [B, T, dU, dS]
    Quu: jax.Array  # [B, T, dU, dU], see `BoxedPlan`
    cost: jax.Array  # [B]
    regularisation: jax.Array  # [B]
    factor: jax.Array  # [B], by which it changed last
    outcome: jax.Array  # [B] int32
    iterations: jax.Array  # [B] int32, that a trajectory took
    gradient: jax.Array  # [B], see `BoxedPlan`
    promised: jax.Array  # [B], decrease of the cost that the last full step promised


class IlqgState(NamedTuple):
    """Trajectories and their searches."""

    paths: Paths
    search: Search


class Trace(NamedTuple):
    """How the searches went; leaves [I, B], NaN behind a search's end."""

    cost: Any
    gradient: Any
    regularisation: Any


def start(system: KnownSystem, begin: Paths, goal: Goal, config: SearchConfig) -> IlqgState:
    """The search's state at the trajectories of controls `begin.u` from the first of its states."""
    paths = replay(system, begin, goal)
    return at(paths, first_search(system, begin.u, config))


def replay(system: KnownSystem, begin: Paths, goal: Goal) -> Paths:
    """The paths [B, T, ...] of controls `begin.u` without feedback, within their limits."""
    dtype = jnp.asarray(begin.u).dtype
    k, K = _no_gains(system, begin.u)
    tried = system.roll_out(Feedback(begin, k, K, jnp.zeros(1, dtype)), goal)
    return jax.tree.map(lambda a: a[:, 0], tried)


def at(paths: Paths, search: Search) -> IlqgState:
    """A search that goes on from these paths; it ends where their cost is not finite."""
    lost = ~jnp.isfinite(paths.cost)
    outcome = jnp.where(lost, NON_FINITE, search.outcome).astype(jnp.int32)
    return IlqgState(paths, search._replace(cost=paths.cost, outcome=outcome))


def _no_gains(system: KnownSystem, u: Any) -> tuple[jax.Array, jax.Array]:
    dtype = jnp.asarray(u).dtype
    return jnp.zeros(u.shape, dtype), jnp.zeros((*u.shape, system.tangent_dim), dtype)


def first_search(system: KnownSystem, u: Any, config: SearchConfig) -> Search:
    """The search of controls u [B, T, dU] before anything is known of them."""
    B, T, dU = u.shape
    k, K = _no_gains(system, u)
    dtype = k.dtype
    firm = jnp.full(B, config.first_regularisation, dtype)
    return Search(
        k=k,
        K=K,
        Quu=jnp.broadcast_to(jnp.eye(dU, dtype=dtype), (B, T, dU, dU)),
        cost=jnp.full_like(firm, jnp.inf),
        regularisation=firm,
        factor=jnp.ones_like(firm),
        outcome=jnp.full(B, RUNNING, jnp.int32),
        iterations=jnp.zeros(B, jnp.int32),
        gradient=jnp.full_like(firm, jnp.inf),
        promised=jnp.full_like(firm, jnp.inf),
    )


class Iteration(NamedTuple):
    """The parts of an iteration, each one program where the system leaves JAX in between."""

    plan: Callable[..., tuple[boxed.BoxedPlan, jax.Array]]
    decide: Callable[..., tuple[Search, jax.Array, jax.Array]]


def make_iteration(system: KnownSystem, config: SearchConfig) -> Iteration:
    """The parts, jitted unless the whole is."""
    plan = make_plan(system, config.negative_curvature)
    decide = functools.partial(decide_step, config)
    if system.jittable:
        return Iteration(plan, decide)
    return Iteration(shared_jit(plan), shared_jit(decide))


def iterate(
    system: KnownSystem, parts: Iteration, config: SearchConfig, state: IlqgState, goal: Goal
) -> IlqgState:
    """One iteration of every search that is running; the others don't change."""
    expansion = system.expand(state.paths, goal)
    plan, finite = parts.plan(state.paths, expansion, state.search.regularisation, goal)
    sizes = step_sizes(config, plan.k.dtype)
    tried = system.roll_out(Feedback(state.paths, plan.k, plan.K, sizes), goal)
    search, stepped, chosen = parts.decide(state.search, plan, finite, tried.cost)
    return IlqgState(_pick(state.paths, tried, stepped, chosen), search)


def step_sizes(config: SearchConfig, dtype: Any) -> jax.Array:
    """Those that are tried at once, [S], the largest first."""
    return jnp.geomspace(1.0, config.smallest_step, config.step_sizes).astype(dtype)


def decide_step(
    config: SearchConfig,
    search: Search,
    plan: boxed.BoxedPlan,
    finite: jax.Array,
    costs: jax.Array,
) -> tuple[Search, jax.Array, jax.Array]:
    """The searches after costs [B, S] of all sizes; which stepped [B], and to which size [B].

    Args:
      config: how to search.
      search: what it was before.
      plan: what was tried.
      finite: [B], whether what the plan was made of was.
      costs: [B, S], of `step_sizes`; not finite where a trajectory is not.
    """
    sizes = step_sizes(config, costs.dtype)
    planned = (plan.status.code == OK) & finite
    running = search.outcome == RUNNING
    promised = -(plan.slope[:, None] * sizes + plan.curvature[:, None] * sizes**2)
    came = search.cost[:, None] - costs
    good = jnp.isfinite(costs) & (came > 0) & (came >= config.accept * promised)
    good &= (planned & running)[:, None]
    chosen = jnp.argmin(jnp.where(good, costs, jnp.inf), axis=1)
    stepped = jnp.any(good, axis=1)

    full = -(plan.slope + plan.curvature)
    # Below some digits of the cost a decrease can't be seen.
    tolerance = max(config.tolerance, 8 * float(jnp.finfo(costs.dtype).eps))
    small = planned & (full <= tolerance * jnp.abs(search.cost))
    firm, factor = search.regularisation, config.regularisation_factor
    # Firm gains promise little: only a promise without them tells that a search has arrived.
    arrived = running & small & (firm <= config.first_regularisation)
    lower = jnp.minimum(1 / factor, search.factor / factor)
    higher = jnp.maximum(factor, search.factor * factor)
    change = jnp.where(stepped | small, lower, higher)
    floor = config.min_regularisation
    changed = jnp.maximum(firm * change, jnp.where(change > 1, floor, 0))
    changed = jnp.where(changed < floor, 0, changed)
    stuck = running & ~stepped & ~arrived & (changed > config.max_regularisation)
    outcome = jnp.where(arrived, CONVERGED, search.outcome)
    outcome = jnp.where(stuck, STUCK, outcome)
    outcome = jnp.where(running & ~finite, NON_FINITE, outcome)

    rows = jnp.arange(costs.shape[0])
    keep = running & planned
    after = Search(
        k=jnp.where(along(keep, plan.k), plan.k, search.k),
        K=jnp.where(along(keep, plan.K), plan.K, search.K),
        Quu=jnp.where(along(keep, plan.Quu), plan.Quu, search.Quu),
        cost=jnp.where(stepped, costs[rows, chosen], search.cost),
        regularisation=jnp.where(running & ~stuck, changed, firm),
        factor=jnp.where(running, change, search.factor),
        outcome=outcome.astype(jnp.int32),
        iterations=search.iterations + running,
        gradient=jnp.where(keep, plan.gradient, search.gradient),
        promised=jnp.where(keep, full, search.promised),
    )
    return after, stepped, chosen


def _pick(paths: Paths, tried: Paths, stepped: jax.Array, chosen: jax.Array) -> Paths:
    """The chosen ones of paths [B, S, ...] where searches stepped, the old ones elsewhere."""

    def pick(old, new):
        if isinstance(old, np.ndarray):  # which may have more digits than JAX
            flags, rows = np.asarray(stepped), np.arange(len(old))
            return np.where(along(flags, old), new[rows, np.asarray(chosen)], old)
        rows = jnp.arange(old.shape[0])
        return jnp.where(along(stepped, old), new[rows, chosen], old)

    return jax.tree.map(pick, paths, tried)


Solve = Callable[..., tuple[IlqgState, Trace]]


def make_solve(system: KnownSystem, config: SearchConfig = SearchConfig()) -> Solve:
    """A function that iterates until every search has ended, or `config.iterations` times.

    Args:
      system: dynamics, cost, and limits.
      config: how to search.

    Returns:
      `solve(begin, goal=None)`, which compiles at its first call. It takes paths [B, T, ...] of
      which the first states and the controls count, and those are moved within the limits; and the
      goal, None for one without params that begins with step 0. It returns the paths and their
      searches, and how they went, `config.chunk` trajectories at once.
    """
    solvers: dict[int, Solve] = {}

    def solve(begin: Paths, goal: Goal | None = None) -> tuple[IlqgState, Trace]:
        num = begin.u.shape[0]
        goal = plain_goal(num) if goal is None else goal
        # A program of its own lets the next search into a place that has become free.
        alike = system.jittable and system.rows is None
        parts = [np.arange(num)] if alike else chunks(num, config.chunk)
        results = []
        for number, rows in enumerate(parts):
            if system.rows is None:
                number = 0
            if number not in solvers:
                part = system if system.rows is None else system.rows(rows)
                solvers[number] = make_chunk_solve(part, config)
            own = jax.tree.map(lambda a, rows=rows: a[rows], (begin, goal))
            results.append(solvers[number](*own))
        if len(parts) == 1:
            return results[0]
        states, traces = zip(*results, strict=True)
        state = jax.tree.map(lambda a: a[:num], _joined(states, 0))
        trace = _joined([_padded(each, config.iterations) for each in traces], 1)
        return state, jax.tree.map(lambda a: a[:, :num], trace)

    return solve


def chunks(num: int, most: int) -> list[np.ndarray]:
    """Rows of chunks of one size, for which one program is enough; the last row fills up."""
    count = -(-num // most)
    size = -(-num // count)
    rows = np.minimum(np.arange(count * size), num - 1)
    return list(rows.reshape(count, size))


def _joined(trees: Any, axis: int) -> Any:
    def join(*leaves):
        xp = np if isinstance(leaves[0], np.ndarray) else jnp
        return xp.concatenate(leaves, axis)

    return jax.tree.map(join, *trees)


def _padded(trace: Trace, length: int) -> Trace:
    def pad(a):
        return np.pad(np.asarray(a), ((0, length - len(a)), (0, 0)), constant_values=np.nan)

    return jax.tree.map(pad, trace)


def make_chunk_solve(system: KnownSystem, config: SearchConfig) -> Solve:
    """The function of one chunk, see `make_solve`; it takes a goal."""
    parts = make_iteration(system, config)
    once = functools.partial(iterate, system, parts, config)
    if system.jittable:
        return shared_jit(functools.partial(_solve_traced, system, config, once))

    def solve(begin: Paths, goal: Goal) -> tuple[IlqgState, Trace]:
        state, rows = start(system, begin, goal, config), []
        for _ in range(config.iterations):
            ran = np.asarray(state.search.outcome == RUNNING)
            if not ran.any():
                break
            before, state = state, once(state, goal)
            row = Trace(state.search.cost, state.search.gradient, before.search.regularisation)
            rows.append([np.where(ran, each, np.nan) for each in row])
        if not rows:  # every search ended at its start
            empty = np.zeros((0, begin.u.shape[0]))
            return state, Trace(empty, empty, empty)
        return state, Trace(*(np.stack(each) for each in zip(*rows, strict=True)))

    return solve


def _solve_traced(
    system: KnownSystem, config: SearchConfig, once: Callable[..., Any], begin: Paths, goal: Goal
) -> tuple[IlqgState, Trace]:
    num = begin.u.shape[0]

    def load(rows):
        own, to = jax.tree.map(lambda a: a[rows], (begin, goal))
        return start(system, own, to, config), to

    def one(lane):
        before, to = lane
        after = once(before, to)
        row = Trace(after.search.cost, after.search.gradient, before.search.regularisation)
        return (after, to), row

    lanes = Lanes(load, one, lambda lane: lane[0].search.outcome == RUNNING)
    (state, _), trace = search_in_lanes(lanes, num, config.chunk, config.iterations)
    return state, trace
