"""Trajectories searched by iLQG on the cost and on what pulls their actions to the network's.

    a few times: models about the trajectories, the network's derivative there
                 gains by the boxed backward pass on cost + 1/2 (u - pi(o) - b)'P (u - pi(o) - b)
                 all step sizes of the line search at once; keep the best that does what it promised

The pull is that of the network itself in the line search, and of its derivative in the quadratics
(Gauss-Newton). The network acts within the limits of the controls, so that beyond them its action
is the limit and its derivative zero.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer

from jgps.controllers.linear_gaussian import FactoredController
from jgps.controllers.nearest import NearestController
from jgps.core import linalg
from jgps.core.lifted import shared_jit
from jgps.core.lqr import boxed
from jgps.core.types import NON_FINITE, OK, Controller, Status, worst
from jgps.optimise.algorithm import Metrics
from jgps.optimise.guided.state import GuidedState
from jgps.optimise.ilqg import solve
from jgps.optimise.ilqg.solve import Search, SearchConfig
from jgps.optimise.models import LocalModels, Models, choose, default_dtype, sampled_costs
from jgps.optimise.rollouts.sampling import make_trials
from jgps.policies import NetworkPolicy
from jgps.policies.learner import PolicyLearner
from jgps.simulation import SimulationRollouts
from jgps.simulation.conditions import condition_models
from jgps.simulation.system import control_ranges
from jgps.tasks import Task


class Pull(NamedTuple):
    """What pulls the actions u of trajectories to pi(o) + b; leaves [C, T, ...]."""

    precision: jax.Array  # [C, T, dU, dU], P, cost per squared action
    offset: jax.Array  # [C, T, dU], b


class Searched(NamedTuple):
    """Trajectories, what leads along them, and how the search went; leaves [C, ...]."""

    controllers: Controller  # those that failed are the ones before
    rollouts: SimulationRollouts  # [C, 1, T, ...], theirs without noise
    curvature: jax.Array  # [C, T, dU, dU], of the cost to go and the pull, by actions
    regularisation: jax.Array  # [C], with which the next search begins
    status: Status


class _Carry(NamedTuple):
    search: Search
    nominal: SimulationRollouts  # [C, 1, T, ...]
    planned: jax.Array  # [C], whether a plan was ever made
    status: Status  # of the last plan


class Network(NamedTuple):
    """The network that pulls."""

    policy: NetworkPolicy
    trained: jax.Array  # [] bool


# search(state, network, pull, regularisation [C]) -> (searched, metrics)
SearchFunction = Callable[[GuidedState, Network, Pull, jax.Array], tuple[Searched, Metrics]]


class _Parts(NamedTuple):
    """What a search is made of."""

    task: Task
    learner: PolicyLearner
    config: SearchConfig
    limits: jax.Array  # [2, C, 1, dU]


def make_search(
    task: Task, config: SearchConfig, backend: str, models: Models, learner: PolicyLearner
) -> SearchFunction:
    """A function that improves the controllers' trajectories.

    Args:
      task: whose network observes the state.
      config: of which `chunk` is not read: all conditions are searched at once.
      backend: of the simulator.
      models: are fitted to one rollout without noise in every condition: known ones.
      learner: whose mean actions pull.
    """
    parts = _Parts(task, learner, config, action_limits(task))
    sizes = tuple(map(float, solve.step_sizes(config, default_dtype())))
    roll_out = make_trials(task, NearestController.act, backend, sizes)
    fit = shared_jit(lambda memory, rollouts: models.fit(memory, rollouts, None))
    plan = shared_jit(functools.partial(_plan, parts))
    decide = shared_jit(functools.partial(_decide, parts))
    begin = shared_jit(functools.partial(_begin, parts))
    conclude = shared_jit(functools.partial(_conclude, parts))

    def search(
        state: GuidedState, network: Network, pull: Pull, regularisation: jax.Array
    ) -> tuple[Searched, Metrics]:
        own = state.controllers
        start = FactoredController(own.K, own.k, jnp.zeros_like(own.C))
        tried = roll_out(start)
        carry = begin(own, tried, network, pull, regularisation)

        def once(carry: _Carry, step: None) -> tuple[_Carry, None]:
            del step
            _, fitted, _ = fit(state.models, carry.nominal.rollouts)
            assert fitted is not None
            planned, trial = plan(carry, fitted, network, pull)
            return decide(carry, planned, roll_out(trial), network, pull), None

        if isinstance(own.k, Tracer):
            carry, _ = jax.lax.scan(once, carry, length=config.iterations)
        else:
            for _ in range(config.iterations):
                carry, _ = once(carry, None)
        return conclude(own, carry)

    return search


def action_limits(task: Task) -> jax.Array:
    """Lower and upper limits of the training conditions' controls, [2, C, 1, dU]."""
    limits = control_ranges(condition_models(task.model, task.train))[:, :, None]
    return jnp.asarray(limits, default_dtype())


