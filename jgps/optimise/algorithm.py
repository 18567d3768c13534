"""What every algorithm is: a pair of functions."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jgps.core.types import Controller, Marginals
from jgps.simulation import SimulationRollouts

Metrics = dict[str, jax.Array]


class Inspection(NamedTuple):
    """Samples of the current policy and the Gaussian model of them, for figures."""

    sampled: SimulationRollouts  # [C, N, T, ...]
    marginals: Marginals  # [C, T, ...], of z = [x; u] under the models fitted to the samples
    controllers: Controller  # [C, T, ...], the local controllers


class Algorithm(NamedTuple):
    """`state = init(key)`, then `state, metrics = step(state)` for every iteration.

    A state is a pytree of arrays with a field `policy` (what `jgps.evaluate` takes); saving all of
    it and loading it again continues exactly. Metrics are arrays, [C] where they belong to
    conditions.
    """

    init: Callable[[jax.Array], Any]
    step: Callable[[Any], tuple[Any, Metrics]]
    inspect: Callable[[Any], Inspection]  # leaves the state as it is
    rollouts_per_step: int
    first_training: int = 0  # the iteration in which a network is first trained
