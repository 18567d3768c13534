"""A controller to start from that knows nothing of joints: noise around zero action."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jgps.core.types import Controller


@dataclass(frozen=True, kw_only=True)
class NoiseConfig:
    """Settings of `pure_noise`.

    Attributes:
      variance: of the actions, in squared actuator units, > 0; one for all or one per actuator.
    """

    variance: float | tuple[float, ...] = 1.0

    def __post_init__(self):
        values = self.variance if isinstance(self.variance, tuple) else (self.variance,)
        if not all(math.isfinite(value) and value > 0 for value in values):
            raise ValueError(
                f"NoiseConfig.variance is {self.variance}; it has to be finite and > 0."
            )


def pure_noise(x0: jax.Array, dU: int, T: int, config: NoiseConfig = NoiseConfig()) -> Controller:
    """Controller u ~ N(0, variance) at every step, whatever the state x0 [dX].

    Raises:
      ValueError: if `variance` has neither one entry nor dU.
    """
    x0 = jnp.asarray(x0)
    variance = jnp.atleast_1d(jnp.asarray(config.variance, x0.dtype))
    if variance.size not in (1, dU):
        raise ValueError(
            f"NoiseConfig.variance has {variance.size} entries; it has to have 1 or "
            f"one per actuator, {dU}."
        )
    return Controller(
        K=jnp.zeros((T, dU, x0.shape[0]), x0.dtype),
        k=jnp.zeros((T, dU), x0.dtype),
        C=jnp.broadcast_to(jnp.diag(jnp.broadcast_to(variance, (dU,))), (T, dU, dU)),
    )
