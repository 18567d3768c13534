"""What a network is to imitate, and how its training went."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jgps.core.types import OK, Status
from jgps.policies import observation
from jgps.policies.policy import NetworkPolicy


class Supervision(NamedTuple):
    """What to imitate, rows of C conditions, N trajectories each, T steps."""

    o: Any  # [C, N, T, dO], or named arrays [C, N, T, ...]: an `Observation`
    target: jax.Array  # [C, N, T, dU]
    precision: jax.Array  # [C, T, dU, dU], P = C_t^-1 of the controllers
    weight: jax.Array  # [C, N, T], >= 0; rows of weight zero may hold anything
    # [C, T, dU, dO] or [C, N, T, dU, dO], how the target changes with o (its vector), of any float;
    # None if unknown
    gain: jax.Array | None = None
    # [dO] bool, of which entries of o that is known, the others' columns being zero; None is all
    known: jax.Array | None = None


class DistilInfo(NamedTuple):
    """How the training went; losses are means per weighted row, in nats."""

    loss_before: jax.Array  # [] on all rows, with the parameters to begin with
    loss: jax.Array  # [] on all rows, with the parameters that were chosen
    loss_validation: jax.Array  # [] on the held-out trajectories; NaN without any
    gradient_norm: jax.Array  # [] the largest of the training, before clipping
    status: Status


def no_training(dtype: Any) -> DistilInfo:
    """What there is to say of a training that did not happen: NaN, and a status that is OK."""
    none = jnp.full((), jnp.nan, dtype)
    status = Status(code=jnp.asarray(OK, jnp.int32), step=jnp.asarray(-1, jnp.int32))
    return DistilInfo(none, none, none, none, status)


def check_shapes(policy: NetworkPolicy, supervision: Supervision) -> None:
    """Refuses rows that do not fit each other or the policy.

    Raises:
      ValueError: names what does not fit.
    """
    o, target = observation.vector(supervision.o), supervision.target
    num, samples, horizon, dU = target.shape
    if isinstance(supervision.o, Mapping):
        for name, leaf in supervision.o.items():
            if leaf.shape[:3] != (num, samples, horizon):
                raise ValueError(
                    f"supervision.o[{name!r}] must be {(num, samples, horizon, '...')}, got "
                    f"{leaf.shape}"
                )
        supervision = supervision._replace(o=o)
    expected = {
        "o": (num, samples, horizon, o.shape[-1]),
        "precision": (num, horizon, dU, dU),
        "weight": (num, samples, horizon),
    }
    if supervision.gain is not None:
        lead = (num, samples) if supervision.gain.ndim == 5 else (num,)
        expected["gain"] = (*lead, horizon, dU, o.shape[-1])
    if supervision.known is not None:
        expected["known"] = o.shape[-1:]
    for name, shape in expected.items():
        if getattr(supervision, name).shape != shape:
            raise ValueError(
                f"supervision.{name} must be {shape}, got {getattr(supervision, name).shape}"
            )
    if policy.cov.shape != (dU, dU):
        raise ValueError(f"the policy's actions are {policy.cov.shape[0]}, the targets' {dU}")
