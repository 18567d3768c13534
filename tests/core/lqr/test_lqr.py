"""The Riccati passes against sparse optimality conditions, SciPy's DARE and simulation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from compilations import count_compilations
from lq_problems import problem, solve_kkt, stack

from jgps.core import lqr
from jgps.core.types import NON_FINITE, NOT_PD, OK, Controller, Dynamics, QuadraticCost, describe

backward = jax.jit(lqr.backward)
SHAPES = [(1, 5, 2), (2, 5, 2), (10, 40, 8), (100, 26, 7), (500, 6, 2), (500, 40, 8)]


@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_sparse_kkt_solve(shape):
    T, dX, _ = shape
    with jax.enable_x64(True):
        dynamics, cost, _, _ = problem(1, *shape)
        dynamics, cost = jax.device_get((dynamics, cost))
        quiet = dynamics._replace(W=np.zeros_like(dynamics.W))
        middle = {T // 2} if dX * T < 10_000 else set()  # a sparse solve of seconds
        expected = {t: solve_kkt(quiet, cost, t) for t in sorted({0, T - 1} | middle)}
        for dtype, tolerance in ((np.float64, 1e-8), (np.float32, 1e-3)):
            cast = jax.tree.map(lambda a, dtype=dtype: a.astype(dtype), (quiet, cost))
            controller, value, status = jax.device_get(backward(*cast, dtype(0)))
            assert int(status.code) == OK
            assert controller.K.dtype == dtype
            found = controller._asdict() | value._asdict()
            for t, references in expected.items():
                for name, reference in references.items():
                    error = np.max(np.abs(found[name][t] - reference))
                    assert error <= tolerance * max(1, np.max(np.abs(reference))), (name, t)


def test_action_covariance_is_the_weighted_inverse_of_q_uu():
    with jax.enable_x64(True):
        T, dX = 10, 4
        dynamics, cost, _, _ = problem(2, T, dX, 2)
        weights = np.linspace(0.1, 3, T)
        controller, value, _ = backward(dynamics, cost, weights)
        for t in range(T):
            Q_uu = np.array(cost.H[t, dX:, dX:])
            if t < T - 1:
                F_u = np.asarray(dynamics.F[t, :, dX:])
                Q_uu += F_u.T @ np.asarray(value.V_xx[t + 1]) @ F_u
            np.testing.assert_allclose(controller.C[t], weights[t] * np.linalg.inv(Q_uu), rtol=1e-9)


def test_stationary_gain_solves_the_riccati_equation():
    with jax.enable_x64(True):
        rng = np.random.default_rng(3)
        T, dX, dU = 300, 6, 2
        A = 1.05 * np.linalg.qr(rng.normal(size=(dX, dX)))[0]
        B = rng.normal(size=(dX, dU))
        Q, R = np.eye(dX), 0.5 * np.eye(dU)
        P = scipy.linalg.solve_discrete_are(A, B, Q, R)
        K = -np.linalg.solve(R + B.T @ P @ B, B.T @ P @ A)

        def tile(a, n):
            return jnp.asarray(np.tile(a, (n, *(1,) * a.ndim)))

        dynamics = Dynamics(
            F=tile(np.hstack([A, B]), T - 1), f=jnp.zeros((T - 1, dX)), W=jnp.zeros((T - 1, dX, dX))
        )
        cost = QuadraticCost(
            H=tile(scipy.linalg.block_diag(Q, R), T), g=jnp.zeros((T, dX + dU)), h=jnp.zeros(T)
        )
        controller, value, _ = backward(dynamics, cost)
        np.testing.assert_allclose(controller.K[0], K, atol=1e-9)
        np.testing.assert_allclose(value.V_xx[0], P, atol=1e-9)


def test_value_is_the_expected_objective():
    with jax.enable_x64(True):
        dynamics, cost, _, initial = problem(4, 10, 4, 2)
        temperature = jnp.linspace(0.2, 2, 10)
        _, value, status = backward(dynamics, cost, temperature)
        _, info = lqr.solve_maximum_entropy(dynamics, cost, initial, temperature)
        x, V = np.asarray(initial.mean), np.asarray(value.V_xx[0])
        expected = 0.5 * (x @ V @ x + np.trace(V @ initial.cov)) + value.v_x[0] @ x + value.v[0]
        assert int(status.code) == OK
        np.testing.assert_allclose(info.objective, expected, rtol=1e-10)


def test_no_perturbed_controller_has_a_lower_objective():
    with jax.enable_x64(True):
        dynamics, cost, _, initial = problem(5, 10, 4, 2)
        best, info = lqr.solve_maximum_entropy(dynamics, cost, initial, 0.7)

        def objective(controller):
            marginals = lqr.forward(controller, dynamics, initial)
            log_det = jnp.linalg.slogdet(2 * np.pi * np.e * controller.C)[1]
            return jnp.sum(lqr.expected_cost(marginals, cost) - 0.7 * 0.5 * log_det)

        rng = np.random.default_rng(5)
        size = 10.0 ** rng.uniform(-3, -0.5, size=200)
        noise = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=(200, *a.shape))), best)
        shape = size[:, None, None, None]
        root = np.eye(2) + shape * noise.C
        others = Controller(
            K=best.K + shape * noise.K,
            k=best.k + size[:, None, None] * noise.k,
            C=root @ best.C @ root.swapaxes(-1, -2),
        )
        values = jax.jit(jax.vmap(objective))(others)
        np.testing.assert_allclose(objective(best), info.objective, rtol=1e-10)
        assert np.min(values) > info.objective
        assert np.median(values) > info.objective + 1e-3


def test_marginals_agree_with_simulation():
    with jax.enable_x64(True):
        T, dX, dU, N = 10, 4, 2, 50_000
        dynamics, cost, controller, initial = problem(6, T, dX, dU)
        marginals = lqr.forward(controller, dynamics, initial)
        costs = np.asarray(lqr.expected_cost(marginals, cost))
        rng = np.random.default_rng(6)
        x = rng.multivariate_normal(initial.mean, initial.cov, size=N)
        for t in range(T):
            u = x @ controller.K[t].T + controller.k[t]
            u = np.asarray(u + rng.multivariate_normal(np.zeros(dU), controller.C[t], size=N))
            z = np.concatenate([x, u], axis=1)
            np.testing.assert_allclose(np.mean(z, axis=0), marginals.mean[t], atol=0.04)
            np.testing.assert_allclose(np.cov(z.T), marginals.cov[t], atol=0.06)
            sampled = 0.5 * np.einsum("ni,ij,nj->n", z, cost.H[t], z) + z @ cost.g[t] + cost.h[t]
            assert abs(np.mean(sampled) - costs[t]) < 5 * np.std(sampled) / np.sqrt(N)
            if t < T - 1:
                x = np.asarray(z @ dynamics.F[t].T + dynamics.f[t])
                x = x + rng.multivariate_normal(np.zeros(dX), dynamics.W[t], size=N)


def test_vmap_equals_a_loop_and_jit_equals_eager():
    problems = [problem(seed, 10, 4, 2, dtype=np.float32) for seed in range(3)]
    batch = stack(*problems)
    batched = jax.jit(jax.vmap(lqr.backward))(batch[0], batch[1])
    for i, (dynamics, cost, _, _) in enumerate(problems):
        alone = lqr.backward(dynamics, cost)
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=2e-4, atol=1e-5),
            batched,
            alone,
        )


def test_not_convex_is_reported_with_its_step():
    dynamics, cost, _, _ = problem(7, 10, 4, 2, dtype=np.float32)
    bad = cost._replace(H=cost.H.at[6, 4:, 4:].add(-1000 * jnp.eye(2)))
    controller, value, status = backward(dynamics, bad)
    assert (int(status.code), int(status.step)) == (NOT_PD, 6)
    assert describe(status) == "not positive definite at step 6"
    assert all(np.all(np.isfinite(leaf)) for leaf in (*controller, *value))
    assert np.all(controller.K[6] == 0)
    good, _, fine = backward(dynamics, cost)
    np.testing.assert_array_equal(controller.K[7:], good.K[7:])
    assert describe(fine) == "ok"


@pytest.mark.parametrize("name", ["F", "f", "W", "H", "g", "h"])
def test_nan_input_is_reported_at_its_step_and_does_not_spread(name):
    dynamics, cost, _, _ = problem(8, 10, 4, 2, dtype=np.float32)
    good, _, _ = backward(dynamics, cost)
    for step in (0, 4, 8) if name in dynamics._fields else (0, 4, 9):
        if name in dynamics._fields:
            broken = (with_nan(dynamics, name, step), cost)
        else:
            broken = (dynamics, with_nan(cost, name, step))
        controller, value, status = backward(*broken)
        assert (int(status.code), int(status.step)) == (NON_FINITE, step)
        assert all(np.all(np.isfinite(leaf)) for leaf in (*controller, *value))
        np.testing.assert_array_equal(controller.K[step + 1 :], good.K[step + 1 :])
        assert np.all(controller.K[step] == 0)


def with_nan(bundle, name, step):
    leaf = getattr(bundle, name)
    return bundle._replace(**{name: leaf.at[(step,) + (0,) * (leaf.ndim - 1)].set(np.nan)})


@pytest.mark.parametrize("weight", [np.nan, -1.0, np.inf])
def test_an_unusable_weight_is_reported(weight):
    dynamics, cost, _, initial = problem(8, 10, 4, 2, dtype=np.float32)
    weights = np.ones(10, np.float32)
    weights[3] = weight
    controller, value, status = backward(dynamics, cost, weights)
    assert (int(status.code), int(status.step)) == (NON_FINITE, 3)
    assert all(np.all(np.isfinite(leaf)) for leaf in (*controller, *value))
    _, info = lqr.solve_maximum_entropy(dynamics, cost, initial, weights)
    assert (int(info.status.code), int(info.status.step)) == (NON_FINITE, 3)


def test_maximum_entropy_reports_a_zero_temperature_and_a_nan_start():
    dynamics, cost, _, initial = problem(8, 10, 4, 2, dtype=np.float32)
    _, info = lqr.solve_maximum_entropy(dynamics, cost, initial, np.zeros(10, np.float32))
    assert int(info.status.code) == NON_FINITE
    for name in initial._fields:
        _, info = lqr.solve_maximum_entropy(
            dynamics, cost, with_nan(initial, name, 0), np.ones(10, np.float32)
        )
        assert int(info.status.code) == NON_FINITE


def test_only_the_symmetric_part_of_h_counts():
    dynamics, cost, _, _ = problem(8, 10, 4, 2, dtype=np.float32)
    skew = 3 * jnp.triu(jnp.ones((6, 6)), 1)
    expected = backward(dynamics, cost)
    found = backward(dynamics, cost._replace(H=cost.H + skew - skew.T))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, expected
    )


def test_mixed_dtypes_are_promoted():
    with jax.enable_x64(True):
        exact = problem(8, 3, 2, 1)
        dynamics, cost, controller, initial = exact
        rough = jax.tree.map(lambda a: a.astype(np.float32), cost)
        assert backward(dynamics, rough)[0].K.dtype == np.float64
        whole = jax.tree.map(lambda a: jnp.round(a).astype(int), (controller, initial))
        marginals = lqr.forward(whole[0], dynamics, whole[1])
        assert marginals.mean.dtype == np.float64
        assert lqr.expected_cost(marginals, rough).dtype == np.float64


def test_one_step_has_the_optimum_by_hand():
    with jax.enable_x64(True):
        dynamics, cost, _, initial = problem(3, 1, 1, 1)
        controller, info = lqr.solve_maximum_entropy(dynamics, cost, initial, 0.5)
        H, g = np.asarray(cost.H[0]), np.asarray(cost.g[0])
        np.testing.assert_allclose(controller.K[0, 0, 0], -H[1, 0] / H[1, 1])
        np.testing.assert_allclose(controller.k[0, 0], -g[1] / H[1, 1])
        np.testing.assert_allclose(controller.C[0, 0, 0], 0.5 / H[1, 1])
        marginals = lqr.forward(controller, dynamics, initial)
        np.testing.assert_allclose(marginals.mean[0, 0], initial.mean[0])
        np.testing.assert_allclose(lqr.expected_cost(marginals, cost)[0], info.cost)


def test_calls_without_jit_compile_once():
    dynamics, cost, controller, initial = problem(9, 3, 1, 1, dtype=np.float32)
    calls = {
        "backward": lambda scale: lqr.backward(*scaled(scale, (dynamics, cost)), scale),
        "forward": lambda scale: lqr.forward(*scaled(scale, (controller, dynamics, initial))),
        "maximum entropy": lambda scale: lqr.solve_maximum_entropy(
            *scaled(scale, (dynamics, cost, initial)), scale
        ),
        "bounded": lambda scale: lqr.solve_kl_constrained(
            *scaled(scale, (dynamics, cost, controller, initial)), scale, eta=scale
        ),
        "bounded per step": lambda scale: lqr.solve_kl_constrained_per_step(
            *scaled(scale, (dynamics, cost, controller, initial)), scale, eta=scale
        ),
    }
    for name, call in calls.items():
        assert count_compilations(lambda call=call: call(1.0)) > 0, name
        assert count_compilations(lambda call=call: call(0.9)) == 0, name


def scaled(scale, bundles):
    return jax.tree.map(lambda a: np.float32(scale) * np.asarray(a), bundles)


def test_wrong_shapes_name_the_argument():
    dynamics, cost, controller, initial = problem(9, 10, 4, 2, dtype=np.float32)
    with pytest.raises(ValueError, match=r"cost\.g must have shape \(10, 6\), got \(10, 5\)"):
        lqr.backward(dynamics, cost._replace(g=cost.g[:, :5]))
    with pytest.raises(ValueError, match=r"dynamics\.f must have shape \(9, 4\), got \(8, 4\)"):
        lqr.backward(dynamics._replace(f=dynamics.f[1:]), cost)
    with pytest.raises(ValueError, match=r"entropy_weight must be a scalar or have shape \(10,\)"):
        lqr.backward(dynamics, cost, jnp.ones(3))
    with pytest.raises(ValueError, match=r"temperature must be a scalar or have shape \(10,\)"):
        lqr.solve_maximum_entropy(dynamics, cost, initial, jnp.ones(3))
    with pytest.raises(ValueError, match=r"initial\.mean must have shape \(4,\), got \(3,\)"):
        lqr.forward(controller, dynamics, initial._replace(mean=jnp.ones(3)))
    with pytest.raises(ValueError, match=r"use jax\.vmap"):
        lqr.backward(dynamics, cost._replace(H=cost.H[None]))
    with pytest.raises(ValueError, match=r"controller\.k must have shape \(10, 2\), got \(10, 1\)"):
        lqr.forward(controller._replace(k=controller.k[:, :1]), dynamics, initial)
    with pytest.raises(ValueError, match=r"controller\.C must have shape \(10, 2, 2\)"):
        lqr.forward(controller._replace(C=controller.C[:, :1]), dynamics, initial)
    with pytest.raises(ValueError, match=r"controller\.K must be \[T, dU, dX\]"):
        lqr.forward(controller._replace(K=controller.K[0]), dynamics, initial)
    marginals = lqr.forward(controller, dynamics, initial)
    with pytest.raises(ValueError, match=r"cost\.h must have shape \(10,\), got \(1,\)"):
        lqr.expected_cost(marginals, cost._replace(h=cost.h[:1]))
    with pytest.raises(ValueError, match=r"cost\.g must have shape"):
        lqr.expected_cost(marginals, cost._replace(g=cost.g[:, :1]))
    with pytest.raises(ValueError, match=r"cost\.H must have shape"):
        lqr.expected_cost(marginals, cost._replace(H=cost.H[:, :5, :5]))


def test_float32_keeps_a_stiff_problem_usable():
    """Curvature 1e4 along two state directions, actions that cost 1e-4: the cost within 1e-3."""
    with jax.enable_x64(True):
        T, dX, dU = 100, 26, 7
        dynamics, cost, _, initial = problem(10, T, dX, dU)
        rng = np.random.default_rng(10)
        directions = rng.normal(size=(dX, 2)) / np.sqrt(dX)
        H = np.zeros((dX + dU, dX + dU))
        H[:dX, :dX] = 1e4 * directions @ directions.T + 1e-2 * np.eye(dX)
        H[dX:, dX:] = 1e-4 * np.eye(dU)
        cost = cost._replace(H=jnp.asarray(np.tile(H, (T, 1, 1))), g=0.01 * cost.g)
        exact, _, _ = backward(dynamics, cost)
        cast = jax.tree.map(lambda a: a.astype(np.float32), (dynamics, cost))
        rounded, _, status = backward(*cast, np.float32(1))
        assert int(status.code) == OK

        def achieved(controller):
            noiseless = jax.tree.map(lambda a: a.astype(np.float64), controller)
            noiseless = noiseless._replace(C=jnp.zeros_like(noiseless.C))
            marginals = lqr.forward(noiseless, dynamics, initial)
            return float(jnp.sum(lqr.expected_cost(marginals, cost)))

        assert achieved(rounded) <= achieved(exact) + 1e-3 * abs(achieved(exact))
