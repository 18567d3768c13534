"""LQR on fitted models, then path integrals on what the models leave unexplained.

    repeat: roll out p(u|x) in every condition; fit linear-Gaussian dynamics to the samples;
            residual <- cost of every sample - what the models predict for its noise;
            p1 <- argmin E[predicted cost]  s.t.  KL_t(p1 || p) <= epsilon_t;
            p  <- fit of p1's k and C to the samples, weighted by their residual costs to go;
            adapt epsilon_t to the share of the cost that the models explain

As few samples as LQR while models serve, and as robust as PI2 where the cost or the motion jumps.

Source: Chebotar et al. (2017b), "Combining model-based and model-free updates for
trajectory-centric reinforcement learning", section 4.
"""

import dataclasses

from jgps.core.pilqr import PilqrStepConfig
from jgps.optimise.algorithm import Algorithm
from jgps.optimise.factory import factory
from jgps.optimise.local_loop import LocalConfig, make_local_algorithm
from jgps.optimise.model_source import ModelsConfig, make_models
from jgps.optimise.models import FittedModelsConfig
from jgps.optimise.steps.pilqr import pilqr_step
from jgps.tasks import Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class PilqrConfig(LocalConfig):
    """Settings of `pilqr`.

    Attributes:
      models: how local models are fitted, or come of the simulator's derivatives
        (`KnownModelsConfig`).
      step: how far its two updates move.
      rollouts: see `LocalConfig`.
    """

    models: ModelsConfig = FittedModelsConfig()
    step: PilqrStepConfig = PilqrStepConfig()


@factory
def pilqr(task: Task, config: PilqrConfig = PilqrConfig(), backend: str = "auto") -> Algorithm:
    """The algorithm on a task; see the file's head for what it does.

    Raises:
      ValueError: for an unknown backend, or where the task's initial controller does not fit its
        model.
    """
    models = make_models(task, config.models, config.shape(task), backend)
    step = pilqr_step(task.horizon, config.step)
    return make_local_algorithm(task, config, backend, models, step)
