"""Options with which XLA compiles small programs sooner on a CPU.

A program whose arrays are small runs for a moment, and in a first run compiling it takes longest.
Less is then optimised. With JAX 0.10.2 on two cores, the first iteration of mdgps on peg insertion
takes 9.8 s instead of 16.9 and later ones 6% longer (with 5 rollouts; with 20 it takes 19 s of
processor time instead of 26, and later ones as long as before); on the hammer they take 9% longer,
those of pilqr on peg insertion as long as before. Drawing images takes three times as long: such
programs are large, and are compiled with XLA's own settings. Options that are named in the
environment's `XLA_FLAGS` are the user's and stay as they are; those that this version of XLA does
not know are left out.
"""

import functools
import os

import jax
import numpy as np

Options = tuple[tuple[str, bool | int], ...]

# Entries of the largest array that a small program takes or makes: tens of megabytes. The second
# derivatives of the cost of peg insertion's rollouts are 17.4 million, images to learn from 25.
SMALL = 20_000_000
# The code generator of single operations, and LLVM's second level of three.
SOONER: Options = (
    ("xla_backend_optimization_level", 2),
    ("xla_cpu_use_fusion_emitters", False),
)


def compile_options(largest: int) -> Options:
    """For a program whose largest array has so many entries; none where XLA's own are as good."""
    if largest > SMALL or jax.default_backend() != "cpu":
        return ()
    flags = os.environ.get("XLA_FLAGS", "")
    return tuple(each for each in SOONER if each[0] not in flags and _known(each))


@functools.cache
def _known(option: tuple[str, bool | int]) -> bool:
    """Whether this version of XLA has the option: it says so only when it compiles."""
    program = jax.jit(lambda x: x, compiler_options=dict([option]))
    try:
        program.lower(np.float32(0)).compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True