def actions(learner: PolicyLearner, limits: jax.Array, network: Network, o: jax.Array) -> jax.Array:
    """What the network does at o [C, S, T, dO], within the limits, [C, S, T, dU]."""
    return jnp.clip(learner.mean(network.policy, o, network.trained), *limits[:, :, None])


def _costs(parts: _Parts, rollouts: SimulationRollouts, network: Network, pull: Pull) -> jax.Array:
    """Of rollouts [C, S, T, ...] with the pull's, [C, S]; infinite where they are not valid."""
    own = jnp.sum(sampled_costs(parts.task, rollouts.rollouts), axis=-1)
    gap = (
        rollouts.u
        - actions(parts.learner, parts.limits, network, rollouts.o)
        - pull.offset[:, None]
    )
    with jax.default_matmul_precision("highest"):
        held = 0.5 * jnp.einsum("csti,ctij,cstj->cs", gap, pull.precision, gap)
    total = own + held
    return jnp.where(rollouts.valid & jnp.isfinite(total), total, jnp.inf)


def _begin(
    parts: _Parts,
    own: Controller,
    tried: SimulationRollouts,
    network: Network,
    pull: Pull,
    regularisation: jax.Array,
) -> _Carry:
    nominal = jax.tree.map(lambda a: a[:, :1], tried)
    cost = _costs(parts, nominal, network, pull)[:, 0]
    outcome = jnp.where(jnp.isfinite(cost), solve.RUNNING, solve.NON_FINITE).astype(jnp.int32)
    unknown = jnp.full_like(cost, jnp.inf)
    search = Search(
        k=jnp.zeros_like(own.k),
        K=own.K,
        Quu=jnp.zeros_like(own.C),
        cost=cost,
        regularisation=regularisation,
        factor=jnp.ones_like(cost),
        outcome=outcome,
        iterations=jnp.zeros_like(outcome),
        gradient=unknown,
        promised=unknown,
    )
    failed = jnp.full_like(outcome, NON_FINITE)
    return _Carry(
        search=search,
        nominal=nominal,
        planned=jnp.zeros(outcome.shape, bool),
        status=Status(code=failed, step=jnp.full_like(failed, -1)),
    )


class _Planned(NamedTuple):
    plan: boxed.BoxedPlan
    finite: jax.Array  # [C]
    status: Status


