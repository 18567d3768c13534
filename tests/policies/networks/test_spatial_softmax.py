"""Feature points against NumPy, and where they have to be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jgps.policies.networks.spatial_softmax import SpatialSoftmax, spatial_softmax


def _by_loops(maps, temperature):
    """Of maps [H, W, K] in float64, one position after the other; points [K, 2]."""
    height, width, channels = maps.shape
    points = np.zeros((channels, 2))
    for k in range(channels):
        logits = maps[..., k].astype(np.float64) / temperature
        share = np.exp(logits - logits.max())
        share /= share.sum()
        for row, column in np.ndindex(height, width):
            place = (2 * column / (width - 1) - 1, 2 * row / (height - 1) - 1)
            points[k] += share[row, column] * np.array(place)
    return points


@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_it_is_the_mean_position(temperature, rng):
    maps = rng.normal(scale=3.0, size=(2, 3, 5, 7, 4)).astype(np.float32)
    found = np.asarray(spatial_softmax(jnp.asarray(maps), temperature)).reshape(2, 3, 4, 2)
    for i, j in np.ndindex(2, 3):
        np.testing.assert_allclose(found[i, j], _by_loops(maps[i, j], temperature), atol=1e-5)


def test_it_finds_a_bump_between_the_pixels():
    """Log of a Gaussian, whose softmax is that Gaussian: x to the right, y downwards."""
    rows, columns = np.mgrid[:20, :30]
    centres = np.array([(6.3, 9.8), (20.45, 7.1)])  # column, row
    maps = [-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 1.5**2) for x, y in centres]
    points = spatial_softmax(jnp.asarray(np.stack(maps, -1), jnp.float32)).reshape(2, 2)
    pixels = (np.asarray(points) + 1) / 2 * np.array([29, 19])
    np.testing.assert_allclose(pixels, centres, atol=0.01)


def test_large_responses_and_low_precision_are_safe():
    maps = jnp.zeros((4, 4, 1)).at[3, 0].set(3e4)
    np.testing.assert_allclose(spatial_softmax(maps), [-1, 1])
    np.testing.assert_allclose(spatial_softmax(jnp.full((4, 4, 1), -1e30)), [0, 0], atol=1e-6)
    narrow = spatial_softmax(maps.astype(jnp.bfloat16))
    assert narrow.dtype == jnp.float32
    np.testing.assert_allclose(narrow, [-1, 1])
    np.testing.assert_array_equal(spatial_softmax(jnp.ones((1, 1, 2))), np.zeros(4))
    gradient = jax.grad(lambda m: spatial_softmax(m)[0])(maps)
    assert np.all(np.isfinite(gradient))


def test_the_layer_learns_one_temperature(rng):
    maps = jnp.asarray(rng.normal(size=(5, 6, 3)), jnp.float32)
    fixed, learned = SpatialSoftmax(), SpatialSoftmax(learned_temperature=True)
    assert jax.tree.leaves(fixed.init(jax.random.key(0), maps)) == []
    variables = learned.init(jax.random.key(0), maps)
    np.testing.assert_allclose(learned.apply(variables, maps), fixed.apply({}, maps), rtol=1e-6)
    cold = jax.tree.map(lambda leaf: leaf + np.log(0.1), variables)
    np.testing.assert_allclose(
        learned.apply(cold, maps), spatial_softmax(maps, 0.1), rtol=1e-4, atol=1e-6
    )


def test_maps_have_three_axes():
    with pytest.raises(ValueError, match=r"maps must have axes .*, got shape \(4, 4\)"):
        spatial_softmax(jnp.zeros((4, 4)))
