"""Small programs compile sooner on a CPU, unless the user says how."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lq_problems import problem

from jgps.core import compile_options, lifted, lqr
from jgps.core.compile_options import SMALL, SOONER
from jgps.core.lifted import lift, shared_jit

on_cpu = pytest.mark.skipif(jax.default_backend() != "cpu", reason="the options are for CPUs")


@pytest.fixture
def no_flags(monkeypatch):
    """As users have it: the tests' own flags name the options."""
    monkeypatch.delenv("XLA_FLAGS", raising=False)


@on_cpu
def test_small_programs_have_options_and_large_ones_xlas_own(no_flags):
    found = compile_options.compile_options(SMALL)
    assert ("xla_backend_optimization_level", 2) in found and set(found) <= set(SOONER)
    assert compile_options.compile_options(SMALL + 1) == ()


@on_cpu
@pytest.mark.parametrize("name", [name for name, _ in SOONER])
def test_what_the_user_sets_stays(name, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", f"--{name}=1")
    assert name not in dict(compile_options.compile_options(1))


@on_cpu
def test_an_option_that_this_xla_does_not_know_is_left_out(no_flags, monkeypatch):
    unknown = ("xla_cpu_of_another_version", True)
    monkeypatch.setattr(compile_options, "SOONER", (unknown, *SOONER))
    assert unknown not in compile_options.compile_options(1)


def test_accelerators_have_none(no_flags, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert compile_options.compile_options(1) == ()


def test_the_largest_array_is_found_inside_loops():
    def program(x):
        return jax.lax.fori_loop(0, 3, lambda _, y: y + jnp.outer(y, y).sum(0), x)

    assert lift(program, jnp.ones(7)).program.largest == 49


def test_what_a_program_takes_counts_too():
    assert lift(jnp.sum, jnp.ones((9, 11))).program.largest == 99


@on_cpu
def test_shared_programs_are_compiled_with_the_options(no_flags, monkeypatch):
    used, compiled_with = [], lifted._compiled_with

    def spy(options):
        used.append(options)
        return compiled_with(options)

    monkeypatch.setattr(lifted, "_compiled_with", spy)
    x = np.linspace(0.1, 3, 91).reshape(13, 7).astype(np.float32)

    def function(x):
        return jnp.tanh(x @ x.T) / jnp.linalg.norm(x)

    np.testing.assert_allclose(shared_jit(function)(x), function(x), rtol=1e-5)
    monkeypatch.setattr(compile_options, "SMALL", 13 * 13 - 1)
    np.testing.assert_allclose(shared_jit(function)(x), function(x), rtol=1e-5)
    assert used == [compile_options.compile_options(1), ()] and used[0]
    lowered = shared_jit(function).lower(x)
    np.testing.assert_allclose(lowered.compile()(x), function(x), rtol=1e-5)


def test_what_is_not_traced_can_be_called_inside_a_trace(no_flags):
    total, x = shared_jit(lambda x: jnp.sin(x).sum()), np.ones(5, np.float32)
    expected = 5 * np.sin(1.0)
    np.testing.assert_allclose(jax.jit(lambda y: total(x) + y)(1.0), expected + 1, rtol=1e-5)
    assert jax.eval_shape(lambda y: total(x) + y, 1.0).shape == ()
    looped = jax.lax.fori_loop(0, 3, lambda _, s: s + total(x), 0.0)
    np.testing.assert_allclose(looped, 3 * expected, rtol=1e-5)

    def times(y):  # closes over what is traced
        return shared_jit(lambda x: (x * y).sum())(x)

    np.testing.assert_allclose([jax.jit(times)(2.0), jax.grad(times)(2.0)], [10, 5])


def test_lqr_with_the_options_is_lqr(no_flags):
    dynamics, cost, _, _ = problem(0, 7, 3, 2, dtype=np.float32)
    found = shared_jit(lambda dynamics, cost: lqr.backward(dynamics, cost)[0])(dynamics, cost)
    expected = lqr.backward(dynamics, cost)[0]
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), found, expected
    )
