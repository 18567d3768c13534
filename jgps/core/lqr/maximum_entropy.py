"""The linear-quadratic problem with a reward for entropy and no bound on the step."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jgps.core import gaussian
from jgps.core.lqr.riccati import backward, check_problem, expected_cost, forward, per_step
from jgps.core.types import (
    NON_FINITE,
    Controller,
    Dynamics,
    Gaussian,
    QuadraticCost,
    Status,
    first_failure,
    promote,
    worst,
)


class MaximumEntropyInfo(NamedTuple):
    """What a maximum-entropy controller achieves on the given dynamics."""

    objective: jax.Array  # [] cost - sum_t temperature_t entropy_t
    cost: jax.Array  # [] expected cost
    entropy: jax.Array  # [] nats, of the actions given the state, summed over the steps
    status: Status


@jax.jit
def solve_maximum_entropy(
    dynamics: Dynamics,
    cost: QuadraticCost,
    initial: Gaussian,
    temperature: float | jax.Array = 1.0,
) -> tuple[Controller, MaximumEntropyInfo]:
    """Minimises E[cost] - sum_t temperature_t entropy(u_t | x_t), without a bound on the step.

    Args:
      dynamics: of length T - 1.
      cost: of length T, Q_uu positive definite at every step.
      initial: distribution of the first state.
      temperature: > 0, a scalar or [T], in units of the cost per nat.

    Returns:
      The controller and what it achieves, 0 where that is not finite. The status is `backward`'s;
      NON_FINITE also where a temperature is not > 0, or `initial` or what it achieves not finite.

    Raises:
      ValueError: shapes disagree.

    Source: Levine & Koltun (2013), "Guided policy search", section 3; the lecture's trajectory
    optimisation without guided policy search.
    """
    dynamics, cost, initial = promote(dynamics, cost, initial)
    T, _, _ = check_problem(dynamics, cost)
    temperature = per_step(temperature, T, cost.h.dtype, "temperature")
    controller, _, status = backward(dynamics, cost, temperature)
    marginals = forward(controller, dynamics, initial)
    total = jnp.sum(expected_cost(marginals, cost))
    entropies = gaussian.entropy(controller.C)
    objective = total - jnp.sum(temperature * entropies)
    known = jnp.isfinite(objective)
    start_finite = jnp.all(jnp.isfinite(initial.mean)) & jnp.all(jnp.isfinite(initial.cov))
    status = worst(
        first_failure(~((temperature > 0) & (temperature < jnp.inf)), NON_FINITE),
        status,
        first_failure(~start_finite[None], NON_FINITE),
        first_failure(~known[None], NON_FINITE),
    )
    info = MaximumEntropyInfo(
        objective=jnp.where(known, objective, 0),
        cost=jnp.where(known, total, 0),
        entropy=jnp.where(known, jnp.sum(entropies), 0),
        status=status,
    )
    return controller, info
