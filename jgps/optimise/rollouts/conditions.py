"""Where rollouts with noise start and whose they are; here every training condition has its own."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jgps.core.lifted import shared_jit
from jgps.optimise.rollouts.sampling import FixedStartsConfig, make_sample, rollouts_each
from jgps.policies import Supervision
from jgps.simulation import Policy, SimulationRollouts
from jgps.tasks import Task
from jgps.tasks.start import initial_states

# sample(state, key) -> rollouts, with noise, of the policy whose params were made from the state
SampleGuided = Callable[[Any, jax.Array], SimulationRollouts]


class RolloutSource(NamedTuple):
    """How rollouts are made and shared out among C local controllers.

    Rollouts that are shared out are [C, N, ...], valid only where they belong to a controller. A
    rollout may be in many rows of them, and valid in one; `pool` has each of them once.
    """

    x0: jax.Array  # [C, dX], what the controllers hold to begin with
    shape: tuple[int, int]  # leading axes of pooled rollouts
    init: Callable[[jax.Array], Any]  # from a key: what `share_out` keeps in the state's `groups`
    make_sample: Callable[[Policy, Callable[[Any], Any], str], SampleGuided]
    share_out: Callable[[Any, SimulationRollouts], tuple[Any, SimulationRollouts]]
    pool: Callable[[SimulationRollouts], SimulationRollouts]
    merge: Callable[[Supervision], Supervision]  # every rollout once, with its own controller
    rollouts: int  # per iteration
    # whether one iteration's rollouts start where the next one's do, so that costs can be compared
    comparable: bool


def fixed_starts(task: Task, config: FixedStartsConfig) -> RolloutSource:
    """Every training condition has a controller and `num_samples` rollouts of its own."""
    num_samples = rollouts_each(task, config)

    def sampling(act: Policy, params_of: Callable[[Any], Any], backend: str) -> SampleGuided:
        roll_out = make_sample(task, act, backend, config)
        params_of = shared_jit(params_of)

        def sample(state: Any, key: jax.Array) -> SimulationRollouts:
            return roll_out(params_of(state), key)

        return sample

    return RolloutSource(
        x0=initial_states(task, task.train),
        shape=(task.train.num, num_samples),
        init=lambda key: (),
        make_sample=sampling,
        share_out=lambda state, sampled: (state, sampled),
        pool=lambda sampled: sampled,
        merge=lambda supervision: supervision,
        rollouts=task.train.num * num_samples,
        comparable=True,
    )
