"""Functions of the host that programs call back, told apart by a number and not by their address.

A program that calls back is known by the Python function that it calls, so that an equal object
with a function of its own compiles anew. Here all programs call one function, and which function of
the host is meant is a number among their arguments.
"""

import itertools
import weakref
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

_numbers = itertools.count()
_living: "weakref.WeakValueDictionary[int, HostCall]" = weakref.WeakValueDictionary()


class HostCall:
    """A pure function of the host's arrays, to be called from inside programs.

    It lives as long as something holds this object, such as the closure that calls it;
    `jgps.core.lifted.shared_jit` waits for programs that call back while that holds it.
    """

    def __init__(self, function: Callable[..., Any]):
        number = next(_numbers)
        # An array with an axis is an argument of a lifted program; a scalar would be a part of it.
        self._number = np.array([number % 2**31], np.int32)
        self._function = function
        _living[int(self._number[0])] = self

    def __call__(self, results: Any, *args: jax.Array) -> Any:
        """What the function returns, arrays of these shapes and dtypes, in a trace or outside."""
        return jax.pure_callback(_call, results, self._number, *args)


def _call(number: Any, *args: Any) -> Any:
    called = _living.get(int(np.asarray(number)[0]))
    if called is None:
        raise RuntimeError(
            "a program calls a function of the host that is gone: keep the object that made the "
            "program, such as the algorithm, for as long as it runs"
        )
    return called._function(*args)
