"""Closed loops: commands, episodes of any length, swing-up by each planner."""

import functools

import jax
import numpy as np
import pytest
from mpc_systems import HORIZON, LIMIT, go_to, goals, integrator_planner, swing_up

from jgps.configs import CemConfig, MpcConfig, MppiConfig, PredictiveSamplingConfig, SearchConfig
from jgps.core.doubles import Bits, packed, unpacked
from jgps.optimise.mpc.command import CommandRange, check_command, check_range
from jgps.optimise.mpc.estimates import simulator_states
from jgps.optimise.mpc.loop import make_task_run
from jgps.optimise.mpc.policy import make_policy
from jgps.optimise.mpc.run import Start, make_run

KEY = jax.random.key(0)
STATES = np.array([[1.0, 0.0], [-0.5, 0.2], [0.3, -1.0]], np.float32)
CONFIG = MpcConfig(horizon=HORIZON, replan_every=3, first_iterations=3)
PARAMS = goals(0, 0, 0).params


@functools.cache
def _run(allowed=None):
    system, planner = integrator_planner()
    start = Start(STATES, np.zeros((3, HORIZON, 1), np.float32), PARAMS)
    return make_run(system, planner, CONFIG, go_to, start, allowed)


def test_a_run_in_parts_is_the_run_in_one():
    run = _run()
    whole, done = run.advance(run.begin(), 20)
    half, first = run.advance(run.begin(), 8)
    half, second = run.advance(half, 12)
    for one, other in zip(jax.tree.leaves(whole)[1:], jax.tree.leaves(half)[1:], strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(done.u, np.concatenate([first.u, second.u], axis=1))
    np.testing.assert_allclose(whole.cost, done.cost.sum(axis=1), rtol=1e-6)
    assert whole.step == 20 and done.x.shape == (3, 20, 2) and done.valid.all()
    # What a run remembers does not grow.
    assert [a.shape for a in jax.tree.leaves(whole)] == [a.shape for a in jax.tree.leaves(half)]


def test_the_command_may_change_at_any_step():
    run = _run()
    asked = lambda step: {"goal": np.float32(0 if step < 40 else 1)}  # noqa: E731
    state, before = run.advance(run.begin(), 40, asked)
    np.testing.assert_allclose(state.states, 0, atol=0.05)
    # Step 40 begins with a new plan, whatever the last one's age.
    state, after = run.advance(state, 80, asked)
    np.testing.assert_allclose(state.states, [[1, 0]] * 3, atol=0.02)
    changed = np.abs(after.u[:, 0] - before.u[:, -1])
    assert (changed > 1).all() and (np.abs(after.u) <= LIMIT).all()


def test_a_state_that_diverges_is_put_back_and_the_others_do_not_notice():
    run = _run()
    broken = STATES.copy()
    broken[1, 1] = np.inf
    (good, done), (bad, found) = (run.advance(run.begin(s), 6) for s in (STATES, broken))
    assert found.valid.tolist() == [True, False, True] and bad.lost.tolist() == [0, 1, 0]
    for one, other in ((done.u, found.u), (good.states, bad.states), (good.cost, bad.cost)):
        np.testing.assert_array_equal(one[[0, 2]], other[[0, 2]])
    assert np.isfinite(bad.states).all() and np.isfinite(found.u).all()


def test_a_policy_plans_when_it_is_time_and_feeds_back_in_between():
    system, planner = integrator_planner()
    policy = make_policy(system, planner, CONFIG, PARAMS)
    acting = policy.begin(STATES, np.zeros((3, HORIZON, 1), np.float32), KEY)
    states, firsts = STATES, []
    command = {"goal": np.float32(0)}
    for step in range(8):
        acting, u = policy.act(acting, states, command, step)
        firsts.append(int(acting.plan.first[0]))
        if step == 4:
            moved = states + np.float32([0.01, 0])
            _, more = policy.act(acting, moved, command, step)
            expected = u + 0.01 * np.asarray(acting.plan.K)[:, 1, :, 0]
            np.testing.assert_allclose(more, np.clip(expected, -LIMIT, LIMIT), atol=1e-4)
        states = np.asarray(acting.plan.state)[:, step - firsts[-1] + 1]
    assert firsts == [0, 0, 0, 3, 3, 3, 6, 6]
    acting, _ = policy.act(acting, states, {"goal": np.float32(1)}, 8)
    assert int(acting.plan.first[0]) == 8


ALLOWED = CommandRange({"goal": -2.0}, {"goal": 2.0})


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ({"goal": [0, 2.5, 0]}, r"command\['goal'\] is 2.5 in state 1; it has to be in \[-2, 2\]"),
        ({"goal": np.nan}, r"command\['goal'\] is nan in state 0; it has to be finite"),
        ({"goal": [1, 2]}, r"\['goal'\] has the shape \[2\]; it has to be \[3\], or \[\] for all"),
        ({"speed": 1}, "it has to have the same entries as the params of the conditions"),
        ({"goal": "fast"}, r"command\['goal'\] is 'fast'; it has to be numbers"),
    ],
)
def test_a_command_that_is_not_allowed_is_refused(command, message):
    run = _run(None)
    with pytest.raises(ValueError, match=message):
        check_command(command, PARAMS, check_range(ALLOWED, PARAMS))
    if "goal" not in command or np.size(command["goal"]) == 2:
        with pytest.raises(ValueError, match=message):
            run.advance(run.begin(), 1, command)


