"""The loop in which plans label the states that a network visits, in episodes that go on.

repeat: some steps of every episode, in which the network acts and plans say what is right
train the network on the labels of recent iterations, and on how firmly plans hold them
roll the network out without noise in the training conditions
"""

import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jgps.core.doubles import packed, unpacked
from jgps.core.host import to_device
from jgps.core.lifted import shared_jit
from jgps.core.schedule import at_iteration
from jgps.core.types import NON_FINITE, OK, Controller, Marginals
from jgps.mujoco_log import quiet_mujoco
from jgps.optimise.algorithm import Algorithm, Inspection, Metrics, inspection_key
from jgps.optimise.guided.selection import keep_best, training_metrics
from jgps.optimise.labelling import replay as ring
from jgps.optimise.labelling import visits
from jgps.optimise.labelling.config import MpcDaggerConfig
from jgps.optimise.labelling.ground import Ground, make_ground
from jgps.optimise.labelling.visits import Script, Slots, Visit, Visited
from jgps.optimise.models import default_dtype
from jgps.optimise.mpc.receding import SHARES
from jgps.optimise.rollouts.sampling import FixedStartsConfig, make_sample
from jgps.policies import NetworkPolicy
from jgps.policies.learner import PolicyLearner
from jgps.simulation import SimulationRollouts, condition_models, resolve_backend
from jgps.simulation.derivatives import key_steps
from jgps.simulation.inverse import StateInverse
from jgps.simulation.observation_jacobian import ObservationJacobian
from jgps.simulation.state_jacobian import tangent_dim
from jgps.simulation.system import control_ranges
from jgps.tasks import Task
from jgps.tasks.functions import with_params
from jgps.vision.learner import make_learner


class LabellingState(NamedTuple):
    """What the next iteration needs."""

    key: jax.Array
    iteration: jax.Array  # [] int32
    newest: NetworkPolicy  # as last trained
    policy: NetworkPolicy  # the best of those that were rolled out without noise
    policy_valid: jax.Array  # [], share of the training conditions that it got through then
    policy_success: jax.Array  # [], share of those that it succeeded in then; 0 if undefined
    policy_cost: jax.Array  # [], its mean cost over those that it got through then
    slots: Any  # `Slots`, with float64 as bits
    replay: ring.Replay
    environment_steps: jax.Array  # [], control steps simulated so far, perturbed ones included
    mean: jax.Array  # [C, T, dU], what the newest policy did without noise


class Parts(NamedTuple):
    """What the loop is made of."""

    task: Task
    config: MpcDaggerConfig
    learner: PolicyLearner
    ground: Callable[[int], Ground]  # of a draw of episodes
    mean: Callable[[NetworkPolicy, Any], Any]  # what a network does for o [S, dO]
    cost: Callable[..., Any]  # what episodes cost, [S]
    fall: Callable[[Any, Any], Any] | None  # of params and x [S, dX] of the host
    half: Any  # [dU], half the range of each control
    latency: int  # the longest, in control steps


