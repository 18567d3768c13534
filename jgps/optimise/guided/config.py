"""The settings that guided algorithms have in common."""

import dataclasses
from typing import Annotated, Self

from jgps.core.checks import Config, OneOf, Range, Schedule, refuse
from jgps.dynamics import MixturePriorConfig, PriorConfig
from jgps.optimise.model_source import ModelsConfig
from jgps.optimise.models import FittedModelsConfig
from jgps.optimise.rollouts.sampling import FixedStartsConfig
from jgps.optimise.steps.ilqg import IlqgStepConfig
from jgps.policies.learner import MlpConfig
from jgps.vision.config import NetworkPolicyConfig

SAMPLING = ("off_policy", "on_policy")
COVARIANCES = ("controllers", "network")
WEIGHTINGS = ("pooled", "precision")


@dataclasses.dataclass(frozen=True, kw_only=True)
class OffsetConfig(Config):
    """The network as a controller: the gains of the one it was last trained on, its own mean.

    A handful of samples tells the mean well.

    Attributes:
      covariance: covariance of that controller: "controllers" takes that of the condition's last
        controller, so that the network's mean alone holds the next one back; "network" takes the
        network's own, the same at all times, with which exploration ends early.
      agreement: where between the condition's last controller (0) and the network (1) the centre
        of the trust region is, in (0, 1]. What the network does not follow yet is lost to the
        controllers at 1.
    """

    covariance: Annotated[str, OneOf(*COVARIANCES)] = "controllers"
    agreement: Annotated[float, Range("(0, 1]")] = 0.2


@dataclasses.dataclass(frozen=True, kw_only=True)
class RegressionConfig(Config):
    """The network as a controller: the published regression of its actions on the states.

    It finds gains, too; their errors enter the next controllers.

    Attributes:
      covariance: of that controller, see `OffsetConfig`.
      prior: what the regression knows beforehand. It is fitted anew in every iteration to what the
        network does now, wherever the last `window` iterations' rollouts went; so the `window` of a
        mixture is 1.
      window: of how many iterations' rollouts a mixture is made, at least 1.
    """

    covariance: Annotated[str, OneOf(*COVARIANCES)] = "controllers"
    prior: PriorConfig = MixturePriorConfig(window=1)
    window: Annotated[int, Range(">= 1")] = 4

    def __post_init__(self) -> None:
        if isinstance(self.prior, MixturePriorConfig) and self.prior.window != 1:
            refuse(
                self,
                "prior.window",
                "1: what the network did in earlier iterations says nothing of it now; set window, "
                "which asks it again",
            )

    @property
    def history_length(self) -> int:
        """How many iterations' rollouts the prior looks at; 0 of one that learns from none."""
        return self.window if isinstance(self.prior, MixturePriorConfig) else 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class GuidedConfig(Config):
    """Settings of the loop around local controllers and one network.

    Attributes:
      rollouts: how the controllers, or the network, are rolled out with noise.
      models: how local models are fitted to rollouts, or come of the simulator's derivatives
        (`KnownModelsConfig`); the regressions of `RegressionConfig` and of states on observations
        take `models.fit`.
      policy: the network and how it learns: `MlpConfig` reads the observation, `VisualConfig`
        looks through the task's camera.
      linearisation: how the network is written as a controller in every condition, which the next
        controllers stay near to.
      observation_prior: of the regression of states on what the network observes, for tasks whose
        observation is not the state.
      trajectory_iterations: number of the first iterations in which the controllers improve alone,
        without the network, >= 0.
      outlier_bound: how far a sample may be from the others before it counts less, > 0, in
        standard deviations of the action that its controller answers it with; see
        `guided.outliers`. By default all count alike; so do, whatever this is, rollouts of earlier
        iterations (`reuse` of MDGPS) and the samples of a `RegressionConfig`.
      variance_penalty: what the variance of the network's actions costs in its training, >= 0, nats
        per squared action: one number, or one per iteration, of which the last stays. Above 0 the
        network ends its exploration sooner.
    """

    rollouts: FixedStartsConfig = FixedStartsConfig()
    models: ModelsConfig = FittedModelsConfig()
    policy: NetworkPolicyConfig = MlpConfig()
    linearisation: OffsetConfig | RegressionConfig = OffsetConfig()
    observation_prior: PriorConfig = MixturePriorConfig(window=1)
    trajectory_iterations: Annotated[int, Range(">= 0", "usually 0 or 10")] = 0
    outlier_bound: Annotated[float, Range("> 0", "usually 10 standard deviations")] = 1e6
    variance_penalty: Annotated[float | tuple[float, ...], Schedule(">= 0")] = 0.0

    @property
    def on_policy(self) -> bool:
        """Whether the network acts in rollouts with noise, once it is trained."""
        return False

    @property
    def weighs_history(self) -> bool:
        """Whether older rollouts are weighted by how likely their actions were."""
        return False

    @property
    def history_length(self) -> int:
        """How many iterations' rollouts are remembered; 0 where nothing looks at them."""
        settings = self.linearisation
        return settings.history_length if isinstance(settings, RegressionConfig) else 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class MirrorDescentConfig(GuidedConfig):
    """Settings of the algorithms that descend with controllers and project onto one network.

    Attributes:
      sampling: "off_policy" rolls the local controllers out, "on_policy" the network (but the
        initial controllers at first). Other settings have to go with it, see `suited_to`.
      policy_weighting: what the network's errors count: "pooled" measures them everywhere by the
        same precision, that of the controllers' mean covariance; "precision" by each step's own,
        the exact divergence. Those differ by decades, and a network then follows few steps well.
      reuse: on how many iterations' rollouts the network is trained, at least 1. Older rollouts are
        weighted by importance: by the likelihood of the actions that led to a state under the
        newest controllers, divided by that under the controllers that drew them, and at most 1.
        Beyond 1 it takes sampling="off_policy".
      others: see `GuidedConfig`.
    """

    sampling: Annotated[str, OneOf(*SAMPLING)] = "off_policy"
    policy_weighting: Annotated[str, OneOf(*WEIGHTINGS)] = "pooled"
    reuse: Annotated[int, Range(">= 1")] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reuse > 1 and self.sampling != "off_policy":
            refuse(
                self,
                "reuse",
                f"1 with sampling {self.sampling!r}, or sampling 'off_policy': only controllers "
                "say how likely their actions were",
            )

    @classmethod
    def suited_to(cls, sampling: str) -> Self:
        """The settings that go well with a sampling: here no others are known than the defaults."""
        return cls(sampling=sampling)

    @property
    def on_policy(self) -> bool:
        """See `GuidedConfig`."""
        return self.sampling == "on_policy"

    @property
    def weighs_history(self) -> bool:
        """See `GuidedConfig`."""
        return self.reuse > 1

    @property
    def history_length(self) -> int:
        """See `GuidedConfig`."""
        return max(super().history_length, self.reuse if self.weighs_history else 0)


