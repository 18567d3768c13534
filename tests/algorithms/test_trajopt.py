"""Trajectory optimisation on fitted models."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from jgps import costs, tasks
from jgps.algorithms import FixedStartsConfig, LqrStepConfig, TrajoptConfig, trajopt
from jgps.core import lqr
from jgps.core.types import OK, TOO_FEW_SAMPLES
from jgps.dynamics import MixturePriorConfig, NoPriorConfig
from jgps.optimise.local_loop import make_parts
from jgps.optimise.models import FittedModelsConfig, fitted_models
from jgps.optimise.step_size import StepMemory, adapt, next_multiplier
from jgps.optimise.steps.bounded import bounded_step
from jgps.simulation import make_sampler

APART = TrajoptConfig(models=FittedModelsConfig(prior=MixturePriorConfig(shared=False)))


def _noise_free(task, policy):
    sampler = make_sampler(task.system, task.train, policy.act, "native")
    shape = (task.train.num, 1, task.horizon, task.action_dim)
    return sampler.sample(policy.params_for(policy.x0), jnp.zeros(shape))


def _run(task, config, iterations, seed=0):
    """States, the first one too, and metrics."""
    algorithm = trajopt(task, config, backend="native")
    states, history = [algorithm.init(jax.random.key(seed))], []
    for _ in range(iterations):
        state, metrics = algorithm.step(states[-1])
        states.append(state)
        history.append(metrics)
    return states, history


@pytest.fixture(scope="module")
def point_mass_run():
    task = tasks.make("point_mass")
    return task, *_run(task, TrajoptConfig(), 6)


def test_the_point_mass_arrives(point_mass_run):
    task, states, history = point_mass_run
    final = _noise_free(task, states[-1].policy)
    distances = jax.vmap(task.distance)(final.x[:, 0])
    assert float(distances.max()) < 0.05
    first, last = history[0]["cost"], history[-1]["cost"]
    assert bool((last < 0.2 * first).all())


def test_the_point_mass_reaches_the_optimum_of_the_known_model(point_mass_run):
    """Independent: the exact discrete-time LQR by SciPy, gains far from the horizon's end."""
    task, states, _ = point_mass_run
    # MuJoCo's semi-implicit Euler with damping in the velocity update, two substeps of 0.05 s.
    h, damping = 0.05, 0.2
    shrink = 1 / (1 + h * damping)
    A1 = np.array([[1, h * shrink], [0, shrink]])
    B1 = np.array([[h * h * shrink], [h * shrink]])
    A, B = A1 @ A1, A1 @ B1 + B1
    Q, R = np.diag([2.0, 0.2]), np.array([[1e-2]])
    P = scipy.linalg.solve_discrete_are(A, B, Q, R)
    value = 0.5 * np.array([1.0, 0.0]) @ P @ np.array([1.0, 0.0]) * 2  # both axes start 1 m away
    final = _noise_free(task, states[-1].policy)
    total = costs.evaluate(task.cost, final.x[:, 0], final.u[:, 0]).sum(-1)
    # The actuators' limit of 5 N costs a little; no controller can be better than the optimum.
    assert float(total.min()) >= value * 0.999
    assert float(total.max()) <= value * 1.1


def test_every_step_keeps_to_its_bound(point_mass_run):
    _, _, history = point_mass_run
    for metrics in history:
        kl, bound = metrics["kl"], metrics["kl_bound"]
        assert bool((metrics["status"] == OK).all())
        assert bool((kl <= 1.1 * bound).all())
        at_floor = metrics["eta"] < 1.01e-8
        assert bool(((kl >= 0.9 * bound) | at_floor).all())  # and uses all of it


def test_the_policy_is_the_best_that_was_tried(point_mass_run):
    """What the last iteration made is tried, too."""
    task, states, history = point_mass_run
    state, tried = states[-1], [after.controllers for after in states[1:]]
    last = _noise_free(task, state.policy._replace(controllers=state.controllers))
    cost = costs.evaluate(task.cost, last.x[:, 0], last.u[:, 0]).sum(-1)
    np.testing.assert_allclose(history[-1]["noise_free_cost"], cost, rtol=1e-5)
    costs_seen = np.stack([metrics["noise_free_cost"] for metrics in history])
    for c, best in enumerate(costs_seen.argmin(axis=0)):
        np.testing.assert_array_equal(state.policy.controllers.K[c], tried[best].K[c])
        np.testing.assert_array_equal(state.policy_cost[c], costs_seen[best, c])


def test_entropy_that_is_worth_something_keeps_controllers_exploring(point_mass_run):
    task, states, history = point_mass_run
    config = TrajoptConfig(step=LqrStepConfig(entropy_weight=1.0))
    curious, metrics = _run(task, config, 6)

    def entropies(states):
        return np.linalg.slogdet(np.asarray(states[-1].controllers.C))[1].mean(axis=1)

    # At no bound the covariance is Q_uu^-1 times the weight: far above what is left without it.
    assert np.all(entropies(curious) > entropies(states) + 2)
    last, without = metrics[-1]["noise_free_cost"], history[-1]["noise_free_cost"]
    np.testing.assert_allclose(last, without, rtol=0.1)