def make_labelling(task: Task, config: MpcDaggerConfig, backend: str) -> Algorithm:
    """The loop.

    Raises:
      ValueError: for another backend than "native", and a task whose state does not tell where its
        simulation is.
    """
    if resolve_backend(backend, task.system) != "native":
        raise ValueError(
            f"mpc_dagger plans on native threads alone, and backend {backend!r} of task "
            f"{task.name!r} is another one; use 'native' and a task without dynamics of its own"
        )
    StateInverse(task.model, task.layout)  # says what the state does not tell
    if config.learns_gains:
        ObservationJacobian(task.system)  # and what of the observation does not follow from it
    learner = make_learner(task, config.policy)
    parts = _parts(task, config, learner)
    roll_out = make_sample(task, learner.act, "native", None)
    noisy = make_sample(task, learner.act, "native", FixedStartsConfig(num_samples=2))
    choose_best = shared_jit(functools.partial(keep_best, task))
    learn = shared_jit(functools.partial(_learn, config, learner))
    params_for = shared_jit(lambda policy: policy.params_for(None))

    def step(state: LabellingState) -> tuple[LabellingState, Metrics]:
        first = state.slots.step
        slots, done, cost = _visit(parts, state)
        labels = ring.on_device(_labels(done))
        curvature = to_device(done.curvature, default_dtype())
        state, info = learn(state, labels, curvature)
        found = roll_out(params_for(state.newest), state.key).rollouts
        state, noise_free = choose_best(state, found)
        spent = _environment_steps(parts, int(first))
        state = state._replace(
            slots=_stored(slots),
            environment_steps=state.environment_steps + spent,
            mean=found.u[:, 0],
        )
        metrics = {
            **_summary(cost, done.sound.all(axis=1)),
            "labels": to_device(done.taught.sum(dtype=np.int32)),
            "episode_falls": to_device(done.fell.sum(dtype=np.int32)),
            "plan_cost": to_device(np.median(done.plan_cost), default_dtype()),
            "environment_steps": state.environment_steps,
            **info,
            **noise_free,
        }
        return state, metrics

    return Algorithm(
        init=functools.partial(_init, parts),
        step=step,
        inspect=functools.partial(_inspect, noisy, params_for),
        samples=lambda state: _rollouts(_visit(parts, state)[1]),
        forget_results=_forget_results,
        rollouts_per_step=config.episodes + task.train.num,
        newest=operator.attrgetter("newest"),
        problem=lambda state: learner.problem(None),
    )


def _parts(task: Task, config: MpcDaggerConfig, learner: PolicyLearner) -> Parts:
    kept: dict[int, Ground] = {}

    def ground(draw: int) -> Ground:
        number = draw if task.episodes is not None else 0
        if number not in kept:
            kept.clear()
            kept[number] = make_ground(task, config, number)
        return kept[number]

    lower, upper = control_ranges(condition_models(task.model, task.train.select([0])))[:, 0]
    half = np.where(np.isfinite(upper - lower), 0.5 * (upper - lower), 1)
    fall = None
    if task.fall is not None:
        fallen = shared_jit(functools.partial(_fallen, task.fall))
        fall = functools.partial(_on_host, fallen)
    mean = shared_jit(functools.partial(_mean, learner))
    cost = shared_jit(functools.partial(_cost, task))
    return Parts(task, config, learner, ground, mean, cost, fall, half, _latency(task))


def _latency(task: Task) -> int:
    """By how many control steps observations are old at the most."""
    if task.episodes is not None:
        late = task.episodes.latency
        return 0 if late is None else round(late[1] / task.control_dt)
    sensing = task.train.sensing
    return 0 if sensing is None or sensing.latency is None else int(np.max(sensing.latency))


def _fallen(fall: Callable[..., jax.Array], params: Any, x: jax.Array) -> jax.Array:
    """Which of the states x [S, dX] are those of a robot that has fallen, [S]."""
    return jax.vmap(lambda p, x: with_params(fall, p)(x))(params, x)


def _mean(learner: PolicyLearner, policy: NetworkPolicy, o: jax.Array) -> jax.Array:
    return learner.mean(policy, o, jnp.asarray(True))


def _on_host(function: Callable[..., jax.Array], first: Any, values: Any) -> np.ndarray:
    """What a function of JAX makes of an array of the host."""
    return np.asarray(function(first, to_device(values, default_dtype())))


def _init(parts: Parts, key: jax.Array) -> LabellingState:
    task, dtype = parts.task, default_dtype()
    key, network_key, draw_key = jax.random.split(key, 3)
    policy, _ = parts.learner.init(network_key, None)
    # Runs of different seeds learn from different episodes.
    first = jax.random.randint(draw_key, (), 0, 2**30)
    slots = _stored(visits.nowhere(task, parts.config, parts.latency, dtype))
    return LabellingState(
        key=key,
        iteration=jnp.zeros((), jnp.int32),
        newest=policy,
        policy=policy,
        policy_valid=jnp.zeros((), dtype),
        policy_success=jnp.zeros((), dtype),
        policy_cost=jnp.full((), jnp.inf, dtype),
        slots=slots._replace(draw=first - 1),
        replay=ring.empty(task, parts.config),
        environment_steps=jnp.zeros((), dtype),
        mean=jnp.zeros((task.train.num, task.horizon, task.action_dim), dtype),
    )


