"""What the task's functions know of a condition beside its state: a cost per condition (seed 0)."""

import copy
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from setting_cases import GUIDED, LOCAL
from setting_programs import of_algorithm

import jgps
from jgps import costs, tasks
from jgps.algorithms import ALGORITHMS
from jgps.configs import FixedStartsConfig, RandomStartsConfig, RegressionConfig, TrajoptConfig
from jgps.reports import video
from jgps.reports.plots.paths import find_target
from jgps.simulation import Conditions, check_conditions, concatenate_conditions
from jgps.tasks.functions import params_of
from jgps.training.description import describe

MODEL = """
<mujoco><option timestep="0.05"/><worldbody><body>
<joint name="x" type="slide" axis="1 0 0" damping="0.5"/>
<joint name="y" type="slide" axis="0 1 0" damping="0.5"/>
<geom size="0.1" mass="1"/><site name="tip"/></body></worldbody>
<actuator><motor joint="x" ctrlrange="-5 5"/><motor joint="y" ctrlrange="-5 5"/></actuator>
</mujoco>"""
GOALS = np.array([[0.5, 0.0], [0.0, 0.4], [-0.5, 0.2]])
WEIGHTS = np.array([1.0, 2.0, 3.0])
PARAMS = {"goal": GOALS, "weight": WEIGHTS}
TEST = Conditions(
    np.zeros((2, 2)), np.zeros((2, 2)), params={"goal": GOALS[:2] + 0.05, "weight": np.ones(2)}
)


def cost(s):
    def of(x, u, t, params):
        near = costs.state_target(s["qpos"], params["goal"])
        return costs.weighted_sum((1e-2, costs.action(1.0)), (params["weight"], near))(x, u, t)

    return of


def distance(s):
    return lambda x, params: jnp.linalg.norm(x[-1, s["qpos"]] - params["goal"])


def success(s):
    return lambda x, u, params: distance(s)(x, params) < 0.1


def make_task(**arguments):
    settings = {
        "cost": cost, "horizon": 8, "control_dt": 0.1, "params": PARAMS, "test": TEST,
        "distance": distance, "success": success, **arguments,
    }  # fmt: skip
    return tasks.from_mjcf(MODEL, **settings)


