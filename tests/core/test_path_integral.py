"""Path-integral updates: the dual against SciPy, weights, the fit, failures as data, float32."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from jgps.core import path_integral
from jgps.core.path_integral import Pi2StepConfig
from jgps.core.types import NON_FINITE, NOT_PD, OK, TOO_FEW_SAMPLES, Controller, Rollouts

N, T, dX, dU = 20, 12, 4, 2
CONFIG = Pi2StepConfig()


def random_costs(seed, dtype: type = np.float64):
    """Costs to go whose scales differ by decades between steps, one step with a large offset."""
    rng = np.random.default_rng(seed)
    scale = 10.0 ** np.linspace(-3, 3, T)
    costs = scale * rng.gamma(1.5, size=(N, T))
    costs[:, 5] += 1e3 * scale[5]
    return costs.astype(dtype)


def random_controller(seed, dtype: type = np.float64):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(T, dU, dU))
    return Controller(
        K=jnp.asarray(rng.normal(size=(T, dU, dX)), dtype),
        k=jnp.asarray(rng.normal(size=(T, dU)), dtype),
        C=jnp.asarray(root @ root.transpose(0, 2, 1) + 0.3 * np.eye(dU), dtype),
    )


def random_rollouts(seed, controller):
    """Actions of the controller about random states."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(N, T, dX))
    noise = np.einsum("tij,ntj->nti", np.linalg.cholesky(controller.C), rng.normal(size=(N, T, dU)))
    u = np.einsum("tij,ntj->nti", controller.K, x) + controller.k + noise
    return x, u, noise


def dual(eta, costs, epsilon):
    best = np.max(-costs)
    return eta * epsilon + best + eta * np.log(np.mean(np.exp((-costs - best) / eta)))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("epsilon", [0.01, 0.5, 1.0, 2.0])
def test_temperature_minimises_the_dual(dtype, epsilon, x64):
    config = Pi2StepConfig(epsilon=epsilon)
    costs = random_costs(0, dtype)
    eta, status = path_integral.temperature(costs, np.ones(N, bool), config)
    assert eta.dtype == dtype and status.code == OK and status.step == -1
    for t in range(T):
        step = costs[:, t].astype(np.float64)
        log_span = np.log(np.ptp(step))
        found = scipy.optimize.minimize_scalar(
            lambda log_eta, step=step: dual(np.exp(log_eta), step, epsilon),
            bounds=(log_span - 9, log_span + 4),
            method="bounded",
            options={"xatol": 1e-9},
        )
        # A minimiser of rounded function values has half of their digits; float32 costs with the
        # offset have three.
        assert abs(np.log(eta[t]) - found.x) < (1e-4 if dtype == np.float64 else 2e-3)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-10), (np.float32, 2e-5)])
def test_weights_are_epsilon_nats_from_uniform(dtype, tolerance, x64):
    costs, valid = random_costs(1, dtype), np.ones(N, bool)
    for epsilon in (1e-2, 1.0, 2.5):
        eta, _ = path_integral.temperature(costs, valid, Pi2StepConfig(epsilon=epsilon))
        weights = path_integral.weights(costs, eta, valid)
        assert weights.dtype == dtype
        np.testing.assert_allclose(np.sum(weights, axis=0), 1, rtol=1e-6)
        p = np.asarray(weights, np.float64)
        kl = np.log(N) + np.sum(np.where(p > 0, p * np.log(np.where(p > 0, p, 1)), 0), axis=0)
        np.testing.assert_allclose(kl, epsilon, atol=tolerance)
        np.testing.assert_allclose(path_integral.divergence(weights, valid), kl, atol=tolerance)


def test_an_epsilon_above_log_n_puts_everything_on_the_best_sample(x64):
    costs = random_costs(2)
    eta, status = path_integral.temperature(costs, np.ones(N, bool), Pi2StepConfig(epsilon=4))
    assert status.code == OK
    np.testing.assert_allclose(eta, 1e-6 * np.ptp(costs, axis=0), rtol=1e-6)
    weights = path_integral.weights(costs, eta, np.ones(N, bool))
    best = np.arange(N)[:, None] == np.argmin(costs, axis=0)
    np.testing.assert_allclose(weights, best, atol=1e-100)


