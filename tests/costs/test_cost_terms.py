from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.typing import ArrayLike

from jgps import costs
from jgps.costs import Penalty

NOT_A_PAIR: Any = costs.action(1.0)
NOT_INDICES: Any = (0.5,)
RNG = np.random.default_rng(0)
X = RNG.normal(size=9)
U = RNG.normal(size=3)


def value(cost, x: ArrayLike = X, u: ArrayLike = U, t=0):
    return float(jax.jit(cost)(np.asarray(x, np.float32), np.asarray(u, np.float32), t))


def test_action_is_half_the_weighted_square():
    weights = np.array([1.0, 0.0, 3.0])
    assert value(costs.action(weights)) == pytest.approx(0.5 * np.sum(weights * U**2), rel=1e-6)
    assert value(costs.action(2.0)) == pytest.approx(np.sum(U**2), rel=1e-6)


@pytest.mark.parametrize(
    ("penalty", "formula"),
    [
        (Penalty(l2=3.0), lambda s: 3 * s),
        (Penalty(l1=2.0, alpha=1e-2), lambda s: 2 * (np.sqrt(s + 1e-2) - 0.1)),
        (Penalty(log=0.05), lambda s: 0.05 * np.log(s + 1e-5)),
        (
            Penalty(l2=5.0, l1=1.0, log=0.05, alpha=1e-4),
            lambda s: 5 * s + np.sqrt(s + 1e-4) - 1e-2 + 0.05 * np.log(s + 1e-4),
        ),
    ],
)
@pytest.mark.parametrize("s", [0.0, 1e-6, 0.3, 40.0])
def test_penalties_are_their_formulas(penalty, formula, s):
    with jax.enable_x64(True):
        assert float(penalty(jnp.asarray(s))) == pytest.approx(formula(s), rel=1e-12, abs=1e-12)
    assert float(penalty(jnp.float32(s))) == pytest.approx(formula(s), rel=1e-5, abs=1e-6)


def test_state_target_squares_weighted_residuals_of_its_entries():
    target, weights = np.array([0.1, -0.2]), np.array([2.0, 0.5])
    cost = costs.state_target((4, 7), target, weights, Penalty(l2=1.5, log=0.1))
    s = np.sum(weights * (X[[4, 7]] - target) ** 2)
    assert value(cost) == pytest.approx(1.5 * s + 0.1 * np.log(s + 1e-5), rel=1e-5)


def test_peg_cost_has_one_logarithm_for_both_points():
    penalty = Penalty(l2=5.0, log=0.05)
    target = np.array([0.0, 0.3, -0.5, 0.0, 0.3, -0.2])
    squares = (X[3:9] - target) ** 2
    joint = 5 * squares.sum() + 0.05 * np.log(1e-5 + squares.sum())
    apart = sum(5 * s + 0.05 * np.log(1e-5 + s) for s in (squares[:3].sum(), squares[3:].sum()))
    points = slice(3, 9)
    cost = costs.distance(points, target, penalty=penalty)
    assert value(cost) == pytest.approx(joint, rel=1e-5)
    cost = costs.distance(points, target.reshape(2, 3), 2.0, penalty, joint=False)
    assert value(cost) == pytest.approx(2 * apart, rel=1e-5)
    assert abs(joint - apart) > 1e-3  # or the two could not be told apart


def test_distance_to_one_target_to_other_entries_and_in_a_plane():
    goal = np.array([1.0, 2.0, 3.0])
    expected = np.sum((X[:6].reshape(2, 3) - goal) ** 2)
    assert value(costs.distance(slice(0, 6), goal)) == pytest.approx(expected, rel=1e-5)
    expected = np.sum((X[0:3] - X[6:9]) ** 2)
    assert value(costs.distance(slice(0, 3), slice(6, 9))) == pytest.approx(expected, rel=1e-5)
    expected = np.sum((X[2:4] - goal[:2]) ** 2)
    cost = costs.distance((2, 3), goal[:2], point_dim=2)
    assert value(cost) == pytest.approx(expected, rel=1e-5)


