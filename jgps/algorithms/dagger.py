"""Dataset aggregation: a network imitates optimised controllers wherever it goes itself.

    a few times:  improve local controllers alone, as `trajopt` does; those that did best
                  without noise are the teacher
    repeat:       roll out a mixture: the teacher acts with probability beta_i, the network else
                  add the visited states to one dataset
                  train the network to do what the teacher would do in all of them
                  roll the network out without noise

With beta = 1, 0, 0, ... the first round imitates the teacher where the teacher goes, the others
where the network goes. With beta = 1 throughout it is plain behaviour cloning.

Source: Ross, Gordon, Bagnell (2011), "A reduction of imitation learning and structured prediction
to no-regret online learning".
"""

import dataclasses
import functools
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from jgps.controllers import linear_gaussian
from jgps.core.checks import Range, refuse
from jgps.core.lifted import shared_jit
from jgps.core.types import OK, Controller, Rollouts, Shared, Status
from jgps.optimise.algorithm import Algorithm, Metrics
from jgps.optimise.factory import factory
from jgps.optimise.guided import loop as guided
from jgps.optimise.guided.acting import Mixture, MixtureAct
from jgps.optimise.guided.config import GuidedConfig
from jgps.optimise.guided.history import recent
from jgps.optimise.guided.loop import Parts
from jgps.optimise.guided.projection import pooled, targets
from jgps.optimise.guided.selection import keep_best
from jgps.optimise.guided.state import GuidedState
from jgps.optimise.local_loop import LocalConfig
from jgps.optimise.model_source import ModelsConfig
from jgps.optimise.models import (
    FittedModelsConfig,
    LocalModels,
    choose,
    default_dtype,
    expected_cost,
    sampled_costs,
)
from jgps.optimise.rollouts.sampling import make_sample
from jgps.optimise.step_size import StepMemory
from jgps.optimise.steps.bounded import BoundedStepConfig, bounded_step
from jgps.optimise.steps.lqr import LqrStepConfig, initial_memory
from jgps.optimise.steps.step import about_controllers
from jgps.policies import DistilConfig, Supervision
from jgps.policies.learner import MlpConfig
from jgps.simulation import SimulationRollouts
from jgps.tasks import Task
from jgps.tasks.start import initial_controllers, initial_states
from jgps.vision.config import NetworkPolicyConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class DaggerConfig(LocalConfig):
    """Settings of `dagger`.

    Attributes:
      teacher_iterations: for how many iterations the controllers learn before the network does, at
        least 1; 8 of 12 is usual.
      beta: probability that the teacher acts in a step, in the first round after that, the second
        one, ...; the last one holds for all further rounds. (1.0,) is plain behaviour cloning. It
        is drawn for every condition and step, the same in all samples of the condition.
      rounds_kept: how many rounds the dataset holds, the oldest make room, at least 1.
      policy: the network and how it is trained in a round.
      models, step: of the controllers' improvement, as in `TrajoptConfig`; the bound's rule is the
        published one.
      rollouts: see `LocalConfig`.
    """

    teacher_iterations: Annotated[int, Range(">= 1")] = 8
    beta: Annotated[tuple[float, ...], Range("[0, 1]")] = (1.0, 0.0)
    rounds_kept: Annotated[int, Range(">= 1")] = 8
    policy: NetworkPolicyConfig = MlpConfig(distil=DistilConfig(steps=2000, learning_rate=3e-3))
    models: ModelsConfig = FittedModelsConfig()
    step: BoundedStepConfig = LqrStepConfig()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.beta:
            refuse(self, "beta", "a tuple with a probability for every round, at least one")


class Memory(NamedTuple):
    """What an iteration leaves to the next; leaves [C, ...]."""

    step: StepMemory
    teacher: Controller  # the controllers that did best so far
    teacher_cost: jax.Array  # [C], what they cost then


