"""Which local controller a rollout belongs to: its condition's, or that of a group of rollouts."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jgps.core.lifted import shared_jit
from jgps.optimise.rollouts.sampling import make_sample
from jgps.policies import Supervision
from jgps.simulation import Policy, SimulationRollouts
from jgps.tasks import Task
from jgps.tasks.start import initial_states

# sample(state, key) -> rollouts, with noise, of the policy whose params were made from the state
SampleGuided = Callable[[Any, jax.Array], SimulationRollouts]


class Grouping(NamedTuple):
    """How rollouts are made and shared out among C local controllers.

    Rollouts that are shared out are [C, N, ...], valid only where they belong to a controller. A
    rollout may be in many rows of them, and valid in one; `pool` has each of them once.
    """

    x0: jax.Array  # [C, dX], what the controllers hold to begin with
    shape: tuple[int, int]  # leading axes of pooled rollouts
    init: Callable[[jax.Array], Any]  # from a key: what `group` keeps in the state's `groups`
    make_sample: Callable[[Policy, Callable[[Any], Any], str], SampleGuided]
    group: Callable[[Any, SimulationRollouts], tuple[Any, SimulationRollouts]]  # shares them out
    pool: Callable[[SimulationRollouts], SimulationRollouts]
    merge: Callable[[Supervision], Supervision]  # every rollout once, with its own controller
    rollouts: int  # per iteration


def by_condition(task: Task, num_samples: int, noise_smoothing: float) -> Grouping:
    """Every training condition has a controller and `num_samples` rollouts of its own."""

    def sampling(act: Policy, params_of: Callable[[Any], Any], backend: str) -> SampleGuided:
        roll_out = make_sample(task, act, backend, num_samples, noise_smoothing, noise_free=False)
        params_of = shared_jit(params_of)

        def sample(state: Any, key: jax.Array) -> SimulationRollouts:
            return roll_out(params_of(state), key)

        return sample

    return Grouping(
        x0=initial_states(task, task.train),
        shape=(task.train.num, num_samples),
        init=lambda key: (),
        make_sample=sampling,
        group=lambda state, sampled: (state, sampled),
        pool=lambda sampled: sampled,
        merge=lambda supervision: supervision,
        rollouts=task.train.num * num_samples,
    )