def test_waypoints_are_reached_evenly_and_linear_between():
    points = np.array([[0.0, 0.0], [1.0, -1.0], [1.0, 3.0]])
    cost = costs.waypoints((0, 1), points, horizon=9)
    for t, target in ((0, [0, 0]), (2, [0.5, -0.5]), (4, [1, -1]), (5, [1, 0]), (8, [1, 3])):
        assert value(cost, t=t) == pytest.approx(np.sum((X[:2] - target) ** 2), rel=1e-5)
    held = costs.waypoints((0, 1), points[:2], horizon=9, times=(2, 4))
    for t, target in ((0, [0, 0]), (3, [0.5, -0.5]), (8, [1, -1])):
        assert value(held, t=t) == pytest.approx(np.sum((X[:2] - target) ** 2), rel=1e-5)


def test_linear_waypoints_hold_one_after_another():
    A, b = RNG.normal(size=(3, 2, 4)), RNG.normal(size=(3, 2))
    entries = (0, 1, 4, 7)
    penalty = Penalty(l2=1.5, log=0.1)
    cost = costs.linear_waypoints(entries, A, b, 9, penalty)
    timed = costs.linear_waypoints(entries, A, b, 9, penalty, times=(0, 1, 8))
    for k, steps, its in ((0, (0, 2), (0,)), (1, (3, 5), (1,)), (2, (6, 8), (2, 8))):
        s = np.sum((A[k] @ X[list(entries)] + b[k]) ** 2)
        for made, due in ((cost, steps), (timed, its)):
            for t in due:
                assert value(made, t=t) == pytest.approx(1.5 * s + 0.1 * np.log(s + 1e-5), rel=1e-4)
    for times in ((0, 1), (3, 2, 8), (1, 2, 7)):
        with pytest.raises(ValueError, match=r"linear_waypoints.times is .*3 increasing steps"):
            costs.linear_waypoints(entries, A, b, 9, times=times)
    with pytest.raises(ValueError, match=r"A has shape \(3, 2, 4\) and linear_waypoints.b \(2,\)"):
        costs.linear_waypoints(entries, A, b[0], 9)
    with pytest.raises(ValueError, match="4 columns but 3 entries"):
        jax.eval_shape(costs.linear_waypoints((0, 1, 2), A, b, 9), jnp.zeros(9), jnp.zeros(2), 0)


def test_a_penaltys_own_weight_is_inside_all_its_parts():
    penalty = Penalty(l2=5.0, l1=2.0, log=0.05, weight=3.0)
    cost = costs.distance(slice(0, 3), np.zeros(3), 2.0, penalty)
    s = 3 * np.sum(X[:3] ** 2)
    inside = 5 * s + 2 * (np.sqrt(s + 1e-5) - np.sqrt(1e-5)) + 0.05 * np.log(s + 1e-5)
    assert value(cost) == pytest.approx(2 * inside, rel=1e-5)


def test_without_smoothing_the_l1_part_is_the_distance_and_pulls_nowhere_at_the_target():
    cost = costs.state_target((0, 1), 0.0, penalty=Penalty(l1=2.0, alpha=0.0))
    gradient = jax.grad(cost)(jnp.asarray([3.0, 4.0]), jnp.zeros(1), 0)
    assert value(cost, [3.0, 4.0]) == pytest.approx(10.0)
    np.testing.assert_allclose(gradient, [1.2, 1.6], rtol=1e-6)
    np.testing.assert_array_equal(jax.grad(cost)(jnp.zeros(2), jnp.zeros(1), 0), 0)
    assert np.isfinite(jax.hessian(cost)(jnp.zeros(2), jnp.zeros(1), 0)).all()
    logarithm = costs.state_target((0,), 0.0, penalty=Penalty(log=1.0, alpha=0.0))
    assert value(logarithm, [2.0]) == pytest.approx(np.log(4.0))
    assert value(logarithm, [0.0]) == -np.inf


