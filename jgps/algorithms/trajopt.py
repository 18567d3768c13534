"""Trajectory optimisation on fitted local models: one KL-constrained LQR step per iteration.

    repeat: roll out p(u|x) in every condition; fit linear-Gaussian dynamics to the samples;
            p <- argmin E[cost]  s.t.  KL(new || p) <= epsilon;  adapt epsilon

Source: Levine & Abbeel (2014), "Learning neural network policies with guided policy search under
unknown dynamics", sections 3 and 4.
"""

import dataclasses

from jgps.optimise.algorithm import Algorithm
from jgps.optimise.factory import factory
from jgps.optimise.local_loop import LocalConfig, LocalState, make_local_algorithm
from jgps.optimise.model_source import ModelsConfig, make_models
from jgps.optimise.models import FittedModelsConfig
from jgps.optimise.steps.bounded import BoundedStepConfig, bounded_step
from jgps.optimise.steps.lqr import LqrStepConfig
from jgps.tasks import Task

TrajoptState = LocalState  # its memory is a StepMemory


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrajoptConfig(LocalConfig):
    """Settings of `trajopt`.

    Attributes:
      models: how local models are fitted, or come of the simulator's derivatives
        (`KnownModelsConfig`).
      step: bound of the KL divergence, its adaptation, and the search for its multiplier. The
        default, `LqrStepConfig(min_multiplier=0.5, enough=0.1)`, does not shrink the bound while
        steps improve the cost; another `LqrStepConfig` has the published rule unless it says so.
      rollouts: see `LocalConfig`.
    """

    models: ModelsConfig = FittedModelsConfig()
    step: BoundedStepConfig = LqrStepConfig(min_multiplier=0.5, enough=0.1)


@factory
def trajopt(
    task: Task, config: TrajoptConfig = TrajoptConfig(), backend: str = "auto"
) -> Algorithm:
    """The algorithm on a task; see the file's head for what it does.

    Raises:
      ValueError: for an unknown backend, or where the task's initial controller does not fit its
        model.
    """
    models = make_models(task, config.models, config.shape(task), backend)
    step = bounded_step(task, config.step)
    return make_local_algorithm(task, config, backend, models, step)
