"""An episode of every condition in which plans act, or a learner, and plans say what is right.

every step:      o_t <- what is seen;  label_t <- what the plan that is best alone does
u_t <- the plan that stays near the learner; or plan and learner in turns
every few steps: both plans anew from where the episode is, each from the one before
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jgps.core import linalg
from jgps.optimise.ilqg.system import Feedback, Goal, KnownSystem, Paths
from jgps.optimise.mpc.planner import Plan, Planner, follow, where
from jgps.optimise.mpc.policy import gaussian_covariance
from jgps.optimise.teaching.near import Near
from jgps.policies import NetworkPolicy


class Done(NamedTuple):
    """What happened in an episode; leaves [B, T, ...]."""

    state: Any  # [B, T, nx]
    x: Any  # [B, T, dX]
    o: Any  # [B, T, dO]
    u: Any  # [B, T, dU]
    label: Any  # [B, T, dU], what the first kind of plan does there without noise
    mean: Any  # [B, T, dU], what the learner does there
    acting: Any  # [B, T, dU], what acts there does without noise
    curvature: Any  # [B, T, dU, dU], of the cost to go by the label
    K: Any  # [B, T, dU, dS], the label's feedback
    sound: Any  # [B, T]

    @property
    def valid(self) -> Any:
        """[B], which episodes are sound from their start to their end."""
        return self.sound.all(axis=-1)


class Script(NamedTuple):
    """What is decided before an episode."""

    near: Near  # leaves [B, ...]
    noise: Any  # [T, B, dU], standard normal
    by_teacher: Any  # [T, B], whose turn it is
    states: Any  # [B, nx], where it starts
    x: Any  # [B, dX], the same
    key: jax.Array  # for planners that draw


class Stage(NamedTuple):
    """What episodes are made of.

    Attributes:
      plant: what is acted in; the params of its goals are a pair, those of the conditions and a
        `Near`.
      planner: of the same system with a batch of rows for each of `near`.
      near: of every kind of plan whether it stays near the learner. The first kind are the labels,
        the last one acts.
      turns: whether plan and learner act in turns.
      u: [B, H, dU], controls from which the first search starts.
      params: of the conditions, leaves [B, ...]; None where there are none.
      observe: `observe(states, x, frozen)` -> o [B, dO].
      mean: of a policy and o [B, dO], its mean actions.
    """

    plant: KnownSystem
    planner: Planner
    near: tuple[bool, ...]
    turns: bool
    u: Any
    params: Any
    observe: Callable[[Any, Any, Any], Any]
    mean: Callable[[NetworkPolicy, Any], jax.Array]
    replan_every: int
    first_iterations: int
    temperature: jax.Array  # []


class _Carry(NamedTuple):
    memory: Any  # of the planner
    plans: Plan
    states: Any
    x: Any


def play(stage: Stage, policy: NetworkPolicy, script: Script) -> Done:
    """The episode; in JAX where the system is."""
    B, T = len(stage.u), script.noise.shape[0]
    u = np.tile(stage.u, (len(stage.near), 1, 1))
    goal = Goal(np.zeros(len(u), np.int32), None)
    begin = stage.planner.init(_copied(len(stage.near), script.states), u, goal)
    carry = _Carry(*begin, script.states, script.x)
    inputs = (np.arange(T, dtype=np.int32), script.noise, script.by_teacher)
    body = functools.partial(_step, stage, policy, script)
    if stage.plant.jittable:
        done = jax.lax.scan(body, jax.tree.map(jnp.asarray, carry), inputs)[1]
        done = jax.tree.map(lambda a: jnp.moveaxis(a, 0, 1), done)
    else:
        rows = []
        for t in range(T):
            carry, row = body(carry, jax.tree.map(lambda a, t=t: a[t], inputs))
            rows.append(jax.tree.map(np.asarray, row))
        done = jax.tree.map(lambda *each: np.stack(each, axis=1), *rows)
    assert done.u.shape[:2] == (B, T)
    return done


def _copied(copies: int, tree: Any) -> Any:
    def copied(a: Any) -> Any:
        return (np if isinstance(a, np.ndarray) else jnp).concatenate([a] * copies)

    return jax.tree.map(copied, tree)


def _step(
    stage: Stage, policy: NetworkPolicy, script: Script, carry: _Carry, at: Any
) -> tuple[_Carry, Done]:
    t, noise, by_teacher = at
    B = len(stage.u)
    o = stage.observe(carry.states, carry.x, script.near.frozen)
    mean = stage.mean(policy, o)
    near = script.near._replace(first=jnp.full(B, t, jnp.int32), mean=mean)
    carry = _replanned(stage, script.key, t, carry, near)
    says = jax.tree.map(lambda a: a[:B], carry.plans)
    acts = jax.tree.map(lambda a: a[-B:], carry.plans)
    age = t - says.first
    label, acting = (
        jnp.asarray(follow(stage.plant, plan, age, carry.states)) for plan in (says, acts)
    )
    root = _noise_root(acts, age, stage.temperature)
    if stage.turns:
        own, _ = linalg.cholesky(policy.cov)
        acting = jnp.where(by_teacher[:, None], acting, mean)
        root = jnp.where(by_teacher[:, None, None], root, own)
    lower, upper = stage.plant.limits
    u = jnp.clip(acting + jnp.einsum("bij,bj->bi", root, noise), lower, upper)
    before, after, sound = _moved(stage, carry.states, u, near)
    sound &= jnp.isfinite(says.cost) & jnp.isfinite(acts.cost)
    begin = (script.states, script.x)  # what diverged begins again, and no lesson is taken from it
    states, x = (where(sound, *each) for each in zip(after, begin, strict=True))
    done = Done(
        state=before[0], x=before[1], o=o, u=u, label=label, mean=mean, acting=acting,
        curvature=_at_step(age, says.Quu), K=_at_step(age, says.K), sound=sound,
    )  # fmt: skip
    return carry._replace(states=states, x=x), done


def _at_step(age: Any, values: Any) -> Any:
    return values[np.arange(len(values)), age]


def _noise_root(plan: Plan, age: Any, temperature: jax.Array) -> jax.Array:
    """[B, dU, dU], by which standard normal noise is multiplied; zero where nothing is known."""
    own = plan._replace(Quu=_at_step(age, plan.Quu))
    root, ok = linalg.cholesky(temperature * gaussian_covariance(own))
    return jnp.where(ok[..., None, None], root, 0)


def _replanned(stage: Stage, key: jax.Array, t: Any, carry: _Carry, near: Near) -> _Carry:
    """The same with plans that are made anew where it is time."""
    copies = len(stage.near)
    near, params = _copied(copies, (near, stage.params))
    counts = np.repeat(np.asarray(stage.near, np.float32), len(stage.u))
    goal = Goal(near.first, (params, near._replace(weight=near.weight * counts)))
    states = _copied(copies, carry.states)
    number = jnp.where(t % stage.replan_every == 0, 1, 0)
    number = jnp.where(t == 0, stage.first_iterations, number)

    def plan(i: Any, made: tuple[Any, Plan]) -> tuple[Any, Plan]:
        own = jax.random.fold_in(jax.random.fold_in(key, t), i)
        return stage.planner.plan(made[0], states, goal, own)

    made = (carry.memory, carry.plans)
    like = jax.tree.map(jnp.result_type, made)

    def typed(i: Any, made: tuple[Any, Plan]) -> tuple[Any, Plan]:
        return jax.tree.map(jnp.asarray, plan(i, made), like)

    if stage.plant.jittable:
        made = jax.lax.fori_loop(0, number, typed, made)
    else:
        for i in range(int(number)):
            made = plan(i, made)
    return carry._replace(memory=made[0], plans=made[1])


def _moved(stage: Stage, states: Any, u: jax.Array, near: Near) -> tuple[Any, Any, jax.Array]:
    """State and x before and after one control step, and which simulations it is sound in."""
    plant, xp = stage.plant, (np if isinstance(states, np.ndarray) else jnp)
    two, controls = (xp.repeat(xp.asarray(a)[:, None], 2, axis=1) for a in (states, u))
    k: Any = np.zeros(controls.shape, u.dtype)
    K: Any = np.zeros((*controls.shape, plant.tangent_dim), u.dtype)
    size: Any = np.zeros(1, u.dtype)
    no_cost: Any = None
    feedback = Feedback(Paths(two, two, controls, no_cost), k, K, size)
    # What is near the learner says nothing of where a control leads.
    own = near._replace(weight=near.weight * 0)
    found = plant.roll_out(feedback, Goal(near.first, (stage.params, own)))
    before, after = ((found.state[:, 0, i], found.x[:, 0, i]) for i in (0, 1))
    return before, after, jnp.isfinite(found.cost[:, 0])
