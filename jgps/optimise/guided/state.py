"""Everything that guided algorithms keep, and their settings in common."""

import dataclasses
from typing import Any, NamedTuple

import jax

from jgps.core.checks import check_choice, check_field
from jgps.core.types import Controller
from jgps.dynamics import MixturePriorConfig, PriorConfig
from jgps.optimise.guided.history import History
from jgps.optimise.guided.observation_model import ObservationModel
from jgps.optimise.local_loop import LocalConfig
from jgps.optimise.models import FittedModelsConfig
from jgps.policies import NetworkPolicy
from jgps.policies.learner import MlpConfig
from jgps.vision.config import VisualConfig
from jgps.vision.pretraining import Pretraining

SAMPLING = ("off_policy", "on_policy")
LINEARISATIONS = ("offset", "fitted")
COVARIANCES = ("controllers", "network")
WEIGHTINGS = ("pooled", "precision")


@dataclasses.dataclass(frozen=True, kw_only=True)
class GuidedConfig(LocalConfig):
    """Settings of all guided algorithms.

    Attributes:
      policy: the network and how it learns: `MlpConfig` reads the observation, `VisualConfig`
        looks through the task's camera.
      trajectory_iterations: number of the first iterations in which the controllers improve alone,
        without the network, >= 0.
      sampling: "off_policy" rolls the local controllers out, "on_policy" the network (but the
        initial controllers at first).
      linearisation: of the network in a condition, which controllers stay near to: "offset" takes
        the gains of the controller that it was last trained on and moves its mean to the
        network's, which a handful of samples tells well; "fitted" is the published regression on
        the samples, for gains too, whose errors enter the next controller's.
      agreement: with "offset", where between the condition's last controller (0) and the network
        (1) the centre of the bound is, in (0, 1]. What the network does not follow yet is lost to
        the controllers at 1.
      policy_covariance: of the same:
        "controllers" gives it the exploration of the condition's last controller, so that the
        network's mean alone holds the next one back; "network" its own, the same at all times.
        That one follows the surest moments of all, and exploration ends early.
      policy_weighting: what the network's errors count: "pooled" measures them everywhere by the
        same precision, that of the controllers' mean covariance; "precision" by each step's own,
        the exact divergence. Those differ by decades, and a network then follows few steps well.
      window: how many iterations' rollouts the prior of a "fitted" linearisation looks at.
      reuse: of how many iterations the network is trained on the rollouts, up to window: beyond 1,
        older ones count by how likely the actions that led to a state were under the controllers of
        the newest ones, as a share of what that was under those that drew them, and never more than
        those. For sampling "off_policy".
      policy_prior: of a "fitted" linearisation, and of what the observation tells of the state
        where it is not the state.
      models: how local models are fitted; `models.fit` is also how linearisations are.
      num_samples, noise_smoothing: see `LocalConfig`.
    """

    policy: MlpConfig | VisualConfig = MlpConfig()
    trajectory_iterations: int = 0
    sampling: str = "off_policy"
    linearisation: str = "offset"
    agreement: float = 0.2
    policy_covariance: str = "controllers"
    policy_weighting: str = "pooled"
    window: int = 4
    reuse: int = 1
    policy_prior: PriorConfig = MixturePriorConfig(window=1)
    models: FittedModelsConfig = FittedModelsConfig()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_policy(self)
        text = ">= 0, usually 0 or 10"
        check_field(self, "trajectory_iterations", lambda v: v >= 0, text, integer=True)
        check_choice(self, "sampling", SAMPLING)
        check_choice(self, "linearisation", LINEARISATIONS)
        check_field(self, "agreement", lambda v: 0 < v <= 1, "in (0, 1], usually 0.2")
        check_choice(self, "policy_covariance", COVARIANCES)
        check_choice(self, "policy_weighting", WEIGHTINGS)
        check_field(self, "window", lambda v: v >= 1, ">= 1, usually 4", integer=True)
        text = "from 1 to window"
        check_field(self, "reuse", lambda v: 1 <= v <= self.window, text, integer=True)
        if self.reuse > 1 and self.sampling != "off_policy":
            raise ValueError(
                f"{type(self).__name__}.reuse is {self.reuse} with sampling {self.sampling!r}; it "
                "has to be 1, or sampling 'off_policy': only controllers say how likely their "
                "actions were"
            )


def check_policy(config: Any) -> None:
    """Refuses a policy that is no settings of one.

    Raises:
      ValueError: "Class.policy is value; it has to be ...".
    """
    if not isinstance(config.policy, MlpConfig | VisualConfig):
        raise ValueError(
            f"{type(config).__name__}.policy is {config.policy!r}; it has to be a "
            "jgps.configs.MlpConfig or a jgps.configs.VisualConfig"
        )


class GuidedState(NamedTuple):
    """Everything that the next iteration needs."""

    key: jax.Array
    iteration: jax.Array  # [] int32
    controllers: Controller  # [C, ...], local
    learner: NetworkPolicy  # as last trained
    policy: NetworkPolicy  # the best of those that were rolled out without noise
    policy_valid: jax.Array  # [], share of the training conditions that it got through then
    policy_success: jax.Array  # [], share of those that it succeeded in then; 0 if undefined
    policy_cost: jax.Array  # [], its mean cost over those that it got through then
    models: Any  # what the models' slot remembers
    policy_prior: Any  # of the learner's linearisation
    history: History
    memory: Any  # what the algorithm's own step keeps, leaves [C, ...]
    groups: Any  # what the grouping of rollouts keeps
    observation_model: ObservationModel | None  # None where the network observes the state itself
    pretraining: Pretraining | None  # None where the network sees no images


def trained(config: GuidedConfig, state: GuidedState) -> jax.Array:
    """Whether the network has been trained before this iteration."""
    return state.iteration > config.trajectory_iterations
