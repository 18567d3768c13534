"""Whether the adaptation of the bound may trust what fitted models expect."""

import jax.numpy as jnp
import numpy as np

from jgps.core.types import Dynamics, Gaussian, QuadraticCost, Rollouts, ok_status
from jgps.optimise.models import LocalModels
from jgps.optimise.steps.lqr import explains


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
