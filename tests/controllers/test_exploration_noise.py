import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from jgps.controllers import exploration_noise

KEY = jax.random.key(3)


def test_every_sample_and_actuator_has_unit_mean_square_over_time():
    noise = exploration_noise(KEY, 20, 100, 7, 2.0)
    assert noise.shape == (20, 100, 7) and noise.dtype == jnp.float32
    np.testing.assert_allclose(np.mean(np.square(noise), axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("T", [2, 3, 5, 8])
def test_short_horizons_stay_bounded(T):
    noise = np.asarray(exploration_noise(KEY, 1000, T, 2, 2.0))
    np.testing.assert_allclose(np.mean(np.square(noise), axis=1), 1, rtol=1e-5)
    assert 1 < np.abs(noise).max() <= np.sqrt(T) * (1 + 1e-5)
    # As likely up as down, and not the same in every sample.
    assert abs(noise.mean()) < 0.1 and noise.mean(axis=1).std() > 0.5


def test_without_renormalising_every_step_has_unit_variance_and_the_stated_correlation():
    noise = np.asarray(exploration_noise(KEY, 40_000, 12, 1, 2.0, renormalise=False))[:, :, 0]
    covariance = np.cov(noise, rowvar=False)
    lag = np.arange(12)[:, None] - np.arange(12)
    # Standard error 1 / sqrt(40000) = 0.005; at the ends of the horizon too.
    np.testing.assert_allclose(covariance, np.exp(-(lag**2) / 16), atol=0.03)
    np.testing.assert_allclose(noise.mean(axis=0), 0, atol=0.03)


def test_it_is_scipys_gaussian_filter_up_to_scale():
    """Away from the ends, where SciPy reflects: the same white noise, smoothed by SciPy."""
    T, sigma = 40, 2.0
    reach = 8
    white = np.asarray(jax.random.normal(KEY, (1, 1, T + 2 * reach)))[0, 0]
    expected = scipy.ndimage.gaussian_filter(white.astype(float), sigma)[reach:-reach]
    got = np.asarray(exploration_noise(KEY, 1, T, 1, sigma))[0, :, 0]
    expected = expected / np.sqrt(np.mean(np.square(expected)))
    np.testing.assert_allclose(got[reach:-reach], expected[reach:-reach], atol=2e-2)


def test_samples_and_actuators_are_independent():
    noise = np.asarray(exploration_noise(KEY, 4, 4000, 3, 1.0))
    series = np.moveaxis(noise, 1, 0).reshape(4000, 12)
    correlation = np.corrcoef(series, rowvar=False) - np.eye(12)
    assert np.abs(correlation).max() < 0.12


def test_no_smoothing_is_white_noise():
    noise = np.asarray(exploration_noise(KEY, 10, 2000, 2, 0.0))
    neighbours = np.mean(noise[:, 1:] * noise[:, :-1])
    assert abs(neighbours) < 0.02
    assert np.var(noise) == pytest.approx(1, abs=0.03)


def test_a_key_decides_and_jit_changes_nothing():
    def draw(key):
        return exploration_noise(key, 2, 20, 3, 1.5)

    np.testing.assert_array_equal(draw(KEY), draw(KEY))
    np.testing.assert_allclose(jax.jit(draw)(KEY), draw(KEY), rtol=1e-5, atol=1e-6)
    assert np.abs(draw(KEY) - draw(jax.random.key(4))).max() > 0.5


def test_float64_where_asked_for():
    with jax.enable_x64(True):
        noise = exploration_noise(KEY, 2, 20, 3, dtype=jnp.float64)
        assert noise.dtype == jnp.float64
        np.testing.assert_allclose(np.mean(np.square(noise), axis=1), 1, rtol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 10, 2, 1.0), "num is 0; .*>= 1"),
        ((1, 10, 2, -1.0), "smoothing is -1.0; .*>= 0, in steps. Use 0 for white noise"),
        ((1, 10, 2, np.nan), "smoothing is nan"),
        ((1, 2, 2, 4.0), r"smoothing is 4.0 steps for a horizon of 2; .*FixedStarts"),
    ],
)
def test_invalid_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        exploration_noise(KEY, *arguments)
