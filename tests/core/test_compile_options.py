"""Small programs compile sooner on a CPU, unless the user says how."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jgps.core import compile_options
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


def test_a_program_compiled_sooner_is_the_same_function(no_flags):
    x = np.linspace(0.1, 3, 91).reshape(13, 7).astype(np.float32)

    def function(x):
        return jnp.tanh(x @ x.T) / jnp.linalg.norm(x)

    np.testing.assert_allclose(shared_jit(function)(x), function(x), rtol=1e-5)
