"""Mirror descent guided policy search with PILQR: models first, then path integrals on the rest.

    repeat: roll out the local controllers p_c (off-policy) or the network pi (on-policy);
            fit linear-Gaussian dynamics to the samples, and pi as a controller there: pi_c;
            residual <- cost of every sample - what the models predict for its noise
            p1  <- argmin E[predicted cost]  s.t.  KL_t(p1 || pi_c) <= epsilon_t
                   (by default around a point between p_c and pi_c, see `OffsetConfig.agreement`)
            p_c <- fit of p1's k and C to the samples, weighted by their residual costs to go
            pi  <- argmin sum_c E[KL(pi || p_c)] over the visited states
            adapt epsilon_t to the share of the cost that the models explain

Source: Chebotar et al. (2017b), "Combining model-based and model-free updates for
trajectory-centric reinforcement learning", sections 4 and 5.
"""

import dataclasses

from jgps.core.pilqr import PilqrStepConfig
from jgps.optimise.algorithm import Algorithm
from jgps.optimise.factory import factory
from jgps.optimise.guided.config import MirrorDescentConfig
from jgps.optimise.guided.mirror_descent import mirror_descent
from jgps.optimise.steps.pilqr import pilqr_step
from jgps.tasks import Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class MdgpsPilqrConfig(MirrorDescentConfig):
    """Settings of `mdgps_pilqr`.

    Attributes:
      step: how far the two updates of the trajectory step move.
      others: see `MirrorDescentConfig`.
    """

    step: PilqrStepConfig = PilqrStepConfig()


@factory
def mdgps_pilqr(
    task: Task, config: MdgpsPilqrConfig = MdgpsPilqrConfig(), backend: str = "auto"
) -> Algorithm:
    """The algorithm on a task; see the file's head for what it does.

    Raises:
      ValueError: for an unknown backend, or where the task's initial controller does not fit its
        model.
    """
    return mirror_descent(task, config, backend, pilqr_step(task.horizon, config.step))
