"""A network as time-varying linear-Gaussian controllers near its samples."""

import jax
import jax.numpy as jnp

from jgps.core import linalg
from jgps.core.estimation.regression import (
    FitInfo,
    NormalInverseWishart,
    divisor,
    fit_linear_gaussian,
    spread,
)
from jgps.core.types import (
    NON_FINITE,
    TOO_FEW_SAMPLES,
    Controller,
    Status,
    first_failure,
    worst,
)
from jgps.dynamics import FitConfig
from jgps.dynamics.fit import over_steps


@linalg.full_precision
def linearise(
    x: jax.Array,
    mean: jax.Array,
    valid: jax.Array,
    cov: jax.Array,
    prior: NormalInverseWishart | None = None,
    config: FitConfig = FitConfig(),
) -> tuple[Controller, FitInfo]:
    """Fits mu_pi(o) ~ N(K x + k, .) at every step of one condition's samples.

    A regression and not a derivative: the policy reads an observation, which need not be a function
    of the state that could be differentiated.

    Args:
      x: states, [N, T, dX]. Trajectories that are not valid may hold anything.
      mean: the policy's mean actions there, [N, T, dU].
      valid: [N].
      cov: of the policy's actions, [dU, dU] or [T, dU, dU].
      prior: over [x; mean], leaves [T, ...], or None.
      config: ridge of the regression.

    Returns:
      Controller of T steps, whose covariance is `cov` plus that of the regression's residual, and a
      FitInfo as of `jgps.dynamics.fit`, with T steps.

    Source: Levine et al. (2016), section 4.2; Montgomery & Levine (2016), section 3.
    """
    num_samples, horizon, dX = x.shape
    weights = valid.astype(x.dtype)
    used = valid[:, None, None]
    pairs = jnp.concatenate([x, mean], axis=-1)
    flat = jnp.where(used & jnp.isfinite(pairs), pairs, 0).reshape(num_samples * horizon, -1)
    _, scale = spread(flat, jnp.repeat(weights, horizon))

    def fit_step(inputs, outputs, prior):
        return fit_linear_gaussian(inputs, outputs, prior, weights, config.ridge, scale)

    K, k, residual, info = jax.vmap(fit_step, in_axes=(1, 1, None if prior is None else 0))(
        x, mean, prior
    )
    return Controller(K=K, k=k, C=residual + cov), over_steps(info)


@linalg.full_precision
def offset(
    controller: Controller,
    x: jax.Array,
    mean: jax.Array,
    weight: jax.Array,
) -> tuple[Controller, Status]:
    """The controller, moved so that its mean is the policy's over one condition's samples.

    Right where the policy was trained to follow the controller, gains included: then only the mean
    is left to tell, which few samples do.

    Args:
      controller: K [T, dU, dX], k, C.
      x: states, [N, T, dX]. Where nothing has weight they may hold anything.
      mean: the policy's mean actions there, [N, T, dU].
      weight: what each of them counts in the mean, [N, T], >= 0.

    Returns:
      The controller with another k, and a status that is TOO_FEW_SAMPLES at a step at which nothing
      has weight and NON_FINITE where something that has is not finite.
    """
    used = (weight > 0)[..., None]
    own = jnp.einsum("tij,ntj->nti", controller.K, jnp.where(used, x, 0)) + controller.k
    gap = jnp.where(used, mean, 0) - own
    total = jnp.sum(weight, axis=0)
    shift = jnp.sum(jnp.where(used, weight[..., None] * gap, 0), axis=0) / divisor(total)[:, None]
    finite = jnp.all(jnp.isfinite(shift), axis=-1)
    status = worst(first_failure(total == 0, TOO_FEW_SAMPLES), first_failure(~finite, NON_FINITE))
    shift = jnp.where(finite[:, None], shift, 0)
    return controller._replace(k=controller.k + shift), status
