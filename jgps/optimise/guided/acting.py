"""Who acts in a rollout: a condition's local controller, or the network.

Functions that act are compared by value, so that algorithm objects with equal networks share
programs.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jgps.controllers import linear_gaussian
from jgps.controllers.linear_gaussian import FactoredController
from jgps.core.types import Shared
from jgps.optimise.guided.state import GuidedState
from jgps.simulation import Policy


def acting_params_of(
    state: GuidedState, by_network: jax.Array
) -> tuple[FactoredController, Shared, Shared]:
    """What acts: the controllers, the newest network, and whether it is the network's turn."""
    factored, _ = jax.vmap(linear_gaussian.factor)(state.controllers)
    x0 = factored.k[:, 0]
    return factored, state.newest.params_for(x0), Shared(by_network)


@dataclasses.dataclass(frozen=True)
class SamplingAct:
    """How rollouts with noise act; equal for equal networks, so that programs are shared."""

    network_act: Policy
    on_policy: bool

    def __call__(
        self, params: Any, x: jax.Array, o: jax.Array, t: jax.Array, noise: jax.Array
    ) -> jax.Array:
        """The action [dU], see `jgps.simulation.Policy`."""
        factored, network_params, by_network = params
        local = linear_gaussian.act(factored, x, t, noise)
        if not self.on_policy:
            return local
        return jnp.where(by_network, self.network_act(network_params, x, o, t, noise), local)


@dataclasses.dataclass(frozen=True)
class NoiseFreeAct:
    """The network, or the controllers where it is not trained yet."""

    network_act: Policy

    def __call__(
        self, params: Any, x: jax.Array, o: jax.Array, t: jax.Array, noise: jax.Array
    ) -> jax.Array:
        """The action [dU], see `jgps.simulation.Policy`."""
        factored, network_params, by_network = params
        # No condition has this flag for itself, so that under vmap one branch is run.
        return jax.lax.cond(
            by_network,
            lambda: self.network_act(network_params, x, o, t, noise),
            lambda: linear_gaussian.act(factored, x, t, noise),
        )


class Mixture(NamedTuple):
    """What acts: the controllers, the network, and in which steps it is the controllers' turn."""

    controllers: FactoredController  # [C, T, ...]
    network: Shared
    by_teacher: jax.Array  # [C, T] bool
    network_acts: Shared  # [] bool, whether the network has a turn at all


@dataclasses.dataclass(frozen=True)
class MixtureAct:
    """Teacher or network acts; equal for equal networks, so that programs are shared."""

    network_act: Policy

    def __call__(
        self, mixture: Mixture, x: jax.Array, o: jax.Array, t: jax.Array, noise: jax.Array
    ) -> jax.Array:
        """The action [dU], see `jgps.simulation.Policy`."""
        taught = linear_gaussian.act(mixture.controllers, x, t, noise)

        def mixed() -> jax.Array:
            network = self.network_act(mixture.network, x, o, t, noise)
            return jnp.where(mixture.by_teacher[t], taught, network)

        # An image is a lot to draw for nothing.
        return jax.lax.cond(mixture.network_acts, mixed, lambda: taught)
