"""The network, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jgps.policies import NetworkPolicy, initialise, mlp
from jgps.policies.networks.mlp import count_parameters


def _variables(network, observation_dim, seed=0):
    """Variables with a standardisation that is not the identity."""
    policy = initialise(network, jax.random.key(seed), observation_dim, 2, jnp.float32)
    shift, scale = jnp.array([1.0, -2.0, 0.5]), jnp.array([2.0, 0.1, 1.0])
    return network.standardised(policy.variables, shift, scale, jnp.array([3.0, 0.2]))


def _in_numpy(variables, layers, o):
    constants, h = variables["standardisation"], o
    h = (h - constants["shift"]) / constants["scale"]
    for name in layers:
        h = h @ variables["params"][name]["kernel"] + variables["params"][name]["bias"]
        h = np.maximum(h, 0) if name != "action" else h
    return h * constants["action_scale"] + constants["action_shift"]


@pytest.mark.parametrize("hidden", [(), (5,), (7, 4)])
def test_it_is_what_it_says(hidden, rng):
    network = mlp(3, 2, hidden)
    variables = jax.tree.map(np.asarray, _variables(network, 3))
    o = rng.normal(size=(6, 5, 3)).astype(np.float32)
    u = jax.jit(network.apply)(variables, o)
    assert u.shape == (6, 5, 2) and u.dtype == jnp.float32
    np.testing.assert_allclose(u, _in_numpy(variables, network.layers, o), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("hidden", [(), (5,), (7, 4)])
def test_another_standardisation_leaves_the_function_unchanged(hidden, rng):
    network = mlp(3, 2, hidden)
    before = _variables(network, 3)
    shift = jnp.asarray(rng.normal(size=3), jnp.float32)
    scale = jnp.asarray(np.exp(rng.normal(size=3)), jnp.float32)
    action_scale = jnp.array([0.3, 20.0])
    after = network.standardised(before, shift, scale, action_scale)
    o = jnp.asarray(rng.normal(size=(50, 3)), jnp.float32)
    apply = jax.jit(network.apply)
    np.testing.assert_allclose(apply(after, o), apply(before, o), rtol=1e-4, atol=1e-4)
    # Written differently all the same: the first layer reads what the new numbers say.
    np.testing.assert_array_equal(after["standardisation"]["shift"], shift)
    np.testing.assert_array_equal(after["standardisation"]["scale"], scale)
    first = network.layers[0]
    assert not np.allclose(after["params"][first]["kernel"], before["params"][first]["kernel"])
    assert jax.tree.map(jax.typeof, after) == jax.tree.map(jax.typeof, before)


def test_number_of_parameters():
    variables = _variables(mlp(3, 2, (7, 4)), 3)
    assert count_parameters(variables) == (3 * 7 + 7) + (7 * 4 + 4) + (4 * 2 + 2)
    assert count_parameters(_variables(mlp(3, 2, ()), 3)) == 3 * 2 + 2


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((0, 2), "observation_dim is 0; a layer has at least 1 unit"),
        ((3, -1), "action_dim is -1; a layer has at least 1 unit"),
        ((3, 2, (40, 2.5)), "hidden is 2.5; a layer has at least 1 unit, an integer"),
    ],
)
def test_sizes_that_no_layer_has(sizes, message):
    with pytest.raises(ValueError, match=message):
        mlp(*sizes)


def test_an_action_is_the_mean_and_noise_of_the_covariance(rng):
    network = mlp(3, 2)
    root = rng.normal(size=(2, 2))
    cov = jnp.asarray(root @ root.T + np.eye(2), jnp.float32)
    policy = NetworkPolicy(variables=_variables(network, 3), cov=cov, network=network)
    params = policy.params_for(jnp.zeros((4, 6))).value
    o, noise = jnp.asarray(rng.normal(size=3)), jnp.asarray(rng.normal(size=2), jnp.float32)
    nowhere = jnp.full(6, jnp.nan)  # neither the state nor the time is read
    u = policy.act(params, nowhere, o, 7, noise)
    wanted = policy.mean(o) + np.linalg.cholesky(cov) @ noise
    np.testing.assert_allclose(u, wanted, rtol=1e-5, atol=1e-6)


def test_an_untrained_policy(key):
    network = mlp(3, 2)
    one, same = (initialise(network, key, 3, 2, jnp.float32) for _ in range(2))
    other = initialise(network, jax.random.key(1), 3, 2, jnp.float32)
    np.testing.assert_array_equal(one.cov, np.eye(2))
    kernels = [p.variables["params"]["dense_0"]["kernel"] for p in (one, same, other)]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert not np.array_equal(kernels[0], kernels[2])


def test_float64(key, x64):
    policy = initialise(mlp(3, 2), key, 3, 2, jnp.float64)
    assert {leaf.dtype for leaf in jax.tree.leaves(policy)} == {jnp.dtype("float64")}
    assert policy.mean(jnp.ones((4, 3))).dtype == jnp.float64
