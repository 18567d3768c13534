"""Functions as data: a program that is compiled once, and the arrays that it closes over.

A user's cost or success function closes over arrays, such as a goal. `jax.jit` identifies a closure
by its address and compiles the arrays into the program, so that an equal function compiles anew.
`lift` traces a function once and splits it into its constants and its program. Lifted functions are
pytrees: passed to a jitted function as an argument, those that differ only in their constants share
what was compiled.

What was compiled is kept as long as the process lives, whatever becomes of the functions, as with
all that `jax.jit` compiles; `jax.clear_caches()` lets go of it.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr, Jaxpr, get_opaque_trace_state, jaxpr_as_fun

from jgps.core.compile_options import Options, compile_options
from jgps.core.host import to_device
from jgps.core.traces import Description, fingerprint

Function = TypeVar("Function", bound=Callable[..., Any])

_trace_state = functools.partial(get_opaque_trace_state, convention="flax")  # a format that it has
NO_TRACE = _trace_state()


class Program:
    """A traced function without its constants; equal where the trace is equal.

    Programs are compared by a description of the trace, with all numbers that are inside it and
    cannot be passed as arguments, and by the host's functions that it calls back.
    """

    def __init__(
        self, jaxpr: Jaxpr, consts: list[Any], in_tree: Any, out_tree: Any, differentiable: bool
    ):
        self.jaxpr, self.in_tree, self.out_tree = jaxpr, in_tree, out_tree
        avals = _avals(jaxpr)
        self.shapes = tuple((aval.shape, aval.dtype) for aval in avals[len(consts) :])
        types = tuple((aval.shape, aval.dtype, aval.weak_type) for aval in avals)
        found = Description(jaxpr)
        said = (found.digest, *(_derivatives(found, jaxpr, consts) if differentiable else ()))
        self.calls_back = bool(found.callbacks)
        self._key = (in_tree, out_tree, types, differentiable, *found.callbacks, *said)
        self._hash = hash(self._key)
        self.largest = found.largest

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Program):
            return NotImplemented
        return self is other or (self._hash == other._hash and self._key == other._key)

    def __hash__(self) -> int:
        return self._hash


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Lifted:
    """A function whose constants are leaves of a pytree; call it like the function itself.

    It works under `jit`, `vmap` and derivatives. A rule of `jax.custom_jvp` is part of the program,
    to the second derivative. A function with a rule of `jax.custom_vjp` shares its program with no
    other.
    """

    constants: tuple[Any, ...]
    program: Program = dataclasses.field(metadata={"static": True})

    def __call__(self, *args: Any) -> Any:
        """The function's value for arguments of the shapes and dtypes that it was lifted with.

        Raises:
          ValueError: for arguments of other shapes or dtypes.
        """
        leaves, tree = jax.tree.flatten(args)
        shapes = tuple((np.shape(leaf), jax.dtypes.result_type(leaf)) for leaf in leaves)
        if tree != self.program.in_tree or shapes != self.program.shapes:
            raise ValueError(
                f"the function was lifted for arguments {self.program.in_tree} of "
                f"{self.program.shapes} and is called with {tree} of {shapes}; lift it again"
            )
        values = _evaluate(self.program.jaxpr, self.constants, leaves)
        return jax.tree.unflatten(self.program.out_tree, values)


def lift(function: Callable[..., Any], *example_args: Any, differentiable: bool = True) -> Lifted:
    """Splits a function into its program and the arrays that it closes over.

    Arrays closed over by an inner jitted function, or by a rule for derivatives, stay in the
    program, as Python numbers do: functions that differ in them are compiled apart.

    Args:
      function: pure and traceable.
      example_args: pytrees of arrays or of `jax.ShapeDtypeStruct`s, as it will be called with.
      differentiable: whether its derivatives may be taken. Otherwise rules for derivatives that
        are left in the trace don't count when programs are compared.
    """
    closed, shape = jax.make_jaxpr(function, return_shape=True)(*example_args)
    in_tree, out_tree = jax.tree.structure(example_args), jax.tree.structure(shape)
    program = Program(closed.jaxpr, closed.consts, in_tree, out_tree, differentiable)
    return Lifted(tuple(map(_uncommitted, closed.consts)), program)


class SharedJit:
    """A function compiled at its first call; later ones that trace alike share what was compiled.

    Unlike `jax.jit` it identifies the function by what it does, not by its address: a closure that
    is made anew, with other arrays in it, is traced again and not compiled. For traced arguments it
    is the function itself, and becomes part of the outer program. It is not to be differentiated
    but inside a trace.
    """

    def __init__(self, function: Callable[..., Any]):
        self._function = function
        self._lifted: dict[Any, Lifted] = {}

    def __call__(self, *args: Any) -> Any:
        """The function's value for pytrees of arrays."""
        leaves, tree = jax.tree.flatten(args)
        if any(isinstance(leaf, Tracer) for leaf in leaves):
            return self._function(*args)
        kind = (tree, *map(_kind, leaves))
        lifted = self._lifted.get(kind)
        if lifted is None:
            lifted = lift(self._function, *args, differentiable=False)
            if any(isinstance(constant, Tracer) for constant in lifted.constants):
                return self._function(*args)
            self._lifted[kind] = lifted
        # With options a program can't be part of another one.
        options = compile_options(lifted.program.largest) if _trace_state() == NO_TRACE else ()
        found = _compiled_with(options)(lifted, *args)
        # What the host is to do may be gone when this function is.
        return jax.block_until_ready(found) if lifted.program.calls_back else found

    def trace(self, *args: Any) -> Any:
        """As of a jitted function."""
        return jax.jit(self._function).trace(*args)

    def lower(self, *args: Any) -> Any:
        """As of a jitted function, with the options that a call compiles with."""
        program = lift(self._function, *args, differentiable=False).program
        options = dict(compile_options(program.largest))
        return jax.jit(self._function, compiler_options=options).lower(*args)


