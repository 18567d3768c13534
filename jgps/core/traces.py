"""What tells traces of JAX apart: a description of all that they do, or their text and numbers."""

import hashlib
import math
import re
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal


class Description:
    """A trace without its own constants, said so that equal ones say the same.

    Unlike the text it says every inner trace once, however often it is called, and all parameters;
    addresses of functions are left out.

    Attributes:
      digest: of everything that is said.
      callbacks: the host's functions that are called, in the order in which they first are.
      largest: entries of the largest array.
    """

    def __init__(self, trace: Jaxpr):
        self.callbacks: list[Any] = []
        self.largest = 1
        self._known: dict[int, tuple[Any, str]] = {}  # keeps what is known, so that ids stay unique
        self._kinds: dict[Any, str] = {}
        self.digest = self._trace(trace, constants=())

    def _trace(self, trace: Any, constants: Any) -> str:
        number: dict[Any, int] = {}
        inner = getattr(trace, "jaxpr", trace)  # of a trace that is closed
        said = list(map(_array, constants))

        def read(variable: Any) -> str:
            if isinstance(variable, Literal):
                return f"{_array(variable.val)}{getattr(variable.aval, 'weak_type', '')}"
            return str(number[variable])

        def bind(variable: Any) -> str:
            number[variable] = len(number)
            return self._kind(variable.aval)

        said += map(bind, (*inner.constvars, *inner.invars))
        for equation in inner.eqns:
            params = sorted(equation.params.items())
            said.append(equation.primitive.name)
            said += [f"{name}={self._parameter(name, value)}" for name, value in params]
            said += map(read, equation.invars)
            said += map(bind, equation.outvars)
        said += map(read, inner.outvars)
        return hashlib.sha256("\n".join(said).encode()).hexdigest()

    def _kind(self, aval: Any) -> str:
        weak = getattr(aval, "weak_type", None)
        key = (getattr(aval, "shape", None), getattr(aval, "dtype", None), weak, type(aval))
        if key not in self._kinds:
            self._kinds[key] = f"{aval}{weak}"
            self.largest = max(self.largest, math.prod(getattr(aval, "shape", ())))
        return self._kinds[key]

    def _parameter(self, name: str, value: Any) -> str:
        if name == "callback":
            if not any(value is each for each in self.callbacks):
                self.callbacks.append(value)
            return str([value is each for each in self.callbacks].index(True))
        if isinstance(value, tuple | list):
            said = [self._parameter("", each) for each in value]
            return f"{type(value).__name__}({', '.join(said)})"
        if type(value) in (bool, int, str, type(None)):
            return repr(value)
        if id(value) not in self._known:
            self._known[id(value)] = (value, self._object(value))
        return self._known[id(value)][1]

    def _object(self, value: Any) -> str:
        if is_trace(value):
            return self._trace(value, getattr(value, "consts", ()))
        if isinstance(value, np.ndarray | jax.Array):
            return _array(value)
        return re.sub(r"0x[0-9a-f]+", "", str(value))


def _array(value: Any) -> str:
    """Type and numbers, bit for bit."""
    is_key = jnp.issubdtype(jax.dtypes.result_type(value), jax.dtypes.prng_key)
    array = np.asarray(jax.random.key_data(value) if is_key else value)
    if array.nbytes <= 64:
        return f"{array.dtype}{array.shape}{array.tobytes().hex()}"
    return f"{array.dtype}{array.shape}{hashlib.sha256(array.tobytes()).hexdigest()}"


def is_trace(value: Any) -> bool:
    """Whether it is one, with constants of its own or without."""
    return isinstance(value, ClosedJaxpr | Jaxpr)


def all_traces(trace: Any) -> Iterator[Any]:
    """A trace and all traces inside it; those with constants of their own as `ClosedJaxpr`."""
    yield trace
    for equation in trace.eqns:
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=is_trace):
            if is_trace(inner):
                yield from all_traces(inner)


def fingerprint(trace: ClosedJaxpr) -> str:
    """Of the text and all numbers of a trace: the same in every process with the same JAX."""
    text = re.sub(r"0x[0-9a-f]+", "", str(trace))
    return hashlib.sha256(f"{text} {numbers_digest(trace)}".encode()).hexdigest()


def numbers_digest(trace: Any, closed: bool = True) -> str:
    """Of all literals and constants inside a trace, bit for bit; its own only where it is `closed`.

    From JAX 0.12 on a trace without its constants knows them all the same.
    """
    digest = hashlib.sha256()
    for inner in all_traces(trace):
        literals = [v.val for eqn in inner.eqns for v in eqn.invars if isinstance(v, Literal)]
        constants = getattr(inner, "consts", ()) if closed or inner is not trace else ()
        for value in (*constants, *literals):
            digest.update(_array(value).encode())
    return digest.hexdigest()
