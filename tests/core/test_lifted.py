"""Functions as data: their own values, and programs that are shared only where they are equal."""

import functools
import gc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilations import count_compilations
from jax.extend.core import jaxpr_as_fun

from jgps.core.host_calls import HostCall
from jgps.core.lifted import lift, shared_jit

X = jnp.array([0.3, -1.2, 2.0])
T = jnp.int32(1)


def _cost(goal, scale=0.5):
    """With a jitted function, control flow and functions with derivatives of their own."""

    def cost(x, t):
        error = x - goal
        error = jax.lax.cond(t > 0, lambda: error * goal, lambda: error)
        walk, _ = jax.lax.scan(lambda c, _: (c * 0.5 + goal, None), error, None, length=2)
        smooth = jnp.logaddexp(error[0], 0.3) + jnp.sum(jax.nn.softplus(walk))
        return scale * jnp.linalg.norm(error) + smooth + jnp.sum(jax.nn.relu(walk))

    return cost


def _run(transform):
    """A new jitted function that takes the lifted function as an argument."""
    return jax.jit(lambda lifted, x, t: transform(lambda each: lifted(each, t))(x))


TRANSFORMS = {
    "value": lambda f: f,
    "vmap": lambda f: lambda x: jax.vmap(f)(jnp.stack([x, 2 * x])),
    "grad": jax.grad,
    "hessian": lambda f: jax.jacfwd(jax.jacrev(f)),
    "hessians": lambda f: lambda x: jax.vmap(jax.hessian(f))(jnp.stack([x, 2 * x])),
}


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
@pytest.mark.parametrize("as_array", [jnp.asarray, lambda a: np.asarray(a, np.float32)])
def test_functions_that_differ_in_a_constant_share_one_program(transform, as_array):
    run = _run(transform)
    costs = [_cost(as_array([0.1, 0.2, goal])) for goal in (0.4, 0.9)]
    lifted = [lift(cost, X, T) for cost in costs]
    assert jax.tree.structure(lifted[0]) == jax.tree.structure(lifted[1])
    found = []
    assert count_compilations(lambda: found.append(run(lifted[0], X, T))) > 0
    assert count_compilations(lambda: found.append(run(lifted[1], X, T))) == 0
    for got, cost in zip(found, costs, strict=True):
        expected = jax.jit(transform(lambda x, cost=cost: cost(x, T)))(X)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    assert not np.allclose(found[0], found[1])


def test_it_runs_without_jit():
    cost = _cost(jnp.array([0.1, 0.2, 0.4]))
    lifted = lift(cost, jax.ShapeDtypeStruct((3,), jnp.float32), T)
    np.testing.assert_array_equal(lifted(X, T), cost(X, T))
    np.testing.assert_array_equal(jax.grad(lifted)(X, T), jax.grad(cost)(X, T))


def test_trees_go_in_and_out():
    goal = {"a": jnp.arange(3.0)}
    lifted = lift(lambda x: {"b": x["a"] + goal["a"], "none": None}, {"a": X})
    np.testing.assert_array_equal(lifted({"a": X})["b"], X + goal["a"])
    assert lifted({"a": X})["none"] is None


GOAL = jnp.array([1.0, 2.0, 3.0])


def _with_rule(goal, factor, rule_goal=None):
    """|x - goal|^2 with a derivative that is `factor` times the right one."""
    rule_goal = goal if rule_goal is None else rule_goal

    @jax.custom_jvp
    def square(x):
        return jnp.sum(jnp.square(x - goal))

    @square.defjvp
    def _(primals, tangents):
        slope = jnp.sum(2 * factor * (primals[0] - rule_goal) * tangents[0])
        return square(*primals), slope

    return square


def _with_vjp(factor):
    @jax.custom_vjp
    def square(x):
        return jnp.sum(jnp.square(x))

    square.defvjp(lambda x: (square(x), x), lambda x, g: (g * factor * x,))
    return square


DIFFERENT = {
    "code": (lambda x: jnp.sum(x + GOAL), lambda x: jnp.sum(x * GOAL)),
    "number": (lambda x: jnp.sum(x * 0.5 + GOAL), lambda x: jnp.sum(x * 0.5000001 + GOAL)),
    "shape": (lambda x: jnp.sum(x + GOAL), lambda x: jnp.sum(x + GOAL[:1])),
    "rule": (_with_rule(GOAL, 1.0), _with_rule(GOAL, 3.0)),
    "constant of a rule": (_with_rule(GOAL, 1.0, GOAL), _with_rule(GOAL, 1.0, 2 * GOAL)),
    "constants of value and rule": (_with_rule(GOAL, 1.0), _with_rule(2 * GOAL, 1.0)),
    "reverse rule": (_with_vjp(2.0), _with_vjp(5.0)),
    "constant of a jitted function": (
        lambda x: jnp.sum(jnp.square(jax.jit(lambda x: x - GOAL)(x))),
        lambda x: jnp.sum(jnp.square(jax.jit(lambda x: x - 2 * GOAL)(x))),
    ),
}


