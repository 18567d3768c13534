"""The search for trajectories on JAX functions: optimum, limits, convergence, gains, reports."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilations import count_compilations

from jgps.optimise.ilqg import solve
from jgps.optimise.ilqg.solve import CONVERGED, NON_FINITE, SearchConfig
from jgps.optimise.ilqg.system import Goal, Paths, analytic

T, DT, LIMIT = 60, 0.05, 4.0


def pendulum(x, u, t):
    """Angle from upright and its rate, under gravity and a torque."""
    rate = x[1] + DT * (9.81 * jnp.sin(x[0]) - 0.1 * x[1] + u[0])
    return jnp.stack([x[0] + DT * rate, rate])


def residual(x, u, t):
    r = jnp.stack([jnp.sin(x[0]), 1 - jnp.cos(x[0]), x[1], u[0]])
    last = jnp.array([50.0, 50.0, 10.0, 0.1 * DT], r.dtype)
    return jnp.sqrt(jnp.where(t == T - 1, last, DT * jnp.array([1.0, 1, 0.1, 0.1], r.dtype))) * r


def cost(x, u, t):
    """Of swinging up and staying there."""
    return 0.5 * jnp.sum(residual(x, u, t) ** 2)


LIMITS = np.array([[-LIMIT], [LIMIT]])
CONFIG = SearchConfig(iterations=60)
FINE = SearchConfig(iterations=60, tolerance=1e-14)


def starts(num, seed=0, dtype=float):
    """Paths of zeros from random states near rest."""
    rng = np.random.default_rng(seed)
    x0 = np.stack([rng.uniform(-2.8, 2.8, num), rng.uniform(-1, 1, num)], -1).astype(dtype)
    x = jnp.broadcast_to(jnp.asarray(x0)[:, None], (num, T, 2))
    return Paths(x, x, jnp.zeros((num, T, 1), x.dtype), jnp.zeros(num, x.dtype))


@functools.cache
def _solved(num=20, second_order=True):
    with jax.enable_x64(True):
        system = analytic(pendulum, cost, 2, LIMITS, second_order=second_order)
        return jax.tree.map(np.asarray, solve.make_solve(system, FINE)(starts(num)))


def test_every_search_converges_within_the_limits():
    state, trace = _solved()
    assert (state.search.outcome == CONVERGED).all()
    assert np.abs(state.paths.u).max() <= LIMIT
    assert np.abs(state.paths.u).max() > LIMIT - 1e-9  # some are at their limits
    ran = np.isfinite(trace.cost)
    assert (ran.sum(axis=0) == state.search.iterations).all()
    falls = np.diff(np.where(ran, trace.cost, np.nan), axis=0)
    assert (falls[np.isfinite(falls)] <= 0).all()
    assert state.search.gradient.max() < 1e-6


def test_convergence_is_quadratic_near_the_optimum():
    """The gradient's exponent about doubles with second derivatives, and does not without."""
    _, trace = _solved()

    def order(trace):
        """Of how many times as many digits the last step leaves right."""
        gradients = (g[np.isfinite(g)][-2:] for g in trace.gradient.T)
        return np.median([np.log(after) / np.log(before) for before, after in gradients])

    _, linear = _solved(second_order=False)
    assert order(trace) > 1.6 and order(linear) < 1.3
    assert np.isfinite(trace.cost).sum() < 0.7 * np.isfinite(linear.cost).sum()


def test_gains_are_the_derivative_of_the_optimal_control(x64):
    """Solved again from disturbed states, from the optimum's controls on."""
    state, _ = _solved()
    solve_again = solve.make_solve(analytic(pendulum, cost, 2, LIMITS, second_order=True), FINE)
    free = np.flatnonzero(np.abs(state.paths.u[:, 0, 0]) < LIMIT - 0.2)[:6]
    step = 1e-4
    for row in free:
        found = []
        for change in (step, -step):
            for i in range(2):
                x = state.paths.x[row : row + 1].copy()
                x[:, 0, i] += change
                begin = Paths(x, x, state.paths.u[row : row + 1], np.zeros(1))
                found.append(np.asarray(solve_again(begin)[0].paths.u)[0, 0, 0])
        by_hand = (np.array(found[:2]) - np.array(found[2:])) / (2 * step)
        np.testing.assert_allclose(state.search.K[row, 0, 0], by_hand, rtol=1e-3, atol=1e-3)


