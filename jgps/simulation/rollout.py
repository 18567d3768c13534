"""Closed-loop sampling of one task on either backend."""

from typing import Literal, NamedTuple, cast

import jax

from jgps.core.names import unknown
from jgps.simulation.conditions import Conditions, check_conditions
from jgps.simulation.native import make_native_sample
from jgps.simulation.system import Policy, Sample, System

Backend = Literal["native", "mjx"]
BACKENDS: tuple[Backend, ...] = ("native", "mjx")


class Sampler(NamedTuple):
    """Rolls a policy out in every condition.

    `sample(params, noise)` takes params with leading axes [C, ...] (every sample of a condition
    has the same), or `Shared` by all conditions, and noise [C, N, T, dU] in units of the policy's
    standard deviation. `sample(params, noise, starts)` begins each rollout at a pose of its own.
    """

    sample: Sample
    jittable: bool  # whether `sample` can be traced (mjx) or leaves JAX (native)


def resolve_backend(name: str) -> Backend:
    """Turns "auto" into the backend that suits this machine.

    Raises:
      ValueError: for an unknown name.
    """
    if name == "auto":
        return "native" if jax.default_backend() == "cpu" else "mjx"
    if name not in BACKENDS:
        raise ValueError(unknown("backend", name, ("auto", *BACKENDS)))
    return cast(Backend, name)


def make_sampler(
    system: System, conditions: Conditions, policy: Policy, backend: Backend
) -> Sampler:
    """A sampler of closed-loop rollouts on the given backend.

    Raises:
      ValueError: if the conditions don't fit the model, or the backend can't simulate it.
    """
    conditions = check_conditions(system.model, conditions)
    if backend == "native":
        return Sampler(make_native_sample(system, conditions, policy), jittable=False)
    # MJX takes a second to import, and says on the terminal what it could not find.
    from jgps.simulation.mjx import make_mjx_sample

    return Sampler(make_mjx_sample(system, conditions, policy), jittable=True)
