"""Whether the bound may trust what models expect, and what entropy is worth in an iteration."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jgps.core.types import (
    OK,
    Controller,
    Dynamics,
    Gaussian,
    QuadraticCost,
    Rollouts,
    ok_status,
)
from jgps.optimise.models import LocalModels
from jgps.optimise.steps.lqr import LqrStepConfig, explains, lqr_step
from jgps.optimise.steps.step import about_controllers


def test_models_are_trusted_as_far_as_their_samples_go():
    C, N, T = 3, 2, 4
    cost = QuadraticCost(
        H=jnp.broadcast_to(2 * jnp.eye(2), (C, T, 2, 2)),
        g=jnp.zeros((C, T, 2)),
        h=jnp.ones((C, T)),
    )
    rollouts = Rollouts(
        x=jnp.ones((C, N, T, 1)).at[:, 1].set(jnp.nan),
        u=jnp.zeros((C, N, T, 1)),
        valid=jnp.array([[True, False]] * C),
    )
    nothing = jnp.zeros(0)
    models = LocalModels(
        dynamics=Dynamics(nothing, nothing, nothing),
        cost=cost,
        initial=Gaussian(nothing, nothing),
        status=ok_status(),
    )
    each = T * 2.0  # of the valid sample: x^2 + 1 a step
    expected = jnp.array([9 * each, -11 * each, jnp.nan])
    np.testing.assert_array_equal(explains(models, expected, rollouts), [True, False, False])


def test_what_entropy_is_worth_follows_the_iteration():
    """At the last step C^-1 = (H_uu + eta C_before^-1) / (eta + worth), of one action."""
    worth, T = (4.0, 0.5), 2
    cost = QuadraticCost(
        H=jnp.broadcast_to(2 * jnp.eye(2), (1, T, 2, 2)),
        g=jnp.zeros((1, T, 2)),
        h=jnp.zeros((1, T)),
    )
    models = LocalModels(
        dynamics=Dynamics(jnp.ones((1, 1, 1, 2)), jnp.zeros((1, 1, 1)), jnp.ones((1, 1, 1, 1))),
        cost=cost,
        initial=Gaussian(jnp.ones((1, 1)), jnp.ones((1, 1, 1))),
        status=jax.tree.map(lambda leaf: leaf[None], ok_status()),
    )
    before = Controller(jnp.zeros((1, T, 1, 1)), jnp.zeros((1, T, 1)), 3 * jnp.ones((1, T, 1, 1)))
    rollouts = Rollouts(jnp.ones((1, 1, T, 1)), jnp.ones((1, 1, T, 1)), jnp.ones((1, 1), bool))
    step = lqr_step(T, LqrStepConfig(entropy_weight=worth))

    @jax.jit
    def improve(iteration):
        inputs = about_controllers(before, models, rollouts, jnp.ones(1), iteration)
        return step.improve(step.init(1), inputs)

    for iteration, each in enumerate([4.0, 0.5, 0.5]):
        found = improve(jnp.asarray(iteration))
        assert found.metrics["status"] == OK
        eta = float(found.metrics["eta"][0])
        variance = float(found.controllers.C[0, -1, 0, 0])
        assert variance == pytest.approx((eta + each) / (2 + eta / 3), rel=1e-3)
