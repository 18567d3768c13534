"""MDGPS: what each choice does, against NumPy, and which network is the result."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jgps
from jgps import tasks
from jgps.algorithms import ALGORITHMS
from jgps.algorithms.mdgps import MdgpsConfig, mdgps
from jgps.core import lqr
from jgps.core.gaussian import controller_kl
from jgps.core.types import OK, Rollouts
from jgps.optimise.guided import loop as guided
from jgps.optimise.guided.selection import keep_best
from jgps.policies import DistilConfig

SHORT = DistilConfig(steps=50)


def _steps(config, num, seed=0, task="point_mass"):
    """States (the first one too) and metrics."""
    algorithm = mdgps(tasks.make(task), config, backend="native")
    states, history = [algorithm.init(jax.random.key(seed))], []
    for _ in range(num):
        state, metrics = algorithm.step(states[-1])
        states.append(state)
        history.append(metrics)
    return states, history


def _models(config, state):
    """What the next iteration fits and linearises."""
    parts = guided.make_parts(tasks.make("point_mass"), config, "native")
    _, sample_key, _, _ = jax.random.split(state.key, 4)
    sampled = parts.sample(state, sample_key)
    fitted, models, _ = parts.fit(state, sampled)
    _, linearised, _ = parts.linearise(fitted, sampled)
    return models, linearised, sampled


def _kl(controllers, previous, models):
    marginals = jax.vmap(lqr.forward)(controllers, models.dynamics, models.initial)
    return jnp.sum(jax.vmap(controller_kl)(controllers, previous, marginals), axis=-1)


@pytest.mark.parametrize("agreement", [0.2, 1.0])
@pytest.mark.parametrize("sampling", ["off_policy", "on_policy"])
def test_controllers_stay_within_the_bound_around_the_centre(sampling, agreement):
    config = MdgpsConfig(distil=SHORT, sampling=sampling, agreement=agreement)
    (_, before, after), (_, metrics) = _steps(config, 2)
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
    config = MdgpsConfig(distil=SHORT)
    (_, before), _ = _steps(config, 1)
    _, network, sampled = _models(config, before)
    by_network = np.asarray(before.learner.mean(sampled.o)).mean(axis=1)
    mean = np.einsum("ctij,ctj->cti", network.K, sampled.x.mean(axis=1)) + network.k
    np.testing.assert_allclose(mean, by_network, atol=1e-4)


@pytest.mark.parametrize("rule", ["classic", "global"])
def test_the_step_size_follows_its_rule(rule):
    """Multiplier of the third iteration from what the second promised, in NumPy."""
    config = MdgpsConfig(distil=SHORT, step_rule=rule)
    _, (_, second, third) = _steps(config, 3)
    # What the second step expected before it: of the network's linearisation, or of its centre.
    states, _ = _steps(config, 2)
    memory = states[-1].memory
    actual = third["policy_cost_expected"] if rule == "global" else third["cost_expected"]
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
        MdgpsConfig(sampling="on_policy"),
        MdgpsConfig(step_rule="global"),
        MdgpsConfig(
            linearisation="fitted",
            policy_weighting="precision",
            policy_covariance="network",
            step_rule="global",
        ),
    ],
)
def test_every_choice_solves_the_smallest_task(config):
    task = tasks.make("point_mass")
    states, history = _steps(config, 8)
    assert all(bool((metrics["status"] == OK).all()) for metrics in history)
    found = jgps.evaluate(task, states[-1].policy, key=jax.random.key(0), backend="native")
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
    learner = jax.tree.map(lambda leaf: leaf + 1, state.learner)
    return keep_best(task, state._replace(learner=learner), trial)[0]


def _kept(state, judged):
    return not np.array_equal(judged.policy.cov, state.policy.cov)


def test_the_best_network_gets_through_then_succeeds_then_costs_least():
    start = mdgps(tasks.make("point_mass"), MdgpsConfig(), "native").init(jax.random.key(0))
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
    start = mdgps(tasks.make("point_mass"), MdgpsConfig(), "native").init(jax.random.key(0))
    ok, none, nan = [True] * 4, [0.0] * 4, float("nan")
    partial = _judged(start, [nan, 10.0, 10, 10], none, ok)
    assert _kept(start, partial) and float(partial.policy_cost) == 10.0
    whole = _judged(partial, [50.0] * 4, none, ok)
    assert _kept(partial, whole)
    assert not _kept(whole, _judged(whole, [nan, 1.0, 1, 1], [1.0] * 4, ok))


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["mdgps", "dagger"])
def test_what_the_joints_tell_of_the_state_is_known(algorithm):
    """The blind peg's observation is the first 14 entries of its state: that slope is known."""
    make, config = ALGORITHMS[algorithm]
    task = tasks.make("blind_peg_insertion")
    run = make(task, config(distil=DistilConfig(steps=20)), backend="native")
    state, _ = run.step(run.init(jax.random.key(0)))
    slope = np.asarray(state.sight.slope)[:, :, :14]
    error = np.linalg.norm(slope - np.eye(14), axis=(-2, -1)) / np.sqrt(14)
    assert np.median(error) < 0.05