def test_scaling_and_shifting_the_costs_leaves_the_weights(x64):
    costs, valid = random_costs(3), np.ones(N, bool)
    eta, _ = path_integral.temperature(costs, valid, CONFIG)
    eta_scaled, _ = path_integral.temperature(7 * costs + 3, valid, CONFIG)
    np.testing.assert_allclose(eta_scaled, 7 * eta, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_equal_costs_give_uniform_weights(dtype, x64):
    costs = np.full((N, T), 12.3, dtype)
    eta, status = path_integral.temperature(costs, np.ones(N, bool), CONFIG)
    assert status.code == OK
    np.testing.assert_array_equal(eta, 1)
    weights = path_integral.weights(costs, eta, np.ones(N, bool))
    np.testing.assert_allclose(weights, 1 / N, rtol=1e-6)


@pytest.mark.parametrize("filling", [np.nan, np.inf, -1e30])
def test_invalid_samples_count_for_nothing(filling, x64):
    costs, controller = random_costs(4), random_controller(4)
    x, u, _ = random_rollouts(4, controller)
    valid = np.arange(N) % 3 != 0
    broken = [np.array(a) for a in (costs, x, u)]
    for array in broken:
        array[~valid] = filling
    improve = path_integral.improve
    found, info = improve(controller, Rollouts(broken[1], broken[2], valid), broken[0], CONFIG)
    kept = Rollouts(x[valid], u[valid], valid[valid])
    expected, expected_info = improve(controller, kept, costs[valid], CONFIG)
    assert info.status.code == OK
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-9),
        (found, info.eta, info.kl),
        (expected, expected_info.eta, expected_info.kl),
    )
    weights = path_integral.weights(broken[0], info.eta, valid)
    np.testing.assert_array_equal(weights[~valid], 0)


def test_failures_are_statuses():
    costs, valid = random_costs(5, np.float32), np.ones(N, bool)
    costs[3, 7] = np.nan
    eta, status = path_integral.temperature(costs, valid, CONFIG)
    assert (status.code, status.step) == (NON_FINITE, 7)
    assert np.all(np.isfinite(eta))
    costs[3, 7] = 1
    for count in (0, 1):
        eta, status = path_integral.temperature(costs, np.arange(N) < count, CONFIG)
        assert (status.code, status.step) == (TOO_FEW_SAMPLES, -1)
        assert np.all(np.isfinite(eta) & (eta > 0))
    weights = path_integral.weights(costs, eta, np.zeros(N, bool))
    np.testing.assert_array_equal(weights, 0)
    controller = random_controller(5, np.float32)
    x, u, _ = random_rollouts(5, controller)
    found = path_integral.update(controller, x, u, weights, CONFIG)
    jax.tree.map(np.testing.assert_array_equal, found, controller)
    singular = controller._replace(C=controller.C.at[2].set(0))
    found = path_integral.update(singular, x, u, jnp.full((N, T), 1 / N), CONFIG)
    np.testing.assert_array_equal(np.isnan(found.C).any((1, 2)), np.arange(T) == 2)


def test_update_is_the_damped_weighted_fit(x64):
    controller = random_controller(6)
    x, u, _ = random_rollouts(6, controller)
    weights = np.random.default_rng(6).dirichlet(np.ones(N), size=T).T
    found = path_integral.update(controller, x, u, weights, CONFIG)
    np.testing.assert_array_equal(found.K, controller.K)
    for t in range(T):
        offset = u[:, t] - x[:, t] @ controller.K[t].T
        mean = np.average(offset, axis=0, weights=weights[:, t])
        cov = np.cov(offset.T, aweights=weights[:, t], ddof=0)
        ratio = np.trace(np.linalg.solve(controller.C[t], cov)) / dU
        np.testing.assert_allclose(found.k[t], mean, rtol=1e-9)
        np.testing.assert_allclose(found.C[t], np.sqrt(ratio) * controller.C[t], rtol=1e-9)
    assert np.all(np.linalg.eigvalsh(found.C) > 0)


def test_all_weight_on_one_sample_shrinks_the_covariance_to_its_least(x64):
    controller = random_controller(7)
    x, u, noise = random_rollouts(7, controller)
    weights = np.zeros((N, T))
    weights[8] = 1
    found = path_integral.update(controller, x, u, weights, CONFIG)
    np.testing.assert_allclose(found.k, controller.k + noise[8], rtol=1e-9)
    np.testing.assert_allclose(found.C, 0.1 * controller.C, rtol=1e-12)


def test_improvement_lowers_a_quadratic_cost_until_it_is_small(key):
    """T bandits in dU dimensions, cost |u - target|^2, no state."""
    target = jnp.linspace(-1, 2, T * dU).reshape(T, dU)
    controller = Controller(
        K=jnp.zeros((T, dU, dX)), k=jnp.zeros((T, dU)), C=jnp.tile(jnp.eye(dU), (T, 1, 1))
    )
    x = jnp.zeros((N, T, dX))

    @jax.jit
    def step(controller, key):
        noise = jax.random.normal(key, (N, T, dU))
        u = controller.k + jnp.einsum("tij,ntj->nti", jnp.linalg.cholesky(controller.C), noise)
        costs = jnp.sum(jnp.square(u - target), axis=-1)
        # Only this step's cost: a bandit's action has no say in later ones.
        eta, _ = path_integral.temperature(costs, jnp.ones(N, bool), CONFIG)
        weights = path_integral.weights(costs, eta, jnp.ones(N, bool))
        return path_integral.update(controller, x, u, weights, CONFIG)

    def distance(controller):
        return float(jnp.sum(jnp.square(controller.k - target)))

    start = distance(controller)
    controller = step(controller, key)
    assert distance(controller) < 0.7 * start
    for i in range(25):
        controller = step(controller, jax.random.fold_in(key, i))
    assert distance(controller) < 0.01 * start
    assert np.all(np.linalg.eigvalsh(controller.C) > 0)


