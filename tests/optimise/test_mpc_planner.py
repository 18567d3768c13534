"""Plans in a receding horizon: what they are, how they go on, what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.interpolate
import scipy.linalg
from mpc_systems import HORIZON, LIMIT, A, B, Q, R, double_integrator, goals, integrator_planner

from jgps import tasks
from jgps.configs import CemConfig, MppiConfig, PredictiveSamplingConfig, SearchConfig
from jgps.optimise.ilqg import solve
from jgps.optimise.ilqg.task_system import task_system
from jgps.optimise.mpc import receding, splines
from jgps.optimise.mpc.loop import endless, make_planner, start_of
from jgps.optimise.mpc.planner import follow, until_end, with_term
from jgps.optimise.mpc.policy import gaussian_covariance
from jgps.optimise.mpc.receding import receding_ilqg
from jgps.optimise.mpc.sampling import sampling_planner
from jgps.recipes import recipe
from jgps.simulation import Conditions

STATES = np.array([[1.0, 0.0], [-0.5, 0.2], [0.3, -1.0]], np.float32)
KEY = jax.random.key(0)


def _planned(states, goal, times=4, memory=None):
    _, planner = integrator_planner()
    u = np.zeros((len(states), HORIZON, 1), np.float32)
    memory = planner.init(states, u, goal)[0] if memory is None else memory
    for _ in range(times):
        memory, plan = planner.plan(memory, states, goal, KEY)
    return memory, plan


def test_the_first_gains_of_a_long_plan_are_those_of_an_endless_one():
    P = scipy.linalg.solve_discrete_are(A, B, Q, R)
    K = -np.linalg.solve(R + B.T @ P @ B, B.T @ P @ A)
    goal = goals(0, 0, 0)
    _, plan = _planned(STATES, goal)
    np.testing.assert_allclose(plan.K[1, 0], K, rtol=1e-3)
    np.testing.assert_allclose(plan.u[1, 0], K @ STATES[1], rtol=1e-3)
    np.testing.assert_allclose(
        gaussian_covariance(plan)[1, 0], np.linalg.inv(R + B.T @ P @ B), rtol=1e-3
    )
    assert (np.abs(plan.u) <= LIMIT).all() and plan.outcome.tolist() == [solve.CONVERGED] * 3


def test_a_plan_goes_on_where_the_last_one_would_be():
    """From the expected state nothing is left to improve; as many steps later for each state."""
    first = goals(0.2, 0.2, 0.2)
    memory, plan = _planned(STATES, first)
    later = first._replace(first=np.array([0, 3, 5], np.int32))
    states = np.asarray(plan.state)[[0, 1, 2], later.first]
    _, after = _planned(states, later, 1, memory)
    for row, passed in enumerate(later.first):
        old, new = plan.u[row, passed : passed + 20], after.u[row, :20]
        np.testing.assert_allclose(new, old, atol=2e-3)
    assert after.first.tolist() == [0, 3, 5]
    assert (after.outcome == solve.CONVERGED).all() or (after.iterations <= 2).all()


def test_feedback_acts_from_another_state_than_expected():
    system, _ = integrator_planner()
    _, plan = _planned(STATES, goals(0, 0, 0))
    moved = np.asarray(plan.state)[:, 2] + np.float32(0.05)
    control = follow(system, plan, np.full(3, 2), moved)
    expected = plan.u[:, 2] + np.einsum("bij,j->bi", plan.K[:, 2], [0.05, 0.05])
    np.testing.assert_allclose(control, np.clip(expected, -LIMIT, LIMIT), atol=1e-5)


def test_far_from_a_plan_less_of_its_feedback_is_tried():
    """Gains that throw one mass about, where the plan's controls alone cost least."""
    system, _ = integrator_planner()
    goal = goals(0, 0, 0)
    memory, _ = _planned(STATES, goal)
    states = STATES + np.array([[0.1, 0.0], [1.0, -1.0], [0.0, 2.0]], np.float32)
    harmful = np.asarray(memory.K) * np.array([1.0, -2.0, 1.0])[:, None, None, None]
    kept = jax.tree.map(np.asarray, memory._replace(K=harmful.astype(np.float32)))

    def cost(row, share):
        x, total = states[row].astype(float), 0.0
        for t in range(HORIZON):
            u = kept.u[row, t] + share * kept.K[row, t] @ (x - kept.state[row, t])
            u = np.clip(u, -LIMIT, LIMIT)
            total += 0.5 * (x @ Q @ x + u @ R @ u)
            x = A @ x + B @ u
        return total

    table = np.array([[cost(row, share) for share in receding.SHARES] for row in range(3)])
    assert receding.SHARES[0] == 1 and receding.SHARES[-1] == 0
    assert np.argmin(table, axis=1).tolist() == [0, 2, 0]
    assert table[1, 0] > 2 * table[1, 2]
    begun = receding._begin(
        system,
        jax.tree.map(jnp.asarray, kept),
        jnp.asarray(states),
        jax.tree.map(jnp.asarray, goal),
    )
    np.testing.assert_allclose(begun.cost, table.min(axis=1), rtol=1e-3)


