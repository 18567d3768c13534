"""Settings of a policy that looks through a camera, and of how it learns."""

import dataclasses
from typing import Annotated

from jgps.core.checks import Config, OneOf, Range, refuse
from jgps.policies import DistilConfig
from jgps.policies.learner import MlpConfig
from jgps.policies.networks.visuomotor import CHANNELS, CONV_DTYPES, Convolutions
from jgps.rendering import RenderConfig
from jgps.vision.domain_randomisation import DomainRandomisationConfig
from jgps.vision.pose_regression import PoseConfig

KINDS = ("visuomotor", "pose_features", "pose_prediction")

# What the convolutions need to see anything at all.
SIZE = (f">= {Convolutions().smallest}", "usually 64: a smaller image this network cannot see")


@dataclasses.dataclass(frozen=True, kw_only=True)
class VisualConfig(Config):
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

    kind: Annotated[str, OneOf(*KINDS)] = "visuomotor"
    hidden: Annotated[tuple[int, ...], Range(">= 1")] = (40, 40)
    width: Annotated[int, Range(*SIZE)] = 64
    height: Annotated[int, Range(*SIZE)] = 64
    channels: Annotated[tuple[int, int, int], Range(">= 1")] = CHANNELS
    learned_temperature: bool = False
    conv_dtype: Annotated[str | None, OneOf(*filter(None, CONV_DTYPES))] = None
    pretraining: PoseConfig = PoseConfig()
    pretraining_images: Annotated[int, Range(">= 2")] = 2000
    render: RenderConfig = RenderConfig()
    domain_randomisation: DomainRandomisationConfig = DomainRandomisationConfig()
    pretraining_joint_spread: Annotated[float, Range(">= 0", "usually below 0.02")] = 0.0
    interpolated: Annotated[float, Range("[0, 1]")] = 0.5
    interpolation_spread: Annotated[float, Range(">= 0")] = 1.5
    dense_iterations: Annotated[int, Range(">= 0", "usually 4 to 8")] = 4
    dense: DistilConfig = DistilConfig(steps=2000, learning_rate=3e-3, frozen="convolutions")
    end_to_end: DistilConfig = DistilConfig(
        steps=150, batch_size=64, learning_rate=1e-3, checks=1, convolution_rate=0.1
    )

    def __post_init__(self) -> None:
        if self.dense.frozen != "convolutions":
            why = "for all of the network to be trained at once, lower dense_iterations"
            refuse(self, "dense.frozen", f"'convolutions': {why}")
        if self.end_to_end.frozen != "none":
            refuse(
                self,
                "end_to_end.frozen",
                "'none': for the dense layers to be trained alone, raise dense_iterations, or take "
                "the kind 'pose_features'",
            )
        if self.dense.on_divergence != self.end_to_end.on_divergence:
            refuse(
                self,
                "dense.on_divergence",
                f"{self.end_to_end.on_divergence!r} as that of end_to_end: a run goes on or stops "
                "in all phases alike",
            )
        if self.dense.convolution_rate != 1:
            why = "the convolutions stay as they are then; set that of end_to_end"
            refuse(self, "dense.convolution_rate", f"1: {why}")

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
