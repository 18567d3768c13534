"""What every algorithm is: a few functions of a state that they alone look into."""

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jgps.core.types import Controller, Marginals
from jgps.policies.learner import Problem
from jgps.simulation import SimulationRollouts

Metrics = dict[str, jax.Array]
_INSPECTION = 0x696E7370  # "insp"


class Inspection(NamedTuple):
    """Samples of the current policy and the Gaussian model of them, for figures."""

    sampled: SimulationRollouts  # [C, N, T, ...]
    marginals: Marginals  # [C, T, ...], of z = [x; u] under the models fitted to the samples
    controllers: Controller  # [C, T, ...], the local controllers


def inspection_key(key: jax.Array) -> jax.Array:
    """The key that `inspect` samples with, from a state's key: no `step` uses it."""
    # `step` splits the state's key, which is fold_in of 0, 1, ...: this number is far beyond those.
    return jax.random.fold_in(key, _INSPECTION)


def _no_problem(state: Any) -> None:
    """What `Algorithm.problem` says where nothing can be wrong with a new state."""
    del state


class Algorithm(NamedTuple):
    """`state = init(key)`, then `state, metrics = step(state)` for every iteration.

    A state is a pytree of arrays; saving all of it and loading it again continues exactly. Its
    field `policy` is the result so far, which `jgps.evaluate` takes. All its other fields are the
    algorithm's own: what anyone else needs of them is a function here. Metrics are arrays, [C]
    where they belong to conditions.

    Attributes:
      init: makes the state before the first iteration from a random key.
      step: runs one iteration and returns the next state and the iteration's metrics.
      inspect: samples the current policy for figures. It leaves the state as it is, and draws no
        random number that `step` draws.
      samples: the rollouts with noise, [C, N, T, ...], that `step` will draw from this state and
        learn from; it leaves the state as it is. Random starts have all of them in one row.
      forget_results: the state without what it remembers of how well policies did, for a run that
        goes on with it on another task.
      rollouts_per_step: number of rollouts that `step` makes, in all conditions together.
      first_training: number of the iteration in which a network is first trained; 0 also where
        none is.
      newest: the policy that curves over iterations show, as `jgps.evaluate` takes it: the network
        that the last iteration made; without a network, `state.policy`, the best so far.
      problem: asked once, of the state that `init` made: a `Problem` with its policy, `fatal` where
        training can't succeed, or None.
    """

    init: Callable[[jax.Array], Any]
    step: Callable[[Any], tuple[Any, Metrics]]
    inspect: Callable[[Any], Inspection]
    samples: Callable[[Any], SimulationRollouts]
    forget_results: Callable[[Any], Any]
    rollouts_per_step: int
    first_training: int = 0
    newest: Callable[[Any], Any] = operator.attrgetter("policy")
    problem: Callable[[Any], Problem | None] = _no_problem
