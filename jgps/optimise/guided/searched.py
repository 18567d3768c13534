"""What algorithms share that search trajectories on known dynamics until one network does the same.

repeat: roll out the controllers q_c with noise
search their trajectories by iLQG on the cost and the pull to the network
train the network on what the controllers do, where the rollouts went
step the multipliers of the constraint that both agree        (where they differ)
roll the network out without noise
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from jgps.core.checks import Config, Range
from jgps.core.lifted import shared_jit
from jgps.core.types import OK, Controller, Status
from jgps.optimise.algorithm import Algorithm, Metrics
from jgps.optimise.guided import loop as guided
from jgps.optimise.guided.config import GuidedConfig
from jgps.optimise.guided.loop import Parts
from jgps.optimise.guided.outliers import sample_weights
from jgps.optimise.guided.projection import targets
from jgps.optimise.guided.state import GuidedState, trained
from jgps.optimise.guided.trajectory_search import (
    Network,
    Pull,
    Searched,
    action_limits,
    actions,
    make_search,
)
from jgps.optimise.ilqg.solve import SearchConfig
from jgps.optimise.known_models import KnownModelsConfig
from jgps.optimise.models import LocalModels, choose, default_dtype
from jgps.optimise.rollouts.sampling import FixedStartsConfig
from jgps.policies import DistilConfig, Supervision
from jgps.policies.learner import MlpConfig
from jgps.simulation import SimulationRollouts
from jgps.tasks import Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchedConfig(Config):
    """Settings of the loop around searched trajectories and one network.

    Attributes:
      rollouts: how the controllers are rolled out with noise.
      models: how the dynamics' derivatives are taken and the cost becomes quadratic; nothing else
        of it counts but in `inspect`.
      search: how trajectories are searched for, see `SearchConfig`: `iterations` is that of one
        iteration of the algorithm, and `chunk` is not read: all conditions are searched at once.
      trajectory_iterations: number of the first iterations in which trajectories are searched for
        without the network, >= 0.
      entropy_weight: what a nat of the controllers' entropy is worth, > 0, in units of the cost:
        their covariance is about this times the inverse of the cost's curvature by the action.
      outlier_bound: how far a rollout may be from the others before it counts less, > 0, in
        standard deviations of the action that its controller answers it with; see
        `guided.outliers`. Controllers are linear, and far from their trajectory wrong.
      policy: the network and how it learns; it is differentiated, for which "tanh" is smooth.
    """

    rollouts: FixedStartsConfig = FixedStartsConfig(noise_smoothing=0.0)
    models: KnownModelsConfig = KnownModelsConfig()
    search: SearchConfig = SearchConfig(iterations=10)
    trajectory_iterations: Annotated[int, Range(">= 0", "usually 5 to 20")] = 10
    entropy_weight: Annotated[float, Range("> 0", "usually 1e-3 to 1")] = 0.05
    outlier_bound: Annotated[float, Range("> 0", "usually 1 to 3 standard deviations")] = 1.5
    policy: MlpConfig = MlpConfig(
        hidden=(20, 20),
        activation="tanh",
        distil=DistilConfig(steps=2000, learning_rate=3e-3, input_noise=0.0),
    )


class Seen(NamedTuple):
    """Where controllers and network are compared, in every condition."""

    rollouts: SimulationRollouts  # [C, N, T, ...], the last of them without noise
    weight: jax.Array  # [C, N, T], what each counts
    gap: jax.Array  # [C, N, T, dU], what the network does less what the controllers do
    trained: jax.Array  # [] bool, whether the network is

    @property
    def squared_gap(self) -> jax.Array:
        """The mean of gap gap' over the rollouts by what they count, [C, T, dU, dU]."""
        total = jnp.maximum(jnp.sum(self.weight, axis=1), 1)[..., None, None]
        with jax.default_matmul_precision("highest"):
            return jnp.einsum("cnt,cnti,cntj->ctij", self.weight, self.gap, self.gap) / total


class Constraint(NamedTuple):
    """How controllers and network are made to agree; its functions are pure.

    `first()` is what is remembered, leaves [C, ...]; `pull(memory, controllers)` pulls the
    trajectories; `cov(memory, curvature, policy_cov, seen)` is the controllers' covariance;
    `supervise(memory, controllers, supervision)` says what the network imitates, of what the
    controllers do; `step(memory, controllers, policy_cov, seen)` is the memory after the step of
    the multipliers, and metrics.
    """

    first: Callable[[], Any]
    pull: Callable[[Any, Controller], Pull]
    cov: Callable[[Any, jax.Array, jax.Array, Seen], jax.Array]
    supervise: Callable[[Any, Controller, Supervision], Supervision]
    step: Callable[[Any, Controller, jax.Array, Seen], tuple[Any, Metrics]]


class Memory(NamedTuple):
    """What an iteration leaves to the next; leaves [C, ...]."""

    regularisation: jax.Array  # [C], of the search
    constraint: Any


