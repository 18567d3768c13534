"""Mirror descent guided policy search: local controllers stay near one network, which follows them.

    repeat: roll out the local controllers p_c (off-policy) or the network pi (on-policy)
            fit linear-Gaussian dynamics to the samples, and pi as a controller there: pi_c
            p_c <- argmin E[cost]  s.t.  KL(p_c || pi_c) <= epsilon        (trajectory step;
                   by default around a point between p_c and pi_c, see `OffsetConfig.agreement`)
            pi  <- argmin sum_c E[KL(pi || p_c)] over the visited states   (policy step)
            adapt epsilon

It is approximate mirror descent on the network's expected cost: the trajectory step is the descent,
the policy step the projection back onto what the network can do.

Source: Montgomery & Levine (2016), "Guided policy search via approximate mirror descent".
"""

import dataclasses
from typing import Annotated, Self

from jgps.core.checks import OneOf
from jgps.optimise.algorithm import Algorithm
from jgps.optimise.factory import factory
from jgps.optimise.guided.config import MirrorDescentConfig, check_random_starts
from jgps.optimise.guided.mirror_descent import mirror_descent
from jgps.optimise.rollouts.random_starts import RandomStartsConfig
from jgps.optimise.rollouts.sampling import FixedStartsConfig
from jgps.optimise.steps.bounded import BoundedStepConfig, bounded_step
from jgps.optimise.steps.lqr import LqrStepConfig
from jgps.policies.distil import DistilConfig
from jgps.policies.learner import MlpConfig
from jgps.tasks import Task

STEP_RULES = ("global", "classic")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MdgpsConfig(MirrorDescentConfig):
    """Settings of `mdgps`.

    Attributes:
      sampling: whose rollouts teach, see `MirrorDescentConfig`. Most settings here go well with
        "off_policy"; those that go well with "on_policy" are `MdgpsConfig.suited_to("on_policy")`,
        and `jgps.train(task, "mdgps", sampling="on_policy")` takes them.
      step: bound of the KL divergence, its adaptation, and the search for its multiplier; an
        `IlqgStepConfig` keeps within the limits of the controls.
      step_rule: what the prediction of the last step is compared with: the cost that the network
        has now ("global"), or the one that the local controllers have ("classic").
      rollouts: how rollouts with noise start: in every training condition (`FixedStartsConfig`), or
        at random and in groups (`RandomStartsConfig`). Random starts take sampling="on_policy", a
        `RegressionConfig`, priors that are shared and no `trajectory_iterations`; the KL bound is
        then not adapted, and the training conditions serve to choose the best network.
      others: see `MirrorDescentConfig`.
    """

    step: BoundedStepConfig = LqrStepConfig(min_multiplier=0.1)
    step_rule: Annotated[str, OneOf(*STEP_RULES)] = "classic"
    rollouts: FixedStartsConfig | RandomStartsConfig = FixedStartsConfig()

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.rollouts, RandomStartsConfig):
            check_random_starts(self)

    @classmethod
    def suited_to(cls, sampling: str) -> Self:
        """The settings that go well with a sampling.

        Rollouts of the network show less of what the controllers do. More of them, a longer
        training in small steps, and one bound that stays wide, so that no condition falls behind,
        go well with that. On peg insertion with a round end the network so reaches every hole
        with each of ten seeds, with the other defaults 70% of them.
        """
        if sampling != "on_policy":
            return cls(sampling=sampling)
        return cls(
            sampling=sampling,
            rollouts=FixedStartsConfig(num_samples=10),
            step=LqrStepConfig(min_multiplier=0.5, max_multiplier=3.0, shared_multiplier=True),
            policy=MlpConfig(distil=DistilConfig(steps=4000, batch_size=25, learning_rate=1e-3)),
        )


@factory
def mdgps(task: Task, config: MdgpsConfig = MdgpsConfig(), backend: str = "auto") -> Algorithm:
    """The algorithm on a task; see the file's head for what it does.

    Raises:
      ValueError: for an unknown backend, where the task's initial controller does not fit its
        model, or where it has no random starts but the settings ask for them.
    """
    step = bounded_step(task, config.step)
    return mirror_descent(task, config, backend, step, step_rule=config.step_rule)
