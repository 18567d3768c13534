"""Rollouts from initial states drawn at random, grouped by k-means: one local controller per group.

What is learned comes from rollouts from anywhere: nothing has to be put back where it was before
one. The first rollouts hold the pose in which they start, by the task's initial controller; later
ones follow the network. The task's training conditions serve only to roll the network out without
noise, which chooses among the networks of all iterations.

Source: Montgomery, Ajay, Finn, Abbeel & Levine (2017), "Reset-free guided policy search".
"""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jgps.controllers import exploration_noise
from jgps.core.checks import Config, OneOf, Range, refuse
from jgps.core.estimation import kmeans
from jgps.core.lifted import shared_jit
from jgps.core.types import OK
from jgps.optimise.models import choose, default_dtype
from jgps.optimise.rollouts.conditions import RolloutSource, SampleGuided
from jgps.policies import Supervision
from jgps.simulation import (
    Policy,
    SimulationRollouts,
    Starts,
    make_sampler,
    resolve_backend,
)
from jgps.tasks import Task
from jgps.tasks.start import initial_controllers, initial_states, resting_act

GROUP_BY = ("start", "trajectory")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomStartsConfig(Config):
    """Settings of rollouts from random initial states.

    Attributes:
      num_rollouts: number M of rollouts per iteration, at least 2.
      num_groups: number G of groups, each with a local controller, from 1 to `num_rollouts`;
        fitting takes 2 rollouts in each.
      group_by: what makes rollouts alike: their initial states ("start"), or the first, middle and
        last state together ("trajectory").
      iterations: number of iterations of k-means, at least 1.
      noise_smoothing: standard deviation, in steps, of the kernel that smooths exploration noise;
        0 is white.
    """

    num_rollouts: Annotated[int, Range("[2, 1e15]", "usually 20")] = 20
    num_groups: Annotated[int, Range(">= 1")] = 4
    group_by: Annotated[str, OneOf(*GROUP_BY)] = "start"
    iterations: Annotated[int, Range(">= 1")] = 20
    noise_smoothing: Annotated[float, Range(">= 0", "usually 2 steps")] = 2.0

    def __post_init__(self) -> None:
        if self.num_groups > self.num_rollouts:
            most = f"at most num_rollouts = {self.num_rollouts}"
            refuse(self, "num_groups", f"{most}: each group needs rollouts, better 5")


class Groups(NamedTuple):
    """What is kept of the last grouping, so that groups keep their numbers."""

    key: jax.Array  # seeds the first one
    centroid: jax.Array  # [G, d]
    known: jax.Array  # [] bool


def random_starts(task: Task, config: RandomStartsConfig) -> RolloutSource:
    """Rollouts from `task.random_start`, in groups.

    Rollout m happens in the model of training condition m mod C, as conditions may change it.

    Raises:
      ValueError: if the task has no `random_start`, or a cost that differs between conditions.
    """
    if task.train.params is not None:
        raise ValueError(
            f"the conditions of {task.name!r} have params, which a random start has none of; use "
            "fixed starts, rollouts=FixedStartsConfig(), or put what differs into the state"
        )
    if task.random_start is None:
        raise ValueError(
            f"the task {task.name!r} draws no random starts; give it a function of a key: "
            "jgps.from_mjcf(..., random_start=lambda key: (qpos, qvel)), or "
            "dataclasses.replace(task, random_start=...)"
        )
    num_states = 1 if config.group_by == "start" else 3

    def init(key: jax.Array) -> Groups:
        shape = (config.num_groups, num_states * task.state_dim)
        return Groups(key, jnp.zeros(shape, default_dtype()), jnp.zeros((), bool))

    def sampling(act: Policy, params_of: Callable[[Any], Any], backend: str) -> SampleGuided:
        return _make_sample(task, config, act, params_of, backend)

    return RolloutSource(
        x0=jnp.repeat(initial_states(task, task.train)[:1], config.num_groups, axis=0),
        shape=(1, config.num_rollouts),
        init=init,
        make_sample=sampling,
        share_out=shared_jit(lambda state, sampled: _share_out(task, config, state, sampled)),
        pool=pool,
        merge=merge,
        rollouts=config.num_rollouts,
        comparable=False,
    )


