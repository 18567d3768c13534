"""MDGPS: what each choice does, against NumPy, and which network is the result."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from shared_algorithms import with_parts

import jgps
from jgps import tasks
from jgps.algorithms import OffsetConfig, RegressionConfig
from jgps.algorithms.mdgps import MdgpsConfig, mdgps
from jgps.core import lqr
from jgps.core.gaussian import controller_kl
from jgps.core.types import OK, Rollouts
from jgps.dynamics import NoPriorConfig
from jgps.optimise.guided.selection import keep_best
from jgps.optimise.models import FittedModelsConfig
from jgps.policies import DistilConfig
from jgps.policies.learner import MlpConfig

SHORT = MdgpsConfig(
    policy=MlpConfig(distil=DistilConfig(steps=50)),
    models=FittedModelsConfig(prior=NoPriorConfig()),
)
AT_NETWORK = dataclasses.replace(
    SHORT, sampling="on_policy", linearisation=OffsetConfig(agreement=1.0)
)
GLOBAL = MdgpsConfig(step_rule="global")


@functools.cache
def _algorithm(config):
    """On the smallest task; and its parts."""
    return with_parts(mdgps, tasks.make("point_mass"), config)


@functools.cache
def _step(config, num):
    """State after so many iterations with seed 0, and metrics of the last one."""
    algorithm, _ = _algorithm(config)
    if num == 0:
        return algorithm.init(jax.random.key(0)), {}
    return algorithm.step(_step(config, num - 1)[0])


def _models(config, state):
    """What the next iteration fits and linearises."""
    _, parts = _algorithm(config)
    _, sample_key, _, _ = jax.random.split(state.key, 4)
    sampled = parts.sample(state, sample_key)
    fitted, models, _ = parts.fit(state, sampled)
    _, linearised, _, _ = parts.linearise(fitted, sampled)
    return models, linearised, sampled


@jax.jit
def _kl(controllers, previous, models):
    marginals = jax.vmap(lqr.forward)(controllers, models.dynamics, models.initial)
    return jnp.sum(jax.vmap(controller_kl)(controllers, previous, marginals), axis=-1)


@pytest.mark.parametrize(("config", "agreement"), [(SHORT, 0.2), (AT_NETWORK, 1.0)])
def test_controllers_stay_within_the_bound_around_the_centre(config, agreement):
    assert config.linearisation.agreement == agreement
    (before, _), (after, metrics) = _step(config, 1), _step(config, 2)
    models, network, _ = _models(config, before)
    own = before.controllers.k
    centre = network._replace(k=own + agreement * (network.k - own))
    kl = _kl(after.controllers, centre, models)
    np.testing.assert_allclose(kl, metrics["kl"], rtol=1e-2)
    assert bool((metrics["kl"] <= 1.1 * metrics["kl_bound"]).all())
    # The figures show how far the controllers are from the network itself, not from the centre.
    np.testing.assert_allclose(
        metrics["policy_kl"], _kl(before.controllers, network, models), rtol=1e-2
    )


def test_the_linearised_network_does_what_the_network_does_on_average():
    before, _ = _step(SHORT, 1)
    _, network, sampled = _models(SHORT, before)
    by_network = np.asarray(before.newest.mean(sampled.o)).mean(axis=1)
    mean = np.einsum("ctij,ctj->cti", network.K, sampled.x.mean(axis=1)) + network.k
    np.testing.assert_allclose(mean, by_network, atol=1e-4)


@pytest.mark.parametrize("config", [SHORT, GLOBAL], ids=lambda config: config.step_rule)
def test_the_step_size_follows_its_rule(config):
    """Multiplier of the third iteration from what the second promised, in NumPy."""
    (state, second), (_, third) = _step(config, 2), _step(config, 3)
    # What the second step expected before it: of the network's linearisation, or of its centre.
    memory, by_network = state.memory, config.step_rule == "global"
    actual = third["policy_cost_expected"] if by_network else third["cost_expected"]
    before, predicted = np.asarray(memory.cost_before), np.asarray(memory.cost_predicted)
    promised, kept = before - predicted, before - np.asarray(actual)
    factor = np.clip(promised / (2 * np.maximum(1e-4, promised - kept)), 0.1, 5.0)
    expected = np.clip(
        np.asarray(second["step_multiplier"]) * factor,
        config.step.min_multiplier,
        config.step.max_multiplier,
    )
    np.testing.assert_allclose(third["step_multiplier"], expected, rtol=1e-4)


@pytest.mark.parametrize(
    "config",
    [
        GLOBAL,
        MdgpsConfig(
            sampling="on_policy",
            linearisation=RegressionConfig(covariance="network"),
            policy_weighting="precision",
        ),
    ],
)
def test_every_choice_solves_the_smallest_task(config):
    task = tasks.make("point_mass")
    for iteration in range(1, 9):
        state, metrics = _step(config, iteration)
        assert bool((metrics["status"] == OK).all())
    found = jgps.evaluate(task, state.policy, key=jax.random.key(0), backend="native")
    assert found.train.success_rate == 1 and found.test.success_rate == 1


def _judged(state, cost, success, valid):
    """The state after a trial that cost so much in each of the four conditions."""
    task = tasks.make("point_mass")
    cost, success, valid = map(jnp.asarray, (cost, success, valid))
    # A task whose cost and success are written in the states.
    task = dataclasses.replace(
        task,
        cost=lambda x, u, t: jnp.where(t == 0, x[0], 0.0),
        success=lambda x, u: x[0, 1] > 0.5,
    )
    x = jnp.zeros((4, 1, task.horizon, 4)).at[:, 0, 0, 0].set(cost).at[:, 0, 0, 1].set(success)
    trial = Rollouts(x=x, u=jnp.zeros((4, 1, task.horizon, 2)), valid=valid[:, None])
    learner = jax.tree.map(lambda leaf: leaf + 1, state.newest)
    return keep_best(task, state._replace(newest=learner), trial)[0]


def _kept(state, judged):
    return not np.array_equal(judged.policy.cov, state.policy.cov)


def test_the_best_network_gets_through_then_succeeds_then_costs_least():
    start, _ = _step(SHORT, 0)
    ok, none = [True] * 4, [0.0] * 4
    first = _judged(start, [10.0, 10, 10, 16000], none, ok)
    assert _kept(start, first) and float(first.policy_cost) == 4007.5
    # One that diverges where the first was expensive is no better for it.
    assert not _kept(first, _judged(first, [10.0, 10, 10, 0], none, [True, True, True, False]))
    cheaper = _judged(first, [10.0, 10, 10, 15000], none, ok)
    assert _kept(first, cheaper)
    succeeds = _judged(cheaper, [10.0, 10, 10, 90000], [1.0, 0, 0, 0], ok)
    assert _kept(cheaper, succeeds)
    assert not _kept(succeeds, _judged(succeeds, [1.0, 1, 1, 1], none, ok))


def test_a_cost_that_is_not_finite_counts_as_not_getting_through():
    start, _ = _step(SHORT, 0)
    ok, none, nan = [True] * 4, [0.0] * 4, float("nan")
    partial = _judged(start, [nan, 10.0, 10, 10], none, ok)
    assert _kept(start, partial) and float(partial.policy_cost) == 10.0
    whole = _judged(partial, [50.0] * 4, none, ok)
    assert _kept(partial, whole)
    assert not _kept(whole, _judged(whole, [nan, 1.0, 1, 1], [1.0] * 4, ok))


@pytest.mark.slow
def test_what_the_joints_tell_of_the_state_is_known():
    """The blind peg's observation is the first 14 entries of its state: that slope is known.

    As an iteration begins, in every algorithm that trains a network: it samples and fits.
    """
    algorithm, parts = with_parts(mdgps, tasks.make("blind_peg_insertion"), SHORT)
    start, key = algorithm.init(jax.random.key(0)), jax.random.key(1)
    fitted, _, _ = parts.fit(start, parts.sample(start, key))
    assert np.isfinite(fitted.observation_model.slope).all()
    slope = np.asarray(fitted.observation_model.slope)[:, :, :14]
    error = np.linalg.norm(slope - np.eye(14), axis=(-2, -1)) / np.sqrt(14)
    assert np.median(error) < 0.05
