"""Pretraining: a network learns where an object is from images, before it learns to act."""

import dataclasses
import functools
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jgps.core import linalg
from jgps.core.checks import Config, Range
from jgps.core.estimation.regression import divisor, spread
from jgps.core.types import NON_FINITE, OK, Status, first_failure
from jgps.policies.networks.architecture import check_architecture
from jgps.policies.networks.baselines import PoseRegressor
from jgps.policies.networks.mlp import STANDARDISATION
from jgps.policies.observation import evaluate, in_chunks


@dataclasses.dataclass(frozen=True, kw_only=True)
class PoseConfig(Config):
    """How a network is trained to say where an object is.

    Attributes:
      steps: gradient steps, at least 1.
      batch_size: images per gradient step, at least 1.
      learning_rate: of Adam, > 0; falls to zero along a cosine.
      validation: fraction of the images that are held out, from 0 to 0.5; at least one image is
        where it is not 0.
    """

    steps: Annotated[int, Range(">= 1")] = 2000
    batch_size: Annotated[int, Range(">= 1")] = 16
    learning_rate: Annotated[float, Range("> 0")] = 3e-3
    validation: Annotated[float, Range("[0, 0.5]")] = 0.1


class PoseInfo(NamedTuple):
    """How the training went; errors are mean distances of predicted from true points, metres."""

    error_train: jax.Array  # []
    error_validation: jax.Array  # [] on the held-out images; NaN without any
    error_constant: jax.Array  # [] on those or else on all, of the mean pose of the training images
    losses: jax.Array  # [steps] mean squared standardised errors of the minibatches
    status: Status


@functools.partial(jax.jit, static_argnames=("network", "config"))
@linalg.full_precision
def regress_pose(
    network: PoseRegressor,
    images: jax.Array,
    pose: jax.Array,
    key: jax.Array,
    config: PoseConfig = PoseConfig(),
) -> tuple[Any, PoseInfo]:
    """Trains a new network; the whole training is one scan over minibatches.

    Args:
      network: a trunk with a linear layer.
      images: [M, H, W, 3], uint8 (they become floats in their minibatch) or float in [0, 1].
      pose: [M, P], metres.
      key: initialises, splits and draws.

    Returns:
      The network's variables and how it went. The status is NON_FINITE where a pose, a loss or a
      parameter is not finite: the variables are then those of the beginning.

    Raises:
      ValueError: while tracing, if shapes disagree, an image is too small, or there are too few.

    Source: Levine et al. (2016), section 5.2.
    """
    _check_shapes(network, images, pose)
    init_key, split_key, batch_key = jax.random.split(key, 3)
    num = images.shape[0]
    num_held_out = min(max(1, round(config.validation * num)), num - 1) if config.validation else 0
    order = jax.random.permutation(split_key, num)
    held_out, train = order[:num_held_out], order[num_held_out:]

    start = dict(network.init(init_key, images[0]))
    shift, scale = _units(pose[train])
    start[STANDARDISATION] = {**start[STANDARDISATION], "shift": shift, "scale": scale}

    def variables_of(params: Any) -> dict:
        return {**start, "params": params}

    def loss(params, index):
        gap = evaluate(network, variables_of(params), images[index]) - pose[index]
        return jnp.mean(jnp.square(gap / scale))

    params, losses = _descend(loss, start["params"], train, batch_key, config)
    checks = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((params, losses, pose))]
    status = first_failure(~jnp.stack(checks).all()[None], NON_FINITE)
    good = status.code == OK
    chosen = jax.tree.map(lambda new, old: jnp.where(good, new, old), params, start["params"])

    def error(index):
        predicted = in_chunks(lambda i: evaluate(network, variables_of(chosen), images[i]), index)
        return point_distance(predicted, pose[index])

    nothing = jnp.full((), jnp.nan, pose.dtype)
    info = PoseInfo(
        error_train=error(train),
        error_validation=error(held_out) if num_held_out else nothing,
        error_constant=point_distance(shift, pose[held_out] if num_held_out else pose),
        losses=losses,
        status=status,
    )
    return variables_of(chosen), info


def _units(pose: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean pose [P], and one length for all coordinates [P]: an error counts the same in each."""
    shift, _ = spread(pose, jnp.ones(pose.shape[0], pose.dtype))
    length = jnp.sqrt(jnp.mean(jnp.square(pose - shift)))
    return shift, jnp.full_like(shift, jnp.where(length > 0, length, 1))


def _descend(loss: Any, params: Any, train: jax.Array, key: jax.Array, config: PoseConfig):
    """Parameters after all steps, and the loss of every one; `train` indexes the images."""
    optimiser = optax.adam(optax.cosine_decay_schedule(config.learning_rate, config.steps))
    batch_size = min(config.batch_size, train.shape[0])

    def one_step(carry, key):
        params, moments = carry
        index = train[jax.random.randint(key, (batch_size,), 0, train.shape[0])]
        value, gradient = jax.value_and_grad(loss)(params, index)
        updates, moments = optimiser.update(gradient, moments, params)
        return (optax.apply_updates(params, updates), moments), value

    keys = jax.random.split(key, config.steps)
    (params, _), losses = jax.lax.scan(one_step, (params, optimiser.init(params)), keys)
    return params, losses


def point_distance(predicted: jax.Array, pose: jax.Array) -> jax.Array:
    """Mean distance of points: [M, P] and [M, P] of P/3 points each, metres []."""
    gap = (predicted - pose).reshape(pose.shape[0], -1, 3)
    distance = jnp.sqrt(jnp.sum(jnp.square(gap), axis=-1))
    return jnp.sum(distance) / divisor(jnp.asarray(distance.size, distance.dtype))


def transfer(pretrained: dict, variables: dict) -> dict:
    """The variables of a policy with its trunk taken from a pose regressor.

    Args:
      pretrained: variables of a `PoseRegressor`.
      variables: of a `Visuomotor` with the same trunk, or of a `pose_prediction_policy`, whose
        trunk is the whole regressor.

    Raises:
      ValueError: for trunks of different architectures, naming the first difference.
    """
    params, constants = variables["params"], variables[STANDARDISATION]
    source = pretrained["params"]
    if "pose" in params["trunk"]:
        constants = {**constants, "trunk": pretrained[STANDARDISATION]}
    else:
        source = source["trunk"]
    check_architecture(params["trunk"], source, "the pretrained convolutions")
    source = jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), source, params["trunk"])
    return {**variables, "params": {**params, "trunk": source}, STANDARDISATION: constants}


def _check_shapes(network: PoseRegressor, images: jax.Array, pose: jax.Array) -> None:
    expected = (images.shape[0], network.pose_dim)
    if images.ndim != 4 or pose.shape != expected:
        raise ValueError(
            f"images must be [M, H, W, 3] and pose {expected}, got {images.shape} and {pose.shape}"
        )
    if network.pose_dim % 3:
        raise ValueError(f"pose_dim is {network.pose_dim}; points have three coordinates each")
    if images.shape[0] < 2:
        raise ValueError("there is one image; pose regression takes at least 2")