def test_results_do_not_depend_on_the_batch_or_on_chunks(x64):
    state, _ = _solved()
    system = analytic(pendulum, cost, 2, LIMITS, second_order=True)
    chunked, trace = solve.make_solve(
        system, SearchConfig(iterations=60, tolerance=1e-14, chunk=7)
    )(starts(20))
    np.testing.assert_allclose(chunked.search.cost, state.search.cost, rtol=1e-6)
    assert trace.cost.shape == (60, 20)
    alone, _ = solve.make_solve(system, FINE)(jax.tree.map(lambda a: a[3:4], starts(20)))
    np.testing.assert_allclose(alone.search.cost[0], state.search.cost[3], rtol=1e-6)


def test_float32_comes_to_the_same_optima():
    state, _ = _solved()
    system = analytic(pendulum, cost, 2, LIMITS, second_order=True)
    single, _ = solve.make_solve(system, CONFIG)(starts(20, dtype=np.float32))
    close = np.abs(single.search.cost - state.search.cost) < 1e-4 * state.search.cost
    assert close.mean() >= 0.9
    assert np.all(single.search.outcome == CONVERGED)


def test_a_search_that_is_not_finite_leaves_the_others_bit_identical(x64):
    system = analytic(pendulum, cost, 2, LIMITS)
    search = solve.make_solve(system, SearchConfig(iterations=12))
    begin = starts(4)
    whole, _ = search(begin)
    x = np.array(begin.x)
    x[1] = np.nan
    broken, trace = search(begin._replace(x=jnp.asarray(x), state=jnp.asarray(x)))
    assert broken.search.outcome[1] == NON_FINITE and np.isnan(trace.cost[:, 1]).all()
    for one, other in zip(jax.tree.leaves(broken), jax.tree.leaves(whole), strict=True):
        np.testing.assert_array_equal(np.asarray(one)[[0, 2, 3]], np.asarray(other)[[0, 2, 3]])


def test_a_derivative_that_is_not_finite_ends_a_search():
    """The cost is finite at rest, its derivative is not."""

    def kinked(x, u, t):
        return jnp.sqrt(jnp.abs(x[1])) + jnp.sum(u**2)

    system = analytic(lambda x, u, t: x, kinked, 2, LIMITS)
    x = jnp.array([[0.3, 0.5], [0.3, 0.0]])[:, None] * jnp.ones((1, 5, 1))
    begin = Paths(x, x, jnp.ones((2, 5, 1)), jnp.zeros(2))
    state, _ = solve.make_solve(system, SearchConfig(iterations=5))(begin)
    assert state.search.outcome.tolist() == [CONVERGED, NON_FINITE]


def test_goals_are_arguments_of_one_program():
    """Params and first steps differ, and nothing compiles again."""

    def to_goal(x, u, t, goal):
        return jnp.sum((x - goal) ** 2) + 1e-3 * jnp.sum(u**2) + 0.0 * t

    def move(x, u, t, goal):
        return x + 0.5 * u + 0.01 * t

    system = analytic(move, to_goal, 1, np.array([[-np.inf], [np.inf]]))
    search = solve.make_solve(system, SearchConfig(iterations=10))
    x = jnp.zeros((2, 4, 1))
    begin = Paths(x, x, jnp.zeros((2, 4, 1)), jnp.zeros(2))

    def final(first, goal):
        given = Goal(np.asarray(first, np.int32), jnp.asarray(goal)[:, None])
        return np.asarray(search(begin, given)[0].paths.x)[:, -1, 0]

    np.testing.assert_allclose(final([0, 0], [1.0, 2.0]), [1, 2], atol=0.01)
    found = []
    assert count_compilations(lambda: found.append(final([0, 5], [-1.0, 0.5]))) == 0
    np.testing.assert_allclose(found[0], [-1, 0.5], atol=0.01)


