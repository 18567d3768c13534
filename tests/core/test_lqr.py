"""The Riccati passes against dense solves."""

import jax
import numpy as np

from jgps.core import lqr
from jgps.core.types import Dynamics, QuadraticCost


def test_value_is_the_expected_objective():
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        T, dX, dU = 10, 4, 2
        root = rng.normal(size=(T, dX + dU, dX + dU))
        dynamics = Dynamics(
            F=jax.numpy.asarray(0.3 * rng.normal(size=(T - 1, dX, dX + dU))),
            f=jax.numpy.asarray(rng.normal(size=(T - 1, dX))),
            W=jax.numpy.asarray(np.tile(0.1 * np.eye(dX), (T - 1, 1, 1))),
        )
        cost = QuadraticCost(
            H=jax.numpy.asarray(root @ root.transpose(0, 2, 1) + 0.1 * np.eye(dX + dU)),
            g=jax.numpy.asarray(rng.normal(size=(T, dX + dU))),
            h=jax.numpy.asarray(rng.normal(size=T)),
        )
        initial = lqr.Gaussian(mean=jax.numpy.ones(dX), cov=0.2 * jax.numpy.eye(dX))
        _, value, status = lqr.backward(dynamics, cost, 0.5)
        _, info = lqr.solve_maximum_entropy(dynamics, cost, initial, 0.5)
        x = np.ones(dX)
        V = np.asarray(value.V_xx[0])
        expected = 0.5 * x @ V @ x + value.v_x[0] @ x + value.v[0] + 0.1 * np.trace(V)
        assert int(status.code) == 0
        np.testing.assert_allclose(info.objective, expected, rtol=1e-10)