def test_jit_and_vmap_over_different_problems_equal_a_loop():
    controllers = [random_controller(s, np.float32) for s in (8, 9, 10)]
    rollouts = []
    for first_valid, controller in zip((0, 9, 3), controllers, strict=True):
        x, u, _ = random_rollouts(first_valid, controller)
        valid = jnp.arange(N) >= first_valid
        rollouts.append(Rollouts(jnp.asarray(x, jnp.float32), jnp.asarray(u, jnp.float32), valid))
    costs = [jnp.asarray(random_costs(s, np.float32)) for s in (8, 9, 10)]
    improve = functools.partial(path_integral.improve, config=CONFIG)

    def stack(bundles):
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *bundles)

    together = jax.jit(jax.vmap(improve))(stack(controllers), stack(rollouts), jnp.stack(costs))
    alone = stack([improve(*each) for each in zip(controllers, rollouts, costs, strict=True)])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), together, alone
    )
    np.testing.assert_array_equal(together[1].status.code, OK)


def test_cost_to_go_sums_from_each_step_to_the_end():
    costs = np.arange(12.0).reshape(2, 6)
    expected = [[sum(row[t:]) for t in range(6)] for row in costs]
    np.testing.assert_allclose(path_integral.cost_to_go(jnp.asarray(costs)), expected)


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("epsilon", 0.0, ">= 1e-4, usually 0.5 to 2 nats"),
        ("covariance_damping", 0.0, "> 0"),
        ("min_covariance_factor", 1.5, r"in \(0, 1\]"),
        ("eta_min", float("nan"), r"in \[1e-12, 1\)"),
    ],
)
def test_bad_settings_are_refused(field, value, text):
    with pytest.raises(ValueError, match=rf"Pi2StepConfig.{field} is .*{text}"):
        Pi2StepConfig(**{field: value})


def test_shapes_that_disagree_are_refused():
    with pytest.raises(ValueError, match=r"cost_to_go must be \[N, T\] and valid \[N\]"):
        path_integral.temperature(jnp.ones((N, T)), jnp.ones(T, bool), CONFIG)
    with pytest.raises(ValueError, match="eta must be"):
        path_integral.weights(jnp.ones((N, T)), jnp.ones(3), jnp.ones(N, bool))
    controller = random_controller(0, np.float32)
    arguments = jnp.ones((N, T, dX)), jnp.ones((N, T, dU + 1)), jnp.ones((N, T))
    with pytest.raises(ValueError, match=r"u must have shape \(20, 12, 2\)"):
        path_integral.update(controller, *arguments, CONFIG)


def test_a_covariance_that_is_not_positive_definite_is_a_status(rng):
    T, N = 3, 6
    C = np.tile(np.eye(2), (T, 1, 1))
    C[1] = [[1.0, 1.0], [1.0, 1.0]]
    previous = Controller(K=jnp.zeros((T, 2, 2)), k=jnp.zeros((T, 2)), C=jnp.asarray(C))
    x, u = rng.normal(size=(2, N, T, 2))
    rollouts = Rollouts(x=jnp.asarray(x), u=jnp.asarray(u), valid=jnp.ones(N, bool))
    costs = jnp.asarray(rng.normal(size=(N, T)))
    _, info = path_integral.improve(previous, rollouts, costs, Pi2StepConfig())
    assert int(info.status.code) == NOT_PD and int(info.status.step) == 1


def test_the_temperature_has_a_floor_in_units_of_the_cost():
    costs = jnp.asarray(np.random.default_rng(0).normal(size=(N, T)), jnp.float32)
    valid = jnp.ones(N, bool)
    free, _ = path_integral.temperature(costs, valid, CONFIG)
    least = float(jnp.median(free))
    config = dataclasses.replace(CONFIG, min_temperature=least)
    held, status = path_integral.temperature(costs, valid, config)
    assert status.code == OK
    np.testing.assert_allclose(held, jnp.maximum(free, least), rtol=1e-6)
    # What hardly differs is weighted almost equally, however small the range.
    weights = path_integral.weights(
        1e-3 * costs,
        path_integral.temperature(
            1e-3 * costs, valid, dataclasses.replace(CONFIG, min_temperature=1.0)
        )[0],
        valid,
    )
    np.testing.assert_allclose(weights, 1 / N, rtol=0.01)
