"""The network of pixels: what is published, and what it does to images."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jgps.policies import visuomotor
from jgps.policies.networks.mlp import STANDARDISATION, count_parameters
from jgps.policies.networks.spatial_softmax import spatial_softmax
from jgps.policies.networks.visuomotor import feature_pixels

SMALL = visuomotor(3, 2, hidden=(8,), channels=(4, 5, 6))
apply = jax.jit(SMALL.apply, static_argnames="method")


@functools.cache
def _variables():
    return jax.jit(lambda key: SMALL.init(key, **SMALL.example(jnp.float32)))(jax.random.key(0))


def _images(*shape, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)
    return jnp.asarray(pixels)


def _shapes(network):
    example = network.example(jnp.float32)
    return jax.eval_shape(lambda key: network.init(key, **example), jax.random.key(0))


def test_the_published_number_of_parameters():
    assert count_parameters(_shapes(visuomotor(39, 7))) == 92_423
    assert count_parameters(_shapes(visuomotor())) == 92_423
    assert count_parameters(_shapes(visuomotor(learned_temperature=True))) == 92_424


@pytest.mark.parametrize("side", [25, 64, 240])
def test_parameters_do_not_depend_on_the_size_of_the_image(side):
    network = visuomotor()
    image = jax.ShapeDtypeStruct((side, side + 5, 3), jnp.uint8)
    configuration = jax.ShapeDtypeStruct((39,), jnp.float32)
    variables = jax.eval_shape(network.init, jax.random.key(0), image, configuration)
    assert jax.tree.all(jax.tree.map(lambda a, b: a.shape == b.shape, variables, _shapes(network)))
    assert jax.eval_shape(network.apply, variables, image, configuration).shape == (7,)


def test_it_is_the_published_function(rng):
    """Against the layers written out: sizes, strides, ReLUs, the order of what is joined."""
    image, configuration = _images(30, 27), jnp.asarray(rng.normal(size=3), jnp.float32)
    p = jax.tree.map(np.asarray, _variables()["params"])
    h = np.asarray(image, np.float32) / 255 * 2 - 1
    for layer, stride in (("conv_0", 2), ("conv_1", 1), ("conv_2", 1)):
        kernel, bias = (p["trunk"]["convolutions"][layer][name] for name in ("kernel", "bias"))
        size = kernel.shape[0]
        windows = np.lib.stride_tricks.sliding_window_view(h, (size, size), (0, 1))
        windows = windows[::stride, ::stride]  # [h, w, channels, size, size]
        h = np.maximum(np.einsum("hwcij,ijck->hwk", windows, kernel) + bias, 0)
    features = np.asarray(spatial_softmax(jnp.asarray(h)))
    np.testing.assert_allclose(apply(_variables(), image, method="features"), features, atol=1e-5)
    h = np.concatenate([features, configuration])
    h = np.maximum(h @ p["head"]["dense_0"]["kernel"] + p["head"]["dense_0"]["bias"], 0)
    wanted = h @ p["head"]["action"]["kernel"] + p["head"]["action"]["bias"]
    np.testing.assert_allclose(apply(_variables(), image, configuration), wanted, atol=1e-5)


def test_leading_axes_and_the_split_in_two(rng):
    images = _images(2, 3, 26, 26)
    configurations = jnp.asarray(rng.normal(size=(2, 3, 3)), jnp.float32)
    actions = apply(_variables(), images, configurations)
    assert actions.shape == (2, 3, 2)
    features = apply(_variables(), images, method="features")
    assert features.shape == (2, 3, 12) and float(jnp.abs(features).max()) <= 1
    split = apply(_variables(), features, configurations, method="act_on_features")
    np.testing.assert_allclose(split, actions, rtol=1e-6)
    one = apply(_variables(), images[1, 2], configurations[1, 2])
    np.testing.assert_allclose(one, actions[1, 2], rtol=1e-4, atol=1e-6)
    # Neither input is ignored.
    assert float(jnp.abs(actions[0, 0] - actions[0, 1]).min()) > 1e-4
    other = apply(_variables(), images, configurations[::-1])
    assert float(jnp.abs(other - actions).min()) > 1e-4


def test_integers_and_floats_are_the_same_image():
    images = _images(26, 26)
    one = apply(_variables(), images, method="features")
    other = apply(_variables(), images.astype(jnp.float32) / 255, method="features")
    np.testing.assert_allclose(one, other, atol=1e-6)
    assert one.dtype == jnp.float32


def test_features_move_with_what_they_see():
    """A spot moved by whole strides moves every point that follows it by as many positions."""
    background = jnp.full((61, 61, 3), 128, jnp.uint8)

    def points(row, column):
        image = background.at[row : row + 5, column : column + 5].set(
            jnp.array([255, 40, 0], jnp.uint8)
        )
        # Sharper responses: then the spot counts, and the grey around it does not.
        params = _variables()["params"]
        last = jax.tree.map(lambda leaf: 200 * leaf, params["trunk"]["convolutions"]["conv_2"])
        convolutions = {**params["trunk"]["convolutions"], "conv_2": last}
        variables = {**_variables(), "params": {**params, "trunk": {"convolutions": convolutions}}}
        features = apply(variables, image, method="features")
        return np.asarray(feature_pixels(features, 61, 61))

    start, moved = points(24, 20), points(28, 30)
    steps = moved - start
    following = np.abs(steps).max(axis=-1) > 1
    assert following.sum() >= 2
    np.testing.assert_allclose(
        steps[following], np.broadcast_to([10, 4], steps[following].shape), atol=0.2
    )
    # And they lie where the spot is: within what one response sees of the image, 23 pixels.
    assert np.abs(start[following] - [22, 26]).max() < 12


def test_pixels_of_features_span_the_image():
    corners = jnp.array([-1.0, -1.0, 1.0, 1.0])
    # 64 -> 29 -> 25 -> 21 maps; a response looks at 23 pixels.
    np.testing.assert_allclose(feature_pixels(corners, 64, 64), [[11, 11], [51, 51]])
    np.testing.assert_allclose(feature_pixels(corners, 64, 240)[1], [227, 51])


def test_another_standardisation_is_the_same_function(rng):
    images, variables = _images(2, 26, 26), _variables()
    configurations = jnp.asarray(rng.normal(size=(2, 3)), jnp.float32)
    shift, scale = jnp.array([1.0, -2.0, 0.5]), jnp.array([3.0, 0.1, 1.0])
    other = SMALL.standardised(
        variables, {"configuration": shift}, {"configuration": scale}, jnp.array([2.0, 0.5])
    )
    np.testing.assert_allclose(other[STANDARDISATION]["head"]["shift"][12:], shift)
    again = SMALL.standardised(
        other,
        {"configuration": shift, "features": jnp.full(12, 0.1)},
        {"configuration": scale, "features": jnp.full(12, 1e-6).at[0].set(0.3)},
        jnp.ones(2),
    )
    # Features that hardly move are not blown up.
    np.testing.assert_allclose(
        again[STANDARDISATION]["head"]["scale"][:12], jnp.full(12, 0.02).at[0].set(0.3)
    )
    wanted = apply(variables, images, configurations)
    for each in (other, again):
        found = apply(each, images, configurations)
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_bfloat16_convolutions_come_close():
    narrow = visuomotor(3, 2, hidden=(8,), channels=(4, 5, 6), conv_dtype="bfloat16")
    images, configuration = _images(4, 40, 40), jnp.zeros((4, 3))
    assert {leaf.dtype for leaf in jax.tree.leaves(_shapes(narrow))} == {jnp.dtype("float32")}
    one = apply(_variables(), images, configuration)
    other = jax.jit(narrow.apply)(_variables(), images, configuration)
    assert other.dtype == jnp.float32
    np.testing.assert_allclose(other, one, atol=0.02)
    features = narrow.apply(_variables(), images, method="features")
    assert features.dtype == jnp.float32
    assert np.abs(features - apply(_variables(), images, method="features")).max() > 0


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (jnp.zeros((24, 64, 3)), "an image of 64x24 pixels is too small .* works is 25x25"),
        (jnp.zeros((64, 64)), r"must be \[\.\.\., H, W, 3\], got shape \(64, 64\)"),
        (jnp.zeros((64, 64, 1)), r"must be \[\.\.\., H, W, 3\]"),
        (jnp.zeros((64, 64, 3), jnp.int32), "must be uint8 or float in .*, got int32"),
    ],
)
def test_what_is_no_image(image, message):
    with pytest.raises(ValueError, match=message):
        apply(_variables(), image, jnp.zeros(3))


def test_configurations_that_do_not_fit():
    with pytest.raises(ValueError, match=r"the configuration must be \(2, 3\), got \(3,\)"):
        apply(_variables(), _images(2, 26, 26), jnp.zeros(3))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"configuration_dim": 0}, "configuration_dim is 0; it has to be an integer"),
        ({"action_dim": 2.5}, "action_dim is 2.5"),
        ({"hidden": (40, -1)}, "hidden is -1"),
        ({"channels": (64, 32)}, "channels is .*; there are 3 convolutions"),
        ({"conv_dtype": "float16"}, "conv_dtype is 'float16'; .* 'bfloat16'"),
    ],
)
def test_sizes_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message):
        visuomotor(**settings)