@linalg.full_precision
def _plan(
    parts: _Parts, carry: _Carry, fitted: LocalModels, network: Network, pull: Pull
) -> tuple[_Planned, FactoredController]:
    """How the trajectories are to change, and what takes them there to a size that it is given."""
    sound = carry.nominal.valid[:, 0]
    x, u, o = (jnp.asarray(a)[:, 0] for a in (carry.nominal.x, carry.nominal.u, carry.nominal.o))
    x, u, o = (jnp.where(sound[:, None, None], a, 0) for a in (x, u, o))

    def mean(o):
        return actions(parts.learner, parts.limits, network, o[:, None])[:, 0]

    action, J = _with_derivative(mean, o)
    eye = jnp.broadcast_to(jnp.eye(u.shape[-1], dtype=J.dtype), (*J.shape[:-1], u.shape[-1]))
    M = jnp.concatenate([-J, eye], axis=-1)
    PM = pull.precision @ M
    z = jnp.concatenate([x, u], axis=-1)
    H = fitted.cost.H + linalg.symmetrise(linalg.transpose(M) @ PM)
    g = jnp.einsum("ctij,ctj->cti", fitted.cost.H, z) + fitted.cost.g
    g = g + jnp.einsum("ctij,cti->ctj", PM, u - action - pull.offset)
    F = fitted.dynamics.F
    finite = sound & (fitted.status.code == OK)
    for each in (F, H, g):
        finite &= jnp.all(jnp.isfinite(each), axis=tuple(range(1, each.ndim)))
    F, H, g = (choose(finite, each, jnp.zeros_like(each)) for each in (F, H, g))
    limits = tuple(limit - u for limit in parts.limits)
    plan = jax.vmap(boxed.backward)(F, H, g, limits, carry.search.regularisation)
    bad = jnp.where(finite, OK, NON_FINITE).astype(jnp.int32)
    broken = Status(code=bad, step=jnp.full_like(bad, -1))
    status = jax.vmap(worst)(fitted.status, broken, plan.status)
    trial = FactoredController(
        K=plan.K,
        k=u - jnp.einsum("ctij,ctj->cti", plan.K, x),
        L=plan.k[..., None] * jnp.eye(u.shape[-1], dtype=u.dtype),
    )
    return _Planned(plan, finite, status), trial


def _with_derivative(
    function: Callable[[jax.Array], jax.Array], o: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The values [..., dU] of a function of each o [..., dO] by itself, and J [..., dU, dO]."""

    def along(direction):
        return jax.jvp(function, (o,), (jnp.broadcast_to(direction, o.shape),))

    values, J = jax.vmap(along, out_axes=(None, -1))(jnp.eye(o.shape[-1], dtype=o.dtype))
    return values, J


def _decide(
    parts: _Parts,
    carry: _Carry,
    planned: _Planned,
    tried: SimulationRollouts,
    network: Network,
    pull: Pull,
) -> _Carry:
    costs = _costs(parts, tried, network, pull)
    running = carry.search.outcome == solve.RUNNING
    search, stepped, chosen = solve.decide_step(
        parts.config, carry.search, planned.plan, planned.finite, costs
    )
    rows = jnp.arange(costs.shape[0])
    best = jax.tree.map(lambda a: jnp.asarray(a)[rows, chosen][:, None], tried)
    made = running & (planned.status.code == OK)
    return _Carry(
        search=search,
        nominal=choose(stepped, best, carry.nominal),
        planned=carry.planned | made,
        status=choose(running, planned.status, carry.status),
    )


@linalg.full_precision
def _conclude(parts: _Parts, own: Controller, carry: _Carry) -> tuple[Searched, Metrics]:
    search, nominal = carry.search, carry.nominal
    K, x, u = search.K, nominal.x[:, 0], nominal.u[:, 0]
    k = u - jnp.einsum("ctij,ctj->cti", K, x)
    code = jnp.where(carry.planned, OK, carry.status.code)
    status = Status(code=code, step=jnp.where(carry.planned, -1, carry.status.step))
    going = search.outcome == solve.RUNNING
    firm = jnp.where(going, search.regularisation, parts.config.first_regularisation)
    searched = Searched(
        controllers=choose(carry.planned, own._replace(K=K, k=k), own),
        rollouts=nominal,
        curvature=search.Quu,
        regularisation=firm,
        status=status,
    )
    metrics = {
        "status": status.code,
        "status_step": status.step,
        "search_iterations": search.iterations,
        "search_converged": search.outcome == solve.CONVERGED,
    }
    return searched, metrics