def test_it_works_without_a_prior_given_enough_samples():
    task = tasks.make("point_mass")
    config = TrajoptConfig(
        rollouts=FixedStartsConfig(num_samples=12), models=FittedModelsConfig(prior=NoPriorConfig())
    )
    _, history = _run(task, config, 4)
    assert bool((history[-1]["status"] == OK).all())
    assert bool((history[-1]["cost"] < 0.3 * history[0]["cost"]).all())


@functools.cache
def _parts(config):
    """The parts of an iteration on the point mass, and the first state."""
    task = tasks.make("point_mass")
    models = fitted_models(task, config.models, config.shape(task))
    parts = make_parts(task, config, "native", models, bounded_step(task, config.step))
    return parts, trajopt(task, config, backend="native").init(jax.random.key(0))


@functools.cache
def _one_step(num_bad):
    """An iteration on the point mass; the first `num_bad` samples of condition 2 are NaN."""
    parts, state = _parts(APART)
    sampled = parts.sample(state.controllers, jax.random.key(1)).rollouts
    bad = sampled._replace(
        x=sampled.x.at[2, :num_bad].set(jnp.nan),
        u=sampled.u.at[2, :num_bad].set(jnp.nan),
        valid=sampled.valid.at[2, :num_bad].set(False),
    )
    state, models, metrics = parts.fit(state, bad)
    state, more = parts.improve(state, models, bad)
    return state, {**metrics, **more}


def test_a_bad_sample_is_left_out_and_training_goes_on():
    clean, _ = _one_step(0)
    after, metrics = _one_step(1)
    assert metrics["samples_valid"].tolist() == [5, 5, 4, 5]
    assert bool((metrics["status"] == OK).all())
    for one, other in zip(
        jax.tree.leaves(clean.controllers), jax.tree.leaves(after.controllers), strict=True
    ):
        np.testing.assert_array_equal(one[jnp.array([0, 1, 3])], other[jnp.array([0, 1, 3])])
        assert bool(jnp.isfinite(other).all())
    assert not np.array_equal(clean.controllers.K[2], after.controllers.K[2])


def test_a_condition_with_one_sample_left_keeps_its_controller_and_says_why():
    before, _ = _one_step(0)
    after, metrics = _one_step(4)
    assert metrics["samples_valid"].tolist() == [5, 5, 1, 5]
    assert metrics["status"].tolist() == [OK, OK, TOO_FEW_SAMPLES, OK]
    _, start = _parts(APART)
    np.testing.assert_array_equal(after.controllers.K[2], start.controllers.K[2])
    assert not np.array_equal(before.controllers.K[2], after.controllers.K[2])


def test_the_bound_follows_how_well_the_last_step_was_predicted():
    """The next multiplier from expected costs computed here, on both iterations' models."""
    parts, first = _parts(APART)
    models, states = [], [first]
    for key in jax.random.split(jax.random.key(5)):
        state = states[-1]
        sampled = parts.sample(state.controllers, key).rollouts
        state, fitted, _ = parts.fit(state, sampled)
        models.append(fitted)
        states.append(parts.improve(state, fitted, sampled)[0])

    def expected(state, model):
        def one(controller, m):
            marginals = lqr.forward(controller, m.dynamics, m.initial)
            return lqr.expected_cost(marginals, m.cost).sum()

        return jax.vmap(one)(state.controllers, model)

    old = expected(states[0], models[0])
    predicted = old - expected(states[1], models[0])
    actual = old - expected(states[1], models[1])
    wanted = np.clip(
        np.clip(predicted / (2 * np.maximum(1e-4, predicted - actual)), 0.1, 5), 0.01, 10
    )
    np.testing.assert_allclose(states[1].memory.multiplier, 1)  # nothing to compare with yet
    np.testing.assert_allclose(states[2].memory.multiplier, wanted, rtol=2e-2)
    # A condition whose last step was not taken has nothing to compare with either.
    memory = states[1].memory._replace(stepped=jnp.array([True, True, False, True]))
    skipped = states[1]._replace(memory=memory)
    again = parts.improve(skipped._replace(models=states[2].models), models[1], sampled)[0]
    np.testing.assert_allclose(again.memory.multiplier[2], 1)
    np.testing.assert_array_equal(again.memory.multiplier[:2], states[2].memory.multiplier[:2])


