"""Residuals of locomotion, and costs that are sums of squares."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jgps import costs
from jgps.costs import locomotion
from jgps.optimise.ilqg.system import quadratic_of
from jgps.simulation import load_model

X, U = np.arange(6, dtype=np.float32), np.array([0.5, -1.0], np.float32)


def test_residuals_are_their_formulas():
    np.testing.assert_allclose(locomotion.velocity([4], 1.5)(X, U, 0), [2.5])
    np.testing.assert_allclose(locomotion.height([1, 2], [0.5, 3.0])(X, U, 0), [0.5, -1])
    np.testing.assert_allclose(locomotion.tilt(slice(2, 4))(X, U, 0), [2, 3])
    np.testing.assert_allclose(locomotion.smoothness([5, 0])(X, U, 0), [5, 0])
    np.testing.assert_allclose(locomotion.effort()(X, U, 0), U)


def test_targets_may_be_in_the_state_and_servos_pull_towards_their_controls():
    np.testing.assert_allclose(locomotion.difference([4, 3], [1, 5])(X, U, 0), [3, -2])
    np.testing.assert_allclose(locomotion.servo_effort([1, 2])(X, U, 0), [-0.5, -3])
    servos = locomotion.servo_effort(slice(1, 3), [30.0, 20.0])
    np.testing.assert_allclose(servos(X, U, 0), [-15, -60])


def test_velocities_are_ahead_and_to_the_left_of_the_heading():
    base = locomotion.Base(place=[], rotation=[0, 1], velocity=[2, 3])
    x = np.array([0, 1, -1, 2, 1.5, 0.25, 9.0])  # faces y, goes 2 m/s ahead and 1 to its left
    found = locomotion.planar_velocity(base, slice(4, 7))(x, U, 0)
    np.testing.assert_allclose(found, [0.5, 0.75], rtol=1e-5)
    # A pitched trunk heads where the horizontal part of its axis points.
    x[:2] = [0.3, 0.4]
    ahead = locomotion.along_heading(x, base, np.array([[0.6, 0.8], [-0.8, 0.6], [0.6, 2.8]]))
    np.testing.assert_allclose(ahead, [[1, 0], [0, 1], [2.6, 1.2]], atol=1e-5)
    upright = jax.jacfwd(lambda x: locomotion.along_heading(x, base, jnp.ones(2)))(jnp.zeros(7))
    assert np.isfinite(upright).all()


def test_the_heading_is_that_of_a_free_joint_in_the_state():
    model, layout, _ = load_model(
        "<mujoco><worldbody><body><freejoint/><geom size='1'/><body>"
        "<joint name='a'/><geom size='1'/></body></body></worldbody>"
        "<actuator><motor joint='a'/></actuator></mujoco>",
        ("qpos", "qvel"),
    )
    data = mujoco.MjData(model)
    yaw, pitch = Rotation.from_euler("z", 0.7), Rotation.from_euler("y", 0.4)
    data.qpos[3:7] = (yaw * pitch).as_quat(scalar_first=True)
    data.qvel[:3] = yaw.apply([1.2, -0.5, 0.3])
    mujoco.mj_forward(model, data)
    x = layout.of(data)
    base = locomotion.Base(place=slice(0, 3), rotation=slice(3, 9), velocity=slice(10, 13))
    found = locomotion.along_heading(x, base, x[base.velocity][:2])
    np.testing.assert_allclose(found, [1.2, -0.5], atol=1e-5)


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
        (
            lambda: locomotion.difference([0, 1], [2])(X, U, 0),
            "difference.entries has 2 entries but difference.targets has 1; pass one target for",
        ),
        (
            lambda: locomotion.servo_effort([0, 1], -1.0),
            "servo_effort.stiffness is -1.0; it has to be >=",
        ),
        (
            lambda: locomotion.servo_effort([0, 1, 2])(X, U, 0),
            "servo_effort.positions has 3 entries but there are 2 controls; pass the joint posit",
        ),
        (
            lambda: locomotion.servo_effort([0, 1], [1.0, 2.0, 3.0])(X, U, 0),
            "servo_effort.stiffness has 3 numbers but",
        ),
        (lambda: locomotion.sliding([0, 1], [1, 2, 3])(X, U, 0), "sliding.velocities has 3 entri"),
    ],
)
def test_mistakes_are_said_in_a_sentence(make, message):
    with pytest.raises(ValueError, match=message):
        make()
