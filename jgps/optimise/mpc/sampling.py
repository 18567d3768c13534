"""Planners that draw controls at random and keep what costs little.

    repeat: draw splines about the last one, shifted by the steps that passed; simulate all of
            them from every state at once; the next spline is the best sample (predictive
            sampling), the mean of the best (CEM), or the mean weighted by exp(-cost) (MPPI)

Sources: Howell et al. (2022), "Predictive sampling: real-time behaviour synthesis with MuJoCo";
Rubinstein & Kroese (2004), "The cross-entropy method"; Williams et al. (2017), "Information
theoretic MPC for model-based reinforcement learning".
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jgps.core.checks import Config, OneOf, Range, refuse
from jgps.core.lifted import shared_jit
from jgps.optimise.ilqg import solve
from jgps.optimise.ilqg.system import Feedback, Goal, KnownSystem, Paths
from jgps.optimise.models import default_dtype
from jgps.optimise.mpc import splines
from jgps.optimise.mpc.planner import Plan, Planner, check_memory, no_plan, waiting, where


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplingConfig(Config):
    """What planners that draw samples have in common.

    Attributes:
      samples: how many controls are tried from each state, those of the last plan among them.
      knots: of the splines that controls are, at most one for each step of the plan.
      spline: "zero" holds each knot until the next, "linear" joins them, "cubic" does it smoothly.
      noise: standard deviation of the knots about the last plan, as a share of half the range of
        each control, of one unit where it has no range.
      iterations: how often samples are drawn for one plan, each time about the last spline.
    """

    samples: Annotated[int, Range("[2, 1e6]", "usually 32 to 4096")] = 64
    knots: Annotated[int, Range("[2, 1e4]", "usually 4 to 10")] = 6
    spline: Annotated[str, OneOf(*splines.SPLINES)] = "linear"
    noise: Annotated[float, Range("> 0", "usually 0.1 to 0.5")] = 0.3
    iterations: Annotated[int, Range(">= 1", "usually 1 to 5")] = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictiveSamplingConfig(SamplingConfig):
    """The plan is the sample that costs least, see `SamplingConfig`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CemConfig(SamplingConfig):
    """The plan is the mean of the best samples, see `SamplingConfig`.

    Attributes:
      elites: how many samples that is; their deviation is that of the next ones.
      min_noise: least deviation, a share as `noise` is, with which the first samples are drawn.
      simulate_mean: whether the mean is simulated once more, so that the plan's states and cost are
        its own; otherwise they are those of the best sample, and a plan takes one rollout less.
    """

    noise: Annotated[float, Range("> 0", "usually 0.2 to 0.7")] = 0.5
    elites: Annotated[int, Range(">= 1", "usually a tenth of the samples")] = 8
    min_noise: Annotated[float, Range("> 0", "usually 0.1 to 0.3")] = 0.3
    simulate_mean: bool = True

    def __post_init__(self):
        if self.elites > self.samples:
            refuse(self, "elites", f"at most samples, {self.samples}, usually a tenth of them")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MppiConfig(SamplingConfig):
    """The plan is the mean of samples, weighted by exp(-cost / temperature).

    Attributes:
      temperature: the higher, the more samples count.
      relative: whether the temperature is in standard deviations of the samples' costs, as suits
        every task, or in the cost's own unit, as in hydrax and Judo.
      simulate_mean: see `CemConfig`.
    """

    temperature: Annotated[float, Range("> 0", "usually 0.1 where it is relative")] = 0.1
    relative: bool = True
    simulate_mean: bool = True


class SamplingMemory(NamedTuple):
    """The last plan's spline; leaves [B, ...]."""

    first: Any  # int32, its first control step
    state: Any  # [B, H, nx], where it leads
    knots: Any  # [B, P, dU]
    deviation: Any  # [B, P, dU], with which the next ones are drawn


class _Parts(NamedTuple):
    """What plans are made with."""

    system: KnownSystem
    many: KnownSystem  # the same with all samples of every state
    config: Any
    horizon: int
    shift: Callable[..., Any]
    draw: Callable[..., Any]
    update: Callable[..., Any]


