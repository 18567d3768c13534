"""How well a policy does on a task's training conditions and on unseen ones."""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jgps import costs
from jgps.core import memory
from jgps.core.checks import Range, check_argument
from jgps.core.host import to_device
from jgps.core.lifted import Lifted, lift
from jgps.core.names import explain_unknown
from jgps.optimise.factory import check_key, check_task
from jgps.simulation import (
    Backend,
    Conditions,
    Policy,
    SimulationRollouts,
    concatenate_conditions,
    make_sampler,
    resolve_backend,
)
from jgps.simulation.conditions import changed_mocap
from jgps.tasks import Task
from jgps.tasks.functions import (
    fallen,
    over_rollouts,
    params_like,
    params_of,
    step_costs,
    succeeded,
)
from jgps.tasks.start import condition_features


class EvaluablePolicy(Protocol):
    """What `evaluate` takes; for instance the field `policy` of an algorithm's state."""

    def params_for(self, x0: jax.Array) -> Any:
        """Parameters for conditions that start at x0 [C, D]; leaves [C, ...], or `Shared`.

        x0 has the dX entries of the initial state, and behind them the params of a condition that
        has some (`jgps.simulation.Conditions`), flattened.
        """
        ...

    @property
    def act(self) -> Policy:
        """`act(params, x [dX], o [dO], t, noise [dU]) -> u [dU]`."""
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
    falls: np.ndarray | None = None  # [C] fraction of all rollouts; None if the task has no test

    @property
    def fall_rate(self) -> float | None:
        """Mean share of falls over conditions."""
        return None if self.falls is None else float(np.mean(self.falls))

    @property
    def success_rate(self) -> float | None:
        """Mean success over conditions."""
        return None if self.success is None else float(np.mean(self.success))


class EvaluationResult(NamedTuple):
    """Results on a task's training and test conditions, and on distracted ones if it has any."""

    train: ConditionsResult
    test: ConditionsResult
    distracted: ConditionsResult | None = None

    @property
    def sets(self) -> dict[str, ConditionsResult]:
        """The results that there are, by the name of their set."""
        found = {"train": self.train, "test": self.test}
        return found if self.distracted is None else {**found, "distracted": self.distracted}

    @property
    def advice(self) -> str:
        """What to do where training conditions succeed and unseen ones do not; empty elsewhere."""
        train, test = self.train.success_rate, self.test.success_rate
        if train is None or test is None or train < 0.75 or train - test < 0.2:
            return ""
        return (
            f"the policy succeeds in {train:.0%} of the training conditions and in {test:.0%} of "
            "the unseen ones: it learned the training conditions alone. Give the task more of "
            "them, so that the unseen ones lie close between them, or random starts if it has "
            "any; where the policy is one controller per condition, train a network (mdgps)"
        )

    def metrics(self) -> dict[str, float]:
        """Means over conditions, as training records them after every iteration.

        `success_train` and `success_test` where the task defines success, `falls_train` and
        `falls_test` where it tests for falls; `cost_train_policy` and
        `cost_test_policy`, NaN where the policy diverges in any condition. The same of distracted
        conditions where the task has them.
        """
        found = {}
        for name, result in self.sets.items():
            if result.success_rate is not None:
                found[f"success_{name}"] = result.success_rate
            if result.fall_rate is not None:
                found[f"falls_{name}"] = result.fall_rate
            found[f"cost_{name}_policy"] = float(np.mean(result.cost))
        return found


# evaluator(params_for, key) -> result
Evaluator = Callable[[Callable[[jax.Array], Any], jax.Array], EvaluationResult]


@explain_unknown
def evaluate(
    task: Task,
    policy: EvaluablePolicy,
    *,
    key: jax.Array,
    backend: str = "auto",
    num_samples: int | None = None,
) -> EvaluationResult:
    """Rolls a policy out on the training, the test and the distracted conditions of a task.

    Args:
      task: the task.
      policy: an algorithm's `state.policy`, or anything like it.
      key: for the noise; nothing is drawn without `num_samples`.
      backend: "native", "mjx", "analytic" or "auto".
      num_samples: rollouts per condition, with white exploration noise; None is one without noise.

    Raises:
      ValueError: for what is no task, no policy or no key, an unknown backend, less than one
        sample, or more than this machine has memory for.
    """
    check_task("jgps.evaluate", task)
    _check_policy(policy)
    check_key(key)
    evaluator = make_evaluator(task, policy.act, backend, num_samples)
    if all(isinstance(leaf, jax.Array | np.ndarray) for leaf in jax.tree.leaves(policy)):
        return evaluator(functools.partial(params_for, policy), key)
    return evaluator(jax.jit(policy.params_for), key)


