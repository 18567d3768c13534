"""Path-integral guided policy search: a network learns from controllers improved without models.

    repeat: roll out the local controllers p_c (off-policy) or the network pi (on-policy);
            fit pi as a controller to the samples: pi_c
            S_t <- every sample's cost from step t to the end;
            weights_t <- softmax(-S_t / eta_t), epsilon nats from uniform;
            p_c <- fit to the weighted noise around pi_c            (trajectory step; by default
                   around a point between p_c and pi_c, see `OffsetConfig.agreement`)
            pi  <- argmin sum_c E[KL(pi || p_c)] over the visited states   (policy step)

It is mirror descent, where the trajectory step needs no derivative of the cost and no smooth
motion, but more samples. The models that are fitted along move no controller: they
serve metrics and figures, and a condition where fitting fails keeps its controller.

Source: Chebotar et al. (2017a), "Path integral guided policy search".
"""

import dataclasses

from jgps.core.path_integral import Pi2StepConfig
from jgps.optimise.algorithm import Algorithm
from jgps.optimise.factory import factory
from jgps.optimise.guided.config import MirrorDescentConfig
from jgps.optimise.guided.mirror_descent import mirror_descent
from jgps.optimise.steps.pi2 import pi2_step
from jgps.tasks import Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class PigpsConfig(MirrorDescentConfig):
    """Settings of `pigps`.

    Attributes:
      step: how far one trajectory step moves.
      rollouts: see `GuidedConfig`; 5 samples are few here, 20 usual.
      models: how the models for metrics and figures are fitted.
      others: see `MirrorDescentConfig`.
    """

    step: Pi2StepConfig = Pi2StepConfig()


@factory
def pigps(task: Task, config: PigpsConfig = PigpsConfig(), backend: str = "auto") -> Algorithm:
    """The algorithm on a task; see the file's head for what it does.

    Raises:
      ValueError: for an unknown backend, or where the task's initial controller does not fit its
        model.
    """
    return mirror_descent(task, config, backend, pi2_step(config.step))
