"""Descriptions of traces: the same for equal ones, others for all that differs."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jgps.core.traces import Description, fingerprint

X = np.arange(3, dtype=np.float32)


def described(function, *args):
    return Description(jax.make_jaxpr(function)(*(args or (X,))).jaxpr).digest


def _twice(first, second):
    return lambda x: (jax.jit(first)(x), jax.jit(second)(x))


def test_equal_functions_are_described_alike_whether_parts_are_one_object_or_two():
    def double(x):
        return jnp.sin(x) * 2.0

    def same():
        def double(x):
            return jnp.sin(x) * 2.0

        return double

    one, two = _twice(double, double), _twice(same(), same())
    assert described(one) == described(two)
    # The text names what is one object, so that it tells them apart.
    assert str(jax.make_jaxpr(one)(X)) != str(jax.make_jaxpr(two)(X))


def _calling(*hosts):
    def run(x):
        for host in hosts:
            x = jax.pure_callback(host, x, x)
        return x

    return run


def _host(a):
    return a


def _other_host(a):
    return -a


DIFFERENT = {
    "literal": (lambda x: x * 2.0, lambda x: x * np.nextafter(np.float32(2), np.float32(3))),
    "parameter": (lambda x: jnp.sum(x[None], axis=0), lambda x: jnp.sum(x[:, None], axis=1)),
    "order of arguments": (lambda x: x - jnp.sin(x), lambda x: jnp.sin(x) - x),
    "what is returned": (lambda x: (x, x + 1.0), lambda x: (x + 1.0, x)),
    "weak type": (lambda x: jnp.full(3, 2.0) + 0 * x, lambda x: jax.lax.full((3,), 2) + 0 * x),
    "inner constant": (
        jax.jit(lambda x: x + jnp.asarray(np.float32([1, 2, 3]))),
        jax.jit(lambda x: x + jnp.asarray(np.float32([1, 2, 4]))),
    ),
    "order of parts": (
        lambda x: _twice(jnp.sin, jnp.cos)(x)[0] + _twice(jnp.sin, jnp.cos)(x)[1],
        lambda x: _twice(jnp.sin, jnp.cos)(x)[0] + _twice(jnp.cos, jnp.sin)(x)[1],
    ),
    "order of callbacks": (
        _calling(_host, _other_host, _host),
        _calling(_host, _other_host, _other_host),
    ),
    "branch": (
        lambda x: jax.lax.cond(x[0] > 0, lambda: x, lambda: -x),
        lambda x: jax.lax.cond(x[0] > 0, lambda: -x, lambda: x),
    ),
}


@pytest.mark.parametrize("pair", DIFFERENT.values(), ids=DIFFERENT)
def test_what_differs_is_described_apart(pair):
    assert described(pair[0]) != described(pair[1])
    assert described(pair[0]) == described(pair[0])


def test_shapes_and_types_of_arguments_count():
    arguments = [X, X[:2], X.astype(np.int32), 1.0]
    found = {described(lambda x: x * 1, argument) for argument in arguments}
    assert len(found) == len(arguments)


def test_its_own_constants_count_where_they_are_given():
    traces = [jax.make_jaxpr(lambda x, c=c: x + c)(X) for c in (jnp.ones(3), jnp.zeros(3))]
    own = [Description(trace.jaxpr).digest for trace in traces]
    assert own[0] == own[1] and fingerprint(traces[0]) != fingerprint(traces[1])


def test_it_finds_callbacks_primitives_and_the_largest_array():
    def function(x):
        walk, _ = jax.lax.scan(lambda c, _: (jnp.outer(c, c)[0], None), x, None, length=2)
        return _calling(_host, _other_host, _host)(walk)

    found = Description(jax.make_jaxpr(function)(X).jaxpr)
    assert len(found.callbacks) == 2
    assert {"scan", "mul", "pure_callback"} <= found.primitives
    assert found.largest == 9


def test_a_fingerprint_is_the_same_in_another_process():
    code = (
        "import jax, jax.numpy as jnp, numpy as np\n"
        "from jgps.core.traces import fingerprint\n"
        "f = lambda x: jax.lax.cond(x[0] > 0, jnp.sin, jax.nn.relu, x) + jnp.linalg.norm(x)\n"
        "print(fingerprint(jax.make_jaxpr(f)(np.zeros(3, np.float32))))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            env={"PYTHONHASHSEED": seed, "JAX_PLATFORMS": "cpu"},
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(found) == 1 and len(found.pop().strip()) == 64
