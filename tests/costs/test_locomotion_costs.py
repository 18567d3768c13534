"""Residuals of locomotion, and costs that are sums of squares."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jgps import costs
from jgps.costs import locomotion
from jgps.optimise.ilqg.system import quadratic_of

X, U = np.arange(6, dtype=np.float32), np.array([0.5, -1.0], np.float32)


def test_residuals_are_their_formulas():
    np.testing.assert_allclose(locomotion.velocity([4], 1.5)(X, U, 0), [2.5])
    np.testing.assert_allclose(locomotion.height([1, 2], [0.5, 3.0])(X, U, 0), [0.5, -1])
    np.testing.assert_allclose(locomotion.tilt(slice(2, 4))(X, U, 0), [2, 3])
    np.testing.assert_allclose(locomotion.smoothness([5, 0])(X, U, 0), [5, 0])
    np.testing.assert_allclose(locomotion.effort()(X, U, 0), U)


def test_feet_may_move_when_they_are_lifted():
    slide = locomotion.sliding([0, 1], [2, 3], clearance=0.04, edge=0.01)
    x = np.array([0.0, 0.04, 2.0, 2.0])
    np.testing.assert_allclose(slide(x, U, 0), [2 / (1 + np.exp(-4)), 1], rtol=1e-6)
    both = locomotion.sliding([0], [2, 3], clearance=0.04, edge=0.01)
    np.testing.assert_allclose(both(x, U, 0), [2 / (1 + np.exp(-4))] * 2, rtol=1e-6)
    # A foot high up costs nothing, and its derivatives are numbers.
    high = jax.jacfwd(lambda x: slide(x, U, 0))(jnp.asarray([3.0, -3.0, 1.0, 1.0]))
    np.testing.assert_allclose(high, [[0, 0, 0, 0], [0, 0, 0, 1]], atol=1e-6)


def test_a_sum_of_squares_weighs_its_residuals_and_offers_them():
    parts = (2.0, locomotion.velocity([1], 3.0)), (0.5, locomotion.effort())
    cost = costs.SumOfSquares(costs.stacked(*parts))
    r = np.array([2 * (1 - 3), 0.25, -0.5])
    np.testing.assert_allclose(cost.residual(X, U, 0), r)
    assert float(cost(X, U, 0)) == pytest.approx(0.5 * r @ r)
    H, g = quadratic_of(cost)(jnp.asarray(X), jnp.asarray(U), 0)
    J = np.zeros((3, 8))
    J[0, 1], J[1, 6], J[2, 7] = 2, 0.5, 0.5
    np.testing.assert_allclose(H, J.T @ J, atol=1e-6)
    np.testing.assert_allclose(g, J.T @ r, atol=1e-5)


def test_commands_may_be_traced():
    def residual(x, u, t, params):
        return costs.stacked((1.0, locomotion.velocity([4], params["speed"])))(x, u, t)

    cost = jax.jit(costs.SumOfSquares(residual))
    assert float(cost(X, U, 0, {"speed": 2.0})) == pytest.approx(2.0)
    assert float(cost(X, U, 0, {"speed": 4.0})) == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: costs.stacked(), "stacked has no parts; pass"),
        (lambda: costs.stacked(locomotion.effort()), "stacked part 0 is <function.*; pass"),
        (lambda: costs.stacked((np.nan, locomotion.effort())), "stacked weight 0 is nan"),
        (lambda: locomotion.velocity([0], np.inf), "velocity.target is inf; it has to be finite"),
        (lambda: locomotion.tilt([9])(X, U, 0), r"tilt.entries is \[9\], which does not fit"),
        (lambda: locomotion.height([1], [1.0, 2.0])(X, U, 0), "height.target has 2 numbers but 1"),
        (lambda: locomotion.sliding([0], [1], -1.0), "sliding.clearance is -1.0; it has to be >="),
        (lambda: locomotion.sliding([0], [1], edge=0.0), "sliding.edge is 0.0; it has to be > 0"),
        (lambda: locomotion.sliding([0, 1], [1, 2, 3])(X, U, 0), "sliding.velocities has 3 entri"),
    ],
)
def test_mistakes_are_said_in_a_sentence(make, message):
    with pytest.raises(ValueError, match=message):
        make()
