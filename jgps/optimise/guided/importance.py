"""What older rollouts still say: how likely today's controllers would have come there."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jgps.core import linalg
from jgps.core.types import Controller
from jgps.optimise.guided.history import recent
from jgps.optimise.guided.projection import targets
from jgps.optimise.guided.state import GuidedState
from jgps.policies import Supervision


def log_prob_before(
    controllers: Controller, x: jax.Array, u: jax.Array, smoothing: float
) -> jax.Array:
    """Log density [C, N, T] under controllers of the actions u [C, N, T, dU] before each step.

    Noise that is smooth in time is taken for one independent draw in as many steps as it is
    correlated over. Its own density would know it far better than controllers differ smoothly.

    Args:
      smoothing: of the noise, steps, see `controllers.noise`.
    """
    apart = np.arange(1, math.ceil(8 * smoothing) + 1)
    correlated = 1 + 2 * np.sum(np.exp(-np.square(apart / (2 * smoothing)))) if smoothing else 1.0

    def one(controller: Controller, x: jax.Array, u: jax.Array) -> jax.Array:
        precision, log_det, _ = linalg.inverse_psd(controller.C)
        gap = u - (jnp.einsum("tij,ntj->nti", controller.K, x) + controller.k)
        distance = jnp.einsum("nti,tij,ntj->nt", gap, precision, gap)
        each = -0.5 * (distance + log_det) / correlated
        return jnp.cumsum(each, axis=-1) - each

    with jax.default_matmul_precision("highest"):
        return jax.vmap(one)(controllers, x, u)


def reused(state: GuidedState, drew: Controller, iterations: int, smoothing: float) -> Supervision:
    """Targets at the states of several iterations' rollouts, weighted by importance.

    Args:
      drew: the controllers that drew the newest ones, which count fully.
      smoothing: of the noise that all were drawn with, steps.

    Source: Levine & Koltun (2013); the ratio is truncated at 1 (Ionides 2008), which bounds its
    variance.
    """
    assert state.history is not None
    history = recent(state.history, state.iteration, iterations)
    labelled = targets(state, history)
    ratio = log_prob_before(drew, history.x, history.u, smoothing) - history.log_prob
    weight = jnp.exp(jnp.minimum(jnp.where(jnp.isfinite(ratio), ratio, -jnp.inf), 0))
    return labelled._replace(weight=labelled.weight * weight)
