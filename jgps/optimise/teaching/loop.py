"""The loop in which plans that are made anew all the time teach one network.

    repeat: an episode of every condition, N times each, in which plans act, or the network
            train the network on what the plans would do in all states of recent iterations
            roll the network out without noise

The result is the best network so far, by its noise-free rollouts in all training conditions.
"""

import functools
import operator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jgps.controllers import exploration_noise
from jgps.core import linalg
from jgps.core.lifted import shared_jit
from jgps.core.types import NON_FINITE, OK, Controller, Rollouts
from jgps.optimise.algorithm import Algorithm, Metrics
from jgps.optimise.guided.selection import keep_best, training_metrics
from jgps.optimise.inspection import make_inspect
from jgps.optimise.models import default_dtype, sample_metrics
from jgps.optimise.rollouts.sampling import make_sample
from jgps.optimise.teaching.config import TeachingConfig
from jgps.optimise.teaching.episode import Done, Script, play
from jgps.optimise.teaching.lessons import Lessons, empty_lessons, learned_from, taught
from jgps.optimise.teaching.near import Near, make_near
from jgps.optimise.teaching.stage import Grounds, Numbers, Rule, make_grounds
from jgps.policies import NetworkPolicy
from jgps.policies.learner import PolicyLearner
from jgps.simulation import SimulationRollouts
from jgps.tasks import Task
from jgps.vision.learner import make_learner


class TeachingState(NamedTuple):
    """What the next iteration needs."""

    key: jax.Array
    iteration: jax.Array  # [] int32
    newest: NetworkPolicy  # as last trained
    policy: NetworkPolicy  # the best of those that were rolled out without noise
    policy_valid: jax.Array  # [], share of the training conditions that it got through then
    policy_success: jax.Array  # [], share of those that it succeeded in then; 0 if undefined
    policy_cost: jax.Array  # [], its mean cost over those that it got through then
    lessons: Lessons  # of recent iterations, with what was done in them
    shift: jax.Array  # [C, T, dU], by which teacher and learner have differed, see `Rule`
    controllers: Controller  # [C, T, ...], what the teacher did in each condition's first episode

    @property
    def episodes(self) -> Rollouts:
        """What the last iteration did, [C, N, T, ...], with its noise; zero where it broke."""
        kept = self.lessons
        slot = (self.iteration - 1) % kept.valid.shape[0]
        return Rollouts(x=kept.x[slot], u=kept.u[slot], valid=kept.valid[slot])


def make_teaching(task: Task, config: TeachingConfig, backend: str, rule: Rule) -> Algorithm:
    """The loop under one rule.

    Raises:
      ValueError: for a backend that can't plan, a task whose state does not tell where its
        simulation is, and one whose observation does not follow from its state where the
        divergence counts along whole plans.
    """
    learner = make_learner(task, config.policy)
    grounds = make_grounds(task, config, backend, learner, rule)
    begin = grounds.known.begin
    script = shared_jit(functools.partial(_script, task, config, grounds))
    act = functools.partial(play, grounds.stage)
    act = shared_jit(act) if grounds.stage.plant.jittable else act
    learn = shared_jit(functools.partial(_learn, task, config, learner, grounds))
    choose_best = shared_jit(functools.partial(keep_best, task))
    roll_out = make_sample(task, learner.act, backend, None)
    params_of = shared_jit(lambda policy: policy.params_for(None))

    def draw(state: TeachingState) -> tuple[Done, jax.Array]:
        # Beside the program, which has not all digits of the states.
        made = script(state)._replace(states=begin.state[:, 0], x=begin.x[:, 0])
        return act(state.newest, made), made.near.weight

    def step(state: TeachingState) -> tuple[TeachingState, Metrics]:
        done, weight = draw(state)
        told = done._replace(state=None)
        state, metrics = learn(state, jax.tree.map(_in_jax, told), weight)
        found = roll_out(params_of(state.newest), state.key).rollouts
        best, noise_free = choose_best(state, found)
        return best, {**metrics, **noise_free}

    def samples(state: TeachingState) -> SimulationRollouts:
        done, _ = draw(state)
        return grounds.rollouts(done)

    inspect = make_inspect(task, backend)
    return Algorithm(
        init=shared_jit(functools.partial(_init, task, config, learner, grounds.numbers)),
        step=shared_jit(step) if grounds.stage.plant.jittable else step,
        inspect=lambda state: inspect(state.key, state.controllers),
        samples=samples,
        forget_results=_forget_results,
        rollouts_per_step=task.train.num * (config.num_samples + 1),
        newest=operator.attrgetter("newest"),
        problem=lambda state: learner.problem(None),
    )


def _in_jax(leaf: Any) -> Any:
    dtype = default_dtype() if np.issubdtype(leaf.dtype, np.floating) else leaf.dtype
    return jnp.asarray(leaf, dtype)


def _init(
    task: Task,
    config: TeachingConfig,
    learner: PolicyLearner,
    numbers: Numbers,
    key: jax.Array,
) -> TeachingState:
    key, network_key = jax.random.split(key)
    C, T, dX, dU = task.train.num, task.horizon, task.state_dim, task.action_dim
    policy, _ = learner.init(network_key, None)
    dtype = default_dtype()
    return TeachingState(
        key=key,
        iteration=jnp.zeros((), jnp.int32),
        newest=policy,
        policy=policy,
        policy_valid=jnp.zeros((), dtype),
        policy_success=jnp.zeros((), dtype),
        policy_cost=jnp.full((), jnp.inf, dtype),
        lessons=empty_lessons(task, config.iterations_kept, config.num_samples),
        shift=jnp.zeros((C, T, dU), dtype),
        controllers=Controller(
            K=jnp.zeros((C, T, dU, dX), dtype),
            k=jnp.zeros((C, T, dU), dtype),
            C=numbers.temperature * jnp.broadcast_to(jnp.eye(dU, dtype=dtype), (C, T, dU, dU)),
        ),
    )


