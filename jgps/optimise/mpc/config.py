"""Settings of model predictive control."""

import dataclasses
from typing import Annotated, Any

import mujoco

from jgps.core.checks import Config, Range, refuse
from jgps.optimise.ilqg.solve import SearchConfig
from jgps.optimise.mpc.sampling import CemConfig, MppiConfig, PredictiveSamplingConfig
from jgps.simulation.derivatives import DerivativesConfig, MjxDerivativesConfig
from jgps.simulation.state_jacobian import tangent_dim
from jgps.tasks import Task

EPISODE = 10  # iterations, unless settings say how many steps each has
PlannerConfig = SearchConfig | PredictiveSamplingConfig | CemConfig | MppiConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class MpcConfig(Config):
    """Settings of `mpc`.

    Attributes:
      horizon: control steps that a plan looks ahead.
      replan_every: control steps that are done under a plan and its feedback until the next one,
        less than the horizon.
      planner: what plans, by its type: `SearchConfig` is iLQG, with as many iterations a plan as it
        says; the others draw samples.
      derivatives: how a simulator is differentiated for iLQG, by the backend's kind of settings;
        None is its defaults.
      first_iterations: how many plans are made in the first state of a run, each from the one
        before; then one whenever it is time.
      steps: control steps of the episode that one iteration of the algorithm does; None is a tenth
        of the task's horizon.
      noise: standard deviation of the exploration noise that the resulting controllers have, as a
        share of half the range of each control, of one unit where it has no range. No plan has
        any.
    """

    horizon: Annotated[int, Range("[2, 1e5]", "usually 20 to 100")] = 50
    replan_every: Annotated[int, Range(">= 1", "usually 1 to 5")] = 2
    planner: PlannerConfig = SearchConfig(iterations=1, step_sizes=6, smallest_step=0.03)
    derivatives: DerivativesConfig | MjxDerivativesConfig | None = None
    first_iterations: Annotated[int, Range(">= 1", "usually 1 to 50")] = 20
    steps: Annotated[int | None, Range(">= 1", "usually a tenth of the task's horizon")] = None
    noise: Annotated[float, Range("> 0", "usually 0.01 to 0.1")] = 0.02

    def __post_init__(self):
        if self.replan_every >= self.horizon:
            refuse(self, "replan_every", f"less than the horizon, {self.horizon} steps, usually 2")


def plan_sizes(config: Any, task: Task, num: int) -> dict[str, int]:
    """Bytes that plans from `num` states take at the very least, by what for.

    The config has a planner and a horizon.
    """
    planner = config.planner
    copies = planner.step_sizes if isinstance(planner, SearchConfig) else planner.samples
    states = mujoco.mj_stateSize(task.model, mujoco.mjtState.mjSTATE_INTEGRATION)
    width = states + task.state_dim + task.action_dim
    rollouts = copies * num
    parts = {
        f"{rollouts:,} rollouts of {config.horizon:,} steps": 8 * rollouts * config.horizon * width
    }
    if isinstance(planner, SearchConfig):
        dS, dU = tangent_dim(task.model), task.action_dim
        steps = num * config.horizon
        parts[f"derivatives at {steps:,} steps"] = (
            8 * steps * (dS * (dS + dU) + task.state_dim * dS)
        )
    return parts
