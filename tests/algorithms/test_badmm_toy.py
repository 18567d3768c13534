"""BADMM on a linear-quadratic toy problem: it converges to the constrained optimum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jgps.algorithms.badmm import BadmmConfig
from jgps.core import linalg, lqr
from jgps.core.bregman import (
    augmented_cost,
    bounded,
    dual_step,
    policy_targets,
)
from jgps.core.types import (
    OK,
    Controller,
    Dynamics,
    Gaussian,
    QuadraticCost,
)

C, T, DX, DU, DO = 3, 6, 3, 2, 3
TEMPERATURE = 1.0  # of the maximum entropy: without it both distributions would become points
NU, BOUND = 4.0, 1.0  # times one another more than the price of agreement


class _Problem:
    """Linear dynamics, convex costs, and a linear policy of features that nothing moves.

    Three features must serve 3 conditions of 6 steps: the network cannot do what the controllers
    would, and the constraint costs something.
    """

    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        root = rng.normal(size=(C, T, DX + DU, DX + DU)) / 2
        self.H = root @ root.transpose(0, 1, 3, 2) + 0.5 * np.eye(DX + DU)
        self.g = rng.normal(size=(C, T, DX + DU))
        self.F = np.concatenate(
            [0.9 * np.eye(DX) + 0.1 * rng.normal(size=(C, T - 1, DX, DX)),
             0.5 * rng.normal(size=(C, T - 1, DX, DU))], axis=-1,
        )  # fmt: skip
        self.f = 0.1 * rng.normal(size=(C, T - 1, DX))
        self.x0 = rng.normal(size=(C, DX))
        self.o = rng.normal(size=(C, T, DO))  # depends on the condition and the time alone

    def bundles(self):
        W = np.broadcast_to(0.01 * np.eye(DX), (C, T - 1, DX, DX))
        cov = np.broadcast_to(0.01 * np.eye(DX), (C, DX, DX))
        return (
            Dynamics(*map(jnp.asarray, (self.F, self.f, W))),
            QuadraticCost(*map(jnp.asarray, (self.H, self.g, np.zeros((C, T))))),
            Gaussian(jnp.asarray(self.x0), jnp.asarray(cov)),
        )

    def optimum(self):
        """theta [DO, DU] of least expected cost: in NumPy, all states eliminated, one solve.

        The actions' means are theta' o; about the means, costs do not depend on theta.
        """
        hessian, gradient = np.zeros((DO * DU, DO * DU)), np.zeros(DO * DU)
        for c in range(C):
            x, dx = self.x0[c], np.zeros((DX, DO * DU))  # x and its derivative to theta
            for t in range(T):
                du = np.kron(self.o[c, t], np.eye(DU))  # u = du vec(theta)
                dz, z = np.concatenate([dx, du]), np.concatenate([x, np.zeros(DU)])
                hessian += dz.T @ self.H[c, t] @ dz
                gradient += dz.T @ (self.H[c, t] @ z + self.g[c, t])
                if t < T - 1:
                    x, dx = self.F[c, t] @ z + self.f[c, t], self.F[c, t] @ dz
        return np.linalg.solve(hessian, -gradient).reshape(DO, DU)


def _best_linear(target, precision, weights, o):
    """theta of least sum nu/2 |theta'o - target|^2_P, and the policy's covariance."""
    P = weights[..., None, None] * precision
    A = jnp.einsum("cti,ctjk,ctl->ijlk", o, P, o).reshape(DO * DU, DO * DU)
    b = jnp.einsum("cti,ctjk,ctk->ij", o, P, target).reshape(-1)
    S = jnp.linalg.inv(jnp.sum(P, (0, 1)) / jnp.sum(weights))
    return jnp.linalg.solve(A, b).reshape(DO, DU), S


@jax.jit
def _iterate(bundles, o, signs, nu, bound):
    """The algorithm's functions put together, in exact steps, 600 rounds.

    Returns theta, the largest difference of the two actions' means at the end, and whether all went
    well. Signs other than 1 break the dual, trajectory or policy step.
    """
    dynamics, cost, initial = bundles
    dual_sign, trajectory_sign, policy_sign = signs

    def as_controller(theta, S):
        k = jnp.einsum("cti,ij->ctj", o, theta)
        return Controller(K=jnp.zeros((C, T, DU, DX)), k=k, C=jnp.broadcast_to(S, (C, T, DU, DU)))

    def one_round(carry, _):
        theta, S, duals, weights = carry
        policy = as_controller(theta, S)
        augmented = augmented_cost(cost, trajectory_sign * duals, weights, policy)
        p, _, status = jax.vmap(lqr.backward)(dynamics, augmented, weights + TEMPERATURE)
        u = jax.vmap(lqr.forward)(p, dynamics, initial).mean[..., DX:]
        target = policy_targets(u[:, None], p.C, policy_sign * duals, weights)[:, 0]
        precision, _, _ = linalg.inverse_psd(p.C)
        theta, S = _best_linear(target, precision, weights, o)
        policy_mean = as_controller(theta, S).k
        duals = dual_step(duals, weights, policy_mean - u, p.C, dual_sign * 1.0)
        duals = bounded(duals, weights, p.C, bound)
        worst = jnp.max(jnp.abs(policy_mean - u))
        return (theta, S, duals, weights), (worst, jnp.all(status.code == OK))

    start = (jnp.zeros((DO, DU)), jnp.eye(DU), jnp.zeros((C, T, DU)), jnp.full((C, T), nu))
    (theta, *_), (worst, ok) = jax.lax.scan(one_round, start, None, length=600)
    return theta, worst[-1], jnp.all(ok)


def _solve(problem, dual_sign=1.0, trajectory_sign=1.0, policy_sign=1.0, nu=NU, bound=BOUND):
    signs = jnp.array([dual_sign, trajectory_sign, policy_sign])
    theta, worst, ok = _iterate(problem.bundles(), jnp.asarray(problem.o), signs, nu, bound)
    return np.asarray(theta), float(worst), bool(ok)


def _reaches_optimum(problem, **signs):
    theta, worst, ok = _solve(problem, **signs)
    near = np.allclose(theta, problem.optimum(), rtol=1e-5, atol=1e-5)
    return ok and near and worst < 1e-5


# The default bound takes a weight above the largest one that is shipped; see the test below.
@pytest.mark.parametrize(
    ("nu", "bound"), [(1.0, 3.0), (NU, BOUND), (12.0, BadmmConfig().dual_bound)]
)
@pytest.mark.parametrize("seed", [0, 1])
def test_converges_to_the_constrained_optimum(seed, nu, bound, x64):
    assert _reaches_optimum(_Problem(seed), nu=nu, bound=bound)


@pytest.mark.parametrize("sign", ["dual_sign", "trajectory_sign", "policy_sign"])
def test_a_flipped_sign_of_lambda_does_not_converge(sign, x64):
    assert not _reaches_optimum(_Problem(0), **{sign: -1.0})


def test_a_bound_below_the_price_of_agreement_misses_the_optimum(x64):
    """Like an exact penalty that is too small; what lambda may reach rises with nu."""
    theta, worst, ok = _solve(_Problem(0), nu=1.0)
    assert ok and np.isfinite(theta).all() and worst > 1e-2
    assert not _reaches_optimum(_Problem(0), bound=0.3)
    assert _reaches_optimum(_Problem(0), nu=1.0, bound=3.0)


def test_without_duals_the_optimum_is_missed(x64):
    """A finite weight alone ends elsewhere: it is lambda that closes the gap."""
    theta, worst, ok = _solve(_Problem(0), dual_sign=0.0)
    assert ok and np.isfinite(theta).all()
    assert worst > 1e-2 and np.abs(theta - _Problem(0).optimum()).max() > 1e-3