def _now(schedule: jax.Array, iteration: jax.Array) -> jax.Array:
    """The entry of an iteration; the last one holds for all further ones."""
    return schedule[jnp.minimum(iteration, len(schedule) - 1)]


def _script(task: Task, config: TeachingConfig, grounds: Grounds, state: TeachingState) -> Script:
    """What is decided before an episode, but for where it starts."""
    noise_key, turn_key, plan_key, _ = jax.random.split(state.key, 4)
    T, dU, N = task.horizon, task.action_dim, config.num_samples
    B = task.train.num * N
    smoothing = config.noise_smoothing
    noise = exploration_noise(noise_key, B, T, dU, smoothing, dtype=default_dtype())
    beta = _now(grounds.numbers.beta, state.iteration)
    weight = _now(grounds.numbers.weight, state.iteration)
    like = Near(
        weight=None,
        root=None,
        shift=jnp.repeat(state.shift, N, axis=0),
        first=jnp.zeros(B, jnp.int32),
        mean=jnp.zeros((B, dU), noise.dtype),
        variables=None,
        frozen=grounds.frozen,
    )
    known = state.iteration > 0
    near = make_near(state.newest, jnp.where(known, weight, 0), config.near == "plan", like)
    return Script(
        near=near,
        noise=jnp.moveaxis(noise, 1, 0),
        by_teacher=jax.random.bernoulli(turn_key, beta, (T, B)),
        states=None,
        x=None,
        key=plan_key,
    )


def _learn(
    task: Task,
    config: TeachingConfig,
    learner: PolicyLearner,
    grounds: Grounds,
    state: TeachingState,
    done: Done,
    weight: jax.Array,
) -> tuple[TeachingState, Metrics]:
    C, numbers = task.train.num, grounds.numbers
    *_, following = jax.random.split(state.key, 4)
    key, train_key = jax.random.split(following)
    done = jax.tree.map(lambda a: None if a is None else a.reshape(C, -1, *a.shape[1:]), done)
    valid = done.valid
    counts = valid[..., None, None]
    gap = jnp.where(counts, done.acting - done.mean, 0)
    precision, _, _ = linalg.inverse_psd(state.newest.cov)
    with jax.default_matmul_precision("highest"):
        nats = 0.5 * jnp.einsum("cnti,ij,cntj->cnt", gap, precision, gap)
    number = jnp.maximum(jnp.sum(valid, axis=1), 1)
    divergence = jnp.sum(jnp.where(valid[..., None], nats, 0), axis=(1, 2)) / number
    mean_gap = jnp.sum(gap, axis=1) / number[:, None, None]
    known = (state.iteration > 0) & jnp.any(weight > 0)
    shift = state.shift + numbers.rate * jnp.where(known, mean_gap, 0)
    # The shift before it moved: that is what was planned with.
    lessons = taught(config, state, done, done.label + state.shift[:, None])
    policy, info = learner.train(
        state.newest, learned_from(numbers.temperature, lessons), state.iteration, train_key
    )
    metrics = {
        **sample_metrics(task, Rollouts(x=done.x, u=done.u, valid=valid)),
        "divergence": divergence,
        "divergence_weight": jnp.max(weight),
        **training_metrics(learner, info),
        "status": jnp.where(jnp.all(valid, axis=1), OK, NON_FINITE).astype(jnp.int32),
        "status_step": jnp.full(C, -1, jnp.int32),
    }
    state = state._replace(
        key=key,
        iteration=state.iteration + 1,
        newest=policy,
        lessons=lessons,
        shift=shift,
        controllers=_controllers(grounds, state.controllers, done),
    )
    return state, metrics


def _controllers(grounds: Grounds, before: Controller, done: Done) -> Controller:
    """What the teacher did in the first episode of every condition; as before where it broke."""
    x, u, gains, curvature = done.x[:, 0], done.label[:, 0], done.K[:, 0], done.curvature[:, 0]
    with jax.default_matmul_precision("highest"):
        K = jnp.einsum("ctus,ctsx->ctux", gains, grounds.known.left(x))
        k = u - jnp.einsum("ctux,ctx->ctu", K, x)
    inverse, _, ok = linalg.inverse_psd(curvature)
    eye = jnp.eye(u.shape[-1], dtype=u.dtype)
    C = grounds.numbers.temperature * jnp.where(ok[..., None, None], inverse, eye)
    found, good = Controller(K, k, linalg.symmetrise(C)), done.valid[:, 0]
    return jax.tree.map(
        lambda a, b: jnp.where(good.reshape(-1, *[1] * (a.ndim - 1)), a, b), found, before
    )


def _forget_results(state: TeachingState) -> TeachingState:
    """The state for which any policy that gets through is better than the best so far."""
    return state._replace(
        policy_valid=jnp.zeros_like(state.policy_valid),
        policy_success=jnp.zeros_like(state.policy_success),
        policy_cost=jnp.full_like(state.policy_cost, jnp.inf),
    )
