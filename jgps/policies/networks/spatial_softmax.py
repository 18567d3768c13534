"""Where a channel of a convolutional network is active: the mean position under a softmax."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jgps.core.one_program import one_program


@one_program()
def spatial_softmax(maps: jax.Array, temperature: jax.Array | float = 1.0) -> jax.Array:
    """Expected position of every channel under softmax(maps / temperature) over all positions.

    Args:
      maps: [..., H, W, K], computed with at least float32 precision whatever the dtype.
      temperature: > 0, [] or [K]; small ones come close to the position of the maximum.

    Returns:
      [..., 2K], in the order x_0, y_0, x_1, y_1, ... (`.reshape(..., K, 2)` gives points); x grows
      along W to the right and y along H downwards, from -1 at the first position's centre to 1 at
      the last one's. An axis of one position has coordinate 0.

    Raises:
      ValueError: while tracing, with fewer than three axes.

    Source: Levine et al. (2016), section 5.1.
    """
    if maps.ndim < 3:
        raise ValueError(f"maps must have axes [..., H, W, K], got shape {maps.shape}")
    height, width, channels = maps.shape[-3:]
    logits = maps.astype(jnp.promote_types(maps.dtype, jnp.float32)) / temperature
    top = jax.lax.stop_gradient(jnp.max(logits, axis=(-3, -2), keepdims=True))
    mass = jnp.exp(logits - top)
    x, y = (_coordinates(size, mass.dtype) for size in (width, height))
    total = jnp.sum(mass, axis=(-3, -2))
    # The mean over one axis needs only the sums over the other.
    mean_x = jnp.sum(jnp.sum(mass, axis=-3) * x[:, None], axis=-2) / total
    mean_y = jnp.sum(jnp.sum(mass, axis=-2) * y[:, None], axis=-2) / total
    return jnp.stack([mean_x, mean_y], axis=-1).reshape(*maps.shape[:-3], 2 * channels)


def _coordinates(size: int, dtype: jnp.dtype) -> jax.Array:
    return jnp.linspace(-1, 1, size, dtype=dtype) if size > 1 else jnp.zeros(1, dtype)


class SpatialSoftmax(nn.Module):
    """`spatial_softmax` as a layer.

    Attributes:
      learned_temperature: one temperature for all channels, exp of a parameter that starts at 0;
        otherwise it is 1 and the layer has no parameters.
    """

    learned_temperature: bool = False

    @nn.compact
    def __call__(self, maps: jax.Array) -> jax.Array:
        """Feature points [..., 2K] of maps [..., H, W, K]."""
        if not self.learned_temperature:
            return spatial_softmax(maps)
        log_temperature = self.param("log_temperature", nn.initializers.zeros, ())
        return spatial_softmax(maps, jnp.exp(log_temperature))