def sampling_planner(system: KnownSystem, config: Any, horizon: int, num: int) -> Planner:
    """The planner of a system of `num` B states, for plans of `horizon` steps.

    Args:
      system: of which derivatives are not needed.
      config: `PredictiveSamplingConfig`, `CemConfig` or `MppiConfig`.
      horizon: H >= 2.
      num: B.

    Raises:
      ValueError: if there are more knots than steps.
    """
    if config.knots > horizon:
        refuse(config, "knots", f"at most the horizon, {horizon} steps, usually 4 to 10")
    rows = np.repeat(np.arange(num), config.samples)
    many = system if system.rows is None else system.rows(rows)
    init = functools.partial(_init, system, config)
    steps = (_shift, _draw, _update)
    shift, draw, update = (functools.partial(step, system, config, horizon) for step in steps)
    if not system.jittable:
        shift, draw, update = map(shared_jit, (shift, draw, update))
    plan = functools.partial(_plan, _Parts(system, many, config, horizon, shift, draw, update))
    return Planner(init, shared_jit(plan) if system.jittable else plan, horizon)


def _scale(system: KnownSystem) -> jax.Array:
    """Half the range of each control, [dU] or [B, dU]; 1 where it has none."""
    lower, upper = jnp.asarray(system.limits)
    half = 0.5 * (upper - lower)
    return jnp.where(jnp.isfinite(half), half, 1).astype(default_dtype())


def _init(
    system: KnownSystem, config: SamplingConfig, states: Any, u: Any, goal: Goal
) -> tuple[SamplingMemory, Plan]:
    B, H, dU = u.shape
    at = np.round(np.linspace(0, H - 1, config.knots)).astype(int)
    spread = np.broadcast_to(np.asarray(_scale(system))[..., None, :], (B, config.knots, dU))
    dtype = default_dtype()
    memory = SamplingMemory(
        first=np.asarray(goal.first, np.int32),
        state=waiting(states, H),
        knots=np.asarray(np.asarray(u)[:, at], dtype),
        deviation=np.asarray(config.noise * spread, dtype),
    )
    return memory, no_plan(memory.state, np.asarray(u, dtype), system.tangent_dim, dtype)


def _plan(
    parts: _Parts,
    memory: SamplingMemory,
    states: Any,
    goal: Goal,
    key: jax.Array,
) -> tuple[SamplingMemory, Plan]:
    system, many, config, horizon, shift, draw, update = parts
    check_memory(memory, states, goal, (horizon, memory.state.shape[-1]))
    xp = np if isinstance(states, np.ndarray) else jnp
    sound = xp.isfinite(states).all(axis=-1)
    states = where(sound, states, memory.state[:, 0])
    knots = shift(memory.knots, memory.first, jnp.asarray(goal.first))
    deviation, found = memory.deviation, None
    for round_number in range(config.iterations):
        drawn, u = draw(knots, deviation, jax.random.fold_in(key, round_number))
        found = _simulate(many, states, u, goal)
        knots, deviation, mean, best = update(drawn, deviation, found.cost, sound)
    assert found is not None
    rows = np.arange(states.shape[0])
    paths = jax.tree.map(lambda a: a[rows, xp.asarray(best)], found)
    if getattr(config, "simulate_mean", False):
        paths = jax.tree.map(lambda a: a[:, 0], _simulate(system, states, mean[:, None], goal))
    usable = xp.isfinite(xp.asarray(paths.cost)) & sound
    mean = xp.asarray(mean)
    state = where(usable, paths.state, xp.broadcast_to(states[:, None], memory.state.shape))
    first = xp.asarray(goal.first, xp.int32)
    B, H, dU = mean.shape
    zeros, dtype = xp.zeros(B, xp.int32), mean.dtype
    plan = Plan(
        first=first,
        state=state,
        u=where(usable, mean, xp.zeros_like(mean)),
        K=xp.zeros((B, H, dU, system.tangent_dim), dtype),
        Quu=xp.zeros((B, H, dU, dU), dtype),
        cost=xp.where(usable, xp.asarray(paths.cost), xp.inf),
        outcome=xp.where(usable, solve.RUNNING, solve.NON_FINITE).astype(xp.int32),
        iterations=zeros + config.iterations,
        regularisation=xp.zeros(B, dtype),
    )
    return SamplingMemory(first, state, xp.asarray(knots), xp.asarray(deviation)), plan


def _simulate(system: KnownSystem, states: Any, u: Any, goal: Goal) -> Paths:
    """Paths [B, N, H, ...] of controls [B, N, H, dU] from states [B, nx], all at once."""
    B, N, H, dU = u.shape
    xp = np if isinstance(states, np.ndarray) else jnp

    def each(a: Any) -> Any:
        return xp.repeat(xp.asarray(a), N, axis=0)

    state = xp.broadcast_to(each(states)[:, None], (B * N, H, states.shape[-1]))
    flat = xp.asarray(u).reshape(B * N, H, dU)
    none = xp.zeros((), flat.dtype)
    k = xp.broadcast_to(none, flat.shape)
    K = xp.broadcast_to(none, (*flat.shape, system.tangent_dim))
    paths = Paths(state, state, flat, None)
    found = system.roll_out(Feedback(paths, k, K, none[None]), jax.tree.map(each, goal))
    return jax.tree.map(lambda a: a.reshape(B, N, *a.shape[2:]), found)