@factory
def dagger(task: Task, config: DaggerConfig = DaggerConfig(), backend: str = "auto") -> Algorithm:
    """The algorithm on a task; see the file's head for what it does.

    In the state, `policy` is the network, untrained while the controllers learn; the metrics whose
    names begin with "noise_free" are the controllers' until then.

    Raises:
      ValueError: for an unknown backend, or where the task's initial controller does not fit its
        model.
    """
    parts = make_parts(task, config, backend)
    learn = shared_jit(functools.partial(_learn, task, config, parts))
    first_memory = functools.partial(_first_memory, task)
    return guided.make_algorithm(task, _guided(config), backend, parts, first_memory, learn)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _LoopConfig(GuidedConfig):
    """Settings of the loop that guided algorithms share; its history is the dataset."""

    rounds_kept: Annotated[int, Range(">= 1")]

    @property
    def history_length(self) -> int:
        """See `GuidedConfig`."""
        return self.rounds_kept


def _guided(config: DaggerConfig) -> _LoopConfig:
    return _LoopConfig(
        rollouts=config.rollouts,
        models=config.models,
        policy=config.policy,
        trajectory_iterations=config.teacher_iterations,
        rounds_kept=config.rounds_kept,
    )


def _first_memory(task: Task) -> Memory:
    num, dtype = task.train.num, default_dtype()
    return Memory(
        step=initial_memory(num),
        teacher=initial_controllers(task, initial_states(task, task.train)),
        teacher_cost=jnp.full(num, jnp.inf, dtype),
    )


def make_parts(task: Task, config: DaggerConfig, backend: str) -> Parts:
    """The shared parts, but for who acts: teacher and network in turns."""
    parts = guided.make_parts(task, _guided(config), backend, waits=False)
    act = MixtureAct(parts.slots.learner.act)
    roll_out = make_sample(task, act, backend, config.rollouts)
    roll_out_noise_free = make_sample(task, act, backend, None)
    mix = shared_jit(functools.partial(_mix, config))
    choose_best = shared_jit(functools.partial(_choose_best, task, config))

    def sample(state: GuidedState, key: jax.Array) -> SimulationRollouts:
        noise_key, turn_key = jax.random.split(key)
        return roll_out(mix(state, turn_key), noise_key)

    def select_best(state: GuidedState, key: jax.Array) -> tuple[GuidedState, Metrics]:
        alone = mix(state, None)
        return choose_best(state, roll_out_noise_free(alone, key).rollouts)

    def linearise(
        state: GuidedState, sampled: SimulationRollouts
    ) -> tuple[GuidedState, Controller, Status, Metrics]:
        """Nothing stays near the network here."""
        ok = jnp.full(sampled.valid.shape[0], OK, jnp.int32)
        return state, state.controllers, Status(code=ok, step=jnp.full_like(ok, -1)), {}

    return parts._replace(sample=sample, select_best=select_best, linearise=linearise)


def _teaching(config: DaggerConfig, state: GuidedState) -> jax.Array:
    """Whether the controllers still learn."""
    return state.iteration < config.teacher_iterations


def _mix(config: DaggerConfig, state: GuidedState, key: jax.Array | None) -> Mixture:
    """Who acts in this iteration; without a key, in its noise-free rollouts."""
    factored, _ = jax.vmap(linear_gaussian.factor)(state.controllers)
    turns, teaching = state.controllers.k.shape[:2], _teaching(config, state)
    if key is None:
        by_teacher = jnp.broadcast_to(teaching, turns)
    else:
        beta = jnp.asarray(config.beta, default_dtype())
        current = jnp.clip(state.iteration - config.teacher_iterations, 0, beta.shape[0] - 1)
        by_teacher = teaching | jax.random.bernoulli(key, beta[current], turns)
    network = state.newest.params_for(factored.k[:, 0])
    return Mixture(factored, network, by_teacher, Shared(~teaching))


