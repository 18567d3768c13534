"""Closed-loop sampling of one task on any backend."""

from typing import Literal, NamedTuple, cast

import jax

from jgps.core.names import unknown
from jgps.simulation.analytic import draws_only, make_analytic_sample
from jgps.simulation.conditions import Conditions, check_conditions
from jgps.simulation.native import make_native_sample
from jgps.simulation.sensing import check_observed
from jgps.simulation.system import Policy, Sample, System

Backend = Literal["native", "mjx", "analytic"]
BACKENDS: tuple[Backend, ...] = ("native", "mjx", "analytic")


class Sampler(NamedTuple):
    """Rolls a policy out in every condition.

    `sample(params, noise)` takes params with leading axes [C, ...] (every sample of a condition
    has the same), or `Shared` by all conditions, and noise [C, N, T, dU] in units of the policy's
    standard deviation. `sample(params, noise, starts)` begins each rollout at a pose of its own.
    """

    sample: Sample
    jittable: bool  # whether `sample` can be traced, or leaves JAX as native does


def resolve_backend(name: str, system: System | None = None) -> Backend:
    """Turns "auto" into the backend that suits the task and this machine.

    Args:
      name: "native", "mjx", "analytic" or "auto", which is "analytic" where the task has dynamics.
      system: of the task; None is one without dynamics, of which any name is taken.

    Raises:
      ValueError: for an unknown name, or a backend that can't roll this task out.
    """
    model = None if system is None or system.dynamics is None else system.model
    if name == "auto":
        if model is not None:
            return "analytic"
        return "native" if jax.default_backend() == "cpu" else "mjx"
    if name not in BACKENDS:
        raise ValueError(unknown("backend", name, ("auto", *BACKENDS)))
    if name == "analytic" and system is not None and model is None:
        raise ValueError(
            "backend is 'analytic', which computes the known dynamics of a task, and this task has "
            "none; use 'native' or 'mjx'"
        )
    if name != "analytic" and model is not None and draws_only(model):
        raise ValueError(
            f"backend is {name!r}, but no actuator of this task's model exerts a force: the model "
            "draws what the task's dynamics compute; use 'analytic' or 'auto'"
        )
    return cast(Backend, name)


def make_sampler(
    system: System, conditions: Conditions, policy: Policy, backend: Backend
) -> Sampler:
    """A sampler of closed-loop rollouts on the given backend.

    Raises:
      ValueError: if the conditions don't fit the model, or the backend can't simulate it.
    """
    conditions = check_conditions(system.model, conditions)
    check_observed(conditions.sensing, system.observation)
    if backend == "analytic":
        return Sampler(make_analytic_sample(system, conditions, policy), jittable=True)
    if backend == "native":
        return Sampler(make_native_sample(system, conditions, policy), jittable=False)
    # MJX takes a second to import, and says on the terminal what it could not find.
    from jgps.simulation.mjx import make_mjx_sample

    return Sampler(make_mjx_sample(system, conditions, policy), jittable=True)