def _stored(slots: Slots) -> Any:
    """Slots as arrays of JAX that keep every bit."""
    return jax.tree.map(to_device, packed(jax.tree.map(np.asarray, slots)))


@quiet_mujoco()
@np.errstate(over="ignore")  # of simulations that diverge
def _visit(parts: Parts, state: LabellingState) -> tuple[Slots, Visited, np.ndarray]:
    """The steps of one iteration; where episodes end others begin.

    Returns:
      Where the episodes are then, what happened, and what it cost, [S].
    """
    config, task = parts.config, parts.task
    slots = jax.tree.map(np.asarray, unpacked(state.slots))
    iteration = int(state.iteration)
    turn_key, noise_key, plan_key = jax.random.split(jax.random.fold_in(state.key, 1), 3)
    beta = 1.0 if iteration == 0 else at_iteration(config.beta, iteration)
    shape = (config.steps, config.episodes, task.action_dim)
    noise = config.noise * parts.half * np.asarray(jax.random.normal(noise_key, shape))
    script = Script(
        by_plan=np.asarray(jax.random.uniform(turn_key, (config.episodes,))) < float(beta),
        noise=noise,
        key=plan_key,
    )
    visit = Visit(config, parts.fall, functools.partial(_on_host, parts.mean, state.newest))
    pieces, passed, cost = [], 0, np.zeros(config.episodes)
    while passed < config.steps:
        if int(slots.step) == task.horizon:
            draw = int(slots.draw) + 1
            slots = visits.begin(parts.ground(draw), draw, parts.latency, slots.past.dtype)
        steps = min(config.steps - passed, task.horizon - int(slots.step))
        part = script._replace(noise=noise[passed : passed + steps])
        ground, first = parts.ground(int(slots.draw)), slots.step
        slots, piece = visits.advance(visit, ground, slots, part)
        told = (to_device(a, default_dtype()) for a in (piece.x, piece.u))
        cost += np.asarray(parts.cost(ground.params, *told, to_device(first)))
        pieces.append(piece)
        passed += steps
    whole = {
        name: np.concatenate([getattr(piece, name) for piece in pieces], axis=1)
        for name in Visited._fields
        if name != "curvature"
    }
    done = Visited(**whole, curvature=np.sum([p.curvature for p in pieces], axis=0))
    return slots, done, cost


def _labels(done: Visited) -> ring.Labels:
    """What there is to learn, of all episodes in a row."""
    num = done.taught.size
    return ring.Labels(
        *(a.reshape(num, *a.shape[2:]) for a in (done.o, done.label, done.gain, done.taught))
    )


def _learn(
    config: MpcDaggerConfig,
    learner: PolicyLearner,
    state: LabellingState,
    labels: ring.Labels,
    curvature: jax.Array,
) -> tuple[LabellingState, Metrics]:
    key, train_key = jax.random.split(state.key)
    replay = ring.added(state.replay, labels, curvature)
    supervision = ring.learned_from(replay, jnp.asarray(config.temperature, curvature.dtype))
    policy, info = learner.train(state.newest, supervision, state.iteration, train_key)
    state = state._replace(key=key, iteration=state.iteration + 1, newest=policy, replay=replay)
    return state, training_metrics(learner, info)


