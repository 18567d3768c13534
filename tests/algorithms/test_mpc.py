"""Model predictive control as an algorithm: episodes, what comes of them, what is refused."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from shared_algorithms import springs, to_goal

import jgps
from jgps.algorithms import MpcConfig, mpc
from jgps.configs import CemConfig, MjxDerivativesConfig
from jgps.core.types import NON_FINITE, OK
from jgps.optimise.ilqg.task_system import task_system
from jgps.optimise.mpc.loop import make_planner, make_task_run, start_of
from jgps.optimise.mpc.run import make_run
from jgps.recipes import recipe

HORIZON = 12
CONFIG = MpcConfig(horizon=5, first_iterations=2, steps=4)  # as in the contract's tests


@functools.cache
def _episodes(stiffness=0.0, number=4):
    """States and metrics of so many iterations, three of which are an episode."""
    task = to_goal(HORIZON)
    train = springs(task, {0: np.array([0, 0, 0, stiffness])})[0]
    algorithm = mpc(dataclasses.replace(task, train=train), CONFIG, "native")
    found = [(algorithm.init(jax.random.key(0)), {})]
    for _ in range(number):
        found.append(algorithm.step(found[-1][0]))
    return found[1:]


def test_an_episode_ends_and_begins_again_from_what_was_done():
    found = _episodes()
    assert [int(metrics["control_step"]) for _, metrics in found] == [4, 8, 12, 4]
    so_far = [np.asarray(metrics["cost_so_far"]) for _, metrics in found]
    costs = [np.asarray(metrics["cost"]) for _, metrics in found]
    np.testing.assert_allclose(so_far[2], sum(costs[:3]), rtol=1e-5)
    np.testing.assert_allclose(so_far[3], costs[3], rtol=1e-6)
    assert (costs[3] <= costs[0] * 1.001).all()
    # Only a whole episode has a cost; until then its controllers are the result.
    assert np.isinf(found[1][0].policy_cost).all()
    np.testing.assert_allclose(found[2][0].policy_cost, so_far[2], rtol=1e-5)


def test_the_result_does_what_was_done():
    """In a simulation of its own; where controls are free, feedback is against deviations."""
    task, (state, _) = to_goal(HORIZON), _episodes()[2]
    found = jgps.evaluate(task, state.policy, key=jax.random.key(0), backend="native")
    np.testing.assert_allclose(found.train.cost, state.policy_cost, rtol=1e-4)
    K = np.asarray(state.policy.controllers.K)
    assert (np.diagonal(K[:, 6, :, :2], axis1=1, axis2=2) < 0).all()


def test_a_condition_that_diverges_is_said_and_the_others_do_not_notice():
    broken, healthy = (_episodes(stiffness, 2)[-1] for stiffness in (-1e12, 0.0))
    assert healthy[1]["status"].tolist() == [OK] * 4
    assert broken[1]["status"].tolist() == [OK] * 3 + [NON_FINITE]
    assert broken[1]["samples_valid"].tolist() == [1, 1, 1, 0]
    for one, other in zip(
        jax.tree.leaves(broken[0].controllers), jax.tree.leaves(healthy[0].controllers), strict=True
    ):
        np.testing.assert_array_equal(one[:3, :8], other[:3, :8])  # what was done
    np.testing.assert_array_equal(broken[0].run.states.bits[:3], healthy[0].run.states.bits[:3])
    assert np.isfinite(broken[1]["cost_so_far"]).all()


def test_paths_that_are_known_are_not_rolled_out_again():
    """And plans are the same to the last bit."""
    task, found = to_goal(HORIZON), []
    run, _ = make_task_run(task, CONFIG, "native")
    known = task_system(task, task.train, "native")
    system = known.system._replace(costs=None, x_dim=0)
    planner = make_planner(system, CONFIG, task.train.num)
    slow = make_run(known.system, planner, CONFIG, task.cost, start_of(known, CONFIG))
    for each in (run, slow):
        state, done = each.advance(each.begin(), 7)
        found.append((state.states, done.u, done.K, done.plan.cost))
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_recipe_looks_as_far_ahead_as_the_task_takes():
    assert recipe("walker", "mpc").config.horizon == 80
    assert recipe("point_mass", "mpc").config == MpcConfig()
    assert recipe("walker", "mpc").iterations == 10  # an episode


def test_what_does_not_fit_is_refused():
    task = to_goal(HORIZON)
    config = dataclasses.replace(CONFIG, horizon=3, planner=CemConfig(samples=8, knots=4))
    with pytest.raises(ValueError, match="knots is 4; it has to be at most the horizon, 3 steps"):
        mpc(task, config, "native")
    elsewhere = dataclasses.replace(CONFIG, derivatives=MjxDerivativesConfig())
    with pytest.raises(ValueError, match="MjxDerivativesConfig, which is not of backend 'native'"):
        mpc(task, elsewhere, "native")
    with pytest.raises(ValueError, match="mpc on 'point_mass' would need at least"):
        mpc(task, dataclasses.replace(CONFIG, planner=CemConfig(samples=10**6), horizon=10**5))
