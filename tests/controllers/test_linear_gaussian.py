import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jgps import controllers
from jgps.controllers import linear_gaussian
from jgps.core.types import NOT_PD, OK, Controller

T, DX, DU = 4, 5, 3


def controller(seed=0):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(T, DU, DU))
    return Controller(
        K=jnp.asarray(rng.normal(size=(T, DU, DX)), jnp.float32),
        k=jnp.asarray(rng.normal(size=(T, DU)), jnp.float32),
        C=jnp.asarray(root @ np.swapaxes(root, 1, 2) + 0.1 * np.eye(DU), jnp.float32),
    )


def drawn(seed=1):
    rng = np.random.default_rng(seed)
    x, noise = rng.normal(size=(T, DX)), rng.normal(size=(T, DU))
    return jnp.asarray(x, jnp.float32), jnp.asarray(noise, jnp.float32)


def numpy_action(p, x, t, noise):
    K, k, C = (np.asarray(a, np.float64)[t] for a in p)
    return K @ x + k + np.linalg.cholesky(C) @ noise


@pytest.mark.parametrize("jit", [False, True])
def test_act_is_its_formula_factored_or_not(jit):
    p, (x, noise) = controller(), drawn()
    factored, status = linear_gaussian.factor(p)
    act = jax.jit(controllers.act) if jit else controllers.act
    assert int(status.code) == OK
    for t in range(T):
        expected = numpy_action(p, np.asarray(x[t]), t, np.asarray(noise[t]))
        np.testing.assert_allclose(act(p, x[t], t, noise[t]), expected, rtol=1e-4, atol=1e-5)
        got = act(factored, x[t], t, noise[t])
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
        assert got.dtype == jnp.float32


def test_batched_act_equals_a_loop_over_different_controllers():
    parts = [controller(seed) for seed in (2, 3)]
    batch = jax.tree.map(lambda *a: jnp.stack(a), *parts)
    x, noise = drawn()
    got = jax.vmap(controllers.act, in_axes=(0, 0, None, 0))(batch, x[:2], 1, noise[:2])
    for i, p in enumerate(parts):
        expected = numpy_action(p, np.asarray(x[i]), 1, np.asarray(noise[i]))
        np.testing.assert_allclose(got[i], expected, rtol=1e-4, atol=1e-5)


def test_standard_normal_noise_gives_actions_of_the_controllers_covariance():
    p = controller()
    noise = jax.random.normal(jax.random.key(0), (200_000, DU))
    factored, _ = linear_gaussian.factor(p)
    u = jax.vmap(lambda e: controllers.act(factored, jnp.zeros(DX), 2, e))(noise)
    np.testing.assert_allclose(np.mean(u, axis=0), p.k[2], atol=0.03)
    np.testing.assert_allclose(np.cov(u, rowvar=False), p.C[2], atol=0.02 * float(p.C[2].max()))


def test_mean_controller_has_no_noise_and_the_same_mean():
    p, (x, noise) = controller(), drawn()
    got = controllers.act(linear_gaussian.mean_controller(p), x[0], 0, noise[0])
    np.testing.assert_allclose(got, controllers.act(p, x[0], 0, jnp.zeros(DU)), rtol=1e-6)


def test_an_actuator_without_noise_is_left_alone_and_the_others_are_not():
    block = np.array([[2.0, 0.0, 0.6], [0.0, 0.0, 0.0], [0.6, 0.0, 0.5]])
    p = controller()._replace(C=jnp.broadcast_to(jnp.asarray(block, jnp.float32), (T, DU, DU)))
    factored, status = linear_gaussian.factor(p)
    assert int(status.code) == OK
    np.testing.assert_allclose(factored.L @ jnp.swapaxes(factored.L, 1, 2), p.C, atol=1e-6)


@pytest.mark.parametrize(
    "bad",
    [
        np.diag([1.0, -1.0, 1.0]),
        np.array([[1.0, 0.5, 0.0], [0.5, 0.0, 0.0], [0.0, 0.0, 1.0]]),
        np.full((3, 3), np.nan),
    ],
)
def test_noise_that_is_no_covariance_is_named_by_step_and_acts_as_nan(bad):
    p = controller()
    p = p._replace(C=p.C.at[2].set(jnp.asarray(bad, jnp.float32)))
    factored, status = linear_gaussian.factor(p)
    assert (int(status.code), int(status.step)) == (NOT_PD, 2)
    x, noise = drawn()
    for either in (p, factored):
        assert np.all(np.isnan(controllers.act(either, x[2], 2, noise[2])))
        assert np.all(np.isfinite(controllers.act(either, x[1], 1, noise[1])))
