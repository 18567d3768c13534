"""How a network that looks through a camera learns, by how often it was trained.

    before the first iteration   its convolutions learn where objects are (see `pretraining`)
    dense_iterations             its dense layers learn, on what the convolutions make of images
    from then on                 all of it does, and then its dense layers on what came of that

Source: Levine et al. (2016), section 5.2.
"""

import jax
import jax.numpy as jnp

from jgps import policies
from jgps.core.types import worst
from jgps.policies import DistilInfo, NetworkPolicy, Supervision
from jgps.policies.observation import RandomisedObserve, observe_all_randomised
from jgps.policies.supervision import no_training
from jgps.tasks.policy_camera import Vision
from jgps.vision.config import VisualConfig
from jgps.vision.interpolation import interpolate


def train(
    config: VisualConfig,
    camera: Vision,
    observe_randomised: RandomisedObserve,
    learner: NetworkPolicy,
    supervision: Supervision,
    iteration: jax.Array,
    key: jax.Array,
) -> tuple[NetworkPolicy, DistilInfo]:
    """Trains the network as its phase has it; images exist only while it is trained.

    Args:
      config: says when which phase begins, and how each trains.
      camera: where o has what the camera sees.
      observe_randomised: draws images to learn from.
      learner: the network as it was last trained.
      supervision: of vectors o.
      iteration: number of the iteration, counted from the first training.
      key: of everything random.

    Returns:
      The network and how the training went.
    """
    key, appearance_key, interpolation_key = jax.random.split(key, 3)
    rows = interpolate(
        interpolation_key, supervision, camera, config.interpolated, config.interpolation_spread
    )
    rows = rows._replace(o=observe_all_randomised(observe_randomised, rows.o, appearance_key))
    if config.kind != "visuomotor":  # the convolutions of baselines stay as they were pretrained
        return policies.distil(learner, rows, key, config.dense)

    # All of it or nothing and then, in either phase, its dense layers: those are compiled once.
    first, second = jax.random.split(key)

    def end_to_end(learner: NetworkPolicy) -> tuple[NetworkPolicy, DistilInfo]:
        return policies.distil(learner, rows, first, config.end_to_end)

    def nothing(learner: NetworkPolicy) -> tuple[NetworkPolicy, DistilInfo]:
        return learner, no_training(supervision.target.dtype)

    all_of_it = iteration >= config.dense_iterations
    learner, whole = jax.lax.cond(all_of_it, end_to_end, nothing, learner)
    key = jnp.where(all_of_it, second, key)
    learner, last = policies.distil(learner, rows, key, config.dense)
    norm = jnp.maximum(whole.gradient_norm, last.gradient_norm)
    return learner, last._replace(
        loss_before=jnp.where(all_of_it, whole.loss_before, last.loss_before),
        gradient_norm=jnp.where(all_of_it, norm, last.gradient_norm),
        status=worst(whole.status, last.status),
    )