def make_searched(
    task: Task, config: SearchedConfig, backend: str, constraint: Constraint
) -> Algorithm:
    """The loop around one way to make trajectories and the network agree.

    Raises:
      ValueError: for an unknown backend, and for a task whose network does not observe the state,
        or whose state does not tell where the simulation is.
    """
    if task.observation is not None:
        raise ValueError(
            f"the network of {task.name!r} observes something else than the state; trajectories on "
            "known dynamics are pulled by its derivative by the state: take a task without an "
            "observation, or 'mdgps'"
        )
    settings = GuidedConfig(
        rollouts=config.rollouts,
        models=config.models,
        policy=config.policy,
        trajectory_iterations=config.trajectory_iterations,
        outlier_bound=config.outlier_bound,
    )
    parts = guided.make_parts(task, settings, backend)._replace(linearise=_not_needed)
    _, models, learner = parts.slots
    search = make_search(task, config.search, backend, models, learner)
    limits = action_limits(task)
    own = _Own(settings, constraint, parts, limits)
    pull, settle = (
        shared_jit(functools.partial(_pull, own)),
        shared_jit(functools.partial(_settle, own)),
    )
    supervise = shared_jit(functools.partial(_supervise, own))
    conclude = shared_jit(functools.partial(_conclude, own))

    def learn(
        state: GuidedState,
        fitted: LocalModels,
        linearised: Controller,
        sampled: SimulationRollouts,
        key: jax.Array,
    ) -> tuple[GuidedState, Metrics]:
        del fitted, linearised
        network, pulled = pull(state)
        searched, metrics = search(state, network, pulled, state.memory.regularisation)
        state, rollouts = settle(state, searched, sampled)
        state, more = parts.distil(state, supervise(state, rollouts), key)
        state, agreed = conclude(state, rollouts, searched.status)
        return state, {**metrics, **more, **agreed}

    def first_memory() -> Memory:
        firm = jnp.full(task.train.num, config.search.first_regularisation, default_dtype())
        return Memory(firm, constraint.first())

    return guided.make_algorithm(task, settings, backend, parts, first_memory, learn)


class _Own(NamedTuple):
    settings: GuidedConfig
    constraint: Constraint
    parts: Parts
    limits: jax.Array  # [2, C, 1, dU]


def _not_needed(
    state: GuidedState, sampled: SimulationRollouts
) -> tuple[GuidedState, Controller, Status, Metrics]:
    """The network is differentiated where trajectories are, in the search."""
    ok = jnp.full(sampled.valid.shape[0], OK, jnp.int32)
    return state, state.controllers, Status(code=ok, step=jnp.full_like(ok, -1)), {}


def _pull(own: _Own, state: GuidedState) -> tuple[Network, Pull]:
    """The network, and what pulls to it: nothing before its first training."""
    known = trained(own.settings, state)
    pull = own.constraint.pull(state.memory.constraint, state.controllers)
    pull = jax.tree.map(lambda a: jnp.where(known, a, 0), pull)
    return Network(state.newest, known), pull


def _settle(
    own: _Own, state: GuidedState, searched: Searched, sampled: SimulationRollouts
) -> tuple[GuidedState, SimulationRollouts]:
    """The state with the searched controllers, and where they and the network are compared.

    That is where the rollouts with noise went, and along the new trajectories themselves.
    """
    nominal = searched.rollouts
    rollouts = jax.tree.map(lambda *a: jnp.concatenate(a, axis=1), sampled, nominal)
    network = Network(state.newest, trained(own.settings, state))
    found, memory = searched.controllers, state.memory
    seen = _seen(own, network, found, rollouts)
    cov = own.constraint.cov(memory.constraint, searched.curvature, state.newest.cov, seen)
    usable = jnp.all(jnp.isfinite(cov), axis=(1, 2, 3)) & (searched.status.code == OK)
    controllers = found._replace(C=choose(usable, cov, found.C))
    memory = memory._replace(regularisation=searched.regularisation)
    return state._replace(controllers=controllers, memory=memory), rollouts


def _seen(
    own: _Own, network: Network, controllers: Controller, rollouts: SimulationRollouts
) -> Seen:
    """The network and the controllers at the rollouts, both within the limits."""
    used = rollouts.valid[..., None, None]
    x, o = (jnp.where(used, a, 0) for a in (rollouts.x, rollouts.o))
    with jax.default_matmul_precision("highest"):
        wanted = jnp.einsum("ctij,cntj->cnti", controllers.K, x) + controllers.k[:, None]
    done = jnp.clip(wanted, *own.limits[:, :, None])
    gap = actions(own.parts.slots.learner, own.limits, network, o) - done
    weight = sample_weights(controllers, rollouts, own.settings.outlier_bound)
    return Seen(rollouts, weight, jnp.where(used, gap, 0), network.trained)


def _supervise(own: _Own, state: GuidedState, rollouts: SimulationRollouts) -> Supervision:
    plain = targets(state, rollouts)
    plain = plain._replace(
        target=jnp.clip(plain.target, *own.limits[:, :, None]),
        weight=sample_weights(state.controllers, rollouts, own.settings.outlier_bound),
    )
    return own.constraint.supervise(state.memory.constraint, state.controllers, plain)


def _conclude(
    own: _Own, state: GuidedState, rollouts: SimulationRollouts, status: Status
) -> tuple[GuidedState, Metrics]:
    """The step of the multipliers, in conditions whose search succeeded."""
    ready = state.iteration >= own.settings.trajectory_iterations
    network = Network(state.newest, ready)
    memory, controllers = state.memory, state.controllers
    seen = _seen(own, network, controllers, rollouts)
    stepped, metrics = own.constraint.step(memory.constraint, controllers, state.newest.cov, seen)
    usable = ready & (status.code == OK)
    memory = memory._replace(constraint=choose(usable, stepped, memory.constraint))
    return state._replace(memory=memory), metrics
