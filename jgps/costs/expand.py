"""Quadratic expansion of a cost along sampled trajectories, by automatic differentiation."""

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from jgps.core import lapack, linalg
from jgps.core.checks import Config, OneOf
from jgps.core.types import (
    NON_FINITE,
    TOO_FEW_SAMPLES,
    QuadraticCost,
    Rollouts,
    Status,
    first_failure,
    worst,
)
from jgps.costs.parts import Cost
from jgps.costs.terms import horizon_of

PROJECTIONS = ("psd", "psd_per_sample", "none")


@dataclass(frozen=True, kw_only=True)
class ExpandConfig(Config):
    """How a cost that is not convex becomes a quadratic.

    Attributes:
      projection: "psd" raises negative eigenvalues of the samples' mean Hessian to zero. With
        "psd_per_sample" every sample's Hessian is projected before averaging: more curvature (and
        N times the work), because samples no longer cancel each other's negative parts. "none"
        leaves the Hessian indefinite.
    """

    projection: Annotated[str, OneOf(*PROJECTIONS)] = "psd"


class ExpandInfo(NamedTuple):
    """What the expansion met."""

    num_projected: jax.Array  # [] int32, steps at which an eigenvalue was raised
    # [], before projection, over steps (and samples, if per sample); infinite where none is usable.
    smallest_eigenvalue: jax.Array
    status: Status  # NON_FINITE: the cost or a derivative; TOO_FEW_SAMPLES: none is valid


class _Local(NamedTuple):
    """Cost near each sample: value + gradient'(z - z_n) + 1/2 (z - z_n)'hessian(z - z_n)."""

    value: jax.Array  # [N, T]
    gradient: jax.Array  # [N, T, d]
    hessian: jax.Array  # [N, T, d, d]


def evaluate(cost: Cost, x: jax.Array, u: jax.Array) -> jax.Array:
    """Cost of every step of every trajectory.

    Args:
      cost: any traceable function of (x [dX], u [dU], t int32) that returns a scalar.
      x: states, [..., T, dX].
      u: actions, [..., T, dU]. Different dtypes of x and u are promoted to one.

    Returns:
      [..., T].

    Raises:
      ValueError: while tracing, if shapes disagree or the cost does not return a scalar.
    """
    _check_shapes(cost, x, u)
    x, u = _one_dtype(x, u)
    scalar = _scalar(cost)
    times = jnp.arange(x.shape[-2], dtype=jnp.int32)
    over_time = jax.vmap(scalar)
    flat_x, flat_u = (a.reshape(-1, *a.shape[-2:]) for a in (x, u))
    values = jax.vmap(over_time, in_axes=(0, 0, None))(flat_x, flat_u, times)
    return values.reshape(x.shape[:-1])


@linalg.full_precision
def expand(
    cost: Cost, rollouts: Rollouts, config: ExpandConfig = ExpandConfig()
) -> tuple[QuadraticCost, ExpandInfo]:
    """Quadratic model of a cost, averaged over the valid samples of one condition.

    The cost is expanded to second order about every sample; the quadratics are averaged about the
    samples' mean trajectory, projected, and only then written in absolute z = [x; u], so that large
    coordinates do not cancel. A projection keeps value and gradient at the mean trajectory. Samples
    that are not valid may hold anything, NaN included.

    Args:
      cost: any twice differentiable function of (x [dX], u [dU], t int32) that returns a scalar.
      rollouts: x [N, T, dX], u [N, T, dU], valid [N]. Different dtypes of x and u are promoted
        to one.
      config: how an indefinite Hessian is treated.

    Returns:
      The quadratic, H [T, d, d], g [T, d], h [T] with d = dX + dU, and what was met. A step where a
      valid sample's cost or derivative is not finite is NaN throughout and named by the status; so
      is everything where no sample is valid.

    Raises:
      ValueError: while tracing, if shapes disagree or the cost does not return a scalar.
    """
    x, u, valid = rollouts
    _check_shapes(cost, x, u)
    if x.ndim != 3 or valid.shape != x.shape[:1]:
        raise ValueError(
            f"expand takes the rollouts of one condition, x [N, T, dX] and valid [N]; x has shape "
            f"{x.shape} and valid {valid.shape}. Use jax.vmap over conditions."
        )
    x, u = _one_dtype(x, u)
    valid = valid.astype(bool)
    z = jnp.concatenate([x, u], axis=-1)
    count = jnp.sum(valid).astype(z.dtype)
    mean = _mean(z, valid, count)
    z = jnp.where(valid[:, None, None], z, mean)

    local = _differentiate(cost, z, x.shape[-1])
    finite = _all_finite(local) & jnp.isfinite(mean).all(-1)
    status = worst(
        Status(
            code=jnp.where(count > 0, 0, TOO_FEW_SAMPLES).astype(jnp.int32),
            step=jnp.asarray(-1, jnp.int32),
        ),
        first_failure(jnp.any(~finite & valid[:, None], axis=0), NON_FINITE),
    )
    # eigh may not return on NaN; steps with one are overwritten at the end.
    local = jax.tree.map(lambda a: jnp.where(_expand_dims(finite, a.ndim), a, 0), local)
    usable = jnp.all(finite | ~valid[:, None], axis=0) & (count > 0)

    per_sample = config.projection == "psd_per_sample"
    lowest = jnp.inf
    projected = jnp.zeros(x.shape[1], bool)
    if per_sample:
        hessian, lowest, negative = _project(local.hessian)
        local = local._replace(hessian=hessian)
        lowest = jnp.min(jnp.where(valid[:, None], lowest, jnp.inf), axis=0)
        projected = jnp.any(negative & valid[:, None], axis=0)
    H, slope, level = _average(local, z - mean, valid, count)
    if config.projection == "psd":
        H, lowest, projected = _project(H)
    elif config.projection == "none":
        lowest = lapack.eigh(H)[0][..., 0]
    quadratic = _absolute(H, slope, level, mean)
    info = ExpandInfo(
        num_projected=jnp.sum(projected & usable, dtype=jnp.int32),
        smallest_eigenvalue=jnp.min(jnp.where(usable, lowest, jnp.inf)),
        status=status,
    )
    return jax.tree.map(
        lambda a: jnp.where(_expand_dims(usable, a.ndim), a, jnp.nan), quadratic
    ), info


