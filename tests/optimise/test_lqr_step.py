"""The LQR step: what it trusts, how often it is taken, and what entropy is worth in it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jgps.algorithms import BadmmConfig, LqrStepConfig
from jgps.core.types import (
    NOT_PD,
    OK,
    TOO_FEW_SAMPLES,
    Controller,
    Dynamics,
    Gaussian,
    QuadraticCost,
    Rollouts,
    Status,
    ok_status,
)
from jgps.optimise.guided.projection import divergence
from jgps.optimise.models import LocalModels, choose, expected_cost, predict
from jgps.optimise.steps.lqr import (
    _repeat,
    explains,
    improve_within_bound,
    initial_memory,
    lqr_step,
    solve_without_limits,
)
from jgps.optimise.steps.step import StepResult, about_controllers


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


C, T, N = 3, 6, 4


def problem(seed=0):
    """Stable models of two states and one action, far from their optimum; the last one failed."""
    rng = np.random.default_rng(seed)
    shape = (C, T - 1)
    steps = np.broadcast_to([[0.9, 0.2], [0.0, 0.8]], (*shape, 2, 2))
    F = np.concatenate([steps, np.broadcast_to([[0.0], [0.5]], (*shape, 2, 1))], axis=-1)
    arrays = Dynamics(
        F=F,
        f=0.1 * rng.normal(size=(*shape, 2)),
        W=np.broadcast_to(1e-2 * np.eye(2), (*shape, 2, 2)),
    )
    cost = QuadraticCost(
        H=np.broadcast_to(np.diag([1.0, 0.1, 0.01]), (C, T, 3, 3)),
        g=np.broadcast_to([-2.0, 0.0, 0.0], (C, T, 3)),
        h=np.full((C, T), 2.0),
    )
    code = jnp.array([OK, OK, TOO_FEW_SAMPLES], jnp.int32)
    models = LocalModels(
        dynamics=arrays,
        cost=cost,
        initial=Gaussian(np.zeros((C, 2)), np.broadcast_to(1e-2 * np.eye(2), (C, 2, 2))),
        status=Status(code=code, step=jnp.full(C, -1, jnp.int32)),
    )
    controllers = Controller(
        K=np.zeros((C, T, 1, 2)), k=np.zeros((C, T, 1)), C=np.full((C, T, 1, 1), 0.25)
    )
    return jax.tree.map(lambda a: jnp.asarray(a, np.float32 if a.dtype.kind == "f" else None),
                        (models, controllers))  # fmt: skip


def without_limits(config):
    """The step on controls that have no limits."""
    return lqr_step(config, functools.partial(solve_without_limits, config))


def improved(controllers, models, memory, **settings):
    """The step from controllers whose samples cost what the models say."""
    rollouts = Rollouts(jnp.ones((C, N, T, 2)), jnp.ones((C, N, T, 1)), jnp.ones((C, N), bool))
    now = expected_cost(controllers, models)
    inputs = about_controllers(
        controllers, models, rollouts, jnp.zeros((C, N, T)), now, jnp.zeros((), jnp.int32)
    )
    return without_limits(LqrStepConfig(kl_step=0.2, **settings)).improve(memory, inputs)


def test_inner_iterations_go_on_from_what_the_one_before_made():
    models, controllers = problem()
    memory = initial_memory(C)
    once = improved(controllers, models, memory)
    held = LqrStepConfig(kl_step=0.2)
    solve = functools.partial(solve_without_limits, held)
    by_hand = improve_within_bound(
        solve, held, once.memory, models, once.controllers, once.controllers
    )
    twice = improved(controllers, models, memory, inner_iterations=2)
    for name in ("K", "k", "C"):
        expected = getattr(by_hand.controllers, name)
        np.testing.assert_allclose(getattr(twice.controllers, name), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(twice.metrics["inner_iterations"], [2, 2, 0])
    assert "inner_iterations" not in once.metrics

    def moved(result):
        return divergence(result.controllers, controllers, predict(result.controllers, models))

    far, near = np.asarray(moved(twice)), np.asarray(moved(once))
    bound = T * 0.2
    assert (far[:2] > 1.2 * bound).all() and (near[:2] < 1.05 * bound).all()
    assert (twice.metrics["kl"][:2] < 1.05 * bound).all()  # about what the first one made
    costs = [np.asarray(expected_cost(each.controllers, models))[:2] for each in (once, twice)]
    assert (costs[1] < costs[0]).all()
    np.testing.assert_allclose(twice.metrics["cost_predicted"][:2], costs[1], rtol=1e-4)
    # What was promised counts from before the first one.
    np.testing.assert_allclose(twice.memory.cost_before, once.memory.cost_before, rtol=1e-5)
    np.testing.assert_allclose(
        twice.memory.cost_predicted[:2], twice.metrics["cost_predicted"][:2], rtol=1e-5
    )
    # The models that failed leave everything as it was.
    kept = jax.tree.map(lambda leaf: leaf[2], (twice.controllers, twice.memory))
    before = jax.tree.map(lambda leaf: leaf[2], (controllers, memory))
    jax.tree.map(np.testing.assert_array_equal, kept, before)
    np.testing.assert_array_equal(twice.metrics["status"], [OK, OK, TOO_FEW_SAMPLES])


def test_an_inner_iteration_that_fails_leaves_what_the_ones_before_it_made():
    """A step that adds 1 to the controllers and cannot go beyond 2, 3 and 0 of them."""
    models, controllers = problem()
    most = jnp.array([2.0, 3.0, 0.0])

    def improve_once(memory, models, centre, kept):
        del models
        done = centre.k[:, 0, 0]
        ok = done < most
        moved = choose(ok, centre._replace(k=centre.k + 1), kept)
        memory = memory._replace(
            stepped=ok, cost_before=jnp.where(ok, -done, 9.0), cost_predicted=-done - 1
        )
        status = jnp.where(ok, OK, NOT_PD)
        return StepResult(moved, memory, {"status": status, "status_step": status, "done": done})

    config = LqrStepConfig(inner_iterations=3)
    found = _repeat(improve_once, config, initial_memory(C), models, controllers, controllers)
    np.testing.assert_array_equal(found.controllers.k[:, 0, 0], most)
    np.testing.assert_array_equal(found.metrics["inner_iterations"], most)
    np.testing.assert_array_equal(found.metrics["done"], [1, 2, 0])
    np.testing.assert_array_equal(found.metrics["status"], [OK, OK, NOT_PD])
    np.testing.assert_array_equal(found.memory.stepped, [True, True, False])
    np.testing.assert_array_equal(found.memory.cost_before, [0, 0, 9])


def test_badmm_has_rounds_of_its_own():
    with pytest.raises(ValueError, match=r"step\.inner_iterations is 2; it has to be 1: BADMM has"):
        BadmmConfig(step=LqrStepConfig(inner_iterations=2))


def test_what_entropy_is_worth_follows_the_iteration():
    """At the last step C^-1 = (H_uu + eta C_before^-1) / (eta + worth), of one action."""
    worth, T = (4.0, 0.5), 2
    cost = QuadraticCost(
        H=jnp.broadcast_to(2 * jnp.eye(2), (1, T, 2, 2)),
        g=jnp.zeros((1, T, 2)),
        h=jnp.zeros((1, T)),
    )
    models = LocalModels(
        dynamics=Dynamics(jnp.ones((1, 1, 1, 2)), jnp.zeros((1, 1, 1)), jnp.ones((1, 1, 1, 1))),
        cost=cost,
        initial=Gaussian(jnp.ones((1, 1)), jnp.ones((1, 1, 1))),
        status=jax.tree.map(lambda leaf: leaf[None], ok_status()),
    )
    before = Controller(jnp.zeros((1, T, 1, 1)), jnp.zeros((1, T, 1)), 3 * jnp.ones((1, T, 1, 1)))
    rollouts = Rollouts(jnp.ones((1, 1, T, 1)), jnp.ones((1, 1, T, 1)), jnp.ones((1, 1), bool))
    step = without_limits(LqrStepConfig(entropy_weight=worth))

    @jax.jit
    def improve(iteration):
        inputs = about_controllers(
            before, models, rollouts, jnp.ones((1, 1, T)), jnp.ones(1), iteration
        )
        return step.improve(step.init(1), inputs)

    for iteration, each in enumerate([4.0, 0.5, 0.5]):
        found = improve(jnp.asarray(iteration))
        assert found.metrics["status"] == OK
        eta = float(found.metrics["eta"][0])
        variance = float(found.controllers.C[0, -1, 0, 0])
        assert variance == pytest.approx((eta + each) / (2 + eta / 3), rel=1e-3)
