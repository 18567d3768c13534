from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jgps import costs
from jgps.core.types import NON_FINITE, OK, TOO_FEW_SAMPLES, Rollouts
from jgps.costs import ExpandConfig, Penalty

N, T, DX, DU = 4, 3, 5, 2
D = DX + DU
expand = jax.jit(costs.expand, static_argnums=(0, 2))


def rollouts(seed=0, dtype=jnp.float32, valid=(True,) * N, scale=1.0, offset=0.0):
    rng = np.random.default_rng(seed)
    return Rollouts(
        x=jnp.asarray(offset + scale * rng.normal(size=(N, T, DX)), dtype),
        u=jnp.asarray(rng.normal(size=(N, T, DU)), dtype),
        valid=jnp.asarray(valid),
    )


def curved(x, u, t, xp=jnp):
    """Not convex, couples x and u, depends on time."""
    return xp.sin(x[0] * u[1]) + x[2] ** 4 + (t + 1) * xp.cos(x[1] + x[4]) + xp.exp(u[0]) * x[3]


def quadratic_value(model, z):
    """1/2 z'Hz + g'z + h at every step, in float64 NumPy."""
    H, g, h = (np.asarray(a, np.float64) for a in model)
    return 0.5 * np.einsum("ti,tij,tj->t", z, H, z) + np.einsum("ti,ti->t", g, z) + h


def stacked(data):
    return np.concatenate([data.x, data.u], axis=-1).astype(np.float64)


def numeric_expansion(z, t, step=1e-4):
    """Value, gradient and Hessian of `curved` by central differences in float64 NumPy."""

    def f(z):
        return curved(z[:DX], z[DX:], t, np)

    def second(a, b):
        return (f(z + a + b) - f(z + a - b) - f(z - a + b) + f(z - a - b)) / (4 * step**2)

    eye = step * np.eye(D)
    gradient = np.array([(f(z + e) - f(z - e)) / (2 * step) for e in eye])
    return f(z), gradient, np.array([[second(a, b) for a in eye] for b in eye])


def test_expansion_is_the_mean_of_the_samples_taylor_series():
    with jax.enable_x64(True):
        data = rollouts(dtype=jnp.float64)
        model, info = expand(curved, data, ExpandConfig(projection="none"))
        z = stacked(data)
        probe = np.random.default_rng(1).normal(size=(T, D))
        for t in (0, T - 1):
            expected = 0.0
            for n in range(N):
                value, gradient, hessian = numeric_expansion(z[n, t], t)
                step = probe[t] - z[n, t]
                expected += (value + gradient @ step + 0.5 * step @ hessian @ step) / N
            assert quadratic_value(model, probe)[t] == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert int(info.status.code) == OK
    assert int(info.num_projected) == 0
    assert float(info.smallest_eigenvalue) < 0
    np.testing.assert_array_equal(model.H, np.swapaxes(model.H, 1, 2))


@pytest.mark.parametrize("projection", ["psd", "psd_per_sample", "none"])
def test_a_convex_quadratic_cost_comes_out_exactly(projection):
    rng = np.random.default_rng(2)
    root = rng.normal(size=(D, 3))  # rank 3: rounding must not count as indefinite
    H, g = root @ root.T, rng.normal(size=D)

    def cost(x, u, t):
        z = jnp.concatenate([x, u])
        with jax.default_matmul_precision("highest"):
            return 0.5 * z @ jnp.asarray(H, z.dtype) @ z + jnp.asarray(g, z.dtype) @ z + 0.7

    model, info = expand(cost, rollouts(), ExpandConfig(projection=projection))
    np.testing.assert_allclose(model.H, np.broadcast_to(H, (T, D, D)), atol=2e-5)
    np.testing.assert_allclose(model.g, np.broadcast_to(g, (T, D)), atol=1e-4)
    np.testing.assert_allclose(model.h, 0.7, atol=2e-4)
    assert int(info.num_projected) == 0


