"""Known dynamics and costs of many trajectories at once, as iLQG needs them."""

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jgps.core import linalg
from jgps.optimise.models import default_dtype
from jgps.tasks.functions import with_params

# `step(x [dX], u [dU], t) -> x' [dX]`, with params as a last argument where a goal has some
Step = Callable[..., jax.Array]
Cost = Callable[..., jax.Array]  # `cost(x, u, t) -> scalar`, likewise
# The curvature [dX+dU, dX+dU] that dynamics have in direction v [dX], at x, u, t and params.
Bend = Callable[[tuple[Any, ...], jax.Array], jax.Array]


class Paths(NamedTuple):
    """Trajectories and what they cost.

    Attributes:
      state: [..., T, nx], all that the dynamics go on from.
      x: [..., T, dX], what the cost reads; the state itself where they are the same.
      u: [..., T, dU], within the limits.
      cost: [...], not finite where the trajectory is not.
    """

    state: Any
    x: Any
    u: Any
    cost: Any


class Goal(NamedTuple):
    """What the trajectories of a batch are to do, beside what their cost says of all of them.

    Attributes:
      first: [B] int32, number of the first control step, which costs that depend on time count
        from.
      params: what the cost takes as its last argument, leaves [B, ...]; None where it takes none.
    """

    first: Any
    params: Any = None


def goal(num: int, params: Any = None) -> Goal:
    """That of trajectories which begin with step 0."""
    return Goal(np.zeros(num, np.int32), params)


class Feedback(NamedTuple):
    """What acts: u_t = clip(u_t + size k_t + K_t (state - state_t)) about paths.

    The difference of states is that of their tangent space.
    """

    paths: Paths  # [B, T, ...]
    k: Any  # [B, T, dU]
    K: Any  # [B, T, dU, dS]
    size: Any  # [S], step sizes, each of which is tried


class Expansion(NamedTuple):
    """Derivatives along trajectories, in the tangent space of their states."""

    F: jax.Array  # [B, T-1, dS, dS+dU]
    H: jax.Array  # [B, T, dS+dU, dS+dU]
    g: jax.Array  # [B, T, dS+dU]


class KnownSystem(NamedTuple):
    """Dynamics with derivatives, a cost, and limits.

    Attributes:
      roll_out: of a feedback and a goal, paths [B, S, T, ...] from the first states of the
        feedback's paths.
      expand: of paths [B, T, ...] and a goal, the derivatives along them.
      limits: [2, B, dU] or [2, dU], lower and upper limits of the controls.
      tangent_dim: dS.
      jittable: whether both can be traced, or leave JAX.
      bend: curvature of the dynamics in a direction; None leaves it out.
      rows: the system of some rows [B'] of its batch; None where it has no rows of its own.
      difference: of states [..., nx] and others they are compared with, [..., dS] in the tangent
        space of the latter.
      costs: of x [B, T, dX], u [B, T, dU] and a goal, what they cost, [B], with which paths that
        are known already need not be rolled out again; None where that would gain nothing.
      x_dim: dX, where there are `costs`.
    """

    roll_out: Callable[[Feedback, Goal], Paths]
    expand: Callable[[Paths, Goal], Expansion]
    limits: jax.Array
    tangent_dim: int
    jittable: bool
    bend: Bend | None = None
    rows: Callable[[np.ndarray], "KnownSystem"] | None = None
    difference: Callable[[Any, Any], Any] = operator.sub
    costs: Callable[[Any, Any, Goal], Any] | None = None
    x_dim: int = 0