def _shift(system, config, horizon, knots, first, now) -> jax.Array:
    """Knots of the same spline as many steps later as have passed."""
    del system
    times = splines.times_of(config.knots, horizon)
    passed = jnp.clip(now - first, 0, horizon)

    def one(knots, passed):
        return splines.values(config.spline, knots, times + passed, horizon)

    return jax.vmap(one)(knots, passed)


def _draw(system, config, horizon, knots, deviation, key) -> tuple[jax.Array, jax.Array]:
    """Knots [B, N, P, dU] of samples, of which the first is without noise, and their controls."""
    B, P, dU = knots.shape

    def noise(row):
        own = jax.random.fold_in(key, row)
        return jax.random.normal(own, (config.samples - 1, P, dU), knots.dtype)

    drawn = knots[:, None] + deviation[:, None] * jax.vmap(noise)(jnp.arange(B))
    drawn = _clipped(system, jnp.concatenate([knots[:, None], drawn], axis=1))
    return drawn, _controls(system, config, horizon, drawn)


def _controls(system, config, horizon, knots) -> jax.Array:
    times = jnp.arange(horizon, dtype=knots.dtype)
    over = jax.vmap(lambda each: splines.values(config.spline, each, times, horizon))
    return _clipped(system, jax.vmap(over)(knots))  # cubic splines overshoot


def _clipped(system: KnownSystem, values: jax.Array) -> jax.Array:
    """Knots or controls [B, N, M, dU] within the limits."""
    lower, upper = (jnp.asarray(side, values.dtype) for side in system.limits)
    if lower.ndim == 2:  # each state has its own
        lower, upper = lower[:, None, None], upper[:, None, None]
    return jnp.clip(values, lower, upper)


def _update(
    system, config, horizon, drawn, deviation, cost, sound
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """The next knots, their deviation, the controls, and which sample was the best, [B].

    Where no sample is finite the knots stay those of the first one.
    """
    good = jnp.isfinite(cost) & sound[:, None]
    best = jnp.argmin(jnp.where(good, cost, jnp.inf), axis=1)
    if isinstance(config, PredictiveSamplingConfig):
        knots = drawn[jnp.arange(len(best)), best]
    else:
        weights = _weights(config, jnp.where(good, cost, jnp.inf), good)
        knots = jnp.einsum("bn,bnpu->bpu", weights, drawn)
        if isinstance(config, CemConfig):
            away = jnp.square(drawn - knots[:, None])
            spread = jnp.sqrt(jnp.einsum("bn,bnpu->bpu", weights, away))
            least = config.min_noise * _scale(system)[..., None, :]
            some = jnp.any(good, axis=1)[:, None, None]
            deviation = jnp.where(some, jnp.maximum(spread, least), deviation)
    controls = _controls(system, config, horizon, knots[:, None])[:, 0]
    return knots, deviation, controls, best


def _weights(config: CemConfig | MppiConfig, cost: jax.Array, good: jax.Array) -> jax.Array:
    """How much each sample counts, [B, N], in all 1."""
    if isinstance(config, CemConfig):
        order = jnp.argsort(jnp.argsort(cost, axis=1), axis=1)
        raw = (good & (order < config.elites)).astype(cost.dtype)
    else:
        least = jnp.min(cost, axis=1, keepdims=True)
        over = jnp.where(good, cost - jnp.where(jnp.isfinite(least), least, 0), 0)
        scale = jnp.asarray(config.temperature, cost.dtype)
        if config.relative:
            count = jnp.maximum(jnp.sum(good, axis=1, keepdims=True), 1)
            mean = jnp.sum(over, axis=1, keepdims=True) / count
            away = jnp.where(good, jnp.square(over - mean), 0)
            spread = jnp.sqrt(jnp.sum(away, axis=1, keepdims=True) / count)
            scale = scale * jnp.where(spread > 0, spread, 1)
        raw = jnp.where(good, jnp.exp(-over / scale), 0)
    total = jnp.sum(raw, axis=1, keepdims=True)
    first = (jnp.arange(cost.shape[1]) == 0).astype(cost.dtype)
    return jnp.where(total > 0, raw / jnp.where(total > 0, total, 1), first)
