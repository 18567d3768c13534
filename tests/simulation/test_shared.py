"""Params that all conditions share against a copy in every condition."""

import jax
import jax.numpy as jnp
import numpy as np

from jgps import tasks
from jgps.simulation import Shared, make_sampler
from jgps.simulation.system import split_shared


def _policy(params, x, o, t, noise):
    weights, offset = params
    return jnp.tanh(weights["matrix"] @ o + weights["bias"]) + offset + 0.1 * noise


def _weights(task, dtype):
    rng = np.random.default_rng(0)
    return {
        "matrix": jnp.asarray(rng.normal(size=(task.action_dim, task.state_dim)), dtype),
        "bias": jnp.asarray(rng.normal(size=task.action_dim), dtype),
    }


def test_shared_params_equal_a_copy_in_every_condition():
    task = tasks.make("point_mass")
    num = task.train.num
    system = task.system._replace(horizon=8)
    sample = make_sampler(system, task.train, _policy, "native").sample
    weights = _weights(task, jnp.float32)
    offsets = jnp.linspace(-1, 1, num)
    noise = jax.random.normal(jax.random.key(0), (num, 3, 8, task.action_dim))
    copies = jax.tree.map(lambda leaf: jnp.stack([leaf] * num), weights)
    each = sample((copies, offsets), noise)
    part = sample((Shared(weights), offsets), noise)
    assert bool(each.valid.all())
    for field in ("x", "u", "o"):
        np.testing.assert_allclose(getattr(part, field), getattr(each, field), atol=1e-5)
    assert float(jnp.abs(each.u[0] - each.u[-1]).max()) > 0.1  # the other params do differ
    whole = sample(Shared((weights, jnp.float32(0.5))), noise)
    same = sample((copies, jnp.full(num, 0.5)), noise)
    np.testing.assert_allclose(whole.x, same.x, atol=1e-5)
    np.testing.assert_allclose(whole.u, same.u, atol=1e-5)


def test_shared_params_act_in_one_product_over_conditions():
    """Their products have no batch axis: [C, N, dO] with [dU, dO], instead of one per condition."""
    weights = jnp.ones((2, 4))
    o = jnp.ones((3, 5, 4))

    def act(params, o):
        values, axes = split_shared(params)
        over_samples = jax.vmap(lambda w, o: w @ o, in_axes=(None, 0))
        return jax.vmap(over_samples, in_axes=(axes, 0))(values, o)

    def batch_axes(params):
        equations = jax.make_jaxpr(act)(params, o).eqns
        (product,) = [e for e in equations if e.primitive.name == "dot_general"]
        return product.params["dimension_numbers"][1]

    assert batch_axes(Shared(weights)) == ((), ())
    assert batch_axes(jnp.stack([weights] * 3)) == ((0,), (0,))