def _differentiate(cost: Cost, z: jax.Array, dX: int) -> _Local:
    """Value, gradient and Hessian at every sample and step; forward over reverse."""
    scalar = _scalar(cost)

    def value_of(z, t):
        return scalar(z[:dX], z[dX:], t)

    def gradient_of(z, t):
        value, gradient = jax.value_and_grad(value_of)(z, t)
        return gradient, (value, gradient)

    def derivatives(z, t):
        hessian, (value, gradient) = jax.jacfwd(gradient_of, has_aux=True)(z, t)
        return _Local(value=value, gradient=gradient, hessian=linalg.symmetrise(hessian))

    times = jnp.arange(z.shape[1], dtype=jnp.int32)
    return jax.vmap(jax.vmap(derivatives), in_axes=(0, None))(z, times)


def _average(
    local: _Local, deviation: jax.Array, valid: jax.Array, count: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Mean of the samples' quadratics: Hessian, and gradient and value at the mean trajectory."""
    bend = jnp.einsum("ntij,ntj->nti", local.hessian, deviation)
    slopes = local.gradient - bend
    levels = local.value - jnp.sum(deviation * (local.gradient - 0.5 * bend), axis=-1)
    H = _mean(local.hessian, valid, count)
    return H, _mean(slopes, valid, count), _mean(levels, valid, count)


def _absolute(H: jax.Array, slope: jax.Array, level: jax.Array, mean: jax.Array) -> QuadraticCost:
    """The quadratic level + slope'(z - mean) + 1/2 (z - mean)'H(z - mean), written in z."""
    bend = jnp.einsum("tij,tj->ti", H, mean)
    return QuadraticCost(
        H=H, g=slope - bend, h=level - jnp.sum(mean * (slope - 0.5 * bend), axis=-1)
    )


def _project(H: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """PSD projection of H [..., d, d], its smallest eigenvalue, and where it was negative.

    Rounding leaves eigenvalues of a semi-definite matrix slightly below zero; such a matrix is
    left as it is, so that quadratic costs come out exactly.
    """
    eigenvalues, vectors = lapack.eigh(H)
    largest = jnp.max(jnp.abs(eigenvalues), axis=-1)
    negative = eigenvalues[..., 0] < -H.shape[-1] * jnp.finfo(H.dtype).eps * largest
    raised = jnp.maximum(eigenvalues, 0)
    projected = linalg.symmetrise((vectors * raised[..., None, :]) @ linalg.transpose(vectors))
    return jnp.where(negative[..., None, None], projected, H), eigenvalues[..., 0], negative


def _mean(values: jax.Array, valid: jax.Array, count: jax.Array) -> jax.Array:
    """Mean over valid samples, the first axis; zero where there is none."""
    kept = jnp.where(_expand_dims(valid, values.ndim), values, 0)
    return jnp.sum(kept, axis=0) / jnp.maximum(count, 1)


def _all_finite(local: _Local) -> jax.Array:
    """[N, T]."""
    return (
        jnp.isfinite(local.value)
        & jnp.isfinite(local.gradient).all(-1)
        & jnp.isfinite(local.hessian).all((-1, -2))
    )


def _expand_dims(mask: jax.Array, ndim: int) -> jax.Array:
    return mask.reshape(mask.shape + (1,) * (ndim - mask.ndim))


def _scalar(cost: Cost) -> Cost:
    """The cost, refusing anything but one real number while tracing."""

    def checked(x, u, t):
        value = cost(x, u, t)
        leaves = jax.tree.leaves(value)
        if len(leaves) != 1 or jax.tree.structure(value) != jax.tree.structure(0.0):
            raise ValueError(
                f"the cost returned {type(value).__name__}; it has to return one scalar."
            )
        shape, dtype = jnp.shape(value), jnp.result_type(value)
        if shape != () or jnp.issubdtype(dtype, jnp.complexfloating):
            raise ValueError(
                f"the cost returned an array of shape {shape} and type {dtype}; it has to return "
                "one real scalar for one step (x [dX], u [dU]). Sum over entries."
            )
        return jnp.asarray(value).astype(x.dtype)

    return checked


def _one_dtype(x: jax.Array, u: jax.Array) -> tuple[jax.Array, jax.Array]:
    dtype = jnp.promote_types(x.dtype, u.dtype)
    return x.astype(dtype), u.astype(dtype)


def _check_shapes(cost: Cost, x: jax.Array, u: jax.Array):
    if x.ndim < 2 or u.ndim < 2 or x.shape[:-1] != u.shape[:-1]:
        raise ValueError(
            f"x has shape {x.shape} and u {u.shape}; they have to be [..., T, dX] and [..., T, dU] "
            "with the same leading axes."
        )
    horizon = horizon_of(cost)
    if horizon is not None and horizon != x.shape[-2]:
        raise ValueError(
            f"the cost was built for {horizon} steps but the trajectories have {x.shape[-2]}; "
            "build its ramps and waypoints for this horizon."
        )
