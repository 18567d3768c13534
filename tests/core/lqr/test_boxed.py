"""The backward pass with limits: beside the one without, and beside one quadratic program."""

import jax
import jax.numpy as jnp
import lq_problems
import numpy as np
import pytest
from scipy.optimize import lsq_linear

from jgps.core import lqr
from jgps.core.lqr import boxed
from jgps.core.types import NOT_PD, OK

T, DX, DU = 12, 4, 2
backward = jax.jit(boxed.backward)


def _problem(seed):
    """About the trajectory of zeros, which has to be one: no offsets."""
    dynamics, cost, _, _ = lq_problems.problem(seed, T, DX, DU)
    dynamics = dynamics._replace(f=jnp.zeros_like(dynamics.f), W=jnp.zeros_like(dynamics.W))
    return dynamics, cost


def _limits(size):
    return jnp.full((T, DU), -size), jnp.full((T, DU), size)


def test_without_limits_it_is_the_riccati_recursion(x64):
    dynamics, cost = _problem(0)
    controller, value, _ = lqr.backward(dynamics, cost, 0.0)
    plan = backward(dynamics.F, cost.H, cost.g, _limits(jnp.inf), 0.0)
    np.testing.assert_allclose(plan.K, controller.K, atol=1e-10)
    np.testing.assert_allclose(plan.k, controller.k, atol=1e-10)
    # From x = 0 the promised decrease is the whole value but the constants of the cost.
    promised = plan.slope + plan.curvature
    np.testing.assert_allclose(promised, value.v[0] - cost.h.sum(), atol=1e-10)


def _shooting(dynamics, cost):
    """Cost 1/2 u'Pu + p'u of all controls at once, from x = 0."""
    reach = np.zeros((T, DX, T * DU))
    for t in range(T - 1):
        F = np.asarray(dynamics.F[t])
        reach[t + 1] = F[:, :DX] @ reach[t]
        reach[t + 1][:, t * DU : (t + 1) * DU] += F[:, DX:]
    P, p = np.zeros((T * DU, T * DU)), np.zeros(T * DU)
    for t in range(T):
        own = np.zeros((DU, T * DU))
        own[:, t * DU : (t + 1) * DU] = np.eye(DU)
        z = np.concatenate([reach[t], own])
        P += z.T @ np.asarray(cost.H[t]) @ z
        p += z.T @ np.asarray(cost.g[t])
    return P, p


@pytest.mark.parametrize("seed", range(3))
def test_repeated_it_ends_at_the_minimum_within_the_limits(seed, x64):
    dynamics, cost = _problem(seed)
    P, p = _shooting(dynamics, cost)
    chol = np.linalg.cholesky(P)
    size = 0.1
    best = lsq_linear(chol.T, -np.linalg.solve(chol, p), (-size, size), method="bvls", tol=1e-14)
    best = best.x.reshape(T, DU)
    assert 0 < (np.abs(best) >= size).mean() < 1, "some limits have to hold, and some not"
    u = jnp.zeros((T, DU))
    for _ in range(30):
        x = [jnp.zeros(DX)]
        for t in range(T - 1):
            x.append(dynamics.F[t] @ jnp.concatenate([x[t], u[t]]))
        z = jnp.concatenate([jnp.stack(x), u], axis=1)
        g = cost.g + jnp.einsum("tij,tj->ti", cost.H, z)
        plan = backward(dynamics.F, cost.H, g, (-size - u, size - u), 0.0)
        assert plan.status.code == OK
        state, controls = x[0], []
        for t in range(T):
            control = jnp.clip(u[t] + plan.k[t] + plan.K[t] @ (state - x[t]), -size, size)
            controls.append(control)
            if t < T - 1:
                state = dynamics.F[t] @ jnp.concatenate([state, control])
        u = jnp.stack(controls)
    np.testing.assert_allclose(u, best, atol=1e-8)
    assert plan.gradient < 1e-8
    assert (plan.K[jnp.abs(u) >= size] == 0).all(), "a control at its limit has no gains"


def test_regularisation_shortens_the_step_and_leaves_the_promise_honest(x64):
    dynamics, cost = _problem(1)
    plans = [backward(dynamics.F, cost.H, cost.g, _limits(jnp.inf), mu) for mu in (0.0, 1.0, 10.0)]
    lengths = [float(jnp.linalg.norm(plan.k)) for plan in plans]
    assert lengths == sorted(lengths, reverse=True)
    for plan in plans:
        x, total = jnp.zeros(DX), 0.0
        for t in range(T):
            u = plan.k[t] + plan.K[t] @ x
            z = jnp.concatenate([x, u])
            total += 0.5 * z @ cost.H[t] @ z + cost.g[t] @ z
            if t < T - 1:
                x = dynamics.F[t] @ z
        np.testing.assert_allclose(total, plan.slope + plan.curvature, atol=1e-10)


def test_second_derivatives_count_in_the_direction_of_the_cost_to_go(x64):
    """A last step whose dynamics bend: the Hessian is that of the cost after one step."""
    a, target = 0.7, jnp.array([3.0])

    def after(z):
        return jnp.array([z[0] + z[1] + a * z[1] ** 2 + 0.3 * z[0] * z[1]])

    def total(z):
        return 0.5 * jnp.sum((after(z) - target) ** 2) + 0.5 * z[1] ** 2

    z = jnp.zeros(2)
    F = jax.jacobian(after)(z)[None]
    H = jnp.stack([jnp.diag(jnp.array([0.0, 1.0])), jnp.eye(2)])
    g = jnp.stack([jnp.zeros(2), jnp.concatenate([after(z) - target, jnp.zeros(1)])])

    def bend(at, v):
        return jax.hessian(lambda z: v @ after(z))(at)

    limits = jnp.full((2, 1), -jnp.inf), jnp.full((2, 1), jnp.inf)
    plan = jax.jit(lambda: boxed.backward(F, H, g, limits, 0.0, (bend, z[None])))()
    exact = jax.hessian(total)(z)
    np.testing.assert_allclose(plan.Quu[0], exact[1:, 1:], atol=1e-12)
    # Negative here: no minimum without regularisation, which the status says of this step.
    assert (plan.status.code == NOT_PD) == bool(exact[1, 1] <= 0)


def test_a_step_that_fails_is_named():
    dynamics, cost = _problem(2)
    H = cost.H.at[7, DX:, DX:].set(-1e3 * jnp.eye(DU))
    plan = backward(dynamics.F, H, cost.g, _limits(1.0), 0.0)
    assert (plan.status.code, plan.status.step) == (NOT_PD, 7)
    assert (plan.k[:8] == 0).all() and (plan.K[:8] == 0).all()
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((plan.k, plan.K)))
