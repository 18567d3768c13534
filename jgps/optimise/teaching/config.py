"""Settings of algorithms in which plans that are made anew all the time teach a network."""

import dataclasses
from typing import Annotated

from jgps.core.checks import Config, OneOf, Range, Schedule, refuse
from jgps.optimise.ilqg.solve import SearchConfig
from jgps.policies import DistilConfig
from jgps.policies.learner import MlpConfig

NEAR = ("plan", "first")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TeachingConfig(Config):
    """What `plato` and `mpc_gps` have in common.

    Attributes:
      num_samples: episodes per training condition and iteration, at least 1.
      noise_smoothing: standard deviation, in steps, of the kernel that smooths actions' noise;
        0 is white.
      horizon: control steps that a plan looks ahead.
      replan_every: control steps that are done under a plan and its feedback until the next one,
        less than the horizon.
      planner: how a plan is searched for: as many iterations as it says, from the plan before.
      first_iterations: how many plans are made in the first state of an episode, each from the one
        before.
      divergence_weight: what a nat of the divergence between teacher and learner costs the teacher,
        >= 0, in units of the task's cost; a number for all iterations, or one for each. In the
        first iteration it is 0 whatever this says: there is no learner yet.
      near: at which steps of a plan that divergence counts: "first" at the one that is done next
        alone, as published; "plan" at all of them, which takes a task whose observation follows
        from its state.
      temperature: what a nat of the actions' entropy is worth, > 0, in units of the cost: the
        covariance of a plan's actions is this times the inverse of the cost's curvature by them.
      iterations_kept: how many iterations the network learns from, the oldest make room.
      policy: the network, and how it is trained in an iteration.
    """

    num_samples: Annotated[int, Range(">= 1", "usually 1 to 5")] = 2
    noise_smoothing: Annotated[float, Range(">= 0", "usually 2 steps")] = 2.0
    horizon: Annotated[int, Range("[2, 1e5]", "usually 20 to 100")] = 25
    replan_every: Annotated[int, Range(">= 1", "usually 1 to 5")] = 2
    planner: SearchConfig = SearchConfig(iterations=2)
    first_iterations: Annotated[int, Range(">= 1", "usually 1 to 50")] = 10
    divergence_weight: Annotated[
        float | tuple[float, ...], Schedule(">= 0", "usually about the temperature")
    ] = 0.01
    near: Annotated[str, OneOf(*NEAR)] = "plan"
    temperature: Annotated[float, Range("> 0", "usually 1e-3 to 1")] = 3e-3
    iterations_kept: Annotated[int, Range(">= 1")] = 12
    policy: MlpConfig = MlpConfig(
        distil=DistilConfig(steps=2000, learning_rate=3e-3, input_noise=0.0)
    )

    def __post_init__(self) -> None:
        if self.replan_every >= self.horizon:
            refuse(self, "replan_every", f"less than the horizon, {self.horizon} steps, usually 2")
