"""How a network that looks through a camera learns, by the number of the iteration.

    before the first iteration   its convolutions learn where objects are (see `pretraining`)
    trajectory_iterations        the local controllers improve alone
    head_iterations              its dense layers learn, on what the convolutions make of images
    from then on                 all of it does, and then its dense layers on what came of that

Source: Levine et al. (2016), section 5.2.
"""

import jax
import jax.numpy as jnp

from jgps import policies
from jgps.core.types import OK, Status, worst
from jgps.policies import DistilInfo, NetworkPolicy, Supervision
from jgps.tasks.policy_camera import Vision
from jgps.vision.camera import RandomisedObserve
from jgps.vision.config import VisionConfig
from jgps.vision.interpolation import between


def train(
    policy: str,
    config: VisionConfig,
    camera: Vision,
    observe_randomised: RandomisedObserve,
    learner: NetworkPolicy,
    supervision: Supervision,
    iteration: jax.Array,
    key: jax.Array,
) -> tuple[NetworkPolicy, DistilInfo]:
    """Trains the network as its phase has it; images exist only while it is trained.

    Args:
      policy: kind of the policy; the convolutions of baselines stay as they were pretrained.
      config: says when which phase begins, and how each trains.
      camera: where o has what the camera sees.
      observe_randomised: draws images to learn from.
      learner: the network as it was last trained.
      supervision: of vectors o.
      iteration: number of the iteration.
      key: of everything random.

    Returns:
      The network and how the training went, NaN where there was none.
    """
    key, look_key, between_key = jax.random.split(key, 3)

    def nothing(learner: NetworkPolicy) -> tuple[NetworkPolicy, DistilInfo]:
        none = jnp.full((), jnp.nan, supervision.target.dtype)
        status = Status(code=jnp.asarray(OK, jnp.int32), step=jnp.asarray(-1, jnp.int32))
        return learner, DistilInfo(none, none, none, none, status)

    def seen() -> Supervision:
        rows = between(between_key, supervision, camera, config.between, config.spread)
        return rows._replace(o=policies.look(observe_randomised, rows.o, look_key))

    def head(learner: NetworkPolicy) -> tuple[NetworkPolicy, DistilInfo]:
        return policies.distil(learner, seen(), key, config.head)

    def end_to_end(learner: NetworkPolicy) -> tuple[NetworkPolicy, DistilInfo]:
        rows, (first, second) = seen(), jax.random.split(key)
        learner, whole = policies.distil(learner, rows, first, config.end_to_end)
        learner, dense = policies.distil(learner, rows, second, config.head)
        return learner, DistilInfo(
            loss_before=whole.loss_before,
            loss=dense.loss,
            loss_validation=dense.loss_validation,
            gradient_norm=jnp.maximum(whole.gradient_norm, dense.gradient_norm),
            status=worst(whole.status, dense.status),
        )

    phases = [nothing, head]
    phase = (iteration >= config.trajectory_iterations).astype(jnp.int32)
    if policy == "visuomotor":
        phases.append(end_to_end)
        phase += iteration >= config.trajectory_iterations + config.head_iterations
    return jax.lax.switch(phase, phases, learner)
