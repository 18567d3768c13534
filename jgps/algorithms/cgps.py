"""Constrained guided policy search: trajectories on known dynamics that one network can follow.

    a few times:  search trajectories by iLQG alone
    repeat:       q_c <- argmin E[cost] - w entropy + w sum_t lambda_t KL_t, by iLQG about its
                         trajectory, where KL_t = E_q(x_t)[KL(pi(u|x) || q_c(u|x))]
                  pi  <- argmin sum_c,t lambda_t KL_t over states of q_c's rollouts
                  lambda_t <- lambda_t + alpha KL_t

For the constraint KL_t = 0: with it the network does what the trajectories do, in the states that
they lead to, and their cost is its own. In the mean of q_c the term is a quadratic pull to the
network with the precision lambda_t of its own covariance; the covariance has a closed form.

Where it departs from the published form, and why:
- The divergence is measured at the states of rollouts and not under a Gaussian of linear models: a
  network is not linear as far as the noise reaches.
- Actions have limits, in the search and where network and trajectories are compared.

Source: Levine & Koltun (2014), "Learning complex neural network policies with trajectory
optimization".
"""

import dataclasses
import functools
from typing import Annotated

import jax
import jax.numpy as jnp

from jgps.core import kl_constraint
from jgps.core.checks import Range, refuse
from jgps.core.types import Controller
from jgps.optimise.algorithm import Algorithm, Metrics
from jgps.optimise.factory import factory
from jgps.optimise.guided.searched import Constraint, SearchedConfig, Seen, make_searched
from jgps.optimise.guided.trajectory_search import Pull
from jgps.optimise.models import default_dtype
from jgps.policies import Supervision
from jgps.tasks import Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class CgpsConfig(SearchedConfig):
    """Settings of `cgps`.

    Attributes:
      initial_multiplier: lambda of every step to begin with, > 0: what a nat of divergence counts
        beside one of entropy.
      max_multiplier: what lambda may come to, at least the initial one.
      dual_rate: alpha, >= 0, by which lambda grows for a nat of divergence; 0 leaves it.
      max_growth: by which share lambda grows in an iteration at the most, > 0. An untrained network
        is far away, which says nothing of what it can learn.
      outlier_bound: see `SearchedConfig`; one rollout that misses a swing is otherwise most of the
        divergence.
      others: see `SearchedConfig`.
    """

    initial_multiplier: Annotated[float, Range("> 0", "usually 1")] = 1.0
    max_multiplier: Annotated[float, Range("> 0", "usually 100 to 1e4")] = 1e3
    dual_rate: Annotated[float, Range(">= 0", "usually 10 to 1000")] = 300.0
    max_growth: Annotated[float, Range("> 0", "usually 0.05 to 0.5")] = 0.2
    outlier_bound: Annotated[float, Range("> 0", "usually 1 to 3 standard deviations")] = 1.0

    def __post_init__(self) -> None:
        if self.max_multiplier < self.initial_multiplier:
            limit = f"at least initial_multiplier {self.initial_multiplier}"
            refuse(self, "max_multiplier", limit)


@factory
def cgps(task: Task, config: CgpsConfig = CgpsConfig(), backend: str = "auto") -> Algorithm:
    """The algorithm on a task; see the file's head for what it does.

    Raises:
      ValueError: for an unknown backend, and for a task whose network does not observe the state,
        or whose state does not tell where the simulation is.
    """
    shape = task.train.num, task.horizon
    constraint = Constraint(
        first=lambda: jnp.full(shape, config.initial_multiplier, default_dtype()),
        pull=functools.partial(_pull, config),
        cov=functools.partial(_cov, config),
        supervise=_supervise,
        step=functools.partial(_step, config),
    )
    return make_searched(task, config, backend, constraint)


def _pull(config: CgpsConfig, multipliers: jax.Array, controllers: Controller) -> Pull:
    precision = kl_constraint.pull(multipliers, controllers.C, config.entropy_weight)
    return Pull(precision, jnp.zeros_like(controllers.k))


def _cov(
    config: CgpsConfig,
    multipliers: jax.Array,
    curvature: jax.Array,
    policy_cov: jax.Array,
    seen: Seen,
) -> jax.Array:
    held = jnp.where(seen.trained, multipliers, 0)
    moment = policy_cov + seen.squared_gap
    return kl_constraint.constrained_cov(curvature, held, moment, config.entropy_weight)


def _supervise(
    multipliers: jax.Array, controllers: Controller, supervision: Supervision
) -> Supervision:
    """Every step counts by its multiplier, and every error by the step's own precision."""
    del controllers
    return supervision._replace(weight=supervision.weight * multipliers[:, None])


def _step(
    config: CgpsConfig,
    multipliers: jax.Array,
    controllers: Controller,
    policy_cov: jax.Array,
    seen: Seen,
) -> tuple[jax.Array, Metrics]:
    moment = policy_cov + seen.squared_gap
    kl = kl_constraint.divergence(controllers.C, moment, policy_cov)
    raised = multipliers + jnp.minimum(config.dual_rate * kl, config.max_growth * multipliers)
    metrics = {
        "policy_kl": jnp.sum(kl, axis=1),
        "policy_violation": jnp.mean(kl, axis=1),
        "multiplier": jnp.mean(multipliers, axis=1),
    }
    return jnp.minimum(raised, config.max_multiplier), metrics