@jax.jit
def params_for(policy: EvaluablePolicy, x0: jax.Array) -> Any:
    """Params of a policy that is a pytree of arrays; those of one shape share the program."""
    return policy.params_for(x0)


def make_evaluator(
    task: Task, act: Policy, backend: str = "auto", num_samples: int | None = None
) -> Evaluator:
    """What `evaluate` does, for many policies that act alike: it is set up once.

    What it compiles serves later evaluators too, where `act` and the task's functions are equal but
    for the arrays that the latter close over, and shapes are the same.

    Args:
      task: the task.
      act: what the policies have in common, see `EvaluablePolicy`.
      backend: "native", "mjx", "analytic" or "auto".
      num_samples: rollouts per condition, with white exploration noise; None is one without noise.

    Returns:
      `evaluator(policy.params_for, key)`; its result is that of `evaluate`.

    Raises:
      ValueError: for an unknown backend or less than one sample.
    """
    if num_samples is not None:
        why = "usually 10; leave it out for one rollout without noise"
        num_samples = check_argument(
            "num_samples", num_samples, Annotated[int, Range("[1, 1e15]", why)]
        )
    sets = [task.train, task.test, *([] if task.distracted is None else [task.distracted])]
    _check_memory(task, sets, num_samples or 1)
    name = resolve_backend(backend, task.system)
    joint = _join(task.model, sets)
    if joint is None:
        runs = [_make_run(task, act, each, name, num_samples) for each in sets]
    else:  # one program for all compiles in half the time
        runs = [_make_run(task, act, joint, name, num_samples)]
    ends = np.cumsum([0, *(each.num for each in sets)])

    def evaluator(params_for: Callable[[jax.Array], Any], key: jax.Array) -> EvaluationResult:
        if joint is None:
            keys = jax.random.split(key, len(runs))
            found = [run(params_for, each) for run, each in zip(runs, keys, strict=True)]
            return EvaluationResult(*found)
        result = runs[0](params_for, key)
        parts = [slice(*pair) for pair in itertools.pairwise(ends)]
        return EvaluationResult(
            *(jax.tree.map(lambda leaf, part=part: leaf[part], result) for part in parts)
        )

    return evaluator


def _check_policy(policy: Any) -> None:
    """Refuses what is no policy, and says where in it there is one.

    Raises:
      ValueError: for anything without `act` and `params_for`.
    """
    if callable(getattr(policy, "act", None)) and callable(getattr(policy, "params_for", None)):
        return
    result = getattr(policy, "state", None)  # of a run, for instance
    hint = "an algorithm's state.policy, or anything with `act` and `params_for`"
    if hasattr(policy, "policy"):
        hint = "its policy: jgps.evaluate(task, state.policy, key=...)"
    elif hasattr(result, "policy"):
        hint = "its state.policy: jgps.evaluate(task, result.state.policy, key=...)"
    raise ValueError(f"policy is a {type(policy).__name__}; pass {hint}")


def _check_memory(task: Task, sets: Sequence[Conditions], num_samples: int) -> None:
    """Refuses more rollouts than this machine can hold.

    Raises:
      ValueError: says how many GiB they take.
    """
    rows = num_samples * sum(each.num for each in sets) * task.horizon
    width = task.state_dim + task.action_dim + task.observation_dim
    lower = "the task's horizon" if task.horizon > 100 * num_samples else "num_samples"
    what, size = f"{rows:,} steps of rollouts", jax.dtypes.canonicalize_dtype(float).itemsize
    memory.require(f"evaluating {task.name!r}", {what: size * rows * width}, f"lower {lower}")


def _join(model: mujoco.MjModel, sets: Sequence[Conditions]) -> Conditions | None:
    """All sets of conditions as one; None where they change different parts of the model.

    Where some alone move a body, it is in the others where the model has it. Sets are apart, too,
    where noise begins anew after different numbers of steps, whose common multiple may be large.
    """
    if any(changed_mocap(model, each) for each in sets) and any(map(_places_mocap, sets)):
        return None
    noises = [each.sensing.noise for each in sets if each.sensing is not None]
    if len({noise.shape[1] for noise in noises if noise is not None}) > 1:
        return None
    keys = sorted({key for each in sets for key in each.changes})
    completed = [dict(each.changes) for each in sets]
    for key in keys:
        if all(key in changes for changes in completed):
            continue
        field, _, name = key.partition(":")
        if field not in ("body_pos", "body_quat") or not name:
            return None
        in_model = getattr(model, field)[model.body(name).id]
        for each, changes in zip(sets, completed, strict=True):
            changes.setdefault(key, np.tile(in_model, (each.num, 1)))
    return concatenate_conditions(
        model,
        [
            each._replace(changes={key: changes[key] for key in keys})
            for each, changes in zip(sets, completed, strict=True)
        ],
    )


