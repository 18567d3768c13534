"""Settings of a policy that looks through a camera, and of how it learns."""

import dataclasses

from jgps.core.checks import check_choice, check_field, check_kinds
from jgps.policies import DistilConfig
from jgps.policies.learner import MlpConfig
from jgps.policies.networks.visuomotor import CHANNELS, CONV_DTYPES, Convolutions
from jgps.rendering import RenderConfig
from jgps.vision.domain_randomisation import DomainRandomisationConfig
from jgps.vision.pose_regression import PoseConfig

KINDS = ("visuomotor", "pose_features", "pose_prediction")


@dataclasses.dataclass(frozen=True, kw_only=True)
class VisualConfig:
    """A policy that looks through the task's camera, and how it learns.

    For how many iterations the controllers improve alone before it does is `trajectory_iterations`
    of the algorithm's config; `jgps.recipes.recipe` has settings that go well together.

    Attributes:
      kind: "visuomotor" is trained end to end; the baselines keep their pretrained convolutions:
        "pose_features" reads their feature points, "pose_prediction" the pose that they predict.
      hidden: widths of the dense layers.
      width, height: size of the images, pixels.
      channels: widths of the three convolutions.
      learned_temperature: whether the temperature of the spatial softmax is learned; 1 otherwise.
      conv_dtype: None or "float32"; "bfloat16" is faster on an accelerator.
      pretraining: how the convolutions are pretrained, on images of random scenes.
      pretraining_images: number of these images, at least 2.
      render: quality of the images, and the limit on triangles.
      domain_randomisation: how images that the network learns from differ from the task's own.
      pretraining_joint_spread: standard deviation of the joints' positions about their start in
        pretraining images, as a fraction of their ranges, >= 0. Where an arm hides what it holds,
        places that no image tells cost the convolutions those that images do tell.
      interpolated: share, in [0, 1], of the images of rollouts that show scenes between the
        training conditions, see `jgps.vision.interpolation`; 0 where no mean of two ways to do the
        task is a way to do it.
      interpolation_spread: how far interpolated states are moved off the mean way, in standard
        deviations of the rollouts, >= 0. Where it was never trained, a network keeps to the way
        less closely than controllers do, and has to know how to get back.
      dense_iterations: number of the first iterations of training in which the dense layers are
        trained alone, >= 0; of kind "visuomotor" only.
      dense: how the dense layers are trained in one iteration.
      end_to_end: how the whole network is trained in one iteration, after which the dense layers
        are trained once more as `dense` says; of kind "visuomotor" only.
    """

    kind: str = "visuomotor"
    hidden: tuple[int, ...] = (40, 40)
    width: int = 64
    height: int = 64
    channels: tuple[int, ...] = CHANNELS
    learned_temperature: bool = False
    conv_dtype: str | None = None
    pretraining: PoseConfig = PoseConfig()
    pretraining_images: int = 2000
    render: RenderConfig = RenderConfig()
    domain_randomisation: DomainRandomisationConfig = DomainRandomisationConfig()
    pretraining_joint_spread: float = 0.0
    interpolated: float = 0.5
    interpolation_spread: float = 1.5
    dense_iterations: int = 4
    dense: DistilConfig = DistilConfig(steps=2000, learning_rate=3e-3, frozen="convolutions")
    end_to_end: DistilConfig = DistilConfig(
        steps=150, batch_size=64, learning_rate=1e-3, checks=1, convolution_rate=0.1
    )

    def __post_init__(self) -> None:
        check_kinds(self)
        check_choice(self, "kind", KINDS)
        check_field(self, "hidden", lambda v: v >= 1, ">= 1 everywhere", integer=True)
        smallest = Convolutions().smallest
        for name in ("width", "height"):
            text = f"at least {smallest}, the smallest that this network can see"
            check_field(self, name, lambda v: v >= smallest, text, integer=True)
        check_field(self, "channels", lambda v: v >= 1, ">= 1 everywhere", integer=True)
        if not isinstance(self.channels, tuple) or len(self.channels) != len(CHANNELS):
            raise ValueError(
                f"VisualConfig.channels is {self.channels}; it has to be a tuple of "
                f"{len(CHANNELS)} widths, usually {CHANNELS}"
            )
        if self.conv_dtype not in CONV_DTYPES:
            raise ValueError(
                f"VisualConfig.conv_dtype is {self.conv_dtype!r}; it has to be one of {CONV_DTYPES}"
            )
        check_field(self, "pretraining_images", lambda v: v >= 2, ">= 2", integer=True)
        check_field(self, "pretraining_joint_spread", lambda v: v >= 0, ">= 0, usually below 0.02")
        check_field(self, "interpolated", lambda v: 0 <= v <= 1, "in [0, 1], usually 0.5")
        check_field(self, "interpolation_spread", lambda v: v >= 0, ">= 0, usually 1.5")
        text = ">= 0, usually 4 to 8"
        check_field(self, "dense_iterations", lambda v: v >= 0, text, integer=True)
        if self.dense.frozen != "convolutions":
            raise ValueError(
                f"VisualConfig.dense.frozen is {self.dense.frozen!r}; it has to be 'convolutions': "
                "for all of the network to be trained at once, lower dense_iterations"
            )
        if self.end_to_end.frozen != "none":
            raise ValueError(
                f"VisualConfig.end_to_end.frozen is {self.end_to_end.frozen!r}; it has to be "
                "'none': for the dense layers to be trained alone, raise dense_iterations, or take "
                "the kind 'pose_features'"
            )
        if self.dense.on_divergence != self.end_to_end.on_divergence:
            raise ValueError(
                f"VisualConfig.dense.on_divergence is {self.dense.on_divergence!r} and that of "
                f"end_to_end {self.end_to_end.on_divergence!r}; they have to be the same: a run "
                "goes on or stops in all phases alike"
            )
        if self.dense.convolution_rate != 1:
            raise ValueError(
                f"VisualConfig.dense.convolution_rate is {self.dense.convolution_rate}; it has to "
                "be 1: the convolutions stay as they are then; set that of end_to_end"
            )

    @property
    def trainings(self) -> tuple[DistilConfig, ...]:
        """How the network is trained, in all of its phases."""
        return (self.dense, self.end_to_end) if self.kind == "visuomotor" else (self.dense,)

    def usual_iterations(self, alone: int, controllers: int) -> int:
        """Iterations that training takes: the network's own, its dense layers first, after `alone`.

        It counts on `alone` to be enough for the controllers.
        """
        del controllers
        return alone + 7

    def phases(self, alone: int) -> dict[str, int]:
        """The iterations in which its phases begin, by name, after so many of controllers alone."""
        found = {"controllers alone": 0, "dense layers": alone}
        if self.kind == "visuomotor":
            found["end to end"] = alone + self.dense_iterations
        return found


NetworkPolicyConfig = MlpConfig | VisualConfig
