"""How much samples count that went elsewhere than the others: those that bounced off or diverged.

Controllers answer a state far from the others' with actions that are far from theirs. There the
local models say nothing, and a network that imitates such an action loses what it does elsewhere.
"""

import jax
import jax.numpy as jnp

from jgps.core import linalg
from jgps.core.types import Controller
from jgps.simulation import SimulationRollouts


def sample_weights(controllers: Controller, sampled: SimulationRollouts, bound: float) -> jax.Array:
    """What every sample counts at every step, [C, N, T]: 1 within the bound, and 0 if not valid.

    Further away it is (bound / d)^2, with d the distance of the controllers' mean action at its
    state from the median over the condition's valid samples, in standard deviations of the
    controllers. Beyond the bound a sample pulls the less the further away it is.

    Args:
      controllers: leaves [C, T, ...].
      sampled: their rollouts, [C, N, T, ...].
      bound: standard deviations; a large one counts all valid samples alike.

    Source: the weights of a truncated Cauchy M-estimator (Huber & Ronchetti 2009, section 4.8).
    """
    used = sampled.valid[..., None, None]
    precision, _, _ = linalg.inverse_psd(controllers.C)
    with jax.default_matmul_precision("highest"):
        action = jnp.einsum("ctij,cntj->cnti", controllers.K, jnp.where(used, sampled.x, 0))
        middle = jnp.nanmedian(jnp.where(used, action, jnp.nan), axis=1, keepdims=True)
        away = jnp.where(used, action - middle, 0)
        squared = jnp.einsum("cnti,ctij,cntj->cnt", away, precision, away)
    weight = jnp.square(bound / jnp.maximum(jnp.sqrt(jnp.maximum(squared, 0)), bound))
    return jnp.where(used[..., 0], weight, 0)