def test_binary_region_counts_inside_and_outside_and_has_no_gradient():
    cost = costs.region((0, 1), lower=[-1.0, 0.0], upper=1.0, weight=4.0)
    for point, expected in (([0, 0.5], 0), ([1, 0], 0), ([1.01, 0.5], 4), ([0, -0.1], 4)):
        assert value(cost, [*point, *X[2:]]) == expected
    gradient = jax.grad(cost)(jnp.asarray([3.0, 0.5]), jnp.zeros(1), 0)
    np.testing.assert_array_equal(gradient, 0)
    assert np.isnan(value(cost, [np.nan, 0.5, *X[2:]]))


def test_soft_region_is_zero_inside_half_at_its_edge_and_pulls_back():
    cost = costs.region((0, 1), lower=-1.0, upper=1.0, weight=4.0, edge=0.1)
    assert value(cost, [0.99, -0.99, *X[2:]]) == 0
    assert value(cost, [1.1, 0.0, *X[2:]]) == pytest.approx(2.0, rel=1e-4)
    assert value(cost, [90.0, 0.0, *X[2:]]) == pytest.approx(4.0, rel=1e-4)
    gradient = jax.grad(cost)(jnp.asarray([5.0, -1.2]), jnp.zeros(1), 0)
    assert gradient[0] > 0 > gradient[1]
    unbounded = costs.region((0,), lower=0.0, upper=np.inf, edge=0.1)
    assert value(unbounded, [50.0, *X[1:]]) == 0


def test_weighted_sum_adds_terms_and_user_functions():
    def mine(x, u, t):
        return x[0] * u[1] * t

    total = costs.weighted_sum((2.0, costs.action(1.0)), (-0.5, mine))
    expected = np.sum(U**2) - 0.5 * X[0] * U[1] * 3
    assert value(total, t=3) == pytest.approx(expected, rel=1e-5)


def test_ramps():
    np.testing.assert_allclose(costs.ramp("constant", 4), [1, 1, 1, 1])
    np.testing.assert_allclose(costs.ramp("linear", 4, 10.0), [0.25, 0.5, 0.75, 10])
    np.testing.assert_allclose(costs.ramp("quadratic", 4), [1 / 16, 1 / 4, 9 / 16, 1])
    np.testing.assert_allclose(costs.ramp("final_only", 4, 3.0), [0, 0, 0, 3])
    np.testing.assert_allclose(costs.ramp("linear", 1), [1])