def shared_jit(function: Function) -> Function:
    """Compiles a function once for all functions that trace alike, see `SharedJit`."""
    return cast(Function, SharedJit(function))


def _call(lifted: Lifted, *args: Any) -> Any:
    return lifted(*args)


@functools.cache
def _compiled_with(options: Options) -> Callable[..., Any]:
    return jax.jit(_call, compiler_options=dict(options))


def _kind(leaf: Any) -> tuple[Any, ...]:
    """What a program depends on of an argument: shape, dtype, weak type, float64 or not."""
    aval = jax.typeof(leaf)
    return aval.shape, aval.dtype, aval.weak_type


def _uncommitted(constant: Any) -> jax.Array:
    """The array, not bound to a device: results would be too, for which programs compile anew."""
    if isinstance(constant, Tracer):
        return constant
    if getattr(constant, "committed", False) and not jnp.issubdtype(
        constant.dtype, jax.dtypes.prng_key
    ):
        constant = np.asarray(constant)
    if isinstance(constant, np.ndarray):
        return to_device(constant)
    return jnp.asarray(constant)


def _evaluate(jaxpr: Jaxpr, constants: Any, leaves: Any) -> list[Any]:
    return jaxpr_as_fun(ClosedJaxpr(jaxpr, list(constants)))(*leaves)


def _avals(jaxpr: Jaxpr) -> list[Any]:
    """Shapes and dtypes of the constants, then of the arguments."""
    return [variable.aval for variable in (*jaxpr.constvars, *jaxpr.invars)]


def _derivatives(found: Description, jaxpr: Jaxpr, consts: list[Any]) -> tuple[Any, ...]:
    """What tells the derivatives of a trace apart, where it has rules of their own."""
    if any(name.startswith("custom_vjp") for name in found.primitives):
        return (object(),)  # its rules are Python functions: equal to itself alone
    if not any(name.startswith("custom_jvp") for name in found.primitives):
        return ()
    # The trace names rules; what they do shows in derivatives. With the constants as arguments,
    # what a derivative still closes over is what its rule itself closes over.
    derivative: Callable[..., Any] = functools.partial(_evaluate, jaxpr)
    avals = _avals(jaxpr)[len(consts) :]
    leaves = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in avals]
    said = []
    for _ in range(2):
        derivative = _pushforward(derivative)
        said.append(fingerprint(jax.make_jaxpr(derivative)(consts, leaves)))
    return tuple(said)


def _pushforward(function: Callable[..., Any]) -> Callable[..., Any]:
    """Values and directional derivatives by the floating-point arguments."""

    def tangent(leaf: Any) -> Any:
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            return jnp.ones_like(leaf)
        return np.zeros(leaf.shape, jax.dtypes.float0)

    def push(constants: Any, leaves: Any) -> list[Any]:
        tangents = jax.tree.map(tangent, leaves)
        values, derivatives = jax.jvp(lambda x: function(constants, x), (leaves,), (tangents,))
        return [*values, *(d for d in derivatives if d.dtype != jax.dtypes.float0)]

    return push