def analytic(
    step: Step, cost: Cost, state_dim: int, limits: Any, *, second_order: bool = False
) -> KnownSystem:
    """A system of JAX functions.

    Args:
      step: `step(x [dX], u [dU], t) -> x' [dX]`, differentiable.
      cost: `cost(x, u, t) -> scalar`, twice differentiable; one with a function `residual` has the
        curvature of its Gauss-Newton form.
      state_dim: dX.
      limits: [2, dU], lower and upper, which may be infinite; [2, B, dU] where those of a batch's
        trajectories differ.
      second_order: whether the dynamics' second derivatives count (DDP), with which convergence is
        quadratic near the optimum; without them it is iLQG.
    """
    limits = np.asarray(limits, default_dtype())
    own = limits.ndim == 3

    def roll_out_one(path: Paths, k, K, size, goal: Goal, limits):
        def advance(state, at):
            x_ref, u_ref, k, K, t = at
            control = jnp.clip(u_ref + size * k + K @ (state - x_ref), *limits)
            return with_params(step, goal.params)(state, control, t), (state, control)

        times = goal.first + jnp.arange(k.shape[0], dtype=jnp.int32)
        _, (xs, us) = jax.lax.scan(advance, path.x[0], (path.x, path.u, k, K, times))
        total = jnp.sum(jax.vmap(with_params(cost, goal.params))(xs, us, times))
        return Paths(state=xs, x=xs, u=us, cost=total)

    def roll_out(feedback: Feedback, goal: Goal) -> Paths:
        over_sizes = jax.vmap(roll_out_one, in_axes=(None, None, None, 0, None, None))
        over_batch = jax.vmap(over_sizes, in_axes=(0, 0, 0, None, 0, 1 if own else None))
        return over_batch(*feedback, goal, jnp.asarray(limits))

    def expand(paths: Paths, goal: Goal) -> Expansion:
        def along(x, u, goal: Goal):
            times = goal.first + jnp.arange(u.shape[0], dtype=jnp.int32)
            dynamics = with_params(step, goal.params)

            def derivatives(x, u, t):
                return jnp.concatenate(jax.jacfwd(dynamics, argnums=(0, 1))(x, u, t), axis=-1)

            H, g = jax.vmap(quadratic_of(cost, goal.params))(x, u, times)
            return Expansion(jax.vmap(derivatives)(x[:-1], u[:-1], times[:-1]), H, g)

        return jax.vmap(along)(paths.x, paths.u, goal)

    def bend(at, v):
        x, u, t, params = at
        dX, dynamics = x.shape[0], with_params(step, params)
        return jax.hessian(lambda z: v @ dynamics(z[:dX], z[dX:], t))(jnp.concatenate([x, u]))

    def rows(numbers: np.ndarray) -> KnownSystem:
        return analytic(step, cost, state_dim, limits[:, numbers], second_order=second_order)

    return KnownSystem(
        roll_out=roll_out,
        expand=expand,
        limits=jnp.asarray(limits),
        tangent_dim=state_dim,
        jittable=True,
        bend=bend if second_order else None,
        rows=rows if own else None,
    )


def quadratic_of(cost: Cost, params: Any = None) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """Hessian [d, d] and gradient [d] of a cost at x, u, t by z = [x; u].

    A cost with a function `residual(x, u, t) -> r [m]`, cost = 1/2 r'r, has the Hessian J'J.
    """
    residual: Callable[..., jax.Array] | None = getattr(cost, "residual", None)

    @linalg.full_precision
    def by_residual(x, u, t):
        dX = x.shape[0]

        def of(z):
            assert residual is not None
            r = with_params(residual, params)(z[:dX], z[dX:], t)
            return r, r

        J, r = jax.jacfwd(of, has_aux=True)(jnp.concatenate([x, u]))
        return J.T @ J, J.T @ r

    @linalg.full_precision
    def by_autodiff(x, u, t):
        dX = x.shape[0]

        def gradient(z):
            g = jax.grad(lambda z: with_params(cost, params)(z[:dX], z[dX:], t))(z)
            return g, g

        H, g = jax.jacfwd(gradient, has_aux=True)(jnp.concatenate([x, u]))
        return linalg.symmetrise(H), g

    return by_autodiff if residual is None else by_residual
