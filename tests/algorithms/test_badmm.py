"""BADMM: the signs and the optimum on a problem solved independently, settings, and a task."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from shared_algorithms import on_many_sets, springs, with_parts

from jgps import tasks
from jgps.algorithms.badmm import BadmmConfig, _supervision, badmm
from jgps.core import lqr
from jgps.core.bregman import (
    adapt_weights,
    augmented_cost,
    bounded,
    dual_step,
    policy_targets,
    shift_size,
)
from jgps.core.gaussian import controller_kl
from jgps.core.types import (
    NON_FINITE,
    NOT_PD,
    OK,
    TOO_FEW_SAMPLES,
    Controller,
    QuadraticCost,
)
from jgps.dynamics import NoPriorConfig
from jgps.optimise.guided import agreement as agree
from jgps.optimise.guided import loop as guided
from jgps.optimise.guided.agreement import Agreement
from jgps.optimise.guided.config import OffsetConfig
from jgps.optimise.guided.rounds import over_rounds
from jgps.optimise.models import FittedModelsConfig, expected_cost
from jgps.policies import DistilConfig
from jgps.policies.learner import MlpConfig
from jgps.simulation import Conditions

C, T, DX, DU, DO = 3, 6, 3, 2, 3
TEMPERATURE = 1.0  # of the maximum entropy: without it both distributions would become points
NU, BOUND = 4.0, BadmmConfig().dual_bound
CONFIG = BadmmConfig(
    policy=MlpConfig(distil=DistilConfig(steps=200)),
    models=FittedModelsConfig(prior=NoPriorConfig()),
    inner_rounds=2,
)


def test_the_augmented_cost_is_the_one_of_the_lagrangian(rng, x64):
    """Evaluated at random points, from the definition and NumPy's logarithm of a density."""
    n = DX + DU
    H, g, h = rng.normal(size=(C, T, n, n)), rng.normal(size=(C, T, n)), rng.normal(size=(C, T))
    H = H + H.transpose(0, 1, 3, 2)
    root = rng.normal(size=(C, T, DU, DU))
    K, k = rng.normal(size=(C, T, DU, DX)), rng.normal(size=(C, T, DU))
    S = root @ root.transpose(0, 1, 3, 2) + 0.1 * np.eye(DU)
    duals, weights = rng.normal(size=(C, T, DU)), rng.uniform(0.01, 2, (C, T))
    z = rng.normal(size=(C, T, n))
    cost, policy = (
        QuadraticCost(*map(jnp.asarray, (H, g, h))),
        Controller(*map(jnp.asarray, (K, k, S))),
    )
    found = augmented_cost(cost, jnp.asarray(duals), jnp.asarray(weights), policy)

    def at(cost):
        return np.einsum("ctij,cti,ctj->ct", cost[0], z, z) / 2 + (cost[1] * z).sum(-1) + cost[2]

    u = z[..., DX:]
    error = u - np.einsum("ctij,ctj->cti", K, z[..., :DX]) - k
    distance = (error * np.linalg.solve(S, error[..., None])[..., 0]).sum(-1)
    log_density = -0.5 * (distance + np.linalg.slogdet(2 * np.pi * S)[1])
    expected = at((H, g, h)) - (u * duals).sum(-1) - weights * log_density
    np.testing.assert_allclose(at(found), expected, rtol=1e-10)


def test_policy_targets_minimise_the_policy_step(rng, x64):
    """The gradient of nu/2 |mu - mu_p|^2_P + lambda'mu vanishes there."""
    root = rng.normal(size=(C, T, DU, DU))
    cov = jnp.asarray(root @ root.transpose(0, 1, 3, 2) + 0.1 * np.eye(DU))
    mean, duals = rng.normal(size=(C, 4, T, DU)), jnp.asarray(rng.normal(size=(C, T, DU)))
    weights = jnp.asarray(rng.uniform(0.01, 2, (C, T)))

    def objective(mu):
        error = mu - mean
        distance = jnp.einsum("cnti,ctij,cntj->cnt", error, jnp.linalg.inv(cov), error)
        return jnp.sum(weights[:, None] * distance / 2 + jnp.sum(duals[:, None] * mu, -1))

    gradient = jax.grad(objective)(policy_targets(jnp.asarray(mean), cov, duals, weights))
    np.testing.assert_allclose(gradient, 0, atol=1e-9)


def _cov(rng):
    root = rng.normal(size=(C, T, DU, DU))
    return jnp.asarray(root @ root.transpose(0, 1, 3, 2) + 0.1 * np.eye(DU))