def _environment_steps(parts: Parts, first: int) -> float:
    """Control steps that an iteration from step `first` on simulates, with those that plans try.

    That is those of perturbed copies, of all step sizes, and of what is left of the plans before.
    """
    config, task = parts.config, parts.task
    S, n = config.episodes, config.steps
    times = [(first + i) % task.horizon for i in range(n)]
    planned = [t for t in times if t % config.replan_every == 0]
    # In an episode's first state each plan goes on from where the one before leads already.
    searches = sum(config.first_iterations if t == 0 else 1 for t in planned)
    perturbed = 1 + tangent_dim(task.model) + task.action_dim
    derivatives = config.derivatives
    if derivatives is not None and derivatives.centred:
        perturbed = 2 * perturbed - 1
    if derivatives is not None and derivatives.physics_steps == "first":
        perturbed = perturbed / task.substeps
    every = 1 if derivatives is None else derivatives.key_steps
    # Where x has sensors they are differentiated at the last state as well.
    keys = len(key_steps(config.horizon - 1, every)) + task.layout.uses_sensors
    searched = keys * perturbed + config.horizon * config.planner.step_sizes
    begun = config.horizon * len(SHARES) * len(planned)
    return S * (n + begun + searches * config.planner.iterations * searched)


def _rollouts(done: Visited) -> SimulationRollouts:
    """All episodes in one row, as random starts are, [1, S, n, ...]."""
    x, u, o = (to_device(a, default_dtype())[None] for a in (done.x, done.u, done.o))
    valid = to_device(done.sound.all(axis=1))[None]
    return SimulationRollouts(x=x, u=u, valid=valid, qpos=done.qpos[None], o=o)


def _cost(task: Task, params: Any, x: jax.Array, u: jax.Array, first: jax.Array) -> jax.Array:
    """What episodes [S, n, ...] cost from step `first` on, [S]."""
    times = first + jnp.arange(u.shape[1], dtype=jnp.int32)

    def total(params: Any, x: jax.Array, u: jax.Array) -> jax.Array:
        return jnp.sum(jax.vmap(with_params(task.cost, params))(x, u, times))

    return jax.vmap(total)(params, x, u)


def _summary(cost: np.ndarray, sound: np.ndarray) -> Metrics:
    """What the episodes cost, over those that are sound; [1] each."""
    counted = cost[sound] if sound.any() else np.zeros(1)
    found = {
        "cost": np.mean(counted),
        "cost_std": np.std(counted),
        "samples_valid": np.sum(sound, dtype=np.int32),
        "status": np.int32(OK if sound.any() else NON_FINITE),
        "status_step": np.int32(-1),
    }
    return {name: to_device(np.reshape(value, 1)) for name, value in found.items()}


def _inspect(
    sample: Any, params_for: Callable[[NetworkPolicy], Any], state: LabellingState
) -> Inspection:
    sampled = sample(params_for(state.newest), inspection_key(state.key))
    z = jnp.concatenate([sampled.x, sampled.u], axis=-1)
    counted = sampled.valid[..., None, None]
    number = jnp.maximum(jnp.sum(sampled.valid, axis=1), 1)[:, None, None]
    mean = jnp.sum(jnp.where(counted, z, 0), axis=1) / number
    off = jnp.where(counted, z - mean[:, None], 0)
    # Of a few samples nothing is known of how entries go together.
    cov = jax.vmap(jax.vmap(jnp.diag))(jnp.sum(jnp.square(off), axis=1) / number)
    C, T, dU = state.mean.shape
    K = jnp.zeros((C, T, dU, sampled.x.shape[-1]), z.dtype)
    noise = jnp.broadcast_to(state.newest.cov, (C, T, dU, dU))
    return Inspection(sampled, Marginals(mean, cov), Controller(K, state.mean, noise))


def _forget_results(state: LabellingState) -> LabellingState:
    """The state for which any policy that gets through is better than the best so far."""
    return state._replace(
        policy_valid=jnp.zeros_like(state.policy_valid),
        policy_success=jnp.zeros_like(state.policy_success),
        policy_cost=jnp.full_like(state.policy_cost, jnp.inf),
    )