def test_a_command_that_changes_is_followed_from_the_next_plan_on():
    memory, plan = _planned(STATES, goals(0, 0, 0))
    _, after = _planned(STATES, goals(0, 0, 1.5), 4, memory)
    np.testing.assert_allclose(after.state[:2, -1], 0, atol=0.02)
    np.testing.assert_allclose(after.state[2, -1], [1.5, 0], atol=0.02)


@pytest.mark.parametrize("planner", ["ilqg", "cem"])
def test_a_state_that_is_not_finite_is_said_and_the_others_do_not_notice(planner):
    if planner == "ilqg":
        _, made = integrator_planner()
    else:
        made = sampling_planner(double_integrator(), CemConfig(samples=8, elites=2), HORIZON, 3)
    goal = goals(0, 0, 0)
    broken = STATES.copy()
    broken[1, 0] = np.nan
    u = np.zeros((3, HORIZON, 1), np.float32)
    found = []
    for states in (STATES, broken):
        memory, _ = made.init(STATES, u, goal)
        memory, _ = made.plan(memory, states, goal, KEY)
        found.append(made.plan(memory, STATES, goal, KEY)[1] if states is STATES else None)
        if states is broken:
            _, plan = made.plan(made.init(STATES, u, goal)[0], broken, goal, KEY)
            assert plan.outcome[1] == solve.NON_FINITE and (plan.u[1] == 0).all()
            assert np.isinf(plan.cost[1]) and np.isfinite(plan.state).all()
            assert (np.asarray(plan.outcome)[[0, 2]] != solve.NON_FINITE).all()
            # It goes on from there once the state is known again.
            found.append(made.plan(memory, STATES, goal, KEY)[1])
    healthy, again = found[0], found[-1]
    for one, other in zip(healthy, again, strict=True):
        np.testing.assert_array_equal(np.asarray(one)[[0, 2]], np.asarray(other)[[0, 2]])
    assert np.isfinite(again.cost).all()


def test_what_does_not_fit_is_refused_in_a_sentence():
    _, planner = integrator_planner()
    memory, _ = _planned(STATES, goals(0, 0, 0))
    with pytest.raises(ValueError, match="has states \\[3, 60, 2\\]; here they have to be"):
        planner.plan(memory, STATES[:2], goals(0, 0), KEY)
    with pytest.raises(ValueError, match="states have the shape \\[3, 3\\]"):
        planner.plan(memory, np.zeros((3, 3), np.float32), goals(0, 0, 0), KEY)
    with pytest.raises(ValueError, match=r"goal.first has the shape \[2\]"):
        planner.plan(memory, STATES, goals(0, 0), KEY)
    shorter = receding_ilqg(double_integrator(), SearchConfig(iterations=1), 20)
    with pytest.raises(ValueError, match="here they have to be \\[3, 20, 2\\]"):
        shorter.plan(memory, STATES, goals(0, 0, 0), KEY)
    with pytest.raises(ValueError, match="knots is 6; it has to be at most the horizon, 5 steps"):
        sampling_planner(double_integrator(), PredictiveSamplingConfig(), 5, 3)


@pytest.mark.parametrize("kind", [PredictiveSamplingConfig, CemConfig, MppiConfig])
def test_plans_by_samples_come_near_the_best_and_report_their_own_cost(kind):
    system, goal = double_integrator(), goals(0, 0, 0)
    calm = {"noise": 0.1, **({"min_noise": 0.01} if kind is CemConfig else {})}
    config = kind(samples=128, iterations=4, **calm)
    planner = sampling_planner(system, config, HORIZON, 3)
    memory, plan = planner.init(STATES, np.zeros((3, HORIZON, 1), np.float32), goal)
    for number in range(12):
        memory, plan = planner.plan(memory, STATES, goal, jax.random.key(number))
    _, best = _planned(STATES, goal)
    assert (plan.cost <= 1.5 * best.cost + 0.1).all() and (plan.cost >= best.cost).all()
    own = np.sum([_cost_of(plan, t) for t in range(HORIZON)], axis=0)
    np.testing.assert_allclose(plan.cost, own, rtol=1e-4)
    follows = np.einsum("ij,btj->bti", A, plan.state[:, :-1])
    follows += np.einsum("ij,btj->bti", B, plan.u[:, :-1])
    np.testing.assert_allclose(plan.state[:, 1:], follows, atol=1e-5)
    assert (np.abs(plan.u) <= LIMIT).all() and not np.any(plan.K)