def test_projection_keeps_value_and_gradient_at_the_mean_and_removes_negative_curvature():
    with jax.enable_x64(True):
        data = rollouts(dtype=jnp.float64)
        raw, _ = expand(curved, data, ExpandConfig(projection="none"))
        model, info = expand(curved, data)
        mean = stacked(data).mean(axis=0)
        np.testing.assert_allclose(quadratic_value(model, mean), quadratic_value(raw, mean))
        for a, b in zip(raw.H, model.H, strict=True):
            eigenvalues, vectors = np.linalg.eigh(np.asarray(a))
            nearest = vectors @ np.diag(np.maximum(eigenvalues, 0)) @ vectors.T
            np.testing.assert_allclose(b, nearest, atol=1e-12)
        slopes = [np.einsum("tij,tj->ti", m.H, mean) + m.g for m in (raw, model)]
        np.testing.assert_allclose(*slopes, atol=1e-12)
        lowest = np.linalg.eigvalsh(np.asarray(raw.H)).min(axis=-1)
    assert int(info.num_projected) == np.sum(lowest < 0) > 0
    assert float(info.smallest_eigenvalue) == pytest.approx(lowest.min())


def test_projecting_each_sample_has_at_least_the_curvature_of_projecting_their_mean():
    with jax.enable_x64(True):
        data = rollouts(dtype=jnp.float64)
        each, info = expand(curved, data, ExpandConfig(projection="psd_per_sample"))
        raw, _ = expand(curved, data, ExpandConfig(projection="none"))
        assert np.linalg.eigvalsh(np.asarray(each.H)).min() > -1e-12
        # Projection of each only adds curvature to the mean.
        assert np.linalg.eigvalsh(np.asarray(each.H - raw.H)).min() > -1e-12
    assert int(info.num_projected) == T
    assert float(info.smallest_eigenvalue) < 0


def test_float32_agrees_with_float64_far_from_the_origin_and_near_the_target():
    """A peg-like cost: curvature 1e4 near the target, the coordinates themselves about 1."""
    cost = costs.weighted_sum(
        (1.0, costs.action(1e-4)),
        (1.0, costs.distance((0, 1, 2), [1.0, 1.0, 1.0], penalty=Penalty(l2=5.0, log=0.05))),
    )
    for spread in (0.3, 0.02, 0.001):
        data = rollouts(3, scale=spread, offset=1.0)
        model, _ = expand(cost, data)
        with jax.enable_x64(True):
            exact = data._replace(x=jnp.asarray(data.x, float), u=jnp.asarray(data.u, float))
            reference, _ = expand(cost, exact)
            scale = np.abs(np.asarray(reference.H)).max()
            assert np.abs(np.asarray(model.H) - reference.H).max() < 1e-4 * scale
            z = stacked(data)
            for n in range(N):
                got, expected = quadratic_value(model, z[n]), quadratic_value(reference, z[n])
                np.testing.assert_allclose(got, expected, atol=1e-6 * scale + 1e-5)


def test_invalid_samples_may_be_nan_and_change_nothing():
    data = rollouts(4)
    keep = np.array([True, False, True, True])
    poisoned = Rollouts(
        x=data.x.at[1].set(jnp.nan), u=data.u.at[1, 0].set(jnp.inf), valid=jnp.asarray(keep)
    )
    model, info = expand(curved, poisoned)
    expected, _ = expand(curved, Rollouts(x=data.x[keep], u=data.u[keep], valid=jnp.ones(3, bool)))
    for got, reference in zip(model, expected, strict=True):
        np.testing.assert_allclose(got, reference, rtol=1e-5, atol=1e-5)
    assert int(info.status.code) == OK


def test_a_cost_that_is_not_finite_is_named_by_step_and_spoils_only_that_step():
    def cost(x, u, t):
        return jnp.where(t == 1, jnp.log(x[0] - 1e6), 0.0) + jnp.sum(x**2) + jnp.sum(u**2)

    model, info = expand(cost, rollouts())
    assert (int(info.status.code), int(info.status.step)) == (NON_FINITE, 1)
    assert np.all(np.isnan(model.H[1])) and np.all(np.isnan(model.g[1])) and np.isnan(model.h[1])
    for t in (0, 2):
        np.testing.assert_allclose(model.H[t], 2 * np.eye(D), atol=1e-5)
    assert float(info.smallest_eigenvalue) == pytest.approx(2.0, rel=1e-5)


def test_a_derivative_that_is_not_finite_is_reported_though_the_cost_is():
    data = rollouts()
    data = data._replace(x=data.x.at[:, 2].set(0))
    _, info = expand(lambda x, u, t: jnp.linalg.norm(x), data)
    assert (int(info.status.code), int(info.status.step)) == (NON_FINITE, 2)


