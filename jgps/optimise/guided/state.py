"""Everything that guided algorithms keep, and their settings in common."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jgps.core.checks import check_choice, check_field
from jgps.core.types import Controller
from jgps.dynamics import MixturePriorConfig, PriorConfig
from jgps.optimise.local_loop import LocalConfig
from jgps.optimise.models import FittedModelsConfig
from jgps.optimise.steps.lqr import LqrStepConfig
from jgps.policies import DistilConfig, NetworkPolicy
from jgps.simulation import SimulationRollouts
from jgps.vision import config as vision_config
from jgps.vision.config import POLICIES, VisionConfig
from jgps.vision.pretraining import Pretraining

SAMPLING = ("off_policy", "on_policy")
LINEARISATIONS = ("offset", "fitted")
COVARIANCES = ("controllers", "network")
WEIGHTINGS = ("pooled", "precision")


@dataclasses.dataclass(frozen=True, kw_only=True)
class GuidedConfig(LocalConfig):
    """Settings of all guided algorithms.

    Attributes:
      policy: what the network reads: "mlp" the observation, "visuomotor" the task's camera
        and the robot's configuration; "pose_features" and "pose_prediction" are baselines, see
        `jgps.vision.learner`.
      vision: of a network that sees.
      hidden: widths of the network's hidden (dense) layers.
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
      distil: how the network is trained; one that sees as `vision` says.
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

    policy: str = "mlp"
    vision: VisionConfig = VisionConfig()
    hidden: tuple[int, ...] = (40, 40)
    sampling: str = "off_policy"
    linearisation: str = "offset"
    agreement: float = 0.2
    policy_covariance: str = "controllers"
    policy_weighting: str = "pooled"
    distil: DistilConfig = DistilConfig()
    window: int = 4
    reuse: int = 1
    policy_prior: PriorConfig = MixturePriorConfig(window=1)
    models: FittedModelsConfig = FittedModelsConfig()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "policy", POLICIES)
        check_choice(self, "sampling", SAMPLING)
        check_choice(self, "linearisation", LINEARISATIONS)
        check_field(self, "agreement", lambda v: 0 < v <= 1, "in (0, 1], usually 0.2")
        check_choice(self, "policy_covariance", COVARIANCES)
        check_choice(self, "policy_weighting", WEIGHTINGS)
        check_field(self, "window", lambda v: v >= 1, ">= 1, usually 4", integer=True)
        check_field(self, "hidden", lambda v: v >= 1, ">= 1 everywhere", integer=True)
        text = "from 1 to window"
        check_field(self, "reuse", lambda v: 1 <= v <= self.window, text, integer=True)
        if self.reuse > 1 and self.sampling != "off_policy":
            raise ValueError(
                f"{type(self).__name__}.reuse is {self.reuse} with sampling {self.sampling!r}; it "
                "has to be 1, or sampling 'off_policy': only controllers say how likely their "
                "actions were"
            )

    @property
    def trainings(self) -> tuple[DistilConfig, ...]:
        """How the network is trained, in all phases."""
        return vision_config.trainings(self.policy, self.vision, self.distil)

    @property
    def first_training(self) -> int:
        """The iteration in which the network is first trained."""
        return vision_config.first_training(self.policy, self.vision)


def seeing_settings(config: GuidedConfig, policy: str = "visuomotor") -> dict[str, Any]:
    """What goes well with a policy that sees, by name, for `dataclasses.replace`.

    Controllers that hurry each go a way of their own, which no image tells.
    """
    changed: dict[str, Any] = {"policy": policy, "agreement": 0.5}
    step = getattr(config, "step", None)
    if isinstance(step, LqrStepConfig):
        changed["step"] = dataclasses.replace(step, max_multiplier=1.0)
    return changed


class History(NamedTuple):
    """Rollouts of the last iterations, a ring of `window` slots."""

    x: jax.Array  # [window, C, N, T, dX], or [window, 1, M, T, dX] of rollouts in groups
    o: jax.Array  # [window, C, N, T, dO]
    valid: jax.Array  # [window, C, N]
    u: jax.Array  # [window, C, N, T, dU]
    # [window, C, N, T], log density of the actions before each step under what drew them
    log_prob: jax.Array


class Sight(NamedTuple):
    """How the state goes with what the network observes, near the controllers' samples."""

    prior: Any  # of [o; x]
    slope: jax.Array  # [C, T, dX, dq], E[dx] per change of the vector that the network reads


class GuidedState(NamedTuple):
    """Everything that the next iteration needs."""

    key: jax.Array
    iteration: jax.Array  # [] int32
    controllers: Controller  # [C, ...], local
    learner: NetworkPolicy  # as last trained
    policy: NetworkPolicy  # the best that was tried without noise so far
    policy_valid: jax.Array  # [], share of the training conditions that it got through then
    policy_success: jax.Array  # [], share of those that it succeeded in then; 0 if undefined
    policy_cost: jax.Array  # [], its mean cost over those that it got through then
    models: Any  # what the models' slot remembers
    policy_prior: Any  # of the learner's linearisation
    history: History
    memory: Any  # what the algorithm's own step keeps, leaves [C, ...]
    groups: Any  # what the grouping of rollouts keeps
    sight: Sight | None  # None where the network observes the state itself
    pretraining: Pretraining | None  # None where the network sees no images


def trained(config: GuidedConfig, state: GuidedState) -> jax.Array:
    """Whether the network has been trained before this iteration."""
    return state.iteration > config.first_training


def remember(state: GuidedState, sampled: SimulationRollouts, log_prob: jax.Array) -> GuidedState:
    """The state with this iteration's rollouts in its history, and `log_prob` [C, N, T] of them."""
    slot = state.iteration % state.history.valid.shape[0]
    valid = sampled.valid
    used = valid[..., None, None]
    new = History(
        x=jnp.where(used, sampled.x, 0),
        o=jnp.where(used, sampled.o, 0),
        valid=valid,
        u=jnp.where(used, sampled.u, 0),
        log_prob=jnp.where(valid[..., None], log_prob, 0),
    )
    history = jax.tree.map(lambda old, leaf: old.at[slot].set(leaf), state.history, new)
    return state._replace(history=history)


def recent(state: GuidedState, iterations: int | None = None) -> History:
    """The history with the samples of all iterations in one axis: [C, window N, T, ...].

    Args:
      iterations: only of so many of the newest ones, those first; None is all.
    """
    slots = jnp.arange(state.history.valid.shape[0])
    if iterations is not None:
        slots = (state.iteration - jnp.arange(iterations)) % len(slots)

    def join(leaf: jax.Array) -> jax.Array:
        leaf = leaf[slots]
        return jnp.moveaxis(leaf, 0, 1).reshape(leaf.shape[1], -1, *leaf.shape[3:])

    return jax.tree.map(join, state.history)
