"""One model-based and one model-free update in a row, on one set of rollouts.

The cost of a rollout is split into what the fitted models predict for its noise and the residual.
KL-constrained LQR improves the predicted part; the residual, which the models cannot see, weights
the samples of a path-integral update of LQR's controller:

    p1 = argmin E[predicted cost]   s.t.   KL_t(p1 || previous) <= epsilon_t
    p2 = fit of p1's samples, weighted by softmax(-residual to go / eta_t)

with the temperature eta_t that the total cost asks for. Where the models leave much unexplained
epsilon_t shrinks, where they leave little it grows.

Source: Chebotar et al. (2017b), "Combining model-based and model-free updates for
trajectory-centric reinforcement learning", section 4.
"""

import dataclasses
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from jgps.core import linalg, path_integral
from jgps.core.checks import Config, Range, refuse
from jgps.core.lqr.trust_region import (
    PerStepTrustRegionConfig,
    TrustRegionInfo,
    solve_kl_constrained_per_step,
)
from jgps.core.one_program import one_program
from jgps.core.path_integral import Pi2StepConfig
from jgps.core.types import (
    NON_FINITE,
    Controller,
    Dynamics,
    Gaussian,
    QuadraticCost,
    Rollouts,
    Status,
    first_failure,
    promote,
    worst,
)

PerStep = float | tuple[float, ...]
PER_STEP = ("kl_step", "min_multiplier", "max_multiplier")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PilqrStepConfig(Config):
    """How far the PILQR step moves the controllers, by LQR and then by path integrals.

    LQR's bound at step t is `kl_step_t * multiplier_t`. From one iteration to the next the
    multiplier doubles where the unexplained share of the costs to go is below `grow_below`, and
    halves where it is above `shrink_above`.

    Attributes:
      kl_step: bound on LQR's divergence at every step, nats, > 0; one for all steps or one for
        each of the T.
      min_multiplier, max_multiplier: limits of the multipliers, 0 < min <= 1 <= max; one for all
        steps or one for each.
      grow_below, shrink_above: shares, 0 < grow_below <= shrink_above; see `unexplained`.
      path_integral: how far the second update moves.
      trust_region: how LQR's multipliers eta are searched for.
    """

    kl_step: Annotated[PerStep, Range("(0, 1e9]", "usually 0.1 to 0.4 nats")] = 0.2
    min_multiplier: Annotated[PerStep, Range("(0, 1]")] = 0.1
    max_multiplier: Annotated[PerStep, Range("[1, 1e6]", "usually 1 to 5")] = 5.0
    grow_below: Annotated[float, Range("> 0")] = 0.05
    shrink_above: Annotated[float, Range("> 0")] = 0.2
    path_integral: Pi2StepConfig = Pi2StepConfig()
    trust_region: PerStepTrustRegionConfig = PerStepTrustRegionConfig()

    def __post_init__(self) -> None:
        if self.grow_below > self.shrink_above:
            refuse(self, "grow_below", f"at most shrink_above = {self.shrink_above}, usually 0.05")


class PilqrMemory(NamedTuple):
    """What the next update starts from."""

    multiplier: jax.Array  # [T], of LQR's bounds
    eta: jax.Array  # [T], where LQR's search starts


class PilqrInfo(NamedTuple):
    """What the two updates did."""

    lqr: TrustRegionInfo
    epsilon: jax.Array  # [T] nats, LQR's bounds
    unexplained: jax.Array  # [T], share of the costs to go, see `unexplained`
    temperature: jax.Array  # [T], eta of the second update, units of the cost
    kl: jax.Array  # [T] nats, of the second update's weights from uniform
    status: Status


def first_memory(T: int, dtype) -> PilqrMemory:
    """Before any update."""
    return PilqrMemory(multiplier=jnp.ones(T, dtype), eta=jnp.ones(T, dtype))


@one_program("config")
def improve(
    previous: Controller,
    sampled: Controller,
    dynamics: Dynamics,
    cost: QuadraticCost,
    initial: Gaussian,
    rollouts: Rollouts,
    costs: jax.Array,
    memory: PilqrMemory,
    config: PilqrStepConfig = PilqrStepConfig(),
) -> tuple[Controller, PilqrMemory, PilqrInfo]:
    """Both updates.

    Args:
      previous: what LQR's divergence is measured from, of T steps, C positive definite.
      sampled: what the rollouts were sampled with, C positive definite; usually `previous`.
      dynamics, cost, initial: models fitted to the rollouts.
      rollouts: of one condition, x [N, T, dX], u [N, T, dU], valid [N]. Samples that are not valid
        may hold anything, NaN included.
      costs: true ones of every step of the rollouts, [N, T].
      memory: of the last update.

    Returns:
      The controller, the memory for the next update, and what was done. The status is that of
      `path_integral.temperature`, NON_FINITE where a valid sample's predicted cost is not finite,
      or else LQR's.

    Raises:
      ValueError: shapes disagree.
    """
    valid = rollouts.valid
    residual = costs - predicted_costs(sampled, dynamics, cost, rollouts)
    share = unexplained(residual, costs, valid)
    multiplier = adapt(memory.multiplier, share, config)
    epsilon = jnp.asarray(config.kl_step, multiplier.dtype) * multiplier
    controller, lqr = solve_kl_constrained_per_step(
        dynamics, cost, previous, initial, epsilon, eta=memory.eta, config=config.trust_region
    )
    temperature, status = path_integral.temperature(
        path_integral.cost_to_go(costs), valid, config.path_integral
    )
    weights = path_integral.weights(path_integral.cost_to_go(residual), temperature, valid)
    u = replay(sampled, controller, rollouts)
    controller = path_integral.update(controller, rollouts.x, u, weights, config.path_integral)
    unknown = jnp.any(valid[:, None] & ~jnp.isfinite(residual), axis=0)
    return (
        controller,
        PilqrMemory(multiplier=multiplier, eta=lqr.eta),
        PilqrInfo(
            lqr=lqr,
            epsilon=epsilon,
            unexplained=share,
            temperature=temperature,
            kl=path_integral.divergence(weights, valid),
            status=worst(
                status,
                first_failure(unknown, NON_FINITE),
                lqr.status,
                path_integral.covariance_status(controller),
            ),
        ),
    )


