"""Unpadded convolutions that are quick on a CPU, and so are their gradients.

XLA's CPU compiler (0.10 to 0.12) gives convolutions without padding to a library that takes five to
ten times as long for these sizes as its own code, which it uses where there is padding. So they are
padded at the end, and what comes of that is cut off again.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

TOGETHER = 4  # images, in the gradient of a kernel: best of 4, 8, 16 and 32 or nearly, on 2 cores


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

    Raises:
      ValueError: while tracing, for other kernels, strides or padding.
    """
    square = kernel.shape[0] == kernel.shape[1] and len(set(strides)) == 1
    if not square or (padding != "VALID" and any(map(any, padding))):
        raise ValueError(
            f"kernel {kernel.shape[:2]}, strides {tuple(strides)}, padding {padding}: it has to be "
            "square, with one stride, without padding"
        )
    if jax.default_backend() == "cpu":
        return _convolution(x, kernel, strides[0])
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, **settings)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolution(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    size = [(n - kernel.shape[0]) // stride + 1 for n in x.shape[1:3]]
    return _convolve(x, kernel, (stride, stride), size)


def _convolve(
    x: jax.Array, kernel: jax.Array, strides: tuple[int, int], size: list[int], **more: Any
) -> jax.Array:
    """The first rows and columns, `size` of them, of one that is padded by a row."""
    padded = jax.lax.conv_general_dilated(
        x, kernel, strides, [(0, strides[0]), (0, 0)],
        dimension_numbers=("NHWC", "HWIO", "NHWC"), **more,
    )  # fmt: skip
    return padded[:, : size[0], : size[1]]


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
    return jax.lax.conv_general_dilated(
        gradient, turned, (1, 1), padding, (stride, stride),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip


def _of_kernel(x: jax.Array, kernel: jax.Array, stride: int, gradient: jax.Array) -> jax.Array:
    """A few images at a time, added up: all at once takes longer, with 64 images up to thrice."""
    times = max(-(-x.shape[0] // TOGETHER), 1)
    together = -(-x.shape[0] // times)
    missing = times * together - x.shape[0]
    some = [
        jnp.pad(a, ((0, missing), (0, 0), (0, 0), (0, 0))).reshape(times, together, *a.shape[1:])
        for a in (x, gradient)
    ]

    def add(total: jax.Array, images: list[jax.Array]):
        x, gradient = images
        if stride > 1:
            return total + _of_strided_kernel(x, kernel, stride, gradient), None
        return total + _of_unstrided_kernel(x, kernel, gradient), None

    # The sum of many small numbers would get stuck in half precision.
    total = jnp.zeros(kernel.shape, jnp.promote_types(kernel.dtype, jnp.float32))
    return jax.lax.scan(add, total, some)[0].astype(kernel.dtype)


def _of_unstrided_kernel(x: jax.Array, kernel: jax.Array, gradient: jax.Array) -> jax.Array:
    """A matrix product for every row of the kernel: pixels under it by gradients of all columns.

    There are fewer channels of gradients than of pixels to be copied for every column, and a
    convolution of images with their gradients takes ten times as long (64 images of 96x96).
    """
    size, channels, height = kernel.shape[0], kernel.shape[2], gradient.shape[1]
    beside = jnp.pad(gradient, ((0, 0), (0, 0), (size - 1, size - 1), (0, 0)))
    ends = range(size - 1, -1, -1)
    by = jnp.concatenate([beside[:, :, end : end + x.shape[2]] for end in ends], axis=-1)
    by = by.reshape(-1, by.shape[-1])  # [B h W, k K]
    rows = [x[:, row : row + height].reshape(-1, channels).T @ by for row in range(size)]
    return jnp.stack(rows).reshape(size, channels, size, -1).swapaxes(1, 2)


def _of_strided_kernel(
    x: jax.Array, kernel: jax.Array, stride: int, gradient: jax.Array
) -> jax.Array:
    """A matrix product for every row of the kernel: pixels under all its columns by gradients.

    Copying gradients for every column would need zeros between them.
    """
    height, width = (stride * (n - 1) + 1 for n in gradient.shape[1:3])
    size, channels = kernel.shape[0], kernel.shape[2]
    across = [x[:, :, column : column + width : stride] for column in range(size)]
    pixels = jnp.concatenate(across, axis=-1)  # [B, H, w, k C]
    by = gradient.reshape(-1, gradient.shape[-1])
    rows = [
        pixels[:, row : row + height : stride].reshape(-1, size * channels).T @ by
        for row in range(size)
    ]
    return jnp.stack(rows).reshape(kernel.shape)


_convolution.defvjp(_forward, _backward)
