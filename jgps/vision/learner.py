"""What a policy's network reads of a task, and how one that looks through a camera learns.

    before the first iteration   its convolutions learn where objects are (see `pretraining`)
    trajectory_iterations        the local controllers improve alone
    head_iterations              its dense layers learn, on what the convolutions make of images
    from then on                 all of it does, and then its dense layers on what came of that

Images are drawn from the poses in o wherever they are needed, and nothing else of those poses
reaches the network. Source: Levine et al. (2016), section 5.2.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jgps import policies
from jgps.core.checks import check_field
from jgps.core.types import OK, Status, worst
from jgps.policies import DistilConfig, DistilInfo, NetworkPolicy, Supervision
from jgps.policies.networks.visuomotor import CHANNELS, CONV_DTYPES, Convolutions
from jgps.policies.observation import Observe
from jgps.rendering import RenderConfig, View, make_view
from jgps.tasks import Task, with_vision
from jgps.tasks.policy_camera import Vision, body_poses
from jgps.vision.domain_randomisation import DomainRandomisationConfig, varying
from jgps.vision.interpolation import between
from jgps.vision.pose_regression import PoseConfig

POLICIES = ("mlp", "visuomotor", "pose_features", "pose_prediction")


@dataclasses.dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """Settings of a network that sees, and of how it learns.

    Attributes:
      width, height: of its images, pixels.
      channels: of its three convolutions.
      learned_temperature: of the spatial softmax; 1 otherwise.
      conv_dtype: None or "float32"; "bfloat16" is faster on an accelerator.
      pretraining: of the convolutions, on images of random scenes.
      pretraining_images: how many, at least 2.
      render: quality of the images, and the limit on triangles.
      looks: how images to learn from differ from the task's own.
      arm_spread: standard deviation of the joints' positions about their start in those, as a
        fraction of their ranges, >= 0. Where an arm hides what it holds, places that images don't
        tell cost the convolutions those that they do.
      between: share, in [0, 1], of the images of rollouts to learn from that are of scenes between
        training conditions, see `jgps.vision.interpolation`; 0 where those have to be done in ways
        of which no mean is one.
      spread: how far those are moved off the ways there, in standard deviations of the rollouts,
        >= 0. Where it never trained a network does not keep to the way as closely as controllers
        do, and has to know how to get back.
      trajectory_iterations: in which the controllers improve alone, >= 0.
      head_iterations: in which the dense layers alone are trained, after those, >= 0.
      head, end_to_end: how the dense layers are trained in an iteration then, and all of the
        network later; after every time the dense layers are trained again, as `head` says.
    """

    width: int = 64
    height: int = 64
    channels: tuple[int, ...] = CHANNELS
    learned_temperature: bool = False
    conv_dtype: str | None = None
    pretraining: PoseConfig = PoseConfig()
    pretraining_images: int = 2000
    render: RenderConfig = RenderConfig()
    looks: DomainRandomisationConfig = DomainRandomisationConfig()
    arm_spread: float = 0.0
    between: float = 0.5
    spread: float = 1.5
    trajectory_iterations: int = 10
    head_iterations: int = 4
    head: DistilConfig = DistilConfig(steps=2000, learning_rate=3e-3, frozen="convolutions")
    end_to_end: DistilConfig = DistilConfig(
        steps=150, batch_size=64, learning_rate=1e-3, checks=1, convolution_rate=0.1
    )

    def __post_init__(self) -> None:
        smallest = Convolutions().smallest
        for name in ("width", "height"):
            text = f"at least {smallest}, the smallest that this network can see"
            check_field(self, name, lambda v: v >= smallest, text, integer=True)
        check_field(self, "channels", lambda v: v >= 1, ">= 1 everywhere", integer=True)
        if not isinstance(self.channels, tuple) or len(self.channels) != len(CHANNELS):
            raise ValueError(
                f"VisionConfig.channels is {self.channels}; it has to be a tuple of "
                f"{len(CHANNELS)} widths, usually {CHANNELS}"
            )
        if self.conv_dtype not in CONV_DTYPES:
            raise ValueError(
                f"VisionConfig.conv_dtype is {self.conv_dtype!r}; it has to be one of {CONV_DTYPES}"
            )
        check_field(self, "pretraining_images", lambda v: v >= 2, ">= 2", integer=True)
        check_field(self, "arm_spread", lambda v: v >= 0, ">= 0, usually below 0.02")
        check_field(self, "between", lambda v: 0 <= v <= 1, "in [0, 1], usually 0.5")
        check_field(self, "spread", lambda v: v >= 0, ">= 0, usually 1.5")
        for name in ("trajectory_iterations", "head_iterations"):
            check_field(self, name, lambda v: v >= 0, ">= 0, usually 4 to 8", integer=True)
        if self.head.frozen != "convolutions":
            raise ValueError(
                f"VisionConfig.head.frozen is {self.head.frozen!r}; it has to be 'convolutions': "
                "for all of the network to be trained at once, lower head_iterations"
            )


# look(key, o [dO]) -> image [H, W, 3] uint8 and configuration
Look = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


class Eyes(NamedTuple):
    """A network, and what it reads of o; made once, since functions are compared by identity."""

    network: nn.Module
    vision: Vision | None  # of the task; None without a camera
    observe: Observe | None  # None where it reads o as it is
    look: Look | None  # what it learns from in the place of `observe`; None without a camera
    act: Callable[..., jax.Array]  # act(params, x, o, t, noise) -> u

    def initialise(self, task: Task, key: jax.Array, dtype: Any) -> NetworkPolicy:
        """An untrained policy."""
        return policies.initialise(
            self.network, key, task.configuration_dim, task.action_dim, dtype, self.observe
        )


def open_eyes(task: Task, policy: str, hidden: tuple[int, ...], config: VisionConfig) -> Eyes:
    """The network that a kind of policy has on a task.

    Args:
      policy: one of `POLICIES`. "mlp" reads the observation, of a task with a camera the part that
        is no image; "visuomotor" looks through the camera, and so do the baselines, whose
        convolutions stay as they were pretrained: "pose_features" reads feature points,
        "pose_prediction" the predicted pose of objects.
      hidden: widths of the dense layers.

    Raises:
      ValueError: if the task has no camera for a policy that sees; names the tasks that have.
    """
    if policy == "mlp":
        network = policies.mlp(task.configuration_dim, task.action_dim, hidden)
        if task.vision is None:
            return Eyes(network, None, None, None, policies.acting(network))
        configuration = task.configuration
        return _eyes(network, None, lambda o: o[configuration], None)
    if task.vision is None:
        raise ValueError(
            f"the task {task.name!r} has no camera for policy={policy!r}; tasks that have one: "
            f"{', '.join(with_vision())}; of a task of your own, name it: "
            "jgps.from_mjcf(..., vision=CAMERA)"
        )
    sizes = (task.configuration_dim, task.action_dim, hidden)
    if policy == "pose_prediction":
        trunk = policies.make_trunk("feature_points", config.channels, config.conv_dtype)
        regressor = policies.PoseRegressor(trunk, pose_dim(task))
        network = policies.pose_prediction_policy(regressor, *sizes)
        return _eyes(network, task.vision, *cameras(task, config))
    network = policies.visuomotor(
        *sizes, config.channels, config.learned_temperature, config.conv_dtype
    )
    return _eyes(network, task.vision, *cameras(task, config))


def _eyes(network: nn.Module, vision: Vision | None, observe: Any, look: Look | None) -> Eyes:
    return Eyes(network, vision, observe, look, policies.acting_on_images(network, observe))


def make_eye(task: Task, config: VisionConfig) -> View:
    """The camera that the network looks through."""
    assert task.vision is not None
    return make_view(
        task.model, task.vision.camera,
        width=config.width, height=config.height, config=config.render,
    )  # fmt: skip


def cameras(task: Task, config: VisionConfig) -> tuple[Observe, Look]:
    """The image [H, W, 3] uint8 and the robot's configuration, of o [dO]: to act on, to learn from.

    Returns:
      `observe(o)`, the task as it is, and `look(key, o)`, with other looks for every key.
    """
    vision, view = task.vision, make_eye(task, config)
    assert vision is not None
    vary = varying(task, view, config.looks)
    draw = batching(functools.partial(view.draw_rgb, as_uint8=True))

    def observe(o: jax.Array) -> tuple[jax.Array, jax.Array]:
        return draw(*body_poses(vision, o)), o[vision.configuration]

    def look(key: jax.Array, o: jax.Array) -> tuple[jax.Array, jax.Array]:
        return draw(*vary(key, *body_poses(vision, o))), o[vision.configuration]

    return observe, look


def batching(draw: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """The same, but under vmap it gets the axis, and so draws as many at once as its memory allows.

    Args:
      draw: takes any leading axes, the same of all leaves.
    """

    @jax.custom_batching.custom_vmap
    def drawn(*arguments: Any) -> jax.Array:
        return draw(*arguments)

    @drawn.def_vmap
    def _(axis_size: int, in_batched: Any, *arguments: Any) -> tuple[jax.Array, bool]:
        def spread(leaf: jax.Array, batched: bool) -> jax.Array:
            return leaf if batched else jnp.broadcast_to(leaf, (axis_size, *jnp.shape(leaf)))

        return drawn(*jax.tree.map(spread, arguments, tuple(in_batched))), True

    return drawn


def pose_dim(task: Task) -> int:
    """Numbers of the pose that convolutions are pretrained to tell: 3 points on every object."""
    assert task.vision is not None
    return 9 * len(task.vision.objects)


def sees(policy: str) -> bool:
    """Whether this kind of policy looks through a camera."""
    return policy != "mlp"


def train(
    policy: str,
    config: VisionConfig,
    own: Eyes,
    iteration: jax.Array,
    learner: NetworkPolicy,
    supervision: Supervision,
    key: jax.Array,
) -> tuple[NetworkPolicy, DistilInfo]:
    """Trains a network that sees as its phase has it; images exist only while it is trained.

    Args:
      own: the network's.
      supervision: of vectors o.

    Returns:
      The network and how the training went, NaN where there was none.
    """
    key, look_key, between_key = jax.random.split(key, 3)
    look, vision = own.look, own.vision
    assert look is not None and vision is not None

    def nothing(learner: NetworkPolicy) -> tuple[NetworkPolicy, DistilInfo]:
        none = jnp.full((), jnp.nan, supervision.target.dtype)
        status = Status(code=jnp.asarray(OK, jnp.int32), step=jnp.asarray(-1, jnp.int32))
        return learner, DistilInfo(none, none, none, none, status)

    def seen() -> Supervision:
        rows = between(between_key, supervision, vision, config.between, config.spread)
        return rows._replace(o=policies.look(look, rows.o, look_key))

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
