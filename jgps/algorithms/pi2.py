"""Path-integral policy improvement: local controllers from weighted samples, without models.

    repeat: roll out p(u|x) in every condition; S_t <- every sample's cost from step t to the end;
            weights_t <- softmax(-S_t / eta_t), epsilon nats from uniform;
            k, C of p <- fit to the weighted actions; K stays

It needs more samples than algorithms with models, 20 per iteration where 5 do for those, but no
derivative of the cost and no smooth motion.

Source: Chebotar et al. (2017a), "Path integral guided policy search", section III.
"""

import dataclasses

from jgps.core.path_integral import Pi2StepConfig
from jgps.optimise.algorithm import Algorithm
from jgps.optimise.factory import factory
from jgps.optimise.local_loop import LocalConfig, make_local_algorithm
from jgps.optimise.models import no_models
from jgps.optimise.steps.pi2 import pi2_step
from jgps.tasks import Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pi2Config(LocalConfig):
    """Settings of `pi2`.

    Attributes:
      step: how far one update moves.
      rollouts: see `LocalConfig`; 5 samples are few here, 20 usual.
    """

    step: Pi2StepConfig = Pi2StepConfig()


@factory
def pi2(task: Task, config: Pi2Config = Pi2Config(), backend: str = "auto") -> Algorithm:
    """The algorithm on a task; see the file's head for what it does.

    Raises:
      ValueError: for an unknown backend, or where the task's initial controller does not fit its
        model.
    """
    step = pi2_step(config.step)
    return make_local_algorithm(task, config, backend, no_models(), step)
