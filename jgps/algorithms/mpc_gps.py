"""Guided policy search with plans that are made anew all the time as local controllers: MPC-GPS.

    repeat: from where every episode is, plan anew all the time, and act:
                minimise  cost + weight KL(plan || network), the network's mean moved by -s_t
            train the network to do what was done, moved by s_t, in states of recent iterations
            s_t <- s_t + rate (mean of what the plans did - mean of what the network would do)
            roll the network out without noise

Plans and network come to agree: s_t, times weight and the network's precision, is the multiplier of
the constraint that their mean actions are equal at every step of every condition.

Source: Zhang, Kahn, Levine & Abbeel (2016), "Learning deep control policies for autonomous aerial
vehicles with MPC-guided policy search". There an offline controller, found on fitted dynamics, says
what plans are to follow; here they are made on known dynamics and the cost itself.
"""

import dataclasses
from typing import Annotated

from jgps.core.checks import Range
from jgps.optimise.algorithm import Algorithm
from jgps.optimise.factory import factory
from jgps.optimise.teaching.config import TeachingConfig
from jgps.optimise.teaching.loop import Rule, make_teaching
from jgps.tasks import Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class MpcGpsConfig(TeachingConfig):
    """Settings of `mpc_gps`.

    Attributes:
      iterations_kept: see `TeachingConfig`; what plans did long ago they would not do any more.
      dual_rate: share of the difference between plans and network that moves both, >= 0; 0 is for
        no multipliers.
    """

    iterations_kept: Annotated[int, Range(">= 1")] = 3
    dual_rate: Annotated[float, Range("[0, 1]", "usually 0.1")] = 0.1


@factory
def mpc_gps(task: Task, config: MpcGpsConfig = MpcGpsConfig(), backend: str = "auto") -> Algorithm:
    """The algorithm on a task; see the file's head for what it does.

    Raises:
      ValueError: for a backend that can't plan, a task whose state does not tell where its
        simulation is, and one whose observation does not follow from its state with near="plan".
    """
    return make_teaching(task, config, backend, Rule(near=(True,), rate=config.dual_rate))