def test_the_duals_step_moves_targets_by_a_part_of_the_gap(rng, x64):
    """Against NumPy: C lambda / nu, what targets move by, grows by alpha times the gap."""
    duals, gap = jnp.asarray(rng.normal(size=(2, C, T, DU)))
    weights, cov = jnp.asarray(rng.uniform(0.01, 2, (C, T))), _cov(rng)
    np.testing.assert_array_equal(dual_step(duals, weights, 0 * gap, cov, 0.1), duals)

    def shift(duals):
        return np.einsum("ctij,ctj->cti", cov, duals) / np.asarray(weights)[..., None]

    stepped = dual_step(duals, weights, gap, cov, 0.1)
    np.testing.assert_allclose(shift(stepped), shift(duals) + 0.1 * np.asarray(gap), rtol=1e-8)


def test_no_target_moves_further_than_the_bound(rng, x64):
    """In standard deviations, measured by NumPy; what is within the bound stays to the last bit."""
    weights, cov = jnp.asarray(rng.uniform(0.01, 2, (C, T))), _cov(rng)
    duals = jnp.asarray(rng.normal(size=(C, T, DU)) * 10 ** rng.uniform(-3, 3, (C, T, 1)))

    def deviations(duals):
        shift = np.einsum("ctij,ctj->cti", cov, duals) / np.asarray(weights)[..., None]
        whitened = np.linalg.solve(np.linalg.cholesky(cov), shift[..., None])[..., 0]
        return np.linalg.norm(whitened, axis=-1), np.abs(shift)

    before, _ = deviations(duals)
    found = bounded(duals, weights, cov, 0.7)
    after, each = deviations(found)
    np.testing.assert_allclose(shift_size(duals, weights, cov), before, rtol=1e-8)
    np.testing.assert_allclose(after, np.minimum(before, 0.7), rtol=1e-8)
    assert (each <= 0.7001 * np.sqrt(np.diagonal(cov, axis1=-2, axis2=-1))).all()
    within = before < 0.7
    assert within.any() and not within.all()
    np.testing.assert_array_equal(np.asarray(found)[within], np.asarray(duals)[within])


def test_a_gap_that_nothing_closes_does_not_wind_the_duals_up(rng):
    """Many steps by the same gap, and one back: the bound is left at once."""
    weights, cov, gap = jnp.ones((C, T)), _cov(rng), jnp.asarray(rng.normal(size=(C, T, DU)))
    controllers = Controller(K=jnp.zeros((C, T, DU, DX)), k=jnp.zeros((C, T, DU)), C=cov)
    agreement = Agreement(jnp.zeros((C, T, DU)), weights)
    for _ in range(100):
        agreement = agree.step_duals(agreement, controllers, gap, 1.0, BOUND)
    size = shift_size(agreement.duals, weights, cov)
    np.testing.assert_allclose(size, BOUND, rtol=1e-4)
    back = agree.step_duals(agreement, controllers, -gap, 0.1, BOUND)
    assert (shift_size(back.duals, weights, cov) < size).all()


def test_gaps_are_taken_at_the_valid_samples(rng, x64):
    """By the mean over them of what network and controller do; invalid ones may hold anything."""
    K, other = jnp.asarray(rng.normal(size=(2, C, T, DU, DX)))
    k, moved = jnp.asarray(rng.normal(size=(2, C, T, DU)))
    controllers, network = Controller(K, k, _cov(rng)), Controller(other, moved, _cov(rng))
    x = rng.normal(size=(C, 4, T, DX))
    valid = np.array([[True, True, False, True], [True] * 4, [False] * 4])
    x[~valid] = np.nan
    weight = jnp.broadcast_to(jnp.asarray(valid)[..., None], x.shape[:3]).astype(float)
    states = agree.seen(jnp.asarray(x), weight)
    found = agree.gap_at(controllers, network, states.mean)
    for c in range(2):
        cov = [np.cov(x[c, valid[c], t].T, bias=True) for t in range(T)]
        np.testing.assert_allclose(states.cov[c], cov, atol=1e-12)
    for c in range(2):
        at = x[c, valid[c]]
        by_network = np.einsum("tij,ntj->nti", other[c], at) + np.asarray(moved[c])
        by_controller = np.einsum("tij,ntj->nti", K[c], at) + np.asarray(k[c])
        np.testing.assert_allclose(found[c], (by_network - by_controller).mean(axis=0))
    assert np.isnan(found[2]).all()


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_gap_that_is_not_finite_leaves_the_duals_of_its_condition(rng, wrong):
    duals, gap = rng.normal(size=(2, C, T, DU)) / 10
    agreement = Agreement(jnp.asarray(duals), jnp.full((C, T), 2.0))
    controllers = Controller(jnp.zeros((C, T, DU, DX)), jnp.zeros((C, T, DU)), _cov(rng))
    whole = agree.step_duals(agreement, controllers, jnp.asarray(gap), 0.1, 1e3)
    gap[1, 3, 0] = wrong
    found = agree.step_duals(agreement, controllers, jnp.asarray(gap), 0.1, 1e3)
    np.testing.assert_array_equal(found.duals[1], agreement.duals[1])
    np.testing.assert_array_equal(found.duals[0], whole.duals[0])
    np.testing.assert_array_equal(found.duals[2], whole.duals[2])
    assert not np.array_equal(whole.duals[1], agreement.duals[1])


