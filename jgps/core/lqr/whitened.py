"""The problem around the previous controller, where a multiplier of its divergence is one ridge.

In v, with u = u_mean + K (x - x_mean) + chol(C) v and x measured from the previous mean trajectory,
the previous controller is v ~ N(0, I) whatever x is. So eta times the divergence adds eta I to
the Hessian in v: nothing large has to cancel in float32 when eta is large, and divergences
do not subtract nearly equal gains.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jgps.core import linalg
from jgps.core.lqr import riccati
from jgps.core.types import (
    NON_FINITE,
    NOT_PD,
    OK,
    Controller,
    Dynamics,
    Gaussian,
    QuadraticCost,
    Status,
    first_failure,
    worst,
)


class Whitened(NamedTuple):
    """The problem in the coordinates of this file, and the way back."""

    dynamics: Dynamics
    cost: QuadraticCost
    initial: Gaussian
    previous: Controller
    x_mean: jax.Array  # [T, dX]
    chol: jax.Array  # [T, dU, dU]
    cost_previous: jax.Array  # []
    status: Status


class Candidate(NamedTuple):
    """One evaluated eta, in the shifted coordinates."""

    log_eta: jax.Array  # [T]
    policy: Controller
    kl_per_step: jax.Array  # [T]
    kl: jax.Array  # []; infinity where some Q_uu is not positive definite
    status: Status


def whiten_problem(
    dynamics: Dynamics,
    cost: QuadraticCost,
    previous: Controller,
    initial: Gaussian,
    factor: Callable[[jax.Array], tuple[jax.Array, jax.Array]] = linalg.cholesky,
) -> Whitened:
    """Writes the problem around the previous controller's mean trajectory.

    `factor(C)` is what v is multiplied with to become an action, and whether C can be used. With
    another than the Cholesky factor the previous controller's v has another covariance than I.

    Its status is NON_FINITE with the first step at which an input or the way to it is not finite,
    or NOT_PD where `previous.C` is not positive definite or W is no covariance.
    """
    T, dX, dU = riccati.check_problem(dynamics, cost)
    riccati.check_controller("previous", previous, T, dX, dU)
    cost = cost._replace(H=linalg.symmetrise(cost.H))
    marginals = riccati.forward(previous, dynamics, initial)
    mean = marginals.mean
    chol, ok = factor(previous.C)
    eye = jnp.broadcast_to(jnp.eye(dX, dtype=chol.dtype), (T, dX, dX))
    basis = jnp.block([[eye, jnp.zeros((T, dX, dU), chol.dtype)], [previous.K, chol]])
    gradient = jnp.einsum("tij,tj->ti", cost.H, mean) + cost.g
    finite = _finite_steps((cost, previous, mean, gradient))
    finite = finite.at[:-1].set(finite[:-1] & _finite_steps(dynamics))
    finite = finite.at[0].set(finite[0] & jnp.all(_finite_steps(initial)))
    return Whitened(
        dynamics=Dynamics(F=dynamics.F @ basis[:-1], f=jnp.zeros_like(dynamics.f), W=dynamics.W),
        cost=QuadraticCost(
            H=linalg.symmetrise(linalg.transpose(basis) @ cost.H @ basis),
            g=jnp.einsum("tij,ti->tj", basis, gradient),
            h=jnp.zeros_like(cost.h),
        ),
        initial=Gaussian(mean=jnp.zeros_like(initial.mean), cov=initial.cov),
        previous=previous,
        x_mean=mean[:, :dX],
        chol=chol,
        cost_previous=jnp.sum(riccati.expected_cost(marginals, cost)),
        status=worst(
            first_failure(~finite, NON_FINITE),
            first_failure(~ok, NOT_PD),
            riccati.covariance_status(dynamics),
        ),
    )


def _finite_steps(bundle) -> jax.Array:
    """Whether everything at one index of the leading axis is finite, [T]."""
    checks = [jnp.all(jnp.isfinite(a), tuple(range(1, a.ndim))) for a in jax.tree.leaves(bundle)]
    return functools.reduce(jnp.logical_and, checks)


def evaluate(shifted: Whitened, log_eta: jax.Array, weights: jax.Array) -> Candidate:
    """The optimal policy for multipliers exp(log_eta) and its divergence from the previous one.

    Args:
      log_eta: [T].
      weights: [T], the entropy weight on top of eta.
    """
    eta = jnp.exp(log_eta)
    weights = weights + eta
    policy, _, status = riccati.recursion(shifted.dynamics, shifted.cost, weights, eta)
    states = riccati.propagate(riccati.closed_loop(policy, shifted.dynamics), shifted.initial)
    shift = jnp.einsum("tij,tj->ti", policy.K, states.mean) + policy.k
    trace = jnp.trace(policy.C, axis1=-2, axis2=-1) + jnp.sum(
        (policy.K @ states.cov) * policy.K, axis=(-2, -1)
    )
    chol, positive = linalg.cholesky(policy.C)
    dU = shift.shape[-1]
    kl = 0.5 * (trace + jnp.sum(jnp.square(shift), axis=-1) - dU - linalg.log_det(chol))
    kl = jnp.maximum(kl, 0)  # rounding
    total = jnp.sum(kl)
    usable = (status.code == OK) & jnp.all(positive) & jnp.isfinite(total)
    return Candidate(
        log_eta=log_eta,
        policy=policy,
        kl_per_step=kl,
        kl=jnp.where(usable, total, jnp.inf),
        status=status,
    )
