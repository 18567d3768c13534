"""What older rollouts still say: how likely today's controllers would have come there."""

import jax
import jax.numpy as jnp

from jgps.algorithms.guided_state import GuidedState, recent
from jgps.algorithms.projection import targets
from jgps.core import linalg
from jgps.core.types import Controller
from jgps.policies import Supervision


def log_prob_before(controllers: Controller, x: jax.Array, u: jax.Array) -> jax.Array:
    """Log density [C, N, T] under controllers of the actions u [C, N, T, dU] before each step.

    As if their noise were white: that it is smooth in time would change it for all controllers.
    """

    def one(controller: Controller, x: jax.Array, u: jax.Array) -> jax.Array:
        precision, log_det, _ = linalg.inverse_psd(controller.C)
        gap = u - (jnp.einsum("tij,ntj->nti", controller.K, x) + controller.k)
        distance = jnp.einsum("nti,tij,ntj->nt", gap, precision, gap)
        each = -0.5 * (distance + log_det)
        return jnp.cumsum(each, axis=-1) - each

    with jax.default_matmul_precision("highest"):
        return jax.vmap(one)(controllers, x, u)


def reused(state: GuidedState, drew: Controller, iterations: int) -> Supervision:
    """Targets at the states of several iterations' rollouts, weighted by importance.

    Args:
      drew: the controllers that drew the newest ones, which count fully.

    Source: Levine & Koltun (2013); the ratio is truncated at 1 (Ionides 2008), which bounds its
    variance.
    """
    history = recent(state, iterations)
    labelled = targets(state, history)
    ratio = log_prob_before(drew, history.x, history.u) - history.log_prob
    weight = jnp.exp(jnp.minimum(jnp.where(jnp.isfinite(ratio), ratio, -jnp.inf), 0))
    return labelled._replace(weight=labelled.weight * weight)
