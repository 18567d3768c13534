"""Unpadded convolutions whose gradients are quick inside a scan on a CPU.

XLA's CPU compiler makes of the gradient of a convolution inside a loop code that is ten times
slower than outside of one, and a training is a loop. Written as products of patches it is not.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp


def convolution(
    x: jax.Array, kernel: jax.Array, strides: Any, padding: Any, **settings: Any
) -> jax.Array:
    """As `jax.lax.conv_general_dilated` of NHWC images, for `flax.linen.Conv`.

    Args:
      x: [B, H, W, C].
      kernel: [k, k, C, K].
      strides: the same twice.
      padding: none.
      settings: for where the gradient is left to JAX.
    """
    if jax.default_backend() == "cpu":
        return _convolution(x, kernel, strides[0])
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, **settings)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolution(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    return _convolve(x, kernel, (stride, stride), "VALID")


def _convolve(x: jax.Array, kernel: jax.Array, strides: Any, padding: Any, **more: Any):
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=numbers, **more
    )


def _forward(x: jax.Array, kernel: jax.Array, stride: int):
    return _convolution(x, kernel, stride), (x, kernel)


def _backward(stride: int, kept: tuple[jax.Array, jax.Array], gradient: jax.Array):
    x, kernel = kept
    return _of_input(x, kernel, stride, gradient), _of_kernel(x, kernel, stride, gradient)


def _of_input(x: jax.Array, kernel: jax.Array, stride: int, gradient: jax.Array) -> jax.Array:
    """The gradient convolved with the kernel turned about; rows that no window reached get none."""
    turned = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    size, reached = kernel.shape[0], [stride * (n - 1) for n in gradient.shape[1:3]]
    padding = [
        (size - 1, whole - 1 - end) for whole, end in zip(x.shape[1:3], reached, strict=True)
    ]
    return _convolve(gradient, turned, (1, 1), padding, lhs_dilation=(stride, stride))


def _of_kernel(x: jax.Array, kernel: jax.Array, stride: int, gradient: jax.Array) -> jax.Array:
    """One product per row of the kernel, of patches with the gradient."""
    size, _, channels, width = kernel.shape
    height, breadth = (stride * (n - 1) + 1 for n in gradient.shape[1:3])
    flat = gradient.reshape(-1, width)

    def one_row(i: int) -> jax.Array:
        rows = x[:, i : i + height : stride]
        patches = [rows[:, :, j : j + breadth : stride] for j in range(size)]
        patches = jnp.concatenate(patches, axis=-1).reshape(-1, size * channels)
        return (patches.T @ flat).reshape(size, channels, width)

    return jnp.stack([one_row(i) for i in range(size)])


_convolution.defvjp(_forward, _backward)