def test_a_range_that_says_nothing_is_refused():
    with pytest.raises(ValueError, match=r"allowed\['goal'\] is from 2 to -2"):
        check_range(CommandRange(ALLOWED.high, ALLOWED.low), PARAMS)
    with pytest.raises(ValueError, match="the conditions have no params"):
        check_range(ALLOWED, None)
    with pytest.raises(ValueError, match="the conditions have no params that it could be in"):
        check_command({"goal": 1}, None)
    with pytest.raises(ValueError, match="horizon is 1; it has to be"):
        MpcConfig(horizon=1)
    with pytest.raises(ValueError, match="replan_every is 9; it has to be less than the horizon"):
        MpcConfig(horizon=9, replan_every=9)
    with pytest.raises(ValueError, match="elites is 9; it has to be at most samples, 8"):
        CemConfig(samples=8, elites=9)


@pytest.mark.parametrize(
    "planner",
    [
        PredictiveSamplingConfig(samples=48, spline="zero", knots=8),
        CemConfig(samples=48),
        MppiConfig(samples=48),
    ],
    ids=lambda planner: type(planner).__name__,
)
def test_every_planner_by_samples_swings_a_pendulum_up_in_mujoco(planner):
    """And holds it for the last second, where its motor bears 40% of the weight; seed 0."""
    config = MpcConfig(horizon=40, replan_every=3, planner=planner, first_iterations=5)
    run, _ = make_task_run(swing_up((-0.6, 1.0)), config)
    state, _ = run.advance(run.begin(None, KEY), 60)
    state, done = run.advance(state, 20)
    assert (np.cos(done.x[:, :, 0]) < -0.9).all(), np.cos(done.x[:, ::5, 0])
    assert (np.abs(done.u) <= 2).all() and done.valid.all() and state.lost.tolist() == [0] * 2


def test_plans_by_ilqg_swing_all_pendulums_up_in_mujoco():
    """From 12 random starts, most of them within 4 s.

    A first plan may be a swing that ends just below the top, where the motor bears too little. It
    falls back and swings up from there.
    """
    starts = tuple(np.random.default_rng(0).uniform(-1.5, 1.5, 12))
    planner = SearchConfig(iterations=2, step_sizes=6)
    run, _ = make_task_run(swing_up(starts), MpcConfig(horizon=40, replan_every=3, planner=planner))
    state, _ = run.advance(run.begin(None, KEY), 60)
    state, done = run.advance(state, 20)
    assert (np.cos(done.x[:, :, 0]) < -0.9).all(axis=1).sum() >= 10
    assert (np.abs(done.u) <= 2).all() and done.valid.all()
    state, _ = run.advance(state, 60)
    state, done = run.advance(state, 20)
    assert (np.cos(done.x[:, :, 0]) < -0.9).all(), np.cos(done.x[:, ::5, 0])
    assert (np.abs(done.u) <= 2).all() and done.valid.all() and not state.lost.any()


def test_estimates_become_states_of_the_simulation():
    task = swing_up()
    _, start = make_task_run(task, MpcConfig(horizon=3, planner=PredictiveSamplingConfig(knots=2)))
    states = simulator_states(task.model, start.states, [[1], [2], [3]], [[4], [5], [6]])
    assert states[:, 1:3].tolist() == [[1, 4], [2, 5], [3, 6]]
    np.testing.assert_array_equal(np.delete(states, [1, 2], 1), np.delete(start.states, [1, 2], 1))
    with pytest.raises(ValueError, match=r"qpos has the shape \[3\]; it has to be \[3, 1\]"):
        simulator_states(task.model, start.states, [1, 2, 3], [[4], [5], [6]])


def test_double_precision_goes_through_a_pytree_bit_for_bit():
    tree = {"a": np.array([[np.pi, -0.0], [np.nan, 1e-300]]), "b": np.float32([1]), "c": None}
    kept = packed(tree)
    assert isinstance(kept["a"], Bits) and kept["a"].bits.dtype == np.uint32
    through = unpacked(jax.tree.map(jax.numpy.asarray, kept))
    assert through["a"].tobytes() == tree["a"].tobytes() and through["a"].dtype == np.float64
    assert packed(np.zeros(())).bits.shape == (2,) and unpacked(packed(np.zeros(()))).shape == ()
