"""Training a network of pixels on what controllers do."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jgps.core.types import NON_FINITE, OK
from jgps.policies import (
    DistilConfig,
    NetworkPolicy,
    Supervision,
    acting_on_images,
    distil,
    initialise,
    observe_all,
    visuomotor,
)
from jgps.policies.observation import cache_features

C, N, T, SIDE, DQ, DU = 2, 3, 4, 31, 3, 2
NETWORK = visuomotor(DQ, DU, hidden=(16,), channels=(4, 4, 4))
SHORT = DistilConfig(steps=6, batch_size=8, checks=2, input_noise=0.0)
LONGER = dataclasses.replace(SHORT, steps=300, learning_rate=0.01)


@functools.cache
def _policy() -> NetworkPolicy:
    return initialise(NETWORK, jax.random.key(1), 0, DU, jnp.float32)


def observe(o):
    """A bright column at o[0] in a dark image, and the rest of o, as a camera would see it."""
    columns = jnp.arange(SIDE, dtype=jnp.float32)
    bright = jnp.exp(-jnp.square(columns - SIDE / 2 - 12 * o[0]) / 8)
    image = jnp.broadcast_to((255 * bright).astype(jnp.uint8)[:, None], (SIDE, SIDE, 3))
    return image, o[1:]


@functools.cache
def _supervision() -> Supervision:
    """The target depends on the image in its first entry, on the configuration in its second."""
    o = jax.random.uniform(jax.random.key(0), (C, N, T, 1 + DQ), minval=-1.0)
    return Supervision(
        o=jax.jit(lambda o: observe_all(observe, o))(o),
        target=jnp.stack([o[..., 0], o[..., 1] - o[..., 2]], -1),
        precision=jnp.broadcast_to(jnp.eye(DU), (C, T, DU, DU)),
        weight=jnp.ones((C, N, T)),
    )


def _same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_what_is_seen_stays_bytes():
    o = _supervision().o
    assert o["image"].shape == (C, N, T, SIDE, SIDE, 3) and o["image"].dtype == jnp.uint8
    assert o["configuration"].shape == (C, N, T, DQ)
    assert not np.array_equal(o["image"][0, 0, 0], o["image"][0, 0, 1])


def test_it_learns_from_images_and_configurations():
    policy, info = distil(_policy(), _supervision(), jax.random.key(0), LONGER)
    assert int(info.status.code) == OK
    assert float(info.loss) < 0.02 < 0.2 < float(info.loss_before)
    error = np.asarray(policy.mean(_supervision().o) - _supervision().target)
    assert np.sqrt(np.mean(error**2)) < 0.15
    np.testing.assert_allclose(info.loss, 0.5 * np.mean(np.sum(error**2, -1)), rtol=1e-2)
    # Images of other rows lead astray: the policy does look.
    swapped = {**_supervision().o, "image": _supervision().o["image"][::-1]}
    blind = np.asarray(policy.mean(swapped) - _supervision().target)
    assert np.abs(blind[..., 0]).mean() > 3 * np.abs(error[..., 0]).mean()


@functools.cache
def _frozen():
    config = dataclasses.replace(LONGER, frozen="convolutions")
    return distil(_policy(), _supervision(), jax.random.key(0), config)


def test_frozen_convolutions_stay_what_they_are():
    policy, info = _frozen()
    assert int(info.status.code) == OK
    assert float(info.loss) < 0.3 * float(info.loss_before)
    before, after = _policy().variables["params"], policy.variables["params"]
    _same(before["trunk"], after["trunk"])
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), before["head"], after["head"])
    assert min(jax.tree.leaves(moved)) > 1e-3
    # What it does on images is what was learned on features.
    error = np.asarray(policy.mean(_supervision().o) - _supervision().target)
    np.testing.assert_allclose(info.loss, 0.5 * np.mean(np.sum(error**2, -1)), rtol=1e-2)


def test_cached_features_train_as_the_images_do():
    """The caller's cache, its standardisation and minibatches: as through the frozen trunk."""
    policy = _policy()
    o = cache_features(NETWORK, policy.variables, _supervision().o)
    assert o["features"].shape == (C, N, T, 8) and "image" not in o
    config = LONGER  # nothing but the head can be trained on features
    cached, info = distil(policy, _supervision()._replace(o=o), jax.random.key(0), config)
    through, wanted = _frozen()
    np.testing.assert_allclose(info.loss, wanted.loss, rtol=0.02)
    np.testing.assert_allclose(cached.mean(o), through.mean(_supervision().o), atol=0.02)
    _same(cached.variables["params"]["trunk"], policy.variables["params"]["trunk"])


