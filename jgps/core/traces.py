"""What tells traces of JAX apart: a description of all that they do."""

import hashlib
import math
import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal


class Description:
    """What a trace does, said so that equal ones say the same.

    Unlike the text it says every inner trace once, however often it is called, whether equal ones
    are one object or several, and tells all parameters and numbers; addresses of functions are left
    out. Constants of inner traces are always told: they can't be passed as arguments.

    Attributes:
      digest: of everything that is said.
      primitives: names of all that are called.
      callbacks: the host's functions that are called, each where it first is.
      largest: entries of the largest array.
    """

    def __init__(self, trace: Jaxpr | ClosedJaxpr, constants: Sequence[Any] = ()):
        """Describes a trace, and its own constants where they are given."""
        self.callbacks: list[Any] = []
        self.primitives: set[str] = set()
        self.largest = 1
        self._known: dict[int, tuple[Any, str]] = {}  # keeps what is known, so that ids stay unique
        self._kinds: dict[Any, str] = {}
        self.digest = self._trace(trace, constants)

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
            self.primitives.add(equation.primitive.name)
            said.append(equation.primitive.name)
            said += [f"{name}={self._parameter(name, value)}" for name, value in params]
            said += map(read, equation.invars)
            said += map(bind, equation.outvars)
        said += map(read, inner.outvars)
        return hashlib.sha256("\n".join(said).encode()).hexdigest()

    def _kind(self, aval: Any) -> str:
        if aval not in self._kinds:
            self._kinds[aval] = f"{aval}{getattr(aval, 'weak_type', '')}"
            self.largest = max(self.largest, math.prod(getattr(aval, "shape", ())))
        return self._kinds[aval]

    def _parameter(self, name: str, value: Any) -> str:
        if name == "callback":
            if value not in self.callbacks:
                self.callbacks.append(value)
            return str(self.callbacks.index(value))
        if isinstance(value, tuple | list):
            said = [self._parameter("", each) for each in value]
            return f"{type(value).__name__}({', '.join(said)})"
        if type(value) in (bool, int, str, type(None)):
            return repr(value)
        if id(value) not in self._known:
            self._known[id(value)] = (value, self._object(value))
        return self._known[id(value)][1]

    def _object(self, value: Any) -> str:
        if isinstance(value, ClosedJaxpr | Jaxpr):
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


def fingerprint(trace: ClosedJaxpr) -> str:
    """Of a trace and its constants: the same in every process with the same JAX."""
    return Description(trace, trace.consts).digest
