"""The kernels against the plain NumPy loop that `jgps bench` times."""

import jax
import jax.numpy as jnp
import numpy as np

from jgps import dynamics
from jgps.bench import reference
from jgps.bench.suites import riccati_batch
from jgps.core import lqr
from jgps.core.estimation import mixture
from jgps.core.types import Controller, Gaussian, Rollouts

HORIZON, DX, DU = 7, 3, 2


def _numpy(bundle):
    return tuple(np.asarray(leaf) for leaf in bundle)


def _problem():
    batch = jax.jit(lambda: riccati_batch(1, HORIZON, DX, DU))()
    motion, cost = jax.tree.map(lambda leaf: leaf[0], batch)
    rng = np.random.default_rng(0)
    root = rng.normal(size=(HORIZON, DU, DU))
    old = Controller(
        K=jnp.asarray(rng.normal(size=(HORIZON, DU, DX))),
        k=jnp.asarray(rng.normal(size=(HORIZON, DU))),
        C=jnp.asarray(root @ np.swapaxes(root, 1, 2) + np.eye(DU)),
    )
    initial = Gaussian(mean=jnp.asarray(rng.normal(size=DX)), cov=0.1 * jnp.eye(DX))
    return motion, cost, old, initial


def test_backward_equals_the_loop():
    with jax.enable_x64(True):
        motion, cost, _, _ = _problem()
        controller, _, _ = jax.jit(lqr.backward)(motion, cost, 0.7)
        F, f, _ = _numpy(motion)
        H, g, _ = _numpy(cost)
        expected = reference.backward(F, f, H, g, 0.7)
        for ours, loop in zip(controller, expected, strict=True):
            np.testing.assert_allclose(ours, loop, rtol=1e-9, atol=1e-10)


def test_forward_equals_the_loop():
    with jax.enable_x64(True):
        motion, _, old, initial = _problem()
        marginals = jax.jit(lqr.forward)(old, motion, initial)
        start, spread = _numpy(initial)
        mean, cov = reference.forward(_numpy(old), _numpy(motion), start, spread)
        np.testing.assert_allclose(marginals.mean[:, :DX], mean, rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(marginals.cov[:, :DX, :DX], cov, rtol=1e-9, atol=1e-10)


def test_bounded_solve_is_the_loops_at_the_same_multiplier():
    with jax.enable_x64(True):
        motion, cost, old, initial = _problem()
        controller, info = jax.jit(lqr.solve_kl_constrained)(motion, cost, old, initial, 2.0)
        assert int(info.status.code) == 0
        F, f, _ = _numpy(motion)
        H, g, _ = _numpy(cost)
        H, g = reference.augment(H, g, _numpy(old), float(info.eta))
        expected = reference.backward(F, f, H, g, float(info.eta))
        for ours, loop in zip(controller, expected, strict=True):
            np.testing.assert_allclose(ours, loop, rtol=1e-7, atol=1e-8)
        mean, cov = reference.forward(expected, _numpy(motion), *_numpy(initial))
        kl = reference.controller_kl(expected, _numpy(old), mean, cov)
        np.testing.assert_allclose(info.kl, kl, rtol=1e-7)


def test_loops_own_search_meets_the_bound():
    with jax.enable_x64(True):
        motion, cost, old, initial = _problem()
        arguments = _numpy(motion), _numpy(cost)[:2], _numpy(old), _numpy(initial)
    new, _, kl, _ = reference.solve_kl_constrained(*arguments, 2.0, 1.0)
    assert abs(kl - 2.0) < 0.2
    assert not np.allclose(new[0], arguments[2][0])


def test_mixture_and_fit_equal_the_loop():
    with jax.enable_x64(True):
        rng = np.random.default_rng(1)
        num, horizon = 4, 12
        z = rng.normal(size=(num, horizon, DX + DU)).cumsum(axis=1)
        x, u = z[..., :DX], z[..., DX:]
        points = np.concatenate([z[:, :-1], x[:, 1:]], axis=-1).reshape(-1, 2 * DX + DU)
        weights = jnp.ones(len(points))
        config = mixture.MixtureConfig(max_iterations=3, tolerance=0.0, starved_fraction=0.0)
        start = mixture.Mixture(
            weights=jnp.full(3, 1 / 3),
            mean=jnp.asarray(points[:3]),
            cov=jnp.tile(jnp.cov(points.T), (3, 1, 1)),
            active=jnp.ones(3, bool),
            count=jnp.asarray(float(len(points))),
        )
        fit_mixture = jax.jit(mixture.fit, static_argnums=(3, 4))
        fitted, info = fit_mixture(jnp.asarray(points), weights, start, 3, config)
        assert int(info.iterations) == 3
        assert int(info.reseeded) == 0
        init = reference.Mixture(*_numpy((start.weights, start.mean, start.cov)))
        loop = reference.fit_mixture(points, init, 3, config.ridge)
        np.testing.assert_allclose(fitted.weights, loop.weights, rtol=1e-8)
        np.testing.assert_allclose(fitted.cov, loop.cov, rtol=1e-7, atol=1e-9)

        rollouts = Rollouts(x=jnp.asarray(x), u=jnp.asarray(u), valid=jnp.ones(num, bool))
        y = jnp.asarray(np.concatenate([z[:, :-1], x[:, 1:]], axis=-1).swapaxes(0, 1))
        prior = jax.jit(jax.vmap(lambda y: mixture.to_prior(fitted, y, jnp.ones(num), 1.0)))(y)
        ours, (status, _) = dynamics.fit(rollouts, prior, dynamics.FitConfig(ridge=1e-3))
        assert int(status.code) == 0
        expected = reference.fit_dynamics(x, u, loop, len(points), 1.0, 1e-3)
        for left, right in zip(ours, expected, strict=True):
            np.testing.assert_allclose(left, right, rtol=1e-6, atol=1e-8)