def by_hand(params, x, u):
    """Costs [C] of the first rollouts x [C, N, T, 4], u [C, N, T, 2]."""
    away = np.square(x[:, 0, :, :2] - params["goal"][:, None]).sum(-1)
    effort = 0.5e-2 * np.square(u[:, 0]).sum(-1)
    return (params["weight"][:, None] * away + effort).sum(-1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"params": {**PARAMS, "goal": GOALS[:2]}}, r"params\['goal'\] has shape .* of the 3 cond"),
        ({"params": {**PARAMS, "weight": 2.0}}, r"params\['weight'\] has shape \(\); .* a row for"),
        ({"params": {**PARAMS, "weight": "a"}}, r"params\['weight'\] is 'a'; .* array of numbers"),
        ({"params": {**PARAMS, "goal": [[1, 2], [3]]}}, "has rows of different lengths"),
        ({"params": {**PARAMS, "goal": GOALS * np.nan}}, r"params\['goal'\] has values that are n"),
        ({"test": TEST._replace(params=None)}, "test has no params, and the training .* of params"),
        (
            {"test": TEST._replace(params={"goal": GOALS[:2]})},
            r"params of test are params\['goal'\] \[2\] of float32 for .*params\['weight'\] \[\]",
        ),
        ({"params": None}, "test has params, and the training conditions have none: give"),
        (
            {"cost": lambda s: lambda x, u, t: x[0]},
            r"called as cost\(x \[4\], u \[2\], t, params\), whose last argument are the params of",
        ),
        ({"success": lambda s: lambda x, u: x[0, 0] > 0}, "last argument are the params"),
        ({"distance": lambda s: lambda x: x[0, 0]}, "last argument are the params"),
        ({"cost": lambda s: lambda x, u, t, p: p["gaol"][0]}, "fails with a KeyError: 'gaol'"),
        ({"cost": lambda s: lambda x, u, t, p: p["goal"][2]}, r"params\['goal'\] has 2 .*index 2"),
    ],
)
def test_params_that_do_not_fit_are_refused_when_the_task_is_made(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_task(**arguments)


def test_a_task_put_together_by_hand_is_checked_where_it_is_used():
    task = make_task()
    task = dataclasses.replace(task, test=task.test._replace(params=None))
    with pytest.raises(ValueError, match="test has no params, and the training conditions have"):
        ALGORITHMS["trajopt"][0](task)
    with pytest.raises(ValueError, match="test has no params, and the training conditions have"):
        jgps.evaluate(task, object(), key=jax.random.key(0))


def test_random_starts_belong_to_no_condition():
    task = make_task(random_start=lambda key: (jax.random.normal(key, (2,)), jnp.zeros(2)))
    config = jgps.configs.MdgpsConfig(
        rollouts=RandomStartsConfig(), sampling="on_policy", linearisation=RegressionConfig()
    )
    with pytest.raises(ValueError, match="have params, which a random start has none of"):
        ALGORITHMS["mdgps"][0](task, config)


def test_one_row_of_params_serves_all_conditions_and_rows_of_params_make_conditions():
    assert make_task().train.num == 3
    task = make_task(params={"goal": GOALS[:1], "weight": WEIGHTS})
    np.testing.assert_array_equal(task.train.params["goal"], np.tile(GOALS[:1], (3, 1)))
    picked = task.train.select(np.array([2, 0]))
    np.testing.assert_array_equal(picked.params["weight"], [3.0, 1.0])
    both = concatenate_conditions(task.model, [picked, task.test])
    np.testing.assert_array_equal(both.params["weight"], [3.0, 1.0, 1.0, 1.0])
    again = check_conditions(task.model, copy.deepcopy(both))
    np.testing.assert_array_equal(again.params["goal"], both.params["goal"])
    assert params_of(both)["goal"].dtype == np.float32
    assert make_task(params=(GOALS, WEIGHTS), test=None, cost=lambda s: lambda x, u, t, p: x[0],
                     distance=None, success=None).train.num == 3  # fmt: skip


def test_trajopt_reaches_the_target_of_each_condition_and_evaluation_scores_it():
    task = make_task(control_dt=0.2)
    config = TrajoptConfig(rollouts=FixedStartsConfig(num_samples=4), models=LOCAL["models"])
    algorithm = ALGORITHMS["trajopt"][0](task, config, backend="native")
    state = algorithm.init(jax.random.key(0))
    for _ in range(8):
        state, metrics = algorithm.step(state)
    assert (metrics["noise_free_distance"] < 0.2).all()  # 0.5, 0.4 and 0.54 m to begin with
    result = jgps.evaluate(task, state.policy, key=jax.random.key(0))
    # All conditions start alike: their controllers are told apart by params alone.
    np.testing.assert_allclose(result.train.cost, state.policy_cost, rtol=1e-4)
    for found, params in ((result.train, PARAMS), (result.test, TEST.params)):
        x, u = found.rollouts.x, found.rollouts.u
        np.testing.assert_allclose(found.cost, by_hand(params, x, u), rtol=1e-4)
        away = np.linalg.norm(x[:, 0, -1, :2] - params["goal"], axis=-1)
        np.testing.assert_allclose(found.distance, away, atol=1e-5)
        np.testing.assert_array_equal(found.success, away < 0.1)


# The other two are steps of these in the loop of mdgps.
@pytest.mark.parametrize("name", ["trajopt", "pi2", "pilqr", "mdgps", "badmm", "dagger"])
def test_algorithms_read_the_params_of_each_condition(name):
    iteration, _ = iteration_of(name, PARAMS)
    other, _ = iteration_of(name, {**PARAMS, "weight": np.array([1.0, 2.0, 4.0])})
    assert iteration != other


def test_the_cost_is_traced_once_for_all_conditions():
    many = {"goal": np.tile(GOALS, (4, 1)), "weight": np.ones(12)}
    assert iteration_of("trajopt", PARAMS)[1] == iteration_of("trajopt", many)[1]


def iteration_of(name, params):
    """The fingerprint of an algorithm's iteration, and how often it called the cost."""
    local = name in ("trajopt", "dagger", "pilqr")
    settings = {"rollouts": LOCAL["rollouts"]} if name == "pi2" else LOCAL if local else GUIDED
    calls = []

    def counted(s):
        of = cost(s)
        return lambda *arguments: calls.append(1) or of(*arguments)

    task = make_task(cost=counted, params=params, test=None)
    calls.clear()
    _, iteration = of_algorithm(name, task)(ALGORITHMS[name][1](**settings))
    return iteration, len(calls)


def test_a_runs_description_tells_params_apart():
    def hash_of(**arguments):
        found = describe(make_task(**arguments), "trajopt", TrajoptConfig(), 1, 0, "native")
        return found["model"]["hash"], found["functions"]["cost"]

    same, other = hash_of(), hash_of(params={**PARAMS, "weight": WEIGHTS + 1})
    assert same == hash_of() and same[0] != other[0] and same[1] == other[1]


def test_a_run_that_begins_with_anothers_state_has_targets_of_its_own():
    config = TrajoptConfig(models=LOCAL["models"])
    make, key = ALGORITHMS["trajopt"][0], jax.random.key(0)
    before = make(make_task(), config).init(key)
    algorithm = make(make_task(params={**PARAMS, "goal": -GOALS}), config)
    state = algorithm.forget_results(before._replace(policy_cost=jnp.zeros(3)))
    np.testing.assert_array_equal(state.policy.x0, algorithm.init(key).policy.x0)
    assert np.isinf(state.policy_cost).all() and not np.allclose(state.policy.x0, before.policy.x0)


def test_reports_measure_to_the_target_of_each_condition():
    task = make_task()
    x = np.random.default_rng(0).normal(size=(3, 8, 4)).astype(np.float32)
    for condition in range(3):
        found = find_target(task, x[condition], condition)
        assert found is not None
        np.testing.assert_allclose(found[:2], GOALS[condition], atol=1e-5)
    away = video._distances(task, x, params_of(task.train))
    np.testing.assert_allclose(
        away, np.linalg.norm(x[..., :2] - GOALS[:, None], axis=-1), rtol=1e-4
    )


@pytest.mark.parametrize(
    "term",
    [
        lambda p: costs.action(p),
        lambda p: costs.state_target((0, 1), p, weights=p),
        lambda p: costs.distance((0, 1), p, weight=p[0], point_dim=2),
        lambda p: costs.region((0, 1), -p, p / 9, weight=p[1], edge=0.3),
        lambda p: costs.waypoints((0, 1), jnp.stack([p, 2 * p]), 4),
        lambda p: costs.linear_waypoints((0, 1), p[None, None], p[None, :1], 4),
        lambda p: costs.weighted_sum((p[0], costs.action(1.0, ramp=jnp.ones(4) * p[1]))),
    ],
)
def test_terms_take_traced_numbers_as_they_take_plain_ones(term):
    p, x, u, t = jnp.array([0.7, 2.0]), jnp.array([0.3, -0.4]), jnp.array([0.5, 0.1]), 2
    expected = term(np.asarray(p))(x, u, t)
    np.testing.assert_allclose(jax.jit(lambda p: term(p)(x, u, t))(p), expected, rtol=1e-6)


def test_shapes_of_traced_numbers_are_checked():
    def too_many(p):
        return costs.state_target((0, 1), p[None])(jnp.zeros(2), jnp.zeros(1), 0)

    with pytest.raises(ValueError, match=r"state_target.target has shape \(1, 2\); .* at most 1"):
        jax.eval_shape(too_many, jnp.zeros(2))
