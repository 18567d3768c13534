"""A network as a stochastic policy, u ~ N(mu(o), S)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from jgps.core import linalg
from jgps.core.types import Shared


class NetworkParams(NamedTuple):
    """What acting needs."""

    variables: Any
    chol: jax.Array  # [dU, dU], lower triangular, S = chol chol'


@flax.struct.dataclass
class NetworkPolicy:
    """A network's variables, the covariance of its actions, and (static) the network itself."""

    variables: Any  # of the network: "params" and "standardisation"
    cov: jax.Array  # [dU, dU], S, positive definite
    network: nn.Module = flax.struct.field(pytree_node=False)

    def mean(self, o: jax.Array) -> jax.Array:
        """mu(o) [..., dU] for observations [..., dO]."""
        return mean_action(self.network, self.variables, o)

    def params_for(self, x0: jax.Array) -> Shared:
        """What `act` needs; the same in all conditions, wherever they start."""
        del x0
        chol, _ = linalg.cholesky(self.cov)
        return Shared(NetworkParams(variables=self.variables, chol=chol))

    @property
    def act(self) -> Callable[..., jax.Array]:
        """`act(params, x, o, t, noise) -> u`, see `acting`."""
        return acting(self.network)


def acting(network: nn.Module) -> Callable[..., jax.Array]:
    """The function `act(params, x, o, t, noise) -> u` of all policies with this network.

    The action is mu(o) + chol(S) noise, [dU]; neither the state nor the time is read.
    """

    def act(
        params: NetworkParams, x: jax.Array, o: jax.Array, t: jax.Array | int, noise: jax.Array
    ) -> jax.Array:
        del x, t
        with jax.default_matmul_precision("highest"):
            return mean_action(network, params.variables, o) + params.chol @ noise

    return act


def mean_action(network: nn.Module, variables: Any, o: jax.Array) -> jax.Array:
    """The network's output, at full precision in any dtype of o."""
    with jax.default_matmul_precision("highest"):
        return jnp.asarray(network.apply(variables, o))


def initialise(
    network: nn.Module, key: jax.Array, observation_dim: int, action_dim: int, dtype: Any
) -> NetworkPolicy:
    """An untrained policy with unit covariance."""
    variables = network.init(key, jnp.zeros(observation_dim, dtype))
    variables = jax.tree.map(lambda leaf: leaf.astype(dtype), variables)
    return NetworkPolicy(variables=variables, cov=jnp.eye(action_dim, dtype=dtype), network=network)
