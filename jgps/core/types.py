"""Bundles of arrays that every layer speaks.

One trajectory has no batch axes; callers `vmap`. Where a bundle is batched the axis order is
condition `C`, sample `N`, time `T`, features. `z = [x; u]` stacks state (dX) and action (dU).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Dynamics(NamedTuple):
    """Time-varying linear-Gaussian dynamics, x' ~ N(F z + f, W)."""

    F: jax.Array  # [T-1, dX, dX+dU]
    f: jax.Array  # [T-1, dX]
    W: jax.Array  # [T-1, dX, dX], symmetric positive semi-definite


class QuadraticCost(NamedTuple):
    """Cost 1/2 z'Hz + g'z + h at every step."""

    H: jax.Array  # [T, dX+dU, dX+dU], symmetric
    g: jax.Array  # [T, dX+dU]
    h: jax.Array  # [T]


class Controller(NamedTuple):
    """Time-varying linear-Gaussian controller, u ~ N(K x + k, C)."""

    K: jax.Array  # [T, dU, dX]
    k: jax.Array  # [T, dU]
    C: jax.Array  # [T, dU, dU], symmetric positive semi-definite


class Gaussian(NamedTuple):
    """Normal distribution."""

    mean: jax.Array  # [d]
    cov: jax.Array  # [d, d]


class Marginals(NamedTuple):
    """Distribution of z = [x; u] at every step."""

    mean: jax.Array  # [T, dX+dU]
    cov: jax.Array  # [T, dX+dU, dX+dU]


class QuadraticValue(NamedTuple):
    """Value function 1/2 x'V_xx x + v_x'x + v at every step."""

    V_xx: jax.Array  # [T, dX, dX]
    v_x: jax.Array  # [T, dX]
    v: jax.Array  # [T]


class Rollouts(NamedTuple):
    """Sampled trajectories; `x[t+1]` follows from `x[t]` and `u[t]`."""

    x: jax.Array  # [..., T, dX]
    u: jax.Array  # [..., T, dU]
    valid: jax.Array  # [...] bool: false where the simulator or the data were not finite


class Shared(NamedTuple):
    """Parameters that are the same in every condition, and so have no axis `C`."""

    value: Any


class Status(NamedTuple):
    """What went wrong inside a jitted computation, as data."""

    code: jax.Array  # [] int32, one of the constants below
    step: jax.Array  # [] int32, first failing step, -1 where there is none


OK = 0
NOT_PD = 1  # a matrix that has to be positive definite is not
NON_FINITE = 2  # NaN or infinity in input or result
NOT_CONVERGED = 3  # a search ended without meeting its tolerance
TOO_FEW_SAMPLES = 4  # fewer valid samples than the fit needs

STATUS_TEXT = {
    OK: "ok",
    NOT_PD: "not positive definite",
    NON_FINITE: "not finite",
    NOT_CONVERGED: "search did not converge",
    TOO_FEW_SAMPLES: "too few valid samples",
}


def describe(status: Status) -> str:
    """One line on a status of one problem, e.g. "not positive definite at step 6"."""
    text, step = STATUS_TEXT[int(status.code)], int(status.step)
    return f"{text} at step {step}" if step >= 0 else text


def ok_status() -> Status:
    """A status that reports success."""
    return Status(code=jnp.asarray(OK, jnp.int32), step=jnp.asarray(-1, jnp.int32))


def first_failure(failed: jax.Array, code: int) -> Status:
    """Status naming the first true entry of `failed` [T]; OK where there is none."""
    any_failed = jnp.any(failed)
    return Status(
        code=jnp.where(any_failed, code, OK).astype(jnp.int32),
        step=jnp.where(any_failed, jnp.argmax(failed), -1).astype(jnp.int32),
    )


def worst(*statuses: Status) -> Status:
    """The first status, in argument order, that is not OK; OK where all are."""
    result = statuses[-1]
    for status in reversed(statuses[:-1]):
        failed = status.code != OK
        result = Status(
            code=jnp.where(failed, status.code, result.code),
            step=jnp.where(failed, status.step, result.step),
        )
    return result


def promote(*bundles: Any) -> Any:
    """The bundles with every array in one floating dtype, by JAX's promotion rules.

    float32 with float64 gives float64 (where enabled), integers alone the default float.
    """
    dtype = jnp.result_type(*jax.tree.leaves(bundles), float)
    return jax.tree.map(lambda a: jnp.asarray(a, dtype), bundles)