def check_random_starts(config: MirrorDescentConfig) -> None:
    """Refuses settings that rollouts in groups cannot have.

    Raises:
      ValueError: for rollouts of local controllers, or a mixture for each of them.
    """
    name, linearisation = type(config).__name__, config.linearisation
    if not config.on_policy:
        raise ValueError(
            f"{name}.sampling is {config.sampling!r} with random starts; it has to be 'on_policy': "
            "before its rollout a random start belongs to no local controller"
        )
    if config.trajectory_iterations > 0:
        raise ValueError(
            f"{name}.trajectory_iterations is {config.trajectory_iterations} with random starts; "
            "it has to be 0: only the network can act from random starts"
        )
    if not isinstance(linearisation, RegressionConfig):
        raise ValueError(
            f"{name}.linearisation is {linearisation!r} with random starts; it has to be a "
            "jgps.configs.RegressionConfig: the network was not trained on one controller alone "
            "where groups change"
        )
    if isinstance(getattr(config, "step", None), IlqgStepConfig):
        raise ValueError(
            f"{name}.step is an IlqgStepConfig with random starts; it has to be a "
            "jgps.configs.LqrStepConfig: limits of controls are those of conditions, and groups of "
            "random starts belong to none"
        )
    for field, prior in (
        ("models.prior", getattr(config.models, "prior", None)),
        ("linearisation.prior", linearisation.prior),
        ("observation_prior", config.observation_prior),
    ):
        if isinstance(prior, MixturePriorConfig) and not prior.shared:
            raise ValueError(
                f"{name}.{field}.shared is False with random starts; it has to be True: the "
                "rollouts of a group change"
            )
