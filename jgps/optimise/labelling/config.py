"""Settings of the loop in which plans label the states that a network visits."""

import dataclasses
from typing import Annotated

from jgps.core.checks import Config, Range, Schedule, refuse
from jgps.optimise.ilqg.solve import SearchConfig
from jgps.policies import DistilConfig
from jgps.policies.learner import MlpConfig
from jgps.simulation.derivatives import DerivativesConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class MpcDaggerConfig(Config):
    """Settings of `mpc_dagger`.

    Attributes:
      episodes: how many go on at once. They are drawn anew when they end, where the task says how;
        otherwise they start in its training conditions in turn.
      steps: control steps of these episodes that one iteration does, each of which is labelled.
      horizon: control steps that a plan looks ahead.
      replan_every: control steps that are labelled by one plan and its feedback, less than the
        horizon.
      planner: how a plan is searched for: as many iterations as it says, from the plan before.
      first_iterations: how many plans are made in the first state of an episode, each from the one
        before. After a fall the plan acts for as many without teaching.
      derivatives: how the simulator is differentiated; None is the defaults.
      beta: share of the episodes in which the plan acts and not the network, in [0, 1]; a number
        for all iterations, or one for each, of which the last one holds for all further ones. In
        the first iteration the plan acts in all of them.
      noise: standard deviation of what is added to all actions, as a share of half the range of
        each control, of one unit where it has no range.
      temperature: what a nat of the actions' entropy is worth, > 0, in units of the cost: the
        covariance of the network's actions is this times the inverse of the cost's mean curvature.
      labels_kept: how many labels the network learns from, the oldest make room; at least those of
        one iteration.
      policy: the network, and how it is trained in an iteration. Where that disturbs observations
        (`input_noise`) or compares derivatives (`gain_weight`), labels come with the plans' gains.
    """

    episodes: Annotated[int, Range(">= 1", "usually 20 to 100")] = 48
    steps: Annotated[int, Range(">= 1", "usually 20 to 100")] = 50
    horizon: Annotated[int, Range("[2, 1e5]", "usually 20 to 100")] = 25
    replan_every: Annotated[int, Range(">= 1", "usually 1 to 5")] = 2
    planner: SearchConfig = SearchConfig(iterations=1, step_sizes=4, smallest_step=0.05)
    first_iterations: Annotated[int, Range(">= 1", "usually 1 to 50")] = 5
    derivatives: DerivativesConfig | None = None
    beta: Annotated[float | tuple[float, ...], Schedule("[0, 1]", "usually falling to 0")] = (
        1.0,
        0.3,
        0.3,
        0.3,
        0.0,
    )
    noise: Annotated[float, Range(">= 0", "usually 0.01 to 0.1")] = 0.03
    temperature: Annotated[float, Range("> 0", "usually 1e-3 to 1")] = 3e-3
    labels_kept: Annotated[int, Range(">= 1", "usually 2e4 to 2e5")] = 50_000
    policy: MlpConfig = MlpConfig(
        hidden=(128, 128),
        distil=DistilConfig(steps=1500, batch_size=512, learning_rate=1e-3, input_noise=0.1),
    )

    def __post_init__(self) -> None:
        if self.replan_every >= self.horizon:
            refuse(self, "replan_every", f"less than the horizon, {self.horizon} steps, usually 2")
        each = self.episodes * self.steps
        if self.labels_kept < each:
            refuse(self, "labels_kept", f"at least episodes * steps = {each}, one iteration's")

    @property
    def learns_gains(self) -> bool:
        """Whether the network's training asks for the plans' gains."""
        return self.policy.distil.input_noise > 0 or self.policy.distil.gain_weight > 0