@one_program()
@linalg.full_precision
def predicted_costs(
    sampled: Controller, dynamics: Dynamics, cost: QuadraticCost, rollouts: Rollouts
) -> jax.Array:
    """What the models say that the rollouts' first states and noise cost, [N, T].

    The noise is what the actions add to the controller's mean; the model's states follow from it
    through the controller and the mean dynamics.
    """
    sampled, dynamics, cost, x, u = promote(sampled, dynamics, cost, rollouts.x, rollouts.u)
    noise = u - _means(sampled, x)
    # The last step leads nowhere.
    F, f = (jnp.concatenate([a, jnp.zeros_like(a[:1])]) for a in (dynamics.F, dynamics.f))

    def step(state: jax.Array, inputs) -> tuple[jax.Array, jax.Array]:
        K, k, F, f, H, g, h, added = inputs
        z = jnp.concatenate([state, state @ K.T + k + added], axis=-1)
        return z @ F.T + f, jnp.sum(z * (0.5 * z @ H + g), axis=-1) + h

    inputs = (sampled.K, sampled.k, F, f, *cost, jnp.swapaxes(noise, 0, 1))
    _, predicted = jax.lax.scan(step, x[:, 0], inputs)
    return predicted.T


@one_program()
def unexplained(residual: jax.Array, costs: jax.Array, valid: jax.Array) -> jax.Array:
    """Spread of the samples' residuals to go over the spread of their costs to go, [T].

    Both are standard deviations over the valid samples [N] of costs [N, T]. The code release
    relates the absolute values instead; with those a constant in the cost hides what the models
    miss, and LQR takes away the exploration that the second update lives on.
    """

    def spread(to_go: jax.Array) -> jax.Array:
        used = valid[:, None]
        count = jnp.maximum(jnp.sum(used), 1)
        mean = jnp.sum(jnp.where(used, to_go, 0), axis=0) / count
        return jnp.sqrt(jnp.sum(jnp.where(used, jnp.square(to_go - mean), 0), axis=0) / count)

    total = spread(path_integral.cost_to_go(costs))
    missed = spread(path_integral.cost_to_go(residual))
    return jnp.where(total == 0, 0, missed / jnp.where(total == 0, 1, total))


@one_program("config")
def adapt(multiplier: jax.Array, unexplained: jax.Array, config: PilqrStepConfig) -> jax.Array:
    """The next multipliers [T]; they stay where the unexplained share is not finite."""
    factor = jnp.where(unexplained > config.shrink_above, 0.5, 1.0)
    factor = jnp.where(unexplained < config.grow_below, 2.0, factor)
    factor = jnp.where(jnp.isfinite(unexplained), factor, 1.0).astype(multiplier.dtype)
    limits = (jnp.asarray(each) for each in (config.min_multiplier, config.max_multiplier))
    return jnp.clip(multiplier * factor, *(each.astype(multiplier.dtype) for each in limits))


@one_program()
@linalg.full_precision
def replay(sampled: Controller, controller: Controller, rollouts: Rollouts) -> jax.Array:
    """Actions [N, T, dU] of another controller in the rollouts' states, with the same noise.

    Every sample's unit noise, chol(C)^-1 (u - K x - k) of the controller that sampled, less its
    mean over the valid samples: with equal weights the fit to these actions is the controller.
    """
    sampled, controller, x, u = promote(sampled, controller, rollouts.x, rollouts.u)
    used = rollouts.valid[:, None, None]
    noise = jnp.where(used, u - _means(sampled, x), 0)
    noise = noise - jnp.sum(noise, axis=0) / jnp.maximum(jnp.sum(used), 1)
    whiten = linalg.inverse_triangular(linalg.cholesky(sampled.C)[0])
    colour = linalg.cholesky(controller.C)[0] @ whiten
    return _means(controller, x) + jnp.einsum("tij,ntj->nti", colour, noise)


def _means(controller: Controller, x: jax.Array) -> jax.Array:
    return jnp.einsum("tij,ntj->nti", controller.K, x) + controller.k