def test_step_size_rule():
    limits = (0.01, 10.0)
    one = jnp.ones(())

    def after(predicted, actual):
        return float(adapt(one, jnp.asarray(predicted), jnp.asarray(actual), limits))

    assert after(2.0, 1.0) == pytest.approx(1.0)  # half of it came true: the step stays
    assert after(2.0, 1.9) == pytest.approx(5.0)  # as predicted: at most five times
    assert after(2.0, -8.0) == pytest.approx(0.1)  # it became worse
    assert after(2.0, 0.0) == pytest.approx(0.5)
    # A step that brought enough of what it promised does not lower it, and one that brought half of
    # it may raise it as before.
    for actual, wanted in ((0.3, 1.0), (0.19, 1 / 1.81), (-1.0, 1 / 3), (1.5, 2.0)):
        found = adapt(one, jnp.asarray(2.0), jnp.asarray(actual), limits, enough=0.1)
        assert float(found) == pytest.approx(wanted)
    # Where the models promise that it gets worse, nothing was brought.
    assert float(adapt(one, jnp.asarray(-1.0), jnp.asarray(-0.05), limits, enough=0.1)) < 1
    assert float(adapt(one * 10, jnp.asarray(2.0), jnp.asarray(2.0), limits)) == 10
    assert float(adapt(one * 0.01, jnp.asarray(2.0), jnp.asarray(-2.0), limits)) == pytest.approx(
        0.01
    )


def test_one_multiplier_for_all_conditions_follows_what_they_came_to_on_average():
    predicted, actual = np.array([2.0, 6.0, 9.0, 9.0]), np.array([1.0, -5.0, 9.0, jnp.nan])
    memory = StepMemory(
        eta=jnp.ones(4),
        multiplier=jnp.full(4, 2.0),
        cost_before=jnp.full(4, 10.0),
        cost_predicted=jnp.asarray(10 - predicted),
        stepped=jnp.array([True, True, False, True]),
    )
    usable, limits = jnp.ones(4, bool), (0.5, 3.0)

    def after(**settings):
        return np.asarray(
            next_multiplier(memory, jnp.asarray(10 - actual), usable, limits, **settings)
        )

    # Of the conditions that can be compared, the first two.
    wanted = 2 * 4.0 / (2 * (4.0 - -2.0))
    np.testing.assert_allclose(after(shared=True), wanted, rtol=1e-6)
    np.testing.assert_allclose(after(), [2 * 2 / (2 * 1), 2 * 6 / (2 * 11), 2, 2], rtol=1e-6)
    nothing = memory._replace(stepped=jnp.zeros(4, bool))
    kept = next_multiplier(nothing, jnp.zeros(4), usable, limits, shared=True)
    np.testing.assert_array_equal(kept, memory.multiplier)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FixedStartsConfig(num_samples=1), "num_samples is 1; .* at least 2 rollouts"),
        (
            lambda: FixedStartsConfig(noise_smoothing=-1),
            "noise_smoothing is -1; it has to be finite and >= 0",
        ),
        (lambda: FittedModelsConfig(initial_variance=0), "initial_variance is 0; .* > 0"),
        (lambda: LqrStepConfig(kl_step=0), "kl_step is 0; it has to be finite and in .0, 1e9"),
        (lambda: LqrStepConfig(min_multiplier=2), "min_multiplier is 2; .* in .0, 1."),
        (lambda: MixturePriorConfig(strength=-1), "strength is -1"),
    ],
)
def test_config_values_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_users_own_arm_in_under_30_lines():
    # --- the user's lines begin
    arm = """<mujoco><option timestep="0.01" gravity="0 0 0"/>
      <default><joint axis="0 0 1" damping="0.2" armature="0.02"/></default><worldbody>
      <body><joint name="a"/><geom type="capsule" fromto="0 0 0 .3 0 0" size=".02"/>
      <body pos=".3 0 0"><joint name="b"/><geom type="capsule" fromto="0 0 0 .3 0 0" size=".02"/>
      <body pos=".3 0 0"><joint name="c"/><geom type="capsule" fromto="0 0 0 .3 0 0" size=".02"/>
      <site name="tip" pos=".3 0 0"/></body></body></body></worldbody>
      <actuator><motor joint="a"/><motor joint="b"/><motor joint="c"/></actuator></mujoco>"""
    goal = np.array([0.4, 0.5, 0.0])
    task = tasks.from_mjcf(
        arm,
        state=("qpos", "qvel", "site_pos:tip", "site_vel:tip"),
        cost=lambda s: costs.weighted_sum(
            (1.0, costs.action(1e-3)),
            (1.0, costs.distance(s["site_pos:tip"], goal, penalty=costs.Penalty(l2=5.0, log=0.01))),
        ),
        distance=lambda s: lambda x: jnp.linalg.norm(x[-1, s["site_pos:tip"]] - goal),
        qpos=[[0, 0.3, 0.3], [1.5, -0.3, -0.3]],
        horizon=40,
    )
    algorithm = trajopt(task)
    state = algorithm.init(jax.random.key(0))
    for _ in range(10):
        state, metrics = algorithm.step(state)
    # --- and end
    final = _noise_free(task, state.policy)
    assert float(jax.vmap(task.distance)(final.x[:, 0]).max()) < 0.03