def _places_mocap(conditions: Conditions) -> bool:
    """Whether it says where mocap bodies are, other than by `changes`."""
    given = (*conditions.optional, *(key.partition(":")[0] for key in conditions.inputs))
    return not {"mocap_pos", "mocap_quat"}.isdisjoint(given)


_Run = Callable[[Callable[[jax.Array], Any], jax.Array], ConditionsResult]
_Score = Callable[[SimulationRollouts], ConditionsResult]


def _make_run(
    task: Task,
    act: Policy,
    conditions: Conditions,
    backend: Backend,
    num_samples: int | None,
) -> _Run:
    """Rolls out in one set of conditions, and scores the rollouts."""
    sample = make_sampler(task.system, conditions, act, backend).sample
    shape = (conditions.num, num_samples or 1, task.horizon, task.action_dim)
    x0, score = condition_features(task, conditions), _make_score(task, conditions)
    noise_free = to_device(np.zeros(shape))

    def run(params_for: Callable[[jax.Array], Any], key: jax.Array) -> ConditionsResult:
        noise = noise_free if num_samples is None else jax.random.normal(key, shape)
        return score(sample(params_for(x0), noise))

    return run


class _Functions(NamedTuple):
    """The task's functions, with what they close over as arguments."""

    cost: Lifted
    distance: Lifted | None
    success: Lifted | None
    fall: Lifted | None


def _lift_functions(task: Task) -> _Functions:
    dtype = jax.dtypes.canonicalize_dtype(float)
    x = jax.ShapeDtypeStruct((task.horizon, task.state_dim), dtype)
    u = jax.ShapeDtypeStruct((task.horizon, task.action_dim), dtype)
    extra = params_like(task.train)
    if not extra:
        jax.eval_shape(functools.partial(costs.evaluate, task.cost), x, u)  # refuses other horizons
    one_x, one_u = (jax.ShapeDtypeStruct(each.shape[1:], dtype) for each in (x, u))
    lifted = functools.partial(lift, differentiable=False)
    return _Functions(
        cost=lifted(task.cost, one_x, one_u, jax.ShapeDtypeStruct((), jnp.int32), *extra),
        distance=None if task.distance is None else lifted(task.distance, x, *extra),
        success=None if task.success is None else lifted(task.success, x, u, *extra),
        fall=None if task.fall is None else lifted(task.fall, one_x, *extra),
    )


def _make_score(task: Task, conditions: Conditions) -> _Score:
    params, functions = params_of(conditions), _lift_functions(task)

    def score(sampled: SimulationRollouts) -> ConditionsResult:
        values = _evaluate_functions(functions, params, sampled.x, sampled.u)
        total, distance, success, falls = jax.device_get(values)
        valid = np.asarray(sampled.valid)
        return ConditionsResult(
            cost=_mean(total, valid),
            distance=None if distance is None else _mean(distance, valid),
            success=None if success is None else np.mean(success & valid, axis=1),
            valid=np.mean(valid, axis=1),
            rollouts=SimulationRollouts(*(np.asarray(array) for array in sampled)),
            # One that is not finite is as bad as a fall.
            falls=None if falls is None else np.mean(falls | ~valid, axis=1),
        )

    return score


@jax.jit
def _evaluate_functions(
    functions: _Functions, params: Any, x: jax.Array, u: jax.Array
) -> tuple[jax.Array, jax.Array | None, jax.Array | None, jax.Array | None]:
    """Cost, distance, success and whether it fell, of every rollout, [C, N] each."""
    cost, distance, success, fall = functions
    return (
        jnp.sum(step_costs(params, cost, x, u), axis=-1),
        None if distance is None else over_rollouts(params, distance, x),
        None if success is None else succeeded(params, success, fall, x, u),
        None if fall is None else fallen(params, fall, x)[..., -1],
    )


def _mean(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Over the valid samples: [C, N] -> [C]; NaN where there is none."""
    count = np.sum(valid, axis=1)
    total = np.sum(np.where(valid, values, 0), axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
