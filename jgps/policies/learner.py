"""What a policy learner is: how one kind of network is made, acts, and learns from controllers."""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax

from jgps.core.checks import Config, OneOf, Range, refuse
from jgps.policies.distil import DistilConfig, distil
from jgps.policies.networks.mlp import ACTIVATIONS, mlp
from jgps.policies.observation import observe_all
from jgps.policies.policy import Act, NetworkPolicy, acting, acting_on_images, initialise
from jgps.policies.supervision import DistilInfo, Supervision


@dataclasses.dataclass(frozen=True, kw_only=True)
class MlpConfig(Config):
    """A policy that is a multilayer perceptron of the observation, and how it learns.

    Attributes:
      hidden: widths of the hidden layers; () is a linear policy.
      activation: what follows each of them, "relu" or "tanh". With the second the network's
        derivative is smooth, for algorithms that take it (`cgps`, `admm`).
      distil: how it is trained in one iteration; it has no convolutions, so that `frozen` is
        "none" and `convolution_rate` 1.
    """

    hidden: Annotated[tuple[int, ...], Range(">= 1")] = (40, 40)
    activation: Annotated[str, OneOf(*ACTIVATIONS)] = "relu"
    distil: DistilConfig = DistilConfig()

    def __post_init__(self) -> None:
        for name, only in (("frozen", "none"), ("convolution_rate", 1)):
            if getattr(self.distil, name) != only:
                why = "a multilayer perceptron has no convolutions"
                refuse(self, f"distil.{name}", f"{only!r}: {why}")

    @property
    def trainings(self) -> tuple[DistilConfig, ...]:
        """How the network is trained, in all phases."""
        return (self.distil,)

    def usual_iterations(self, alone: int, controllers: int) -> int:
        """Iterations that training takes.

        Args:
          alone: in which controllers improve alone before the network learns.
          controllers: that controllers take to solve a task.
        """
        return max(controllers, alone + 4)

    def phases(self, alone: int) -> dict[str, int]:
        """The iterations in which its phases begin, by name: none, it learns in one way."""
        del alone
        return {}


class Problem(NamedTuple):
    """What is wrong with a policy before it learns from controllers."""

    text: str  # a sentence with a remedy
    fatal: bool  # whether nothing can come of it


class PolicyLearner(NamedTuple):
    """One kind of policy; its functions are pure but for `prepare`.

    `init(key, prepared)` returns an untrained policy and what is known of its pretraining, a pytree
    of arrays or None. `act` is that of the policy, see `NetworkPolicy.act`. `mean(policy, o,
    trained)` is its mean actions for observations o [..., dO], whatever it likes where it is not
    `trained`. `train(policy, supervision, iteration, key)` returns the trained policy and how that
    went. `metrics(pretraining)` are numbers for every iteration's metrics, `problem(pretraining)`
    what is wrong with it.
    """

    init: Callable[[jax.Array, Any], tuple[NetworkPolicy, Any]]
    act: Act
    mean: Callable[[NetworkPolicy, jax.Array, jax.Array], jax.Array]
    train: Callable[
        [NetworkPolicy, Supervision, jax.Array, jax.Array], tuple[NetworkPolicy, DistilInfo]
    ]
    metrics: Callable[[Any], dict[str, jax.Array]] = lambda pretraining: {}
    problem: Callable[[Any], Problem | None] = lambda pretraining: None
    validates: bool = False  # whether training measures its loss on what is held out
    # prepare(key): what `init` needs from outside JAX; of a traced key its shapes. None: nothing
    prepare: Callable[[jax.Array], Any] | None = None


@dataclasses.dataclass(frozen=True)
class Configuration:
    """The part of o [dO] that a network reads as a vector; the rest is for a camera."""

    size: int

    def __call__(self, o: jax.Array) -> jax.Array:
        """The first `size` numbers of o."""
        return o[: self.size]


def mlp_learner(
    observation_dim: int,
    configuration_dim: int,
    action_dim: int,
    config: MlpConfig,
) -> PolicyLearner:
    """A multilayer perceptron that reads the first `configuration_dim` numbers of o.

    Args:
      observation_dim: dO of the task.
      configuration_dim: how many of them are not there for a camera alone.
      action_dim: dU.
      config: of the network and its training.
    """
    network = mlp(configuration_dim, action_dim, config.hidden, config.activation)
    whole = configuration_dim == observation_dim
    observe = None if whole else Configuration(configuration_dim)

    def init(key: jax.Array, prepared: None) -> tuple[NetworkPolicy, None]:
        dtype = jax.dtypes.canonicalize_dtype(float)
        return initialise(network, key, configuration_dim, action_dim, dtype, observe), None

    def train(
        policy: NetworkPolicy, supervision: Supervision, iteration: jax.Array, key: jax.Array
    ) -> tuple[NetworkPolicy, DistilInfo]:
        if observe is not None:
            supervision = supervision._replace(o=observe_all(observe, supervision.o))
        return distil(policy, supervision, key, config.distil)

    return PolicyLearner(
        init=init,
        act=acting(network) if observe is None else acting_on_images(network, observe),
        mean=lambda policy, o, trained: policy.mean(o),
        train=train,
        validates=config.distil.validation > 0,
    )
