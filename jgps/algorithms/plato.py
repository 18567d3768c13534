"""A planner teaches a network, and acts as the network would where that is not too costly: PLATO.

    repeat: from where every episode is, plan anew all the time
                minimise  cost + weight KL(plan || network): its action is done
                minimise  cost alone: its action is the label of what is seen there
            train the network to do what the labels say in all states that were visited so far
            roll the network out without noise

What is visited is what the network will visit, but for actions whose cost is far beyond what the
divergence is worth: a network that has learned little does not do harm. With acting="mixture" plan
and network act in turns, which is DAgger with the same teacher.

What an iteration really did is `state.episodes`, for whoever counts what must not happen.

Source: Kahn, Zhang, Levine & Abbeel (2017), "PLATO: Policy learning using adaptive trajectory
optimization"; of the mixture Ross, Gordon & Bagnell (2011), "A reduction of imitation learning and
structured prediction to no-regret online learning".
"""

import dataclasses
from typing import Annotated

from jgps.core.checks import OneOf, Range, refuse
from jgps.optimise.algorithm import Algorithm
from jgps.optimise.factory import factory
from jgps.optimise.teaching.config import TeachingConfig
from jgps.optimise.teaching.loop import Rule, make_teaching
from jgps.tasks import Task

ACTING = ("adaptive", "mixture")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlatoConfig(TeachingConfig):
    """Settings of `plato`.

    Attributes:
      acting: "adaptive" acts by a plan that stays near the network, "mixture" by the plan that is
        best alone and the network in turns.
      beta: with acting="mixture", the probability that the plan acts in a step, in the first
        iteration, the second one, ...; the last one holds for all further ones.
    """

    acting: Annotated[str, OneOf(*ACTING)] = "adaptive"
    beta: Annotated[tuple[float, ...], Range("[0, 1]")] = (1.0, 0.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.beta:
            refuse(self, "beta", "a tuple with a probability for every iteration, at least one")


@factory
def plato(task: Task, config: PlatoConfig = PlatoConfig(), backend: str = "auto") -> Algorithm:
    """The algorithm on a task; see the file's head for what it does.

    Raises:
      ValueError: for a backend that can't plan, a task whose state does not tell where its
        simulation is, and one whose observation does not follow from its state with near="plan".
    """
    if config.acting == "adaptive":
        return make_teaching(task, config, backend, Rule(near=(False, True)))
    return make_teaching(task, config, backend, Rule(near=(False,), beta=config.beta))