def _cost_of(plan, t):
    x, u = (np.asarray(a)[:, t] for a in (plan.state, plan.u))
    return 0.5 * (np.einsum("bi,ij,bj->b", x, Q, x) + R[0, 0] * u[:, 0] ** 2)


def test_splines_are_those_of_scipy():
    knots = np.random.default_rng(0).normal(size=(5, 2))
    at, times = np.linspace(0, 12, 5), np.linspace(0, 12, 31)
    inside = {kind: splines.values(kind, jnp.asarray(knots), times, 13) for kind in splines.SPLINES}
    steps = np.diff(knots, axis=0) / 3
    slopes = np.concatenate([steps[:1], (steps[1:] + steps[:-1]) / 2, steps[-1:]])
    cubic = scipy.interpolate.CubicHermiteSpline(at, knots, slopes)(times)
    np.testing.assert_allclose(inside["cubic"], cubic, atol=1e-5)
    linear = np.stack([np.interp(times, at, k) for k in knots.T], axis=1)
    np.testing.assert_allclose(inside["linear"], linear, atol=1e-5)
    np.testing.assert_allclose(
        inside["zero"], knots[np.searchsorted(at, times + 1e-6) - 1], atol=1e-6
    )
    for kind in splines.SPLINES:
        beyond = splines.values(kind, jnp.asarray(knots), np.array([-1.0, 15.0]), 13)
        np.testing.assert_allclose(beyond, knots[[0, -1]], atol=1e-6)


def test_a_cost_with_a_term_has_the_params_of_both():
    def plain(x, u, t):
        return x[0] + t

    def term(x, u, t, weight):
        return weight * u[0] ** 2

    whole = with_term(plain, term)
    x, u = jnp.array([2.0]), jnp.array([3.0])
    assert whole(x, u, 1, (None, 0.5)) == 2 + 1 + 4.5
    assert with_term(lambda x, u, t, p: p * plain(x, u, t), term)(x, u, 1, (2.0, 0.0)) == 6

    class Squares:
        residual = staticmethod(lambda x, u, t, *params: jnp.concatenate([x, u]))

        def __call__(self, x, u, t, *params):
            return 0.5 * jnp.sum(self.residual(x, u, t) ** 2)

    both = with_term(Squares(), Squares())
    assert both.residual(x, u, 0, (None, None)).shape == (4,) and both(x, u, 0, (None, None)) == 13
    with pytest.raises(ValueError, match="the term has residuals and the other has none"):
        with_term(plain, Squares())


def test_time_stands_still_behind_the_end():
    class Squares:
        residual = staticmethod(lambda x, u, t: x * t)

        def __call__(self, x, u, t):
            return t * x[0]

    stopped = until_end(Squares(), 4)
    values = [stopped(jnp.ones(1), None, t) for t in (3, 4, 9)]
    assert values == [3, 4, 4] and stopped.residual(jnp.ones(1), None, 9) == 4


def test_a_walkers_plan_depends_on_the_batch_by_rounding_alone(x64):
    """Five of twenty states, planned apart, in double precision: 2e-14 of controls in [-1, 1].

    In single precision it is 4e-6. Simulation and derivatives are the same bit for bit.
    """
    task = tasks.make("walker")
    config = dataclasses.replace(recipe("walker", "mpc").config, horizon=20)
    keys = jax.random.split(jax.random.key(0), 20)
    assert task.random_start is not None
    qpos, qvel = (np.asarray(a, float) for a in jax.vmap(task.random_start)(keys))
    params = {"speed": np.full(20, 2.1)}
    plans = []
    for num in (20, 5):
        starts = Conditions(qpos, qvel, params=params).select(np.arange(num))
        whole = endless(dataclasses.replace(task, train=starts))
        known = task_system(whole, starts, "native", derivatives=config.derivatives)
        start = start_of(known, config)
        planner = make_planner(known.system, config, num)
        memory, _ = planner.init(start.states, start.u, known.goal)
        plans.append(planner.plan(memory, start.states, known.goal, KEY)[1])
    ours, theirs = plans[0].u[:5], plans[1].u
    assert np.abs(ours).max() == 1  # at the limits, far from where it began
    np.testing.assert_allclose(theirs, ours, atol=1e-11)
    np.testing.assert_allclose(plans[1].cost, plans[0].cost[:5], rtol=1e-11)
