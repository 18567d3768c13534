"""What BADMM's options mean: rules of the weight nu, duals on gains, cost of the variance."""

from unittest import mock

import jax.numpy as jnp
import numpy as np
import pytest

from jgps.configs import AscentWeightConfig, AverageWeightConfig, BadmmConfig
from jgps.core.types import Controller, QuadraticCost
from jgps.optimise.guided import agreement as agree
from jgps.optimise.guided.agreement import Agreement
from jgps.optimise.guided.projection import penalised_cov
from jgps.optimise.guided.weight_rules import next_weights
from jgps.optimise.models import LocalModels
from jgps.simulation import SimulationRollouts

C, T, DX, DU = 2, 3, 3, 2


def _cov(rng):
    root = rng.normal(size=(C, T, DU, DU))
    return jnp.asarray(root @ root.transpose(0, 1, 3, 2) + 0.1 * np.eye(DU))


def test_weights_by_the_numbers_of_the_code_release():
    """Its `exp_step_*`: limits in deviations about the mean, and factors of one's own."""
    kl = np.array([1.0, 2.0, 3.0, 10.0])
    rule = AverageWeightConfig(increase=3.0, decrease=0.1, upper=0.5, lower=0.5)
    found = next_weights(jnp.ones((1, 4)), jnp.asarray(kl)[None], rule, jnp.asarray(0))
    factor = np.where(kl > kl.mean() + kl.std() / 2, 3.0, 1.0)
    factor[kl < kl.mean() - kl.std() / 2] = 0.1
    np.testing.assert_allclose(found[0], factor, rtol=1e-6)
    assert set(factor) == {0.1, 1.0, 3.0}


@pytest.mark.parametrize("by", ["divergence", "constant"])
def test_weights_ascend_by_the_step_of_the_iteration(by):
    """Dual ascent on the constraint KL = 0, with a step that shrinks by the same factor."""
    kl, weights = jnp.array([[0.5, 4.0]]), jnp.array([[1.0, 2.0]])
    rule = AscentWeightConfig(step=tuple(np.geomspace(1.0, 0.01, 3)), by=by)
    for iteration, step in enumerate([1.0, 0.1, 0.01, 0.01]):
        found = next_weights(weights, kl, rule, jnp.asarray(iteration))
        expected = weights + step * (kl if by == "divergence" else 1)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def _gains_agree(rng):
    """Duals on gains at random, with what they belong to."""
    K, gains = jnp.asarray(rng.normal(size=(2, C, T, DU, DX)))
    k, duals = jnp.asarray(rng.normal(size=(2, C, T, DU)))
    weights = jnp.asarray(rng.uniform(0.1, 2, (C, T)))
    return Controller(K, k, _cov(rng)), Agreement(duals, weights, gains)


def test_duals_on_gains_add_a_price_of_the_covariance_of_action_and_state(rng, x64):
    """-u'(lambda + Lambda (x - centre)) at random points, on top of -nu log pi."""
    network, agreement = _gains_agree(rng)
    n, centre, z = DX + DU, rng.normal(size=(C, T, DX)), rng.normal(size=(C, T, DX + DU))
    zero = QuadraticCost(jnp.zeros((C, T, n, n)), jnp.zeros((C, T, n)), jnp.zeros((C, T)))
    models = LocalModels(dynamics=None, cost=zero, initial=None, status=None)
    found = [
        agree.penalised(models, each, network, jnp.asarray(centre)).cost
        for each in (agreement, agreement._replace(gain_duals=None))
    ]

    def at(cost):
        return np.einsum("ctij,cti,ctj->ct", cost[0], z, z) / 2 + (cost[1] * z).sum(-1) + cost[2]

    price = -np.einsum("cti,ctij,ctj->ct", z[..., DX:], agreement.gain_duals, z[..., :DX] - centre)
    np.testing.assert_allclose(at(found[0]) - at(found[1]), price, rtol=1e-9, atol=1e-9)


