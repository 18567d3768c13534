"""How well a policy does on a task's training conditions and on unseen ones."""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jgps import costs
from jgps.simulation import (
    Backend,
    Conditions,
    Policy,
    SimulationRollouts,
    make_sampler,
    resolve_backend,
)
from jgps.tasks import Task
from jgps.tasks.start import initial_states


class EvaluablePolicy(Protocol):
    """What `evaluate` takes; for instance the field `policy` of an algorithm's state."""

    def params_for(self, x0: jax.Array) -> Any:
        """Parameters for conditions that start at x0 [C, dX]; leaves [C, ...]."""
        ...

    @property
    def act(self) -> Policy:
        """`act(params, x [dX], t, noise [dU]) -> u [dU]`."""
        ...


class ConditionsResult(NamedTuple):
    """Means over the rollouts of every condition; a rollout that is not finite is no success."""

    cost: np.ndarray  # [C], summed over time, NaN without a valid rollout
    distance: (
        np.ndarray | None
    )  # [C] metres, NaN without a valid rollout; None if the task has none
    success: np.ndarray | None  # [C] fraction of all rollouts; None if the task does not define it
    valid: np.ndarray  # [C] fraction of rollouts that are finite
    rollouts: SimulationRollouts  # [C, N, T, ...]

    @property
    def success_rate(self) -> float | None:
        """Mean success over conditions."""
        return None if self.success is None else float(np.mean(self.success))


class EvaluationResult(NamedTuple):
    """Results on a task's training and test conditions."""

    train: ConditionsResult
    test: ConditionsResult


def evaluate(
    task: Task,
    policy: EvaluablePolicy,
    *,
    key: jax.Array,
    backend: str = "auto",
    num_samples: int | None = None,
) -> EvaluationResult:
    """Rolls a policy out on the training and the test conditions of a task.

    Args:
      task: the task.
      policy: an algorithm's `state.policy`, or anything like it.
      key: for the noise; nothing is drawn without `num_samples`.
      backend: "native", "mjx" or "auto".
      num_samples: rollouts per condition, with white exploration noise; None is one without noise.

    Raises:
      ValueError: for an unknown backend or less than one sample.
    """
    if num_samples is not None and num_samples < 1:
        raise ValueError(
            f"num_samples is {num_samples}; it has to be at least 1; leave it out for one rollout "
            "without noise"
        )
    name = resolve_backend(backend)
    num = task.train.num
    both = _join(task.train, task.test)
    if both is None:
        sets, keys = (task.train, task.test), jax.random.split(key)
        parts = [
            _run(task, policy, each, subkey, name, num_samples)
            for each, subkey in zip(sets, keys, strict=True)
        ]
    else:  # one program for both compiles in half the time
        result = _run(task, policy, both, key, name, num_samples)
        parts = [
            jax.tree.map(lambda leaf, part=part: leaf[part], result)
            for part in (slice(None, num), slice(num, None))
        ]
    return EvaluationResult(*parts)


def _join(first: Conditions, second: Conditions) -> Conditions | None:
    """Both sets of conditions as one, or None where they change different parts of the model."""
    if set(first.changes) != set(second.changes):
        return None
    return Conditions(
        qpos=np.concatenate([first.qpos, second.qpos]),
        qvel=np.concatenate([first.qvel, second.qvel]),
        changes={
            key: np.concatenate([value, second.changes[key]])
            for key, value in first.changes.items()
        },
    )


def _run(
    task: Task,
    policy: EvaluablePolicy,
    conditions: Conditions,
    key: jax.Array,
    backend: Backend,
    num_samples: int | None,
) -> ConditionsResult:
    sampler = make_sampler(task.system, conditions, policy.act, backend)
    sample = jax.jit(sampler.sample) if sampler.jittable else sampler.sample
    shape = (conditions.num, num_samples or 1, task.horizon, task.action_dim)
    noise = jnp.zeros(shape) if num_samples is None else jax.random.normal(key, shape)
    params = jax.jit(policy.params_for)(initial_states(task, conditions))
    return _judge(task, sample(params, noise))


def _judge(task: Task, sampled: SimulationRollouts) -> ConditionsResult:
    @jax.jit
    def judge(x, u):
        total = jnp.sum(costs.evaluate(task.cost, x, u), axis=-1)
        distance = None if task.distance is None else jax.vmap(jax.vmap(task.distance))(x)
        success = None if task.success is None else jax.vmap(jax.vmap(task.success))(x, u)
        return total, distance, success

    total, distance, success = jax.device_get(judge(sampled.x, sampled.u))
    valid = np.asarray(sampled.valid)
    return ConditionsResult(
        cost=_mean(total, valid),
        distance=None if distance is None else _mean(distance, valid),
        success=None if success is None else np.mean(success & valid, axis=1),
        valid=np.mean(valid, axis=1),
        rollouts=SimulationRollouts(*(np.asarray(array) for array in sampled)),
    )


def _mean(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Over the valid samples: [C, N] -> [C]; NaN where there is none."""
    count = np.sum(valid, axis=1)
    total = np.sum(np.where(valid, values, 0), axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
