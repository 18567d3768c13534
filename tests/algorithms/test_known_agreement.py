"""CGPS and ADMM on the swing-up of benchmarks/ablate_known.py: the two agree (seed 0)."""

import dataclasses

import ablate_known
import jax
import numpy as np
import pytest
from compilations import count_compilations

from jgps.algorithms import ALGORITHMS
from jgps.core.types import OK

ALONE, TOGETHER = 8, 14


@pytest.mark.parametrize("name", ["cgps", "admm"])
def test_the_network_does_what_trajectories_do_at_their_cost(name):
    """Within 5% of what iLQG finds alone, which the searches begin with, and nearly the same.

    In benchmarks/ablate_known.py, with more iterations and seeds, both agree to 1e-3 everywhere.
    """
    make, config = ALGORITHMS[name]
    algorithm = make(ablate_known.make_task(), config(trajectory_iterations=ALONE))
    state, alone = algorithm.init(jax.random.key(0)), None
    for number in range(ALONE + TOGETHER):
        state, metrics = algorithm.step(state)
        assert np.all(np.asarray(metrics["status"]) == OK)
        if number == ALONE - 1:
            alone = metrics["noise_free_cost"]  # the controllers', which act before the network
    assert alone is not None
    assert np.mean(metrics["noise_free_cost"]) < 1.05 * np.mean(alone)
    assert np.mean(metrics["policy_violation"]) < (1e-2 if name == "cgps" else 2e-3)
    found = []
    again = make(ablate_known.make_task(), config(trajectory_iterations=ALONE))
    assert count_compilations(lambda: found.append(again.init(jax.random.key(0)))) == 0
    assert count_compilations(lambda: found.append(again.step(found[0]))) == 0


def test_a_network_that_does_not_observe_the_state_is_refused():
    task = ablate_known.make_task()
    blind = dataclasses.replace(task, observation=task.layout)
    for name in ("cgps", "admm"):
        with pytest.raises(ValueError, match="observes something else than the state; traj"):
            ALGORITHMS[name][0](blind)
