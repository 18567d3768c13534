"""A bank of local controllers: which one a condition gets, and that it acts like it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jgps import controllers
from jgps.controllers import NearestController
from jgps.core.types import Controller

T, DX, DU = 3, 4, 2

params_of = jax.jit(NearestController.params_for)


def bank(x0, seed=0):
    """Controllers told apart by everything, starting at x0 [C, dX]."""
    rng = np.random.default_rng(seed)
    num = len(x0)
    root = rng.normal(size=(num, T, DU, DU))
    arrays = (
        rng.normal(size=(num, T, DU, DX)),
        rng.normal(size=(num, T, DU)),
        root @ np.swapaxes(root, -1, -2) + 0.1 * np.eye(DU),
    )
    K, k, C = (jnp.asarray(a, jnp.float32) for a in arrays)
    return NearestController(controllers=Controller(K=K, k=k, C=C), x0=jnp.asarray(x0, jnp.float32))


def chosen(policy, x0):
    """Index of the controller that each start [C', dX] gets."""
    k = np.asarray(params_of(policy, jnp.asarray(x0, jnp.float32)).k)
    equal = np.all(k[:, None] == np.asarray(policy.controllers.k)[None], axis=(-2, -1))
    assert np.all(equal.sum(axis=1) == 1)
    return equal.argmax(axis=1).tolist()


@pytest.mark.parametrize("jit", [False, True])
def test_each_training_condition_has_its_own_controller(jit):
    x0 = np.random.default_rng(1).normal(size=(5, DX))
    policy = bank(x0)
    assert chosen(policy, x0) == [0, 1, 2, 3, 4]
    assert chosen(policy, x0[[3, 0, 3]] + 1e-3) == [3, 0, 3]
    params_for = params_of if jit else NearestController.params_for
    params = params_for(policy, policy.x0)
    np.testing.assert_allclose(
        params.L @ np.swapaxes(params.L, -1, -2), policy.controllers.C, rtol=1e-4, atol=1e-5
    )
    np.testing.assert_array_equal(params.K, policy.controllers.K)


def test_distance_is_scaled_by_the_spread_of_each_entry():
    """In metres the second entry decides, in spreads the first one."""
    x0 = np.array([[0.0, 0.0, 0.0, 0.0], [0.01, 100.0, 0.0, 0.0]])
    start = np.array([[0.009, 45.0, 0.0, 0.0]])
    assert np.argmin(np.linalg.norm(x0 - start, axis=1)) == 0
    assert chosen(bank(x0), start) == [1]
    # In other units the same choice.
    units = np.array([1e3, 1e-2, 1.0, 1.0])
    assert chosen(bank(x0 * units), start * units) == [1]


def test_entries_that_are_the_same_in_all_conditions_do_not_count():
    # The third is the same up to float32 rounding.
    x0 = np.array([[0.0, 5.0, 1e3, 0.0], [1.0, 5.0, 1e3 + 1e-4, 0.0]])
    start = np.array([[0.1, -300.0, 1e3 + 50.0, 7.0], [0.9, 300.0, 1e3 - 50.0, -7.0]])
    assert chosen(bank(x0), start) == [0, 1]


def test_a_single_controller_serves_every_start():
    policy = bank(np.ones((1, DX)))
    assert chosen(policy, [[0.0, 0.0, 0.0, 0.0], [1e3, -1e3, 0.0, 1.0]]) == [0, 0]


def test_it_acts_as_the_chosen_controller():
    rng = np.random.default_rng(2)
    policy = bank(rng.normal(size=(3, DX)))
    params = policy.params_for(policy.x0)
    x = jnp.asarray(rng.normal(size=(3, DX)), jnp.float32)
    noise = jnp.asarray(rng.normal(size=(3, DU)), jnp.float32)
    for t in range(T):
        got = jax.vmap(NearestController.act, in_axes=(0, 0, 0, None, 0))(params, x, x, t, noise)
        for i in range(3):
            own = jax.tree.map(lambda leaf, i=i: leaf[i], policy.controllers)
            expected = controllers.act(own, x[i], t, noise[i])
            np.testing.assert_allclose(got[i], expected, rtol=1e-5, atol=1e-5)
