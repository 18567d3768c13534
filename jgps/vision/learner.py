"""Policies that look through a task's camera, and the choice among all kinds of policy.

Images are drawn from the poses in o wherever they are needed, and nothing else of those poses
reaches the network. How they learn: `jgps.vision.schedule`.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jgps import policies
from jgps.core.types import OK
from jgps.policies import NetworkPolicy
from jgps.policies.learner import MlpConfig, PolicyLearner, Problem, mlp_learner
from jgps.policies.networks.visuomotor import Convolutions, FeaturePoints
from jgps.tasks import Task, with_vision
from jgps.vision import schedule
from jgps.vision.camera import make_observers, pose_dim
from jgps.vision.config import NetworkPolicyConfig, VisualConfig
from jgps.vision.pretraining import (
    Pretraining,
    PretrainingData,
    draw_pretraining_data,
    pretrain,
)


def make_learner(task: Task, config: NetworkPolicyConfig) -> PolicyLearner:
    """The learner of a policy on a task.

    Args:
      task: the task.
      config: a multilayer perceptron reads the observation, of a task with a camera the part that
        is no image; all others look through the camera.

    Raises:
      ValueError: if the task has no camera for a policy that sees; names the tasks that have.
    """
    if isinstance(config, MlpConfig):
        dims = (task.observation_dim, task.configuration_dim, task.action_dim)
        return mlp_learner(*dims, config)
    return _visual_learner(task, make_network(task, config), config)


def make_network(task: Task, config: VisualConfig) -> nn.Module:
    """The network of a policy that looks through the task's camera.

    Raises:
      ValueError: if the task has no camera; names the tasks that have.
    """
    if task.vision is None:
        raise ValueError(
            f"the task {task.name!r} has no camera for a {config.kind} policy; those that "
            f"have one: {', '.join(with_vision())}; of a task of your own, name it: "
            "jgps.from_mjcf(..., vision=CAMERA)"
        )
    sizes = (task.configuration_dim, task.action_dim, config.hidden)
    if config.kind == "pose_prediction":
        convolutions = Convolutions(config.channels, config.conv_dtype)
        trunk = FeaturePoints(convolutions, config.learned_temperature)
        regressor = policies.PoseRegressor(trunk, pose_dim(task))
        return policies.pose_prediction_policy(regressor, *sizes)
    return policies.visuomotor(
        *sizes, config.channels, config.learned_temperature, config.conv_dtype
    )


def pretraining_problem(found: Pretraining) -> Problem | None:
    """What is wrong with the pretrained convolutions."""
    if int(found.status) != OK:
        return Problem(
            "the convolutions did not learn where objects are, their training diverged; lower "
            "config.policy.pretraining.learning_rate",
            fatal=True,
        )
    if found.error < found.error_constant:
        return None
    return Problem(
        f"the convolutions tell where objects are with an error of {found.error:.2g} m, no better "
        f"than a guess ({found.error_constant:.2g} m); raise config.policy.pretraining.steps or "
        "pretraining_images",
        fatal=False,
    )


def _visual_learner(task: Task, network: nn.Module, config: VisualConfig) -> PolicyLearner:
    camera = task.vision
    assert camera is not None
    observe, observe_randomised = make_observers(task, config)

    def init(key: jax.Array, data: PretrainingData) -> tuple[NetworkPolicy, Any]:
        network_key, pretraining_key = jax.random.split(key)
        dtype = jax.dtypes.canonicalize_dtype(float)
        sizes = (task.configuration_dim, task.action_dim)
        untrained = policies.initialise(network, network_key, *sizes, dtype, observe)
        return pretrain(task, config, untrained, data, pretraining_key)

    def mean(learner: NetworkPolicy, o: jax.Array, trained: jax.Array) -> jax.Array:
        dU, dtype = learner.cov.shape[0], learner.cov.dtype

        def nothing(o: jax.Array) -> jax.Array:  # no images are drawn before the first training
            return jnp.zeros((*o.shape[:-1], dU), dtype)

        return jax.lax.cond(trained, learner.mean, nothing, o)

    return PolicyLearner(
        init=init,
        act=policies.acting_on_images(network, observe),
        mean=mean,
        train=functools.partial(schedule.train, config, camera, observe_randomised),
        metrics=lambda found: {
            "pose_error": found.error,
            "pose_error_constant": found.error_constant,
            "pretraining_status": found.status,
        },
        problem=pretraining_problem,
        validates=any(each.validation > 0 for each in config.trainings),
        prepare=functools.partial(draw_pretraining_data, task, config),
    )