def test_a_valid_sample_that_is_nan_is_reported():
    data = rollouts()
    data = data._replace(x=data.x.at[2, 1, 0].set(jnp.nan))
    model, info = expand(curved, data)
    assert (int(info.status.code), int(info.status.step)) == (NON_FINITE, 1)
    assert np.all(np.isfinite(model.H[0]))


def test_no_valid_sample_is_reported():
    model, info = expand(curved, rollouts(valid=(False,) * N))
    assert int(info.status.code) == TOO_FEW_SAMPLES
    assert all(np.all(np.isnan(a)) for a in model)


def test_jit_equals_eager_and_vmap_equals_a_loop_over_different_conditions():
    conditions = [rollouts(seed, valid=(True, seed != 6, True, True)) for seed in (5, 6)]
    batch = jax.tree.map(lambda *a: jnp.stack(a), *conditions)

    batched = jax.jit(jax.vmap(lambda data: costs.expand(curved, data)))(batch)
    for index, data in enumerate(conditions):
        eager = costs.expand(curved, data)
        for got, reference in zip(jax.tree.leaves(batched), jax.tree.leaves(eager), strict=True):
            np.testing.assert_allclose(got[index], reference, rtol=1e-4, atol=1e-5)
            assert got.dtype == reference.dtype


def test_evaluate_equals_a_loop():
    data = rollouts(7)
    values = costs.evaluate(curved, data.x, data.u)
    assert values.shape == (N, T) and values.dtype == jnp.float32
    x, u = np.asarray(data.x), np.asarray(data.u)
    for n in range(N):
        for t in range(T):
            expected = curved(x[n, t], u[n, t], t, np)
            np.testing.assert_allclose(values[n, t], expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        costs.evaluate(curved, data.x[2], data.u[2]), values[2], rtol=1e-5, atol=1e-5
    )


def test_evaluate_of_a_constant_or_integer_cost_has_the_states_dtype():
    data = rollouts()

    def constant(x, u, t) -> Any:
        return 2

    assert costs.evaluate(constant, data.x, data.u).dtype == jnp.float32
    assert costs.evaluate(lambda x, u, t: t, data.x, data.u).dtype == jnp.float32


@pytest.mark.parametrize(
    ("cost", "message"),
    [
        (lambda x, u, t: x**2, r"returned an array of shape \(5,\).*one real scalar.*Sum over"),
        (lambda x, u, t: (x[0], u[0]), "returned tuple; it has to return one scalar"),
        (lambda x, u, t: None, "returned NoneType"),
        (lambda x, u, t: x[0] * 1j, "complex64"),
        (costs.action(1.0, costs.ramp("linear", T + 2)), "built for 5 steps but .* have 3"),
    ],
)
def test_a_cost_that_cannot_be_used_is_refused_while_tracing(cost, message):
    data = rollouts()
    with pytest.raises(ValueError, match=message):
        jax.jit(lambda d: costs.expand(cost, d))(data)
    with pytest.raises(ValueError, match=message):
        costs.evaluate(cost, data.x, data.u)


def test_mixed_dtypes_are_promoted_and_valid_may_be_numbers():
    data = rollouts(valid=(True, True, False, True))
    expected, _ = costs.expand(curved, data)
    got, info = costs.expand(curved, data._replace(valid=0.5 * data.valid))
    assert int(info.status.code) == OK
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a, b)
    half = data._replace(u=data.u.astype(jnp.float16))
    quadratic, _ = costs.expand(curved, half)
    rounded, _ = costs.expand(curved, half._replace(u=half.u.astype(jnp.float32)))
    for a, b in zip(quadratic, rounded, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == jnp.float32
    assert costs.evaluate(curved, half.x.astype(jnp.float16), data.u).dtype == jnp.float32


def test_wrong_shapes_are_refused():
    data = rollouts()
    with pytest.raises(ValueError, match=r"x has shape \(4, 3, 5\) and u \(4, 2, 2\)"):
        costs.expand(curved, data._replace(u=data.u[:, :2]))
    with pytest.raises(ValueError, match=r"one condition.*valid \(3,\).*vmap"):
        costs.expand(curved, data._replace(valid=data.valid[:3]))
    with pytest.raises(ValueError, match=r"projection is 'abs'; .*psd, psd_per_sample, none"):
        ExpandConfig(projection="abs")