def test_residuals_bring_gauss_newton_curvature(x64):
    class Squares:
        residual = staticmethod(residual)

        def __call__(self, x, u, t):
            return cost(x, u, t)

    system, exact = (analytic(pendulum, each, 2, LIMITS) for each in (Squares(), cost))
    paths = _solved()[0].paths
    goal = Goal(np.zeros(20, np.int32))
    H, g = system.expand(paths, goal)[1:]
    H_exact, g_exact = exact.expand(paths, goal)[1:]
    np.testing.assert_allclose(g, g_exact, atol=1e-9)
    assert np.linalg.eigvalsh(H).min() > -1e-9 and np.linalg.eigvalsh(H_exact).min() < -1e-3


@pytest.mark.parametrize("dU", [1, 2])
def test_an_unconstrained_linear_problem_takes_one_step(dU, x64):
    rng = np.random.default_rng(0)
    A, B = 0.9 * np.eye(3), rng.normal(size=(3, dU))

    def step(x, u, t):
        return A @ x + B @ u

    def squares(x, u, t):
        return 0.5 * (x @ x + u @ u)

    system = analytic(step, squares, 3, np.array([[-np.inf] * dU, [np.inf] * dU]))
    x = jnp.ones((1, 8, 3))
    config = SearchConfig(iterations=4, first_regularisation=0.0)
    begin = Paths(x, x, jnp.zeros((1, 8, dU)), jnp.zeros(1))
    state, trace = solve.make_solve(system, config)(begin)
    assert state.search.outcome[0] == CONVERGED and state.search.iterations[0] == 2
    assert trace.gradient[1, 0] < 1e-12


def test_second_derivatives_are_left_out_where_they_leave_no_minimum(x64):
    """A step that bends towards a cost that falls: the first iteration is that without them."""

    def bending(x, u, t):
        return x + u - 2.0 * u**2

    def towards(x, u, t):
        return 0.5 * jnp.sum((x + 3.0) ** 2) * (t == 1) + 0.05 * jnp.sum(u**2)

    x = jnp.zeros((1, 2, 1))
    begin = Paths(x, x, jnp.full((1, 2, 1), -0.2), jnp.zeros(1))
    found = []
    for second, then in ((True, "drop"), (False, "drop"), (True, "firm")):
        system = analytic(bending, towards, 1, LIMITS, second_order=second)
        config = SearchConfig(iterations=1, negative_curvature=then)
        state, _ = solve.make_solve(system, config)(begin)
        found.append(state)
    goal = Goal(np.zeros(1, np.int32))
    before = solve.replay(analytic(bending, towards, 1, LIMITS), begin, goal)
    assert found[0].search.cost[0] < before.cost[0]
    np.testing.assert_allclose(found[0].paths.u, found[1].paths.u, atol=1e-12)
    # The other way takes no step, and a firmer one next time.
    np.testing.assert_array_equal(found[2].paths.u, begin.u)
    assert found[2].search.regularisation[0] > config.first_regularisation


def test_second_derivatives_that_are_not_finite_are_told(x64):
    """Both slopes are zero where the controls are, and both curvatures infinite."""

    def kinked(x, u, t):
        return x + u + u**1.5 - (2 * u) ** 1.5

    def towards(x, u, t):
        return 0.5 * jnp.sum((x - 3.0) ** 2) + 0.05 * jnp.sum(u**2)

    x = jnp.zeros((1, 2, 1))
    begin = Paths(x, x, jnp.zeros((1, 2, 1)), jnp.zeros(1))
    system = analytic(kinked, towards, 1, LIMITS, second_order=True)
    state, _ = solve.make_solve(system, SearchConfig(iterations=3))(begin)
    assert state.search.outcome[0] == solve.NON_FINITE
    np.testing.assert_array_equal(state.paths.u, 0)
