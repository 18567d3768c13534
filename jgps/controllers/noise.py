"""Exploration noise that is smooth in time."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jgps.core.one_program import one_program

# The Gaussian kernel is cut here; what is left out weighs 6e-5.
KERNEL_REACH = 4.0


def exploration_noise(
    key: jax.Array,
    num: int,
    T: int,
    dU: int,
    smoothing: float = 2.0,
    *,
    renormalise: bool = True,
    dtype=jnp.float32,
) -> jax.Array:
    """Gaussian noise of unit variance, smoothed over time by a Gaussian kernel.

    White noise is convolved with exp(-j^2 / (2 smoothing^2)), scaled so that every value has
    variance 1 and two values j steps apart correlate as exp(-j^2 / (4 smoothing^2)), at the ends
    of the horizon too. Every sample and actuator is then divided by its own root mean square over
    time, so that no sample explores less than another; no value then exceeds sqrt(T).

    Args:
      key: consumed once.
      num: number of samples, >= 1.
      T, dU: steps and actuators, >= 1.
      smoothing: standard deviation of the kernel in steps, >= 0; 0 is white noise as drawn.
      renormalise: divide by the root mean square over time; False leaves exactly Gaussian values.
        Needs smoothing <= T: beyond, every sample is hardly more than the constant 1 or -1.
      dtype: of the result.

    Returns:
      [num, T, dU].

    Raises:
      ValueError: on a value out of range.

    Source: the sampling of Levine et al. (2016), code release.
    """
    for field, value in (("num", num), ("T", T), ("dU", dU)):
        if value < 1:
            raise ValueError(f"exploration_noise {field} is {value}; it has to be >= 1.")
    if not (math.isfinite(smoothing) and smoothing >= 0):
        raise ValueError(
            f"exploration_noise smoothing is {smoothing}; it has to be finite and >= 0, in steps. "
            "Use 0 for white noise."
        )
    if renormalise and smoothing > T:
        raise ValueError(
            f"exploration_noise smoothing is {smoothing} steps for a horizon of {T}; it has to be "
            "<= the horizon. Lower FixedStartsConfig.noise_smoothing, or pass renormalise=False."
        )
    settings = int(num), int(T), int(dU), float(smoothing), bool(renormalise), jnp.dtype(dtype)
    return _exploration_noise(key, *settings)


@one_program("num", "T", "dU", "smoothing", "renormalise", "dtype")
def _exploration_noise(
    key: jax.Array, num: int, T: int, dU: int, smoothing: float, renormalise: bool, dtype
) -> jax.Array:
    if smoothing == 0:
        return jax.random.normal(key, (num, T, dU), dtype)
    reach = math.ceil(KERNEL_REACH * smoothing)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / smoothing) ** 2)
    kernel = jnp.asarray(kernel / np.linalg.norm(kernel), dtype)
    # Drawn longer than the horizon, so that its ends are smoothed like the rest.
    white = jax.random.normal(key, (num, dU, T + 2 * reach), dtype)
    smooth = jnp.vectorize(_convolve, signature="(n),(k)->(m)")(white, kernel)
    if renormalise:
        # About zero, not about the sample's mean: a short sample hardly leaves its own mean.
        mean_square = jnp.mean(jnp.square(smooth), axis=-1, keepdims=True)
        smooth = smooth / jnp.sqrt(mean_square)
    return jnp.swapaxes(smooth, 1, 2)


def _convolve(values: jax.Array, kernel: jax.Array) -> jax.Array:
    return jnp.convolve(values, kernel, mode="valid", precision=jax.lax.Precision.HIGHEST)