def test_a_divergence_that_is_not_finite_leaves_the_weights_of_its_condition():
    kl = jnp.array([[1.0, 9.0], [jnp.nan, 1.0], [1.0, 9.0]])
    agreement = Agreement(jnp.zeros((3, 2, 1)), jnp.full((3, 2), 0.01))
    stepped = adapt_weights(agreement.weights, kl)
    found = agree.adapt(agreement, kl, stepped, jnp.array([True, True, False]), (1e-3, 1.0))
    np.testing.assert_allclose(found.weights, [[0.01, 0.02], [0.01, 0.01], [0.01, 0.01]])


def test_weights_follow_the_divergence():
    """Doubled above the mean, halved two deviations below it, and within the limits."""
    kl = jnp.array([[4.0] * 9 + [0.0], [2.0] * 10, [1.0] * 9 + [90.0]])
    weights = jnp.full((3, 10), 0.01)
    adapted = adapt_weights(weights, kl)
    np.testing.assert_allclose(adapted[0], [0.02] * 9 + [0.005])
    np.testing.assert_array_equal(adapted[1], weights[1])
    np.testing.assert_allclose(adapted[2], [0.01] * 9 + [0.02])  # the tail does not halve the rest
    usable = jnp.ones(3, bool)
    limited = agree.adapt(_agreement(weights), kl, adapted, usable, (0.008, 0.015)).weights
    np.testing.assert_allclose(limited[0], [0.015] * 9 + [0.008])


def _agreement(weights):
    return Agreement(jnp.zeros((*weights.shape, 1)), weights)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"initial_weight": 0.0}, r"initial_weight is 0.0; .* > 0, usually .*: without weight"),
        ({"initial_weight": -0.01}, "initial_weight is -0.01"),
        ({"min_weight": 0.0}, "min_weight is 0.0"),
        ({"max_weight": -1.0}, "max_weight is -1.0"),
        ({"initial_weight": 5.0}, "initial_weight is 5.0; .* to max_weight 0.1"),
        ({"dual_rate": 0.0}, "dual_rate is 0.0"),
        ({"inner_rounds": 0}, "inner_rounds is 0"),
        ({"dual_rate": 1.5}, r"dual_rate is 1.5; .* in \(0, 1\]"),
        ({"dual_bound": 0.0}, "dual_bound is 0.0"),
        ({"policy_weighting": "mean"}, "policy_weighting is 'mean'"),
        (
            {"linearisation": OffsetConfig(agreement=0.5)},
            "linearisation.agreement is 0.5; .* to be 0.2, which BADMM does not read: the",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        BadmmConfig(**settings)


def _task():
    """Of two conditions."""
    task = tasks.make("point_mass")
    train = Conditions(task.train.qpos[:2], task.train.qvel[:2], {"jnt_stiffness:x": np.zeros(2)})
    return dataclasses.replace(task, train=train)


@functools.cache
def _runs():
    """`run(name, iterations)`; the second condition of "broken" cannot be simulated."""
    task = _task()
    stiff = {"healthy": np.zeros(2), "broken": np.array([0, 1e12])}
    return on_many_sets(badmm, task, CONFIG, springs(task, stiff))


def _run(name):
    """States and metrics of three iterations, seed 0."""
    found = [_runs()(name, iterations) for iterations in range(4)]
    return [state for state, _ in found], [metrics for _, metrics in found[1:]]


def test_a_failing_condition_keeps_controller_duals_and_weights():
    states, metrics = _run("broken")
    for found in metrics:
        assert found["status"].tolist() == [OK, TOO_FEW_SAMPLES]
    start, end = states[0], states[-1]
    for old, new in zip(
        jax.tree.leaves((start.controllers, start.memory)),
        jax.tree.leaves((end.controllers, end.memory)),
        strict=True,
    ):
        np.testing.assert_array_equal(old[1], new[1])
        assert np.isfinite(new).all()
    assert not np.array_equal(start.controllers.k[0], end.controllers.k[0])
    assert not np.array_equal(start.memory.agreement.duals[0], end.memory.agreement.duals[0])
    assert not np.array_equal(start.memory.agreement.weights[0], end.memory.agreement.weights[0])


def test_the_iteration_has_the_signs_of_the_algorithm():
    """One inner round against NumPy: lambda after the duals' step, and what the network imitates.

    lambda <- lambda + alpha nu C^-1 (E[mu_pi] - E[u]) with what the network itself does at the
    samples; targets mu_p - C lambda / nu.
    """
    config = dataclasses.replace(CONFIG, inner_rounds=1, dual_rate=0.7, dual_bound=1e6)
    algorithm, parts = with_parts(badmm, _task(), config)
    before, _ = algorithm.step(algorithm.init(jax.random.key(0)))
    _, sample_key, _, _ = jax.random.split(before.key, 4)
    sampled = parts.sample(before, sample_key)
    by_network = parts.slots.learner.mean(before.newest, sampled.o, jnp.asarray(True))
    K, k, cov = map(np.asarray, before.controllers)
    by_controllers = np.einsum("ctij,cntj->cnti", K, sampled.x) + k[:, None]
    gap = np.mean(by_network - by_controllers, axis=1)
    nu, old = np.asarray(before.memory.agreement.weights), before.memory.agreement.duals
    step = np.linalg.solve(cov, gap[..., None])[..., 0]
    after, _ = algorithm.step(before)
    assert np.abs(gap).max() > 0.01
    found = after.memory.agreement.duals
    expected = np.asarray(old) + 0.7 * nu[..., None] * step
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)

    # Nu has changed since the targets were made.
    agreement = Agreement(found, before.memory.agreement.weights)
    after = after._replace(memory=after.memory._replace(agreement=agreement))
    supervision = _supervision(config, after, sampled)
    mean = np.einsum("ctij,cntj->cnti", after.controllers.K, sampled.x)
    mean = mean + np.asarray(after.controllers.k)[:, None]
    shift = np.einsum("ctij,ctj->cti", after.controllers.C, found) / nu[..., None]
    np.testing.assert_allclose(supervision.target, mean - shift[:, None], rtol=1e-4, atol=1e-5)
    assert np.abs(shift).max() > 1e-4
    # All errors count by one precision, or each by its own step's.
    own = _supervision(dataclasses.replace(config, policy_weighting="precision"), after, sampled)
    np.testing.assert_array_equal(own.target, supervision.target)
    mean_cov = np.asarray(after.controllers.C).mean(axis=(0, 1))
    np.testing.assert_allclose(supervision.precision[1, 3] @ mean_cov, np.eye(2), atol=1e-4)
    np.testing.assert_allclose(
        own.precision[1, 3] @ after.controllers.C[1, 3], np.eye(2), atol=1e-4
    )


