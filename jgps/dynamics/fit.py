"""Samples of one condition -> time-varying linear-Gaussian dynamics."""

import dataclasses
import functools
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jgps.core.checks import Config, Range
from jgps.core.estimation.regression import (
    FitInfo,
    NormalInverseWishart,
    divisor,
    fit_linear_gaussian,
    spread,
)
from jgps.core.types import (
    NON_FINITE,
    NOT_PD,
    TOO_FEW_SAMPLES,
    Dynamics,
    Gaussian,
    Rollouts,
    first_failure,
    worst,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitConfig(Config):
    """How dynamics are fitted to rollouts at every step (`jgps.dynamics.fit`).

    Attributes:
      ridge: added to the variance of every state and action entry, in units of its squared
        standard deviation over all samples and steps. Where rounding hides it, as with
        fewer samples than entries and some hundred of these, a larger one is taken, which
        `FitInfo.ridge_added` and the metrics `ridge_raised` and `ridge_added` say; 0 stays 0.
    """

    ridge: Annotated[
        float,
        Range(
            ">= 0",
            "usually 1e-5, which suits float32; 0 needs a prior, or more samples than state and "
            "action entries",
        ),
    ] = 1e-5


@functools.partial(jax.jit, static_argnames="config")
def fit(
    rollouts: Rollouts,
    prior: NormalInverseWishart | None = None,
    config: FitConfig = FitConfig(),
) -> tuple[Dynamics, FitInfo]:
    """Fits x' ~ N(F [x; u] + f, W) separately at every step.

    Args:
      rollouts: of one condition: x [N, T, dX], u [N, T, dU], valid [N]. A trajectory that is not
        valid is left out, whatever it holds. Different dtypes of x and u are promoted to one.
      prior: over [x; u; x'] in task units, one per step (leaves [T-1, ...]) or one for all.

    Returns:
      Dynamics of T - 1 steps in task units, and a FitInfo: its ridge_added is [T - 1], its status
      has the first failing step, and is TOO_FEW_SAMPLES below two valid trajectories, NON_FINITE
      where a valid one is not finite, NOT_PD where the covariance is singular and the ridge is 0.

    Raises:
      ValueError: while tracing, if the shapes or the prior's number of steps disagree.

    Source: Levine & Abbeel (2014), section 3.
    """
    _check_shapes(rollouts)
    _check_prior_steps(prior, rollouts.x.shape[1])
    dtype = jnp.promote_types(rollouts.x.dtype, rollouts.u.dtype)
    x, u = rollouts.x.astype(dtype), rollouts.u.astype(dtype)
    num_samples, horizon, dX = x.shape
    weights = rollouts.valid.astype(bool).astype(dtype)
    inputs = jnp.concatenate([x, u], axis=-1)
    used = weights[:, None, None] > 0
    flat = jnp.where(used & jnp.isfinite(inputs), inputs, 0.0).reshape(num_samples * horizon, -1)
    _, scale = spread(flat, jnp.repeat(weights, horizon))
    scale = jnp.concatenate([scale, scale[:dX]])

    def fit_step(inputs, outputs, prior):
        return fit_linear_gaussian(inputs, outputs, prior, weights, config.ridge, scale)

    has_steps = prior is not None and prior.mean.ndim == 2
    F, f, W, info = jax.vmap(fit_step, in_axes=(1, 1, 0 if has_steps else None))(
        inputs[:, :-1], x[:, 1:], prior
    )
    return Dynamics(F=F, f=f, W=W), over_steps(info)


def over_steps(info: FitInfo) -> FitInfo:
    """How the fits of all steps went, from one FitInfo per step: its status names the first."""
    codes = (TOO_FEW_SAMPLES, NON_FINITE, NOT_PD)
    failures = [first_failure(info.status.code == code, code) for code in codes]
    return info._replace(status=worst(*failures))


def ridge_metrics(ridge_added: jax.Array, whose: str = "") -> dict[str, jax.Array]:
    """At how many steps of every condition the ridge was raised, and by how much at most, [C].

    Args:
      ridge_added: [C, S], see `FitInfo`.
      whose: what the names of the metrics begin with.
    """
    return {
        f"{whose}ridge_raised": jnp.sum(ridge_added > 0, axis=-1, dtype=jnp.int32),
        f"{whose}ridge_added": jnp.max(ridge_added, axis=-1),
    }


def fit_initial(x0: jax.Array, weights: jax.Array, minimum_variance: float | jax.Array) -> Gaussian:
    """Normal distribution of the initial state, entries independent.

    Args:
      x0: [N, dX]; rows of weight zero may hold anything.
      weights: [N], not negative, such as the validity of the samples. The result is not finite
        where a sample of positive weight is not.
      minimum_variance: [] or [dX], the least variance of an entry, squared task units, >= 0.

    Raises:
      ValueError: if shapes disagree, or minimum_variance is known while tracing and negative.
    """
    if x0.ndim != 2 or weights.shape != x0.shape[:1]:
        raise ValueError(f"x0 must be [N, dX] and weights [N], got {x0.shape}, {weights.shape}")
    if 0 in x0.shape:
        raise ValueError(f"x0 must have at least one sample of one entry, got {x0.shape}")
    known = not isinstance(minimum_variance, Tracer)
    if known and not np.all(np.asarray(minimum_variance) >= 0):
        raise ValueError(f"minimum_variance is {minimum_variance}; it has to be >= 0, usually 1e-6")
    weights = weights.astype(x0.dtype)
    x0 = jnp.where(weights[:, None] > 0, x0, 0.0)
    total = divisor(jnp.sum(weights))
    # Around the first sample: all samples often start in the same state.
    origin = x0[jnp.argmax(weights > 0)]
    offset = weights @ jnp.where(weights[:, None] > 0, x0 - origin, 0.0) / total
    variance = weights @ jnp.square(x0 - origin - offset) / total
    variance = jnp.maximum(variance, jnp.asarray(minimum_variance, x0.dtype))
    return Gaussian(mean=origin + offset, cov=jnp.diag(variance))


def _check_shapes(rollouts: Rollouts) -> None:
    x, u, valid = rollouts.x, rollouts.u, rollouts.valid
    if x.ndim != 3 or u.shape[:-1] != x.shape[:-1] or valid.shape != x.shape[:1]:
        raise ValueError(
            "rollouts of one condition must have x [N, T, dX], u [N, T, dU] and valid [N], "
            f"got {x.shape}, {u.shape}, {valid.shape}; vmap over conditions"
        )
    for name, size in (("trajectory", x.shape[0]), ("entry of the state", x.shape[2])):
        if size == 0:
            raise ValueError(f"rollouts must have at least one {name}, got x {x.shape}")
    if x.shape[1] < 2:
        raise ValueError(f"rollouts must have at least 2 steps to fit dynamics, got {x.shape[1]}")


def _check_prior_steps(prior: NormalInverseWishart | None, horizon: int) -> None:
    if prior is not None and prior.mean.ndim == 2 and prior.mean.shape[0] != horizon - 1:
        raise ValueError(
            f"the prior has {prior.mean.shape[0]} steps but rollouts of {horizon} steps have "
            f"{horizon - 1} transitions; evaluate it on these rollouts"
        )
