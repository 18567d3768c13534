"""A network as a stochastic policy, u ~ N(mu(o), S)."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from jgps.core import linalg
from jgps.core.one_program import one_program
from jgps.core.types import Shared
from jgps.policies.observation import Observation, Observe, evaluate, in_chunks, observed


class NetworkParams(NamedTuple):
    """What acting needs."""

    variables: Any
    chol: jax.Array  # [dU, dU], lower triangular, S = chol chol'


# act(params, x [dX], o, t [] int32, noise [dU]) -> u [dU]; o is that of the simulation, [dO], of a
# policy with `observe`, and otherwise what the network reads
Act = Callable[[NetworkParams, jax.Array, Any, jax.Array, jax.Array], jax.Array]


@flax.struct.dataclass
class NetworkPolicy:
    """A network's variables, the covariance of its actions, and (static) the network itself.

    A network of pixels comes with `observe`, which makes of the simulation's o [dO] what it reads.
    """

    variables: Any  # of the network: "params" and "standardisation"
    cov: jax.Array  # [dU, dU], S, positive definite
    network: nn.Module = flax.struct.field(pytree_node=False)
    observe: Observe | None = flax.struct.field(pytree_node=False, default=None)

    def mean(self, o: Observation) -> jax.Array:
        """mu(o) [..., dU] for observations [..., dO], or of the kind that the network reads.

        With `observe`, what a vector stands for is rendered a few images at a time.
        """
        observe = self.observe
        if observe is None or not isinstance(o, jax.Array):
            return mean_action(self.network, self.variables, o)

        def one(row: jax.Array) -> jax.Array:
            return mean_action(self.network, self.variables, observed(observe, row))

        return in_chunks(one, o.reshape(-1, o.shape[-1])).reshape(*o.shape[:-1], -1)

    def params_for(self, x0: jax.Array) -> Shared:
        """What `act` needs; the same in all conditions, wherever they start."""
        del x0
        chol, _ = linalg.cholesky(self.cov)
        return Shared(NetworkParams(variables=self.variables, chol=chol))

    @property
    def act(self) -> Act:
        """`act(params, x, o, t, noise) -> u`, see `acting`."""
        if self.observe is None:
            return acting(self.network)
        return acting_on_images(self.network, self.observe)


@dataclasses.dataclass(frozen=True)
class _Acting:
    """`act(params, x, o, t, noise) -> u`; equal for equal networks, so that programs are shared."""

    network: nn.Module
    observe: Observe | None = None

    def __call__(
        self, params: NetworkParams, x: jax.Array, o: Any, t: jax.Array | int, noise: jax.Array
    ) -> jax.Array:
        """The action, [dU]; `o` is the simulation's with `observe`, else what the network reads."""
        del x, t
        if self.observe is not None:
            o = observed(self.observe, o)
        with jax.default_matmul_precision("highest"):
            return mean_action(self.network, params.variables, o) + params.chol @ noise


def acting_on_images(network: nn.Module, observe: Observe) -> Act:
    """As `acting`, of a network that reads images and the robot's configuration, nothing else.

    Args:
      network: called with `image` and `configuration`.
      observe: (o [dO]) -> (image [H, W, 3], configuration [dq]); pure, it is traced and vmapped
        with the rest. Equal functions each time, or everything compiles anew.
    """
    return _Acting(network, observe)


def acting(network: nn.Module) -> Act:
    """The function `act(params, x, o, t, noise) -> u` of all policies with this network.

    The action is mu(o) + chol(S) noise, [dU]; neither the state nor the time is read. Functions of
    equal networks are equal.
    """
    return _Acting(network)


@one_program("network")
def mean_action(network: nn.Module, variables: Any, o: Observation) -> jax.Array:
    """The network's output, at full precision in any dtype of o."""
    with jax.default_matmul_precision("highest"):
        return evaluate(network, variables, o)


# Compiled: a convolution's initialiser run step by step takes many seconds.
@one_program("network", "observation_dim", "dtype", "image_size")
def _first_variables(
    network: nn.Module,
    key: jax.Array,
    observation_dim: int,
    dtype: Any,
    image_size: tuple[int, int] | None,
) -> Any:
    if hasattr(network, "example"):
        example = network.example(dtype, image_size) if image_size else network.example(dtype)
        variables = network.init(key, **example)
    else:
        variables = network.init(key, jnp.zeros(observation_dim, dtype))
    return jax.tree.map(lambda leaf: leaf.astype(dtype), variables)


def initialise(
    network: nn.Module,
    key: jax.Array,
    observation_dim: int,
    action_dim: int,
    dtype: Any,
    observe: Observe | None = None,
    image_size: tuple[int, int] | None = None,
) -> NetworkPolicy:
    """An untrained policy with unit covariance.

    The network has to be hashable, as Flax modules with tuples, not lists, in them are. One with a
    method `example` says itself what it reads; `observation_dim` is then not used. The images'
    (height, width) is needed where variables depend on it, as in trunks with a dense layer.
    """
    return NetworkPolicy(
        variables=_first_variables(network, key, observation_dim, dtype, image_size),
        cov=jnp.eye(action_dim, dtype=dtype),
        network=network,
        observe=observe,
    )