def test_the_bound_follows_how_well_the_tasks_own_cost_was_predicted():
    """Not the penalty on disagreement, however large: models know it exactly."""
    states, metrics = _run("healthy")
    parts = guided.make_parts(_task(), CONFIG, "native")
    for before, after, found in zip(states, states[1:], metrics, strict=False):
        sampled = parts.sample(before, jax.random.split(before.key, 4)[1])
        _, models, _ = parts.fit(before, sampled)
        step = after.memory.step
        np.testing.assert_allclose(step.cost_before, found["cost_expected"], rtol=1e-5)
        promised = expected_cost(after.controllers, models)
        np.testing.assert_allclose(step.cost_predicted, promised, rtol=1e-4)


def test_a_failure_in_an_early_round_is_reported():
    rounds = {
        "status": jnp.array([[OK, NOT_PD], [OK, OK], [OK, OK]]),
        "status_step": jnp.array([[-1, 4], [-1, -1], [-1, -1]]),
        "policy_status": jnp.array([OK, NON_FINITE, OK]),
        "policy_gradient_norm": jnp.array([1.0, 9.0, 2.0]),
        "kl": jnp.array([[1.0, 1.0], [2.0, 2.0], [3.0, 4.0]]),
    }
    found = over_rounds(rounds)
    assert found["status"].tolist() == [OK, NOT_PD] and found["status_step"].tolist() == [-1, 4]
    assert int(found["policy_status"]) == NON_FINITE
    assert float(found["policy_gradient_norm"]) == 9.0
    assert found["kl"].tolist() == [3.0, 4.0]


@jax.jit
def _moved(new, previous, models):
    marginals = jax.vmap(lqr.forward)(new, models.dynamics, models.initial)
    return jnp.sum(jax.vmap(controller_kl)(new, previous, marginals), axis=-1)


def test_all_inner_rounds_together_stay_within_the_bound_of_what_was_sampled():
    states, metrics = _run("healthy")
    parts = guided.make_parts(_task(), CONFIG, "native")
    for before, after, found in zip(states, states[1:], metrics, strict=False):
        assert (found["status"] == OK).all()
        sampled = parts.sample(before, jax.random.split(before.key, 4)[1])
        _, models, _ = parts.fit(before, sampled)
        moved = _moved(after.controllers, before.controllers, models)
        np.testing.assert_allclose(moved, found["kl"], rtol=1e-2)
        assert bool((found["kl"] <= 1.1 * found["kl_bound"]).all())
    assert float(np.mean(metrics[-1]["cost"])) < 0.5 * float(np.mean(metrics[0]["cost"]))
