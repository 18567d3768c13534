"""Noise that is no covariance, sets without an entry, and finite bundles whatever failed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jgps import dynamics
from jgps.core import linalg, lqr
from jgps.core.estimation.regression import fit_linear_gaussian
from jgps.core.types import NON_FINITE, NOT_PD, OK, Dynamics, Gaussian, QuadraticCost, Rollouts
from jgps.dynamics.prior import make_points_prior, make_prior

T, DX, DU = 4, 3, 1
GOOD = 0.01 * np.eye(DX)
TURNED = np.array([[1.0, -0.9, -0.9], [-0.9, 1.0, -0.9], [-0.9, -0.9, 1.0]])  # all pairs are fine
BAD = {
    "negative": -GOOD,
    "asymmetric": GOOD + np.triu(np.full((DX, DX), 0.005), 1),
    "indefinite": TURNED,
    "one negative variance": np.diag([1.0, 1.0, -0.01]),
    "correlation beyond one": np.array([[1.0, 2.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
}
FINE = {
    "none": np.zeros((DX, DX)),
    "singular": np.outer([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]),
    "many sizes": np.diag([1e-12, 1.0, 1e12]),
    "rounded": GOOD + 1e-9 * np.triu(np.ones((DX, DX)), 1),
}
INITIAL = Gaussian(jnp.zeros(DX), jnp.eye(DX))


def problem(W, step=1):
    """A problem whose noise is `W` in one of its steps."""
    F = np.tile(np.concatenate([0.9 * np.eye(DX), np.ones((DX, DU))], axis=1), (T - 1, 1, 1))
    noise = np.tile(GOOD, (T - 1, 1, 1))
    noise[step] = W
    zeros = jnp.zeros((T - 1, DX))
    cost = QuadraticCost(
        jnp.tile(jnp.eye(DX + DU), (T, 1, 1)), jnp.zeros((T, DX + DU)), jnp.zeros(T)
    )
    return Dynamics(jnp.asarray(F, jnp.float32), zeros, jnp.asarray(noise, jnp.float32)), cost


def statuses(W):
    """What every solver says of it, and all that they return."""
    model, cost = problem(W)
    controller, value, status = lqr.backward(model, cost)
    good, _, _ = lqr.backward(problem(GOOD)[0], cost)
    entropy = lqr.solve_maximum_entropy(model, cost, INITIAL)
    bounded = lqr.solve_kl_constrained(model, cost, good, INITIAL, jnp.float32(1.0))
    found = [status, entropy[1].status, bounded[1].status]
    return found, (controller, value, entropy, bounded)


@pytest.mark.parametrize("W", BAD.values(), ids=BAD)
def test_noise_that_is_no_covariance_is_said(W):
    found, _ = statuses(W)
    assert [(int(status.code), int(status.step)) for status in found] == [(NOT_PD, 1)] * 3
    assert not linalg.is_covariance(jnp.asarray(W, jnp.float32))


@pytest.mark.parametrize("W", FINE.values(), ids=FINE)
def test_noise_that_is_a_covariance_is_taken(W):
    found, _ = statuses(W)
    assert [int(status.code) for status in found] == [OK] * 3
    assert linalg.is_covariance(jnp.asarray(W, jnp.float32))


def test_what_failed_is_finite():
    found, returned = statuses(np.full((DX, DX), np.nan))
    assert [int(status.code) for status in found] == [NON_FINITE] * 3
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(returned))


def rollouts(N=5, dX=2, scale=1.0):
    rng = np.random.default_rng(0)
    x, u = rng.normal(size=(N, T, dX)), rng.normal(size=(N, T, 1))
    return Rollouts(jnp.asarray(scale * x, jnp.float32), jnp.asarray(u), jnp.ones(N, bool))


def test_a_fit_that_overflows_is_finite_and_says_so():
    fitted, (status, _) = dynamics.fit(rollouts(scale=1e30))
    assert int(status.code) == NON_FINITE
    assert all(np.all(np.isfinite(leaf)) for leaf in fitted)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dynamics.fit(rollouts(N=0)), r"at least one trajectory, got x \(0, 4, 2\)"),
        (lambda: dynamics.fit(rollouts(dX=0)), r"at least one entry of the state, got x \(5, 4, 0"),
        (lambda: dynamics.fit_initial(jnp.zeros((0, 2)), jnp.zeros(0), 1e-6), "at least one s"),
        (lambda: dynamics.fit_initial(jnp.zeros((3, 0)), jnp.zeros(3), 1e-6), "of one entry, got"),
        (lambda: fit_linear_gaussian(jnp.zeros((0, 2)), jnp.zeros((0, 1))), "at least one sample"),
        (lambda: fit_linear_gaussian(jnp.zeros((3, 2)), jnp.zeros((3, 0))), "input and output"),
        (lambda: make_prior(dynamics.NoPriorConfig(), 2, 1, 0, 5, 4), "at least one condition"),
        (lambda: make_points_prior(dynamics.NoPriorConfig(), 0, 1, 5, 4), "and entry; got"),
    ],
)  # fmt: skip
def test_sets_without_an_entry_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
