"""Settings of a policy that looks through a camera, and of how it learns."""

import dataclasses

from jgps.core.checks import check_field
from jgps.policies import DistilConfig
from jgps.policies.networks.visuomotor import CHANNELS, CONV_DTYPES, Convolutions
from jgps.rendering import RenderConfig
from jgps.vision.domain_randomisation import DomainRandomisationConfig
from jgps.vision.pose_regression import PoseConfig

POLICIES = ("mlp", "visuomotor", "pose_features", "pose_prediction")


def sees(policy: str) -> bool:
    """Whether this kind of policy looks through a camera."""
    return policy != "mlp"


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


def first_training(policy: str, config: VisionConfig) -> int:
    """The iteration in which a network of this kind is first trained."""
    return config.trajectory_iterations if sees(policy) else 0


def trainings(policy: str, config: VisionConfig, distil: DistilConfig) -> tuple[DistilConfig, ...]:
    """How a network of this kind is trained, in all phases."""
    return (config.head, config.end_to_end) if sees(policy) else (distil,)