@pytest.mark.parametrize("functions", DIFFERENT.values(), ids=DIFFERENT)
def test_what_cannot_be_an_argument_tells_programs_apart(functions):
    run = jax.jit(lambda lifted, x: jax.value_and_grad(lifted)(x))
    for function in functions:
        lifted, found = lift(function, X), []
        call = functools.partial(run, lifted, X)
        assert count_compilations(lambda call=call, found=found: found.append(call())) > 0
        expected = jax.value_and_grad(function)(X)
        for got, value in zip(found[0], expected, strict=True):
            np.testing.assert_allclose(got, value, rtol=1e-5)


def test_arguments_of_other_shapes_or_dtypes_are_refused():
    lifted = lift(lambda x, t: jnp.sum(x) + t, X, T)
    for x, t in [(X[:2], T), (X.astype(jnp.int32), T), (X, jnp.float32(1))]:
        with pytest.raises(ValueError, match="lift it again"):
            lifted(x, t)
    with pytest.raises(ValueError, match="lift it again"):
        lifted(X)


def test_functions_of_keys():
    low = jnp.array([-1.0, 0.5])

    def draw(key):
        return jax.random.uniform(key, (2,)) + low

    lifted = lift(draw, jax.random.key(0))
    key = jax.random.key(3)
    np.testing.assert_array_equal(jax.jit(lambda f, k: f(k))(lifted, key), jax.jit(draw)(key))


def test_in_float64(x64):
    goal = jnp.array([0.1, 0.2, 0.4])
    lifted = lift(lambda x: jnp.sum(x * goal), jnp.ones(3))
    assert lifted(jnp.ones(3)).dtype == jnp.float64
    with pytest.raises(ValueError, match="lift it again"):
        lifted(jnp.ones(3, jnp.float32))


def _calling_back(goal):
    """A cost that asks the host."""

    def host(x):
        return np.float32(np.sum(np.square(np.asarray(x) - goal)))

    return lambda x: jax.pure_callback(host, jax.ShapeDtypeStruct((), jnp.float32), x)


@pytest.mark.parametrize("differentiable", [True, False])
def test_functions_of_the_host_tell_programs_apart(differentiable):
    x, results = jnp.ones(2, jnp.float32), []
    run = jax.jit(lambda lifted, x: lifted(x))
    for goal in (0.0, 3.0):
        results.append(float(run(lift(_calling_back(goal), x, differentiable=differentiable), x)))
    assert results == [2.0, 8.0]
    assert [float(shared_jit(_calling_back(goal))(x)) for goal in (0.0, 3.0)] == results


def test_host_calls_are_one_program_and_each_its_own_function():
    def doubled(shift):
        call = HostCall(lambda x: np.asarray(x) + np.float32(shift))
        return shared_jit(lambda x: 2 * call(jax.ShapeDtypeStruct((3,), jnp.float32), x))

    x, first, found = jnp.zeros(3, jnp.float32), doubled(1.0), []
    assert first(x).tolist() == [2.0] * 3
    other = doubled(5.0)
    assert count_compilations(lambda: found.append(other(x))) == 0
    assert found[0].tolist() == [10.0] * 3 and first(x).tolist() == [2.0] * 3


def test_what_a_host_call_was_asked_for_comes_even_where_nobody_keeps_it():
    def made():
        call = HostCall(np.asarray)
        return shared_jit(lambda x: call(jax.ShapeDtypeStruct(x.shape, x.dtype), x) + 1.0)

    x = jnp.ones((1500, 1500), jnp.float32)
    later = x @ x  # on its way when the program is called
    found = made()(later)
    gc.collect()
    assert found[0, 0] == 1501


def test_a_host_call_that_is_gone_says_so():
    def made():
        call = HostCall(np.asarray)
        return jax.make_jaxpr(lambda x: call(jax.ShapeDtypeStruct((3,), jnp.float32), x))(
            jnp.ones(3)
        )

    trace = made()
    gc.collect()
    with pytest.raises(Exception, match="keep the object"):
        jax.block_until_ready(jaxpr_as_fun(trace)(jnp.ones(3)))