def test_the_trunk_can_learn_more_slowly():
    slow = dataclasses.replace(SHORT, convolution_rate=1e-3, weight_decay=0.0)
    policy, _ = distil(_policy(), _supervision(), jax.random.key(0), slow)
    before, after = _policy().variables["params"], policy.variables["params"]

    def moved(part):
        gaps = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), before[part], after[part])
        return max(float(gap) for gap in jax.tree.leaves(gaps))

    # Adam moves by about its learning rate in every step, whatever the gradient.
    assert 0 < moved("trunk") < 6 * 5e-3 * 2e-3
    assert moved("head") > 5e-3


def test_a_training_that_diverges_keeps_the_parameters():
    config = dataclasses.replace(SHORT, learning_rate=1e30)
    after, info = distil(_policy(), _supervision(), jax.random.key(0), config)
    assert int(info.status.code) == NON_FINITE
    _same(_policy(), after)


def test_rows_that_do_not_count_may_hold_anything():
    rows = _supervision()
    rows = rows._replace(weight=rows.weight.at[0, 1].set(0), gain=jnp.ones((C, T, DU, DQ)))
    config = dataclasses.replace(SHORT, validation=0.3, input_noise=0.1)
    results = []
    for junk, colour in ((0.0, 0), (jnp.nan, 255)):
        o = {
            "configuration": rows.o["configuration"].at[0, 1].set(junk),
            "image": rows.o["image"].at[0, 1].set(colour),
        }
        filled = rows._replace(o=o, target=rows.target.at[0, 1].set(junk))
        results.append(distil(_policy(), filled, jax.random.key(0), config))
        assert int(results[-1][1].status.code) == OK
    _same(*results)
    assert np.isfinite(results[0][1].loss_validation)
    # In a row that counts they do.
    o = {**rows.o, "configuration": rows.o["configuration"].at[1, 1, 0].set(jnp.nan)}
    after, info = distil(_policy(), rows._replace(o=o), jax.random.key(0), config)
    assert int(info.status.code) == NON_FINITE
    _same(_policy(), after)


def test_noise_on_configurations_teaches_gains():
    """All configurations lie on a line; noise tells what the controller does beside it."""
    along = jax.random.normal(jax.random.key(3), (C, N, T, 1))
    gain = jnp.array([[0.5, -1.0, 2.0], [1.0, 0.3, -0.5]])
    configuration = along * jnp.array([1.0, 2.0, -1.0])
    o = {**_supervision().o, "configuration": configuration}
    rows = _supervision()._replace(
        o=cache_features(NETWORK, _policy().variables, o),
        target=configuration @ gain.T,
        gain=jnp.broadcast_to(gain, (C, T, DU, DQ)),
    )
    config = dataclasses.replace(LONGER, steps=1000, batch_size=24, input_noise=0.3)
    policy, _ = distil(_policy(), rows, jax.random.key(0), config)

    def act(configuration):
        features = rows.o["features"][0, 0, 0]
        return policy.mean({"features": features, "configuration": configuration})

    jacobian = jax.jacobian(act)(configuration[0, 0, 0])
    np.testing.assert_allclose(jacobian, gain, atol=0.35)


def test_acting_renders_what_it_sees():
    policy = dataclasses.replace(_policy(), observe=observe)
    o = jnp.array([0.3, 0.1, -0.2, 0.5])
    image, configuration = observe(o)
    mean = jax.jit(NETWORK.apply)(policy.variables, image, configuration)
    params, noise = policy.params_for(jnp.zeros(3)).value, jnp.array([0.5, -1.0])
    for act in (policy.act, acting_on_images(NETWORK, observe)):
        u = jax.jit(act)(params, jnp.zeros(7), o, 0, noise)
        np.testing.assert_allclose(u, mean + noise, rtol=1e-5)
    # Of many at once, and of what was seen before.
    many = jnp.stack([o, -o])[None]
    means = policy.mean(many)
    np.testing.assert_allclose(means[0, 0], mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(policy.mean(observe_all(observe, many)), means, rtol=1e-4, atol=1e-6)


def test_only_a_trunk_can_be_frozen():
    config = dataclasses.replace(SHORT, frozen="convolutions")
    rows = _supervision()._replace(o=_supervision().o["configuration"])
    with pytest.raises(ValueError, match='features to cache; train another with frozen="none"'):
        distil(_policy(), rows, jax.random.key(0), config)


def test_settings_and_shapes_out_of_range():
    with pytest.raises(ValueError, match=r"DistilConfig.frozen is 'all'.*none, convolutions"):
        DistilConfig(frozen="all")
    with pytest.raises(ValueError, match=r"DistilConfig.convolution_rate is 0"):
        DistilConfig(convolution_rate=0)
    rows = _supervision()
    rows = rows._replace(o={**rows.o, "image": rows.o["image"][:, :, :2]})
    with pytest.raises(ValueError, match=r"supervision.o\['image'\] must be \(2, 3, 4, '...'\)"):
        distil(_policy(), rows, jax.random.key(0), SHORT)