def test_a_ramp_scales_its_term_over_time():
    cost = costs.state_target((0,), 0.0, ramp=costs.ramp("linear", 5, 2.0))
    x, u = jnp.ones((3, 5, 9)), jnp.ones((3, 5, 2))
    expected = np.tile([0.2, 0.4, 0.6, 0.8, 2.0], (3, 1))
    np.testing.assert_allclose(costs.evaluate(cost, x, u), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Penalty(l2="1"), r"Penalty.l2 is '1'; it has to be finite and >= 0"),
        (lambda: costs.action("a"), r"action.weights is 'a'; it has to be numbers"),
        (
            lambda: costs.state_target((1,), "a"),
            r"state_target.target is 'a'; it has",
        ),
        (lambda: costs.region((0,), "a", 1.0), r"region.lower is 'a'; it has to be numbers"),
        (lambda: Penalty(), "Penalty has l2 = l1 = log = 0.*at least one"),
        (
            lambda: Penalty(l2=-1.0),
            r"Penalty.l2 is -1.0; .* >= 0, .* 0 leaves",
        ),
        (lambda: Penalty(log=np.nan), "Penalty.log is nan"),
        (lambda: Penalty(l1=1.0, alpha=-1.0), "Penalty.alpha is -1.0; .*>= 0, usually 1e-5"),
        (lambda: costs.ramp("cubic", 5), "kind is 'cubic'; .*constant, linear, quadratic"),
        (lambda: costs.ramp("linear", 0), "horizon is 0; .*>= 1"),
        (lambda: costs.ramp("linear", 5, -1.0), "final_multiplier is -1.0; .*>= 0"),
        (lambda: costs.action([1.0, -2.0]), r"action.weights is \[1.0, -2.0\]; .*>= 0"),
        (lambda: costs.action(1.0, ramp=2.0), r"action.ramp has shape \(\); .*\[T\]"),
        (lambda: costs.distance((0, 1, 2), [0, 0, np.inf]), "distance.target is .*inf.*finite"),
        (lambda: costs.distance((0, 1, 2), [0, 0, 0], weight=-1.0), "distance.weight is -1.0"),
        (lambda: costs.distance((0,), [0], point_dim=0), "distance.point_dim is 0"),
        (lambda: costs.waypoints((0,), [[1.0]], 5), r"waypoints.points has shape \(1, 1\); .*>= 2"),
        (lambda: costs.waypoints((0,), [[1.0], [2.0]], 1), "waypoints.horizon is 1"),
        (lambda: costs.waypoints((0,), [[1.0], [2.0]], 4.5), r"horizon is 4.5; it has to be .*int"),
        (
            lambda: costs.linear_waypoints((0,), np.ones((1, 1, 1)), [[0.0]], 4.5),
            r"linear_waypoints.horizon is 4.5; it has to be .*int",
        ),
        (
            lambda: costs.linear_waypoints((0,), np.ones((3, 1, 1)), np.zeros((3, 1)), 2),
            "linear_waypoints.A has 3 waypoints and linear_waypoints.horizon is 2; there has to be",
        ),
        (
            lambda: costs.waypoints((0,), [[1.0], [2.0]], 5, times=(3, 9)),
            r"waypoints.times is \(3, 9\); .*2 increasing steps within 0..4",
        ),
        (
            lambda: costs.waypoints((0,), [[1.0], [2.0]], 5, ramp=np.ones(4)),
            "waypoints.ramp has 4 steps but waypoints.horizon is 5",
        ),
        (lambda: costs.region((0,), 1.0, 0.0), "region.lower is 1.0 and region.upper is 0.0"),
        (lambda: costs.region((0,), 0.0, 1.0, edge=-1.0), "region.edge is -1.0"),
        (lambda: costs.weighted_sum(), "weighted_sum has no parts"),
        (lambda: costs.weighted_sum(NOT_A_PAIR), "weighted_sum part 0 is"),
        (
            lambda: costs.weighted_sum(
                (1.0, costs.action(1.0, costs.ramp("linear", 5))),
                (1.0, costs.action(1.0, costs.ramp("linear", 6))),
            ),
            "costs built for 5 and 6 steps",
        ),
    ],
)
def test_invalid_settings_name_field_value_and_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("cost", "message"),
    [
        (costs.action([1.0, 2.0]), "action.weights has 2 entries but the action has 3"),
        (costs.state_target(slice(5, 12), 0.0), r"slice\(5, 12, None\).*does not fit a state of 9"),
        (costs.state_target((0, 9), 0.0), r"\(0, 9\), which does not fit a state of 9 entries"),
        (costs.state_target((), 0.0), "state_target.entries is"),
        (costs.state_target(NOT_INDICES, 0.0), "has to be a slice or a list of indices"),
        (costs.state_target((0, 1), [1.0, 2.0, 3.0]), "state_target.target has 3 numbers but 2"),
        (costs.distance(slice(0, 4), [0, 0, 0]), "4 coordinates, not a multiple of point_dim = 3"),
        (costs.distance(slice(0, 9), np.zeros(6)), "2 points but distance.entries has 3"),
        (costs.waypoints((0, 1), [[0.0], [1.0]], 5), "waypoints.points has 1 columns but 2"),
        (costs.region((0, 1), [0, 0, 0], 1.0), "region.lower has 3 numbers but 2"),
    ],
)
def test_entries_that_do_not_fit_are_refused_while_tracing(cost, message):
    with pytest.raises(ValueError, match=message):
        jax.jit(cost)(jnp.asarray(X), jnp.asarray(U), 0)


def test_past_its_horizon_a_ramp_is_nan_and_not_its_last_weight():
    cost = costs.action(1.0, costs.ramp("linear", 5))
    assert np.isfinite(value(cost, t=4))
    assert np.isnan(value(cost, t=5))
