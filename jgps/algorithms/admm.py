"""Trajectories on known dynamics and one network agree by ADMM, feedback gains included.

    a few times:  search trajectories by iLQG alone
    repeat:       u_c <- argmin cost + rho/2 |u - pi(x) + y_c|^2, by iLQG about its trajectory
                  pi  <- argmin |pi(x) - u - y|^2 + g |dpi/dx - K|^2, at disturbed inputs x + e,
                         where the action to learn is u + y + K e, for K the gains of iLQG
                  y_c <- y_c + alpha (u_c - pi(x_c))

For the constraint u = pi(x) along all trajectories, y rho its multiplier. A trajectory shows one
action in each of its states; what the network is to do off its way its gains say.

Where it departs from the published form, and why:
- The duals are bounded, as in `badmm`: where one network can't do what all trajectories would, as
  on both sides of a choice, their sum grows without end.
- The network learns where the controllers' rollouts with a little noise go, beside the
  trajectories themselves.
- Actions have limits, in the search and where network and trajectories are compared.

Source: Mordatch & Todorov (2014), "Combining the benefits of function approximation and trajectory
optimization" (ADMM, feedback gains as targets); Mordatch, Lowrey, Andrew, Popovic & Todorov (2015),
"Interactive control of diverse complex characters with neural networks" (input noise); Boyd et al.
(2011), "Distributed optimization and statistical learning via the alternating direction method of
multipliers".
"""

import dataclasses
import functools
from typing import Annotated

import jax
import jax.numpy as jnp

from jgps.core import kl_constraint
from jgps.core.checks import Range
from jgps.core.types import Controller
from jgps.optimise.algorithm import Algorithm, Metrics
from jgps.optimise.factory import factory
from jgps.optimise.guided.projection import pooled
from jgps.optimise.guided.searched import Constraint, SearchedConfig, Seen, make_searched
from jgps.optimise.guided.trajectory_search import Pull
from jgps.optimise.models import default_dtype
from jgps.policies import DistilConfig, Supervision
from jgps.policies.learner import MlpConfig
from jgps.tasks import Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdmmConfig(SearchedConfig):
    """Settings of `admm`.

    Attributes:
      penalty: rho, > 0, cost per squared action.
      dual_rate: alpha, in [0, 1]; 1 takes the whole gap at once, 0 leaves the penalty alone.
      dual_bound: how far the duals may move what the network imitates, > 0, as a share of the root
        mean square of each action over all trajectories.
      policy: the network and how it learns; `DistilConfig.gain_weight` is g, and `input_noise` the
        deviation of e as a share of each input's spread.
      others: see `SearchedConfig`; the entropy's weight says how far rollouts with noise explore.
    """

    penalty: Annotated[float, Range("> 0", "usually 0.1 to 10")] = 1.0
    dual_rate: Annotated[float, Range("[0, 1]", "usually 1")] = 1.0
    dual_bound: Annotated[float, Range("> 0", "usually 0.3")] = 0.3
    entropy_weight: Annotated[float, Range("> 0", "usually 1e-3 to 0.1")] = 5e-3
    policy: MlpConfig = MlpConfig(
        hidden=(20, 20),
        activation="tanh",
        distil=DistilConfig(steps=600, learning_rate=3e-3, input_noise=0.1, gain_weight=0.01),
    )


@factory
def admm(task: Task, config: AdmmConfig = AdmmConfig(), backend: str = "auto") -> Algorithm:
    """The algorithm on a task; see the file's head for what it does.

    Raises:
      ValueError: for an unknown backend, and for a task whose network does not observe the state,
        or whose state does not tell where the simulation is.
    """
    shape = task.train.num, task.horizon, task.action_dim
    constraint = Constraint(
        first=lambda: jnp.zeros(shape, default_dtype()),
        pull=functools.partial(_pull, config),
        cov=functools.partial(_cov, config),
        supervise=_supervise,
        step=functools.partial(_step, config),
    )
    return make_searched(task, config, backend, constraint)


def _pull(config: AdmmConfig, duals: jax.Array, controllers: Controller) -> Pull:
    eye = jnp.eye(duals.shape[-1], dtype=duals.dtype)
    return Pull(jnp.broadcast_to(config.penalty * eye, controllers.C.shape), -duals)


def _cov(
    config: AdmmConfig,
    duals: jax.Array,
    curvature: jax.Array,
    policy_cov: jax.Array,
    seen: Seen,
) -> jax.Array:
    """That of the maximum entropy for the cost and the pull."""
    none = jnp.zeros(duals.shape[:2], duals.dtype)
    moment = jnp.broadcast_to(policy_cov, curvature.shape)
    return kl_constraint.constrained_cov(curvature, none, moment, config.entropy_weight)


def _supervise(duals: jax.Array, controllers: Controller, supervision: Supervision) -> Supervision:
    moved = supervision._replace(target=supervision.target + duals[:, None])
    return pooled(moved, controllers.C)


def _step(
    config: AdmmConfig,
    duals: jax.Array,
    controllers: Controller,
    policy_cov: jax.Array,
    seen: Seen,
) -> tuple[jax.Array, Metrics]:
    """By the gap along the trajectories themselves, within the bound."""
    valid = seen.rollouts.valid[:, -1]
    gap = jnp.where(valid[:, None, None], seen.gap[:, -1], 0)
    u = jnp.where(valid[:, None, None], seen.rollouts.u[:, -1], 0)
    count = jnp.maximum(jnp.sum(valid), 1) * u.shape[1]
    usual = jnp.sqrt(jnp.sum(jnp.square(u), axis=(0, 1)) / count)  # [dU]
    stepped = jnp.clip(
        duals - config.dual_rate * gap, -config.dual_bound * usual, config.dual_bound * usual
    )
    scale = jnp.where(usual > 0, usual, 1)
    metrics = {
        "policy_violation": jnp.mean(jnp.square(gap / scale), axis=(1, 2)),
        "dual_size": jnp.sqrt(jnp.mean(jnp.square(stepped / scale), axis=(1, 2))),
    }
    return stepped, metrics
