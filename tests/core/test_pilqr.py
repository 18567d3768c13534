"""PILQR: what models predict against simulation, both stages' limits, failures as data."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lq_problems import problem

from jgps.core import lqr, pilqr
from jgps.core.pilqr import PilqrStepConfig
from jgps.core.types import NON_FINITE, OK, TOO_FEW_SAMPLES, Rollouts
from jgps.optimise.steps.pilqr import pilqr_step

N, T, dX, dU = 16, 10, 4, 2


def simulate(seed, dtype: type = np.float64):
    """A linear-quadratic problem without process noise and rollouts of its previous controller.

    Returns the problem, the rollouts, what they cost, and their unit noise.
    """
    dynamics, cost, controller, initial = jax.device_get(problem(seed, T, dX, dU))
    rng = np.random.default_rng(seed)
    unit = rng.normal(size=(N, T, dU))
    x = np.empty((N, T, dX))
    u = np.empty((N, T, dU))
    costs = np.empty((N, T))
    for n in range(N):
        x[n, 0] = rng.multivariate_normal(initial.mean, initial.cov)
        for t in range(T):
            mean = controller.K[t] @ x[n, t] + controller.k[t]
            u[n, t] = mean + np.linalg.cholesky(controller.C[t]) @ unit[n, t]
            z = np.concatenate([x[n, t], u[n, t]])
            costs[n, t] = 0.5 * z @ cost.H[t] @ z + cost.g[t] @ z + cost.h[t]
            if t < T - 1:
                x[n, t + 1] = dynamics.F[t] @ z + dynamics.f[t]
    models = jax.tree.map(lambda a: jnp.asarray(a, dtype), (controller, dynamics, cost, initial))
    rollouts = Rollouts(jnp.asarray(x, dtype), jnp.asarray(u, dtype), jnp.ones(N, bool))
    return models, rollouts, jnp.asarray(costs, dtype), unit


def improve(models, rollouts, costs, memory=None, config=PilqrStepConfig()):
    controller, *rest = models
    memory = pilqr.first_memory(T, costs.dtype) if memory is None else memory
    return pilqr.improve(controller, controller, *rest, rollouts, costs, memory, config)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-11), (np.float32, 3e-5)])
def test_exact_models_predict_the_simulated_costs(dtype, tolerance, x64):
    (controller, dynamics, cost, _), rollouts, costs, _ = simulate(0, dtype)
    predicted = pilqr.predicted_costs(controller, dynamics, cost, rollouts)
    assert predicted.dtype == dtype
    np.testing.assert_allclose(predicted, costs, rtol=tolerance, atol=tolerance)


def test_replay_repeats_the_noise(x64):
    models, rollouts, _, unit = simulate(1)
    other = problem(2, T, dX, dU)[2]
    u = pilqr.replay(models[0], other, rollouts)
    centred = unit - unit.mean(axis=0)
    for n, t in [(0, 0), (3, 5), (N - 1, T - 1)]:
        mean = other.K[t] @ rollouts.x[n, t] + other.k[t]
        expected = mean + np.linalg.cholesky(other.C[t]) @ centred[n, t]
        np.testing.assert_allclose(u[n, t], expected, rtol=1e-9)


def test_without_a_residual_it_is_lqr(x64):
    models, rollouts, costs, _ = simulate(3)
    controller, dynamics, cost, initial = models
    found, memory, info = improve(models, rollouts, costs)
    assert info.status.code == OK
    np.testing.assert_array_equal(memory.multiplier, 2)
    np.testing.assert_allclose(info.kl, 0, atol=1e-12)
    expected, _ = lqr.solve_kl_constrained_per_step(
        dynamics, cost, controller, initial, 0.4 * jnp.ones(T), eta=jnp.ones(T)
    )
    np.testing.assert_allclose(found.K, expected.K)
    np.testing.assert_allclose(found.k, expected.k, atol=1e-9)
    assert np.all(np.linalg.eigvalsh(found.C) > 0)


def test_the_second_stage_follows_what_the_models_do_not_know(x64):
    models, rollouts, costs, unit = simulate(4)
    # At step 6 actions whose first unit noise is above 1 are worth much, which is no quadratic.
    bonus = np.zeros((N, T))
    bonus[:, 6] = -100.0 * (unit[:, 6, 0] > 1)
    assert 0 < np.sum(bonus < 0) < N
    found, memory, info = improve(models, rollouts, costs + bonus)
    controller, dynamics, cost, initial = models
    first, _ = lqr.solve_kl_constrained_per_step(
        dynamics, cost, controller, initial, info.epsilon, eta=jnp.ones(T)
    )
    assert info.status.code == OK
    assert np.all(info.unexplained[:7] > 0.2) and np.all(info.unexplained[7:] < 0.05)
    np.testing.assert_array_equal(memory.multiplier, np.where(np.arange(T) < 7, 0.5, 2))
    np.testing.assert_allclose(info.epsilon, 0.2 * memory.multiplier)
    change = np.linalg.solve(np.linalg.cholesky(first.C[6]), found.k[6] - first.k[6])
    assert change[0] > 0.5
    np.testing.assert_allclose(found.k[7:], first.k[7:], atol=1e-9)


def test_a_constant_in_the_cost_hides_nothing(x64):
    models, rollouts, costs, unit = simulate(5)
    bonus = -2.0 * (unit[..., 0] > 1)
    found, _, info = improve(models, rollouts, costs + bonus)
    model_cost = models[2]._replace(h=models[2].h + 1e3)
    models = (models[0], models[1], model_cost, models[3])
    shifted, _, shifted_info = improve(models, rollouts, costs + bonus + 1e3)
    np.testing.assert_allclose(shifted_info.unexplained, info.unexplained, rtol=1e-6)
    np.testing.assert_allclose(shifted.k, found.k, rtol=1e-4, atol=1e-6)


def test_invalid_samples_count_for_nothing(x64):
    models, rollouts, costs, _ = simulate(6)
    costs = costs + jnp.sin(3 * rollouts.u[..., 0])
    valid = np.arange(N) % 4 != 1
    hole = jnp.where(jnp.asarray(valid)[:, None, None], 0.0, jnp.nan)
    broken = Rollouts(rollouts.x + hole, rollouts.u + hole, jnp.asarray(valid))
    found = improve(models, broken, costs + hole[..., 0])
    kept = Rollouts(*(a[valid] for a in rollouts))
    expected = improve(models, kept, costs[valid])
    assert found[2].status.code == OK
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), found, expected)


def test_failures_are_statuses(x64):
    models, rollouts, costs, _ = simulate(7)
    one = rollouts._replace(valid=jnp.arange(N) < 1)
    assert improve(models, one, costs)[2].status.code == TOO_FEW_SAMPLES
    unknown = improve(models, rollouts, costs.at[2, 4].set(jnp.nan))
    assert (unknown[2].status.code, unknown[2].status.step) == (NON_FINITE, 0)
    np.testing.assert_array_equal(unknown[1].multiplier[:5], 1)
    models = (models[0], models[1]._replace(f=models[1].f.at[3].set(jnp.inf)), *models[2:])
    unstable = improve(models, rollouts, costs)
    assert (unstable[2].status.code, unstable[2].status.step) == (NON_FINITE, 4)


def test_multipliers_stay_within_their_limits():
    share = jnp.asarray([0.01, 0.1, 0.5, jnp.nan])
    multiplier = jnp.asarray([1.0, 1.0, 1.0, 1.0], jnp.float32)
    config = PilqrStepConfig()
    np.testing.assert_array_equal(pilqr.adapt(multiplier, share, config), [2, 1, 0.5, 1])
    for _ in range(10):
        multiplier = pilqr.adapt(multiplier, share, config)
    assert multiplier.dtype == jnp.float32
    np.testing.assert_allclose(multiplier, [5, 1, 0.1, 1])


def test_every_step_may_have_a_bound_and_limits_of_its_own(x64):
    models, rollouts, costs, _ = simulate(3)
    kl_step, most = tuple(np.linspace(0.1, 1.0, T)), (1.0,) * 5 + (3.0,) * 5
    config = PilqrStepConfig(kl_step=kl_step, max_multiplier=most)
    _, memory, info = improve(models, rollouts, costs, config=config)
    np.testing.assert_array_equal(memory.multiplier, np.minimum(2, most))
    np.testing.assert_allclose(info.epsilon, np.array(kl_step) * memory.multiplier)
    np.testing.assert_allclose(info.lqr.kl, np.sum(info.epsilon), rtol=0.05)
    with pytest.raises(ValueError, match=r"kl_step is .*one for each of the 12 steps"):
        pilqr_step(12, config)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"kl_step": (0.1, 0.0)}, r"PilqrStepConfig.kl_step is \(0.1, 0.0\)"),
        ({"kl_step": 0.0}, "PilqrStepConfig.kl_step is 0.0"),
        ({"min_multiplier": 2.0}, r"min_multiplier is 2.0; .* in \(0, 1\]"),
        ({"max_multiplier": 0.5}, r"max_multiplier is 0.5; .* in \[1, 1e6\]"),
        ({"shrink_above": -1.0}, "shrink_above is -1.0; .* > 0"),
        ({"grow_below": 0.3}, "grow_below is 0.3; .* at most shrink_above = 0.2"),
    ],
)
def test_bad_settings_are_refused(settings, text):
    with pytest.raises(ValueError, match=text):
        PilqrStepConfig(**settings)