def test_duals_on_gains_move_targets_and_their_gains(rng, x64):
    """Targets are mu_p - C (lambda + Lambda (x - mean x)) / nu, and follow x by the derivative."""
    controllers, agreement = _gains_agree(rng)
    x, weight = jnp.asarray(rng.normal(size=(C, 4, T, DX))), jnp.ones((C, 4, T))
    sampled = SimulationRollouts(x=x, u=None, valid=jnp.ones((C, 4), bool), qpos=None, o=x)
    state = mock.Mock(controllers=controllers, observation_model=None)
    found = agree.supervise(agreement, state, sampled, weight, 1e9)
    away = np.asarray(x) - np.asarray(x).mean(axis=1, keepdims=True)
    nu = np.asarray(agreement.weights)[:, None, :, None]
    dual = agreement.duals[:, None] + np.einsum("ctij,cntj->cnti", agreement.gain_duals, away)
    mean = np.einsum("ctij,cntj->cnti", controllers.K, x) + controllers.k[:, None]
    expected = mean - np.einsum("ctij,cntj->cnti", controllers.C, dual) / nu
    np.testing.assert_allclose(found.target, expected, rtol=1e-9)
    slope = controllers.K - controllers.C @ agreement.gain_duals / nu[:, 0, :, :, None]
    np.testing.assert_allclose(found.gain, slope, rtol=1e-9)


def test_the_step_of_duals_on_gains_closes_the_gap_within_the_bound(rng, x64):
    """C Lambda / nu grows by alpha (K_pi - K), as in the code release, until it moves too far."""
    controllers, agreement = _gains_agree(rng)
    network = controllers._replace(K=jnp.asarray(rng.normal(size=(C, T, DU, DX))))
    root = rng.normal(size=(C, T, DX, DX))
    spread, nu = root @ root.transpose(0, 1, 3, 2), np.asarray(agreement.weights)[..., None, None]

    def moved(agreement):
        return np.asarray(controllers.C @ agreement.gain_duals) / nu

    found = agree.step_gain_duals(agreement, controllers, network, spread, 0.3, 1e9)
    gap = np.asarray(network.K - controllers.K)
    np.testing.assert_allclose(moved(found), moved(agreement) + 0.3 * gap, rtol=1e-8)
    assert found.duals is agreement.duals and found.weights is agreement.weights
    found = agree.step_gain_duals(agreement, controllers, network, spread, 0.3, 0.2)
    pairs = zip(moved(found).reshape(-1, DU, DX), spread.reshape(-1, DX, DX), strict=True)
    covs = np.asarray(controllers.C).reshape(-1, DU, DU)
    squared = [
        np.trace(np.linalg.solve(cov, gain @ states @ gain.T))
        for cov, (gain, states) in zip(covs, pairs, strict=True)
    ]
    np.testing.assert_allclose(np.sqrt(squared), 0.2, rtol=1e-6)
    network = network._replace(K=network.K.at[1, 2].set(jnp.nan))
    found = agree.step_gain_duals(agreement, controllers, network, spread, 0.3, 1e9)
    np.testing.assert_array_equal(found.gain_duals[1], agreement.gain_duals[1])
    assert not np.array_equal(found.gain_duals[0], agreement.gain_duals[0])


def test_the_cost_of_the_policys_variance_has_the_closed_form(rng, x64):
    """The gradient of E[KL] + cost tr(S) vanishes there: (P - S^-1) / 2 + cost I."""
    cov = _cov(rng)[0, 0]
    found = penalised_cov(cov, 0.7)
    gradient = (np.linalg.inv(cov) - np.linalg.inv(found)) / 2 + 0.7 * np.eye(DU)
    np.testing.assert_allclose(gradient, 0, atol=1e-8)
    np.testing.assert_allclose(penalised_cov(cov, 0.0), cov, rtol=1e-8)


def test_duals_on_gains_take_a_regression_that_tells_gains():
    with pytest.raises(ValueError, match=r"gain_dual_rate is 0\.1; it has to be 0 with an Off"):
        BadmmConfig(gain_dual_rate=0.1)