def _make_sample(
    task: Task,
    config: RandomStartsConfig,
    act: Policy,
    params_of: Callable[[Any], Any],
    backend: str,
) -> SampleGuided:
    """`sample(state, key)` -> rollouts [1, M, ...] from new random states."""
    random_start, T, dU = task.random_start, task.horizon, task.action_dim
    num, noise_smoothing = config.num_rollouts, config.noise_smoothing
    assert random_start is not None
    rows = np.arange(num) % task.train.num
    conditions = task.train.select(rows)
    sampler = make_sampler(task.system, conditions, act, resolve_backend(backend, task.system))
    roll_out = sampler.sample

    @shared_jit
    def prepare(state: Any, key: jax.Array):
        start_key, noise_key = jax.random.split(key)
        qpos, qvel = jax.vmap(random_start)(jax.random.split(start_key, num))
        holding = initial_controllers(task, _pose_states(task, qpos, qvel), rows)
        noise = exploration_noise(noise_key, num, T, dU, noise_smoothing, dtype=default_dtype())
        params = params_of(state._replace(controllers=holding))
        return params, noise[:, None], Starts(qpos[:, None], qvel[:, None])

    def sample(state: Any, key: jax.Array) -> SimulationRollouts:
        # Every rollout has a controller of its own to hold its start: M conditions of 1 sample.
        params, noise, starts = prepare(state, key)
        act = resting_act(task, starts.qpos[:, 0], rows)
        sampled = roll_out(
            params, noise, starts._replace(act=None if act is None else act[:, None])
        )
        return jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), sampled)

    return sample


def _pose_states(task: Task, qpos: jax.Array, qvel: jax.Array) -> jax.Array:
    """States [M, dX] but for what sensors measure, zero: initial controllers read joints alone."""
    model, num = task.model, qpos.shape[0]
    sizes = (model.na, model.nsensordata, model.nu)
    act, sensors, ctrl = (jnp.zeros((num, size)) for size in sizes)
    return task.layout.state(qpos, qvel, act, sensors, ctrl, 0, jnp).astype(default_dtype())


def _share_out(
    task: Task, config: RandomStartsConfig, state: Any, sampled: SimulationRollouts
) -> tuple[Any, SimulationRollouts]:
    """Shares rollouts [1, M, ...] out as [G, M, ...]; at first the groups hold their mean start."""
    x, valid, T = sampled.x[0], sampled.valid[0], task.horizon
    steps = (0,) if config.group_by == "start" else (0, T // 2, T - 1)
    features = jnp.concatenate([x[:, t] for t in steps], axis=-1)
    weights, (key, centroid, known) = valid.astype(features.dtype), state.groups
    first = kmeans.initialise(key, features, weights, config.num_groups)
    start = jnp.where(known, centroid, first)
    groups = kmeans.fit(features, weights, start, config.iterations)
    member = valid & (groups.label == jnp.arange(config.num_groups)[:, None])
    good = (groups.status.code == OK) & jnp.isfinite(groups.centroid).all()
    kept = Groups(key, jnp.where(good, groups.centroid, centroid), known | good)
    # The first state of every rollout is also the first feature.
    holding = initial_controllers(task, groups.centroid[:, : task.state_dim])
    fresh = (state.iteration == 0) & (groups.count > 0)
    state = state._replace(groups=kept, controllers=choose(fresh, holding, state.controllers))

    def shared_out(leaf: jax.Array) -> jax.Array:
        return jnp.broadcast_to(leaf, (config.num_groups, *leaf.shape[1:]))

    return state, jax.tree.map(shared_out, sampled)._replace(valid=member)


def pool(sampled: SimulationRollouts) -> SimulationRollouts:
    """Rollouts [1, M, ...] of those that are shared out, [G, M, ...]."""
    once = jax.tree.map(lambda leaf: leaf[:1], sampled)
    return once._replace(valid=jnp.any(sampled.valid, axis=0, keepdims=True))


def merge(supervision: Supervision) -> Supervision:
    """Each rollout's own rows of supervision [G, M, ...], as [M, 1, ...].

    A rollout alone in its group has no weight: no controller was fitted to it.
    """
    member = jnp.any(supervision.weight > 0, axis=-1)  # [G, M]
    owner = jnp.argmax(member, axis=0)
    which = jnp.arange(member.shape[1])
    fitted = jnp.sum(member, axis=1)[owner] >= 2

    def own(leaf: jax.Array) -> jax.Array:
        return leaf[owner, which][:, None]

    return Supervision(
        o=own(supervision.o),
        target=own(supervision.target),
        precision=supervision.precision[owner],
        weight=jnp.where(fitted[:, None, None], own(supervision.weight), 0),
        gain=None if supervision.gain is None else supervision.gain[owner],
    )
