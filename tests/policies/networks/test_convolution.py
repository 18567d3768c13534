"""Convolutions with gradients of our own against JAX's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jgps.policies.networks.convolution import convolution


@pytest.mark.parametrize(
    ("images", "height", "width", "size", "stride"),
    [(2, 13, 11, 7, 2), (5, 12, 14, 7, 2), (2, 9, 8, 5, 1), (5, 8, 9, 5, 1), (1, 12, 11, 5, 3)],
)
def test_gradients_are_those_of_jax(images, height, width, size, stride, key):
    x_key, kernel_key, weight_key = jax.random.split(key, 3)
    x = jax.random.normal(x_key, (images, height, width, 3))
    kernel = jax.random.normal(kernel_key, (size, size, 3, 4))
    numbers = ("NHWC", "HWIO", "NHWC")

    def ours(x, kernel):
        return convolution(x, kernel, (stride, stride), [(0, 0)] * 2, dimension_numbers=numbers)

    def reference(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), "VALID", dimension_numbers=numbers
        )

    weight = jax.random.normal(weight_key, reference(x, kernel).shape)
    np.testing.assert_allclose(ours(x, kernel), reference(x, kernel), rtol=1e-5, atol=1e-5)

    def gradients(function):
        return jax.grad(lambda x, k: jnp.sum(weight * function(x, k)), argnums=(0, 1))(x, kernel)

    for one, other in zip(gradients(ours), gradients(reference), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
    # On accelerators the gradient is JAX's own; under vmap both are the same.
    batched = jax.vmap(ours, in_axes=(0, None))(x[:, None], kernel)
    np.testing.assert_allclose(batched[:, 0], reference(x, kernel), rtol=1e-5, atol=1e-5)

    def of_kernel(kernel, image, weight):
        return jnp.sum(weight * ours(image[None], kernel)[0])

    each = jax.vmap(jax.grad(of_kernel), in_axes=(None, 0, 0))(kernel, x, weight)
    np.testing.assert_allclose(each.sum(0), gradients(reference)[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stride", [1, 2])
def test_gradients_of_many_images_in_half_precision(stride, key):
    numbers = ("NHWC", "HWIO", "NHWC")

    def gradient(images, dtype):
        def summed(kernel):
            x = jnp.ones((images, 12, 12, 1), dtype)
            return convolution(x, kernel, (stride, stride), "VALID", dimension_numbers=numbers).sum(
                dtype=jnp.float32
            )

        return jax.grad(summed)(jnp.ones((5, 5, 1, 1), dtype))

    half = gradient(2000, "bfloat16")
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype("float32"), gradient(2000, "float32"), rtol=0.01)
    np.testing.assert_array_equal(gradient(0, "float32"), 0)


@pytest.mark.parametrize(
    ("size", "strides", "padding"),
    [((7, 5), (1, 1), "VALID"), ((5, 5), (1, 2), "VALID"), ((5, 5), (1, 1), "SAME"),
     ((5, 5), (1, 1), [(0, 1), (0, 0)])],
)  # fmt: skip
def test_what_it_would_get_wrong_is_refused(size, strides, padding):
    x, kernel = jnp.zeros((1, 12, 12, 3)), jnp.zeros((*size, 3, 4))
    with pytest.raises(ValueError, match="it has to be square, with one stride, without padding"):
        convolution(x, kernel, strides, padding)
