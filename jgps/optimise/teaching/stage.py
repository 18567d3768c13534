"""What episodes of a task are made of: its dynamics, a planner, what is seen, where it starts."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jgps.core.host import to_device
from jgps.optimise.ilqg.system import Paths, analytic
from jgps.optimise.ilqg.task_system import TaskSystem, task_system
from jgps.optimise.models import default_dtype
from jgps.optimise.mpc.loop import observe_states
from jgps.optimise.mpc.planner import until_end
from jgps.optimise.mpc.receding import receding_ilqg
from jgps.optimise.teaching.config import TeachingConfig
from jgps.optimise.teaching.episode import Done, Stage
from jgps.optimise.teaching.near import make_see, with_learner
from jgps.policies.learner import PolicyLearner
from jgps.simulation import Conditions, SimulationRollouts
from jgps.simulation.conditions import condition_models
from jgps.simulation.sensing import refuse_sensing
from jgps.tasks import Task
from jgps.tasks.functions import with_params


class Rule(NamedTuple):
    """In what the algorithms of this loop differ.

    Attributes:
      near: of every kind of plan whether it stays near the learner, see `Stage`.
      beta: probability that the plan acts in a step, by iteration; None where the learner never
        does.
      rate: how fast what differs between plans that act and the learner moves both.
    """

    near: tuple[bool, ...]
    beta: tuple[float, ...] | None = None
    rate: float = 0.0


class Numbers(NamedTuple):
    """Settings as arrays, so that those that differ in them alone share programs."""

    weight: jax.Array  # [n], of the divergence, by iteration
    beta: jax.Array  # [n], see `Rule`
    temperature: jax.Array  # []
    rate: jax.Array  # []


class Grounds(NamedTuple):
    """What the loop knows of the task; rows are rollouts [B], those of a condition in a row."""

    stage: Stage
    known: TaskSystem
    frozen: Any  # what o takes beside x, leaves [B, ...]
    rollouts: Callable[[Done], SimulationRollouts]
    numbers: Numbers


def make_grounds(
    task: Task, config: TeachingConfig, backend: str, learner: PolicyLearner, rule: Rule
) -> Grounds:
    """Of every training condition, as often as the settings say.

    Args:
      rule: says which kinds of plans there are.

    Raises:
      ValueError: where the divergence counts along whole plans and nothing tells what is seen, or
        conditions have sensing.
    """
    refuse_sensing(task.train.sensing, "an algorithm in which plans teach")
    dtype = default_dtype()
    weight, beta = (
        jnp.atleast_1d(jnp.asarray(a, dtype)) for a in (config.divergence_weight, rule.beta or 1.0)
    )
    temperature, rate = (jnp.asarray(a, dtype) for a in (config.temperature, rule.rate))
    numbers = Numbers(weight, beta, temperature, rate)
    conditions = task.train.select(np.repeat(np.arange(task.train.num), config.num_samples))
    see, frozen = make_see(task, conditions, backend)
    whole = config.near == "plan"
    if whole and see is None:
        raise ValueError(
            f"the observation of {task.name!r} has entries that are not in its state, so that "
            "nothing tells what the network will see where a plan leads; take near='first'"
        )
    cost = until_end(task.cost, task.horizon - 1)
    cost = with_learner(cost, learner.act, see if whole else None)
    priced = dataclasses.replace(task, cost=cost)
    rows = np.tile(np.arange(conditions.num), len(rule.near))
    known, planned = (
        _paired(priced, task_system(priced, each, backend))
        for each in (conditions, conditions.select(rows))
    )
    trained = jnp.asarray(True)  # before that it acts as it happens to be
    stage = Stage(
        plant=known.system,
        planner=receding_ilqg(planned.system, config.planner, config.horizon),
        near=rule.near,
        turns=rule.beta is not None,
        u=np.repeat(np.asarray(known.begin.u)[:, :1], config.horizon, axis=1),
        params=known.goal.params,
        observe=_make_observe(task, conditions, see),
        mean=lambda policy, o: learner.mean(policy, jnp.asarray(o, default_dtype()), trained),
        replan_every=config.replan_every,
        first_iterations=config.first_iterations,
        temperature=temperature,
    )
    rollouts = functools.partial(_rollouts, task, known)
    if frozen is None:
        frozen = np.zeros((conditions.num, 0))
    return Grounds(stage, known, jnp.asarray(frozen, dtype), rollouts, numbers)


def _paired(priced: Task, known: TaskSystem) -> TaskSystem:
    """The system whose goals have a pair of params, of which dynamics take their own."""
    if not known.system.jittable:
        return known
    assert priced.dynamics is not None
    step = functools.partial(_with_own_params, priced.dynamics)
    system = analytic(step, priced.cost, priced.state_dim, known.system.limits)
    return known._replace(system=system)


def _with_own_params(dynamics: Any, x: Any, u: Any, t: Any, params: Any) -> jax.Array:
    """The next state, of which a cost with a learner has a pair of params."""
    return with_params(dynamics, params[0])(x, u, t)


def _make_observe(task: Task, conditions: Conditions, see: Any) -> Callable[..., Any]:
    if see is not None:
        return lambda states, x, frozen: jax.vmap(see)(jnp.asarray(x, default_dtype()), frozen)
    models = condition_models(task.model, conditions)
    return lambda states, x, frozen: observe_states(task, models, np.asarray(states)[:, None])[:, 0]


def _rollouts(task: Task, known: TaskSystem, done: Done) -> SimulationRollouts:
    C = task.train.num
    cost = jnp.where(done.valid, 0, jnp.inf)
    found = known.rollouts(Paths(done.state, done.x, done.u, cost))

    def shared_out(a: Any) -> Any:
        return a.reshape(C, -1, *a.shape[2:])

    qpos, o = np.asarray(found.qpos)[:, 0], to_device(np.asarray(done.o))
    return SimulationRollouts(
        x=shared_out(found.x), u=shared_out(found.u), valid=found.valid.reshape(C, -1),
        qpos=qpos.reshape(C, -1, *qpos.shape[1:]), o=o.reshape(C, -1, *o.shape[1:]),
    )  # fmt: skip
