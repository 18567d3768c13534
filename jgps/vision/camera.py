"""What a policy's camera sees of a task: as the task is, and as the network learns from it."""

import dataclasses
import functools
import hashlib
from typing import Any

import jax
import numpy as np

from jgps.policies.observation import Observe, RandomisedObserve
from jgps.rendering import View, make_view
from jgps.rendering.batching import batching
from jgps.tasks import Task
from jgps.tasks.policy_camera import Vision, body_poses
from jgps.vision.config import VisualConfig
from jgps.vision.domain_randomisation import make_randomise_scene


def make_policy_view(task: Task, config: VisualConfig) -> View:
    """The camera that the network looks through."""
    assert task.vision is not None
    return make_view(
        task.model, task.vision.camera,
        width=config.width, height=config.height, config=config.render,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class CameraObserve:
    """The image that a camera sees and the robot's configuration, of o [dO].

    Equal where the camera and all that it draws are, so that programs are shared.
    """

    content: Any  # all that decides what it returns
    function: Observe = dataclasses.field(compare=False, repr=False)

    def __call__(self, o: jax.Array) -> Any:
        """The image [H, W, 3] uint8 and the configuration."""
        return self.function(o)


def _content(view: View, vision: Vision) -> tuple[Any, ...]:
    """Structure and digest of the arrays that observations are drawn from."""
    leaves, structure = jax.tree.flatten(view)
    arrays = [*leaves, *(each for each in vision if isinstance(each, np.ndarray))]
    digest = hashlib.sha256()
    for array in map(np.asarray, arrays):
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return structure, digest.hexdigest(), repr(vision.configuration)


def make_observers(task: Task, config: VisualConfig) -> tuple[Observe, RandomisedObserve]:
    """The image [H, W, 3] uint8 and the robot's configuration, of o [dO]: to act on, to learn from.

    Returns:
      `observe(o)`, the task as it is, and `observe_randomised(key, o)`, with the appearance and
      the clutter that the key gives it.
    """
    vision, view = task.vision, make_policy_view(task, config)
    assert vision is not None
    randomise_scene = make_randomise_scene(task, view, config.domain_randomisation)
    draw = batching(functools.partial(view.draw_rgb, as_uint8=True))

    def observe(o: jax.Array) -> tuple[jax.Array, jax.Array]:
        return draw(*body_poses(vision, o)), o[vision.configuration]

    def observe_randomised(key: jax.Array, o: jax.Array) -> tuple[jax.Array, jax.Array]:
        return draw(*randomise_scene(key, *body_poses(vision, o))), o[vision.configuration]

    return CameraObserve(_content(view, vision), observe), observe_randomised


def pose_dim(task: Task) -> int:
    """Numbers of the pose that convolutions are pretrained to tell: 3 points on every object."""
    assert task.vision is not None
    return 9 * len(task.vision.objects)