def _learn(
    task: Task,
    config: DaggerConfig,
    parts: Parts,
    state: GuidedState,
    models: LocalModels,
    linearised: Controller,
    sampled: SimulationRollouts,
    key: jax.Array,
) -> tuple[GuidedState, Metrics]:
    """Improves the controllers while they learn, from then on trains the network.

    In the metrics, numbers of what did not happen are NaN.
    """
    del linearised

    def improve(state: GuidedState) -> tuple[GuidedState, Metrics]:
        # What was visited before there was a teacher is not in the dataset.
        dataset = state.history
        assert dataset is not None
        forgotten = dataset._replace(valid=jnp.zeros_like(dataset.valid))
        state = state._replace(history=forgotten)
        return _improve(task, config, models, sampled.rollouts, state)

    def train(state: GuidedState) -> tuple[GuidedState, Metrics]:
        return parts.distil(state, _labelled(state), key)

    def only(chosen, other):
        def run(state: GuidedState) -> tuple[GuidedState, Metrics]:
            state, metrics = chosen(state)
            _, absent = jax.eval_shape(other, state)
            return state, {**jax.tree.map(_absent, absent), **metrics}

        return run

    teaching = _teaching(config, state)
    state, metrics = jax.lax.cond(teaching, only(improve, train), only(train, improve), state)
    return state, {**metrics, "status": jnp.where(teaching, metrics["status"], models.status.code)}


def _absent(kind: jax.ShapeDtypeStruct) -> jax.Array:
    """What stands for a number that there is not; counts and codes are zero."""
    floating = jnp.issubdtype(kind.dtype, jnp.floating)
    return jnp.full(kind.shape, jnp.nan if floating else 0, kind.dtype)


def _labelled(state: GuidedState) -> Supervision:
    """What the teacher would do in all states of the dataset, each of which counts the same.

    Its own precisions differ by decades over time, where there is nothing to explore any more.
    """
    assert state.history is not None
    return pooled(targets(state, recent(state.history, state.iteration)), state.controllers.C)


def _improve(
    task: Task, config: DaggerConfig, models: LocalModels, rollouts: Rollouts, state: GuidedState
) -> tuple[GuidedState, Metrics]:
    """One KL-constrained LQR step, by the published rule of its bound."""
    memory, previous = state.memory, state.controllers
    cost_now = expected_cost(previous, models)
    costs = sampled_costs(task, rollouts)
    inputs = about_controllers(previous, models, rollouts, costs, cost_now, state.iteration)
    result = bounded_step(task, config.step).improve(memory.step, inputs)
    state = state._replace(
        controllers=result.controllers, memory=memory._replace(step=result.memory)
    )
    return state, {"cost_expected": cost_now, **result.metrics}


def _choose_best(
    task: Task, config: DaggerConfig, state: GuidedState, noise_free: Rollouts
) -> tuple[GuidedState, Metrics]:
    """Keeps the controllers, later the network, that did best without noise so far."""
    kept, metrics = keep_best(task, state, noise_free)
    teaching, memory, cost = _teaching(config, state), state.memory, metrics["noise_free_cost"]
    better = teaching & noise_free.valid[:, 0] & (cost < memory.teacher_cost)
    teacher = choose(better, state.controllers, memory.teacher)
    teacher_cost = jnp.where(better, cost, memory.teacher_cost)

    def pick(flag: jax.Array, yes: Any, no: Any) -> Any:
        return jax.tree.map(lambda a, b: jnp.where(flag, a, b), yes, no)

    taught = state.iteration + 1 >= config.teacher_iterations
    state = state._replace(
        controllers=pick(taught, teacher, state.controllers),
        policy=pick(teaching, state.policy, kept.policy),
        policy_valid=pick(teaching, state.policy_valid, kept.policy_valid),
        policy_success=pick(teaching, state.policy_success, kept.policy_success),
        policy_cost=pick(teaching, state.policy_cost, kept.policy_cost),
        memory=memory._replace(teacher=teacher, teacher_cost=teacher_cost),
    )
    return state, metrics
