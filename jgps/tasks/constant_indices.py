"""Finds indices outside of an array among the constants of a traced program.

The program is run on what is known of its integers: constants, what it computes of them, and what
its loops count. All else is unknown, and so is what depends on it.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from jgps.tasks.indices import OutsideError

Known = np.ndarray | None
_ENTRIES = 10_000  # more in one array are not looked at
_EQUATIONS = 20_000  # after so many no more turns of loops are looked at: 0.4 s


def check_program(closed: ClosedJaxpr) -> None:
    """Checks all constant indices of a traced program, in every turn of its loops.

    Raises:
      OutsideError: "an array [4, 3] is read at 7 along axis 0".
    """
    with np.errstate(all="ignore"):
        _Checker().run(closed, [None] * len(closed.jaxpr.invars))


class _Checker:
    """Runs a program on what is known, and checks what it reads."""

    def __init__(self) -> None:
        self._equations_left = _EQUATIONS

    def run(self, program: ClosedJaxpr | Jaxpr, arguments: list[Known]) -> list[Known]:
        """Checks a program that is called so, and returns what is known of its results."""
        jaxpr = _jaxpr(program)
        constants = program.consts if isinstance(program, ClosedJaxpr) else ()
        known = dict(zip(jaxpr.constvars, map(_integers, constants), strict=True))
        known.update(zip(jaxpr.invars, arguments, strict=True))

        def read(variable: Any) -> Known:
            literal = isinstance(variable, Literal)
            return _integers(np.asarray(variable.val)) if literal else known.get(variable)

        self._equations_left -= len(jaxpr.eqns)
        for eqn in jaxpr.eqns:
            results = self._run_equation(eqn, [read(variable) for variable in eqn.invars])
            known.update(zip(eqn.outvars, results, strict=True))
        return [read(variable) for variable in jaxpr.outvars]

    def _run_equation(self, eqn: Any, values: list[Known]) -> list[Known]:
        name, params = eqn.primitive.name, eqn.params
        inner = _inner(params)
        if name == "scan":
            return self._scan(params, values)
        if name == "while":
            return self._while(params, values)
        if name == "cond":
            return self._cond(params["branches"], values)
        if len(inner) == 1 and _is_called_with(_jaxpr(inner[0]), eqn.invars):
            results = self.run(inner[0], values)
            if len(results) == len(eqn.outvars):
                return results
        else:
            for program in inner:  # nobody here knows what they are called with
                self.run(program, [None] * len(_jaxpr(program).invars))
        if name == "dynamic_slice":
            _check_starts(eqn.invars[0].aval.shape, params["slice_sizes"], values[1:])
        elif name == "gather":
            _check_gather(eqn.invars[0].aval.shape, params, values[1])
        elif name in _OPERATIONS and all(value is not None for value in values):
            operation, options = _OPERATIONS[name]
            return [_integers(np.asarray(operation(*values, *map(params.get, options))))]
        return [None] * len(eqn.outvars)

    def _scan(self, params: Mapping[str, Any], values: list[Known]) -> list[Known]:
        """Every turn, with the rows that it gets and what the last one left."""
        first, last = params["num_consts"], params["num_consts"] + params["num_carry"]
        constants, carried, scanned = values[:first], values[first:last], values[last:]
        stacked: list[Known] = [None] * (len(_jaxpr(params["jaxpr"]).outvars) - len(carried))
        turns = range(params["length"])
        for turn in reversed(turns) if params["reverse"] else turns:
            if self._equations_left <= 0:
                return [None] * (len(carried) + len(stacked))
            rows = [None if array is None else np.asarray(array[turn]) for array in scanned]
            changing = any(value is not None for value in [*carried, *rows])
            carried = self.run(params["jaxpr"], [*constants, *carried, *rows])[: len(carried)]
            if not changing and all(value is None for value in carried):  # all turns are like it
                break
        return [*carried, *stacked]

    def _while(self, params: Mapping[str, Any], values: list[Known]) -> list[Known]:
        """One turn: what it carries differs in each, and nobody knows how many there are."""
        first, last = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
        carried: list[Known] = [None] * (len(values) - last)
        self.run(params["cond_jaxpr"], [*values[:first], *carried])
        self.run(params["body_jaxpr"], [*values[first:last], *carried])
        return carried

    def _cond(self, branches: tuple[Any, ...], values: list[Known]) -> list[Known]:
        """All branches, or the one that is known to be taken."""
        which = values[0]
        if which is not None:
            return self.run(branches[int(np.clip(which, 0, len(branches) - 1))], values[1:])
        results = [self.run(branch, values[1:]) for branch in branches]
        return [None] * len(results[0])


def _is_called_with(inner: Any, arguments: Any) -> bool:
    """Whether a program takes these, one by one; that of a reduction, say, takes single entries."""
    shapes = [variable.aval.shape for variable in inner.invars]
    return shapes == [variable.aval.shape for variable in arguments]


def _integers(value: Any) -> Known:
    """The values of integers and flags, as far as there are not too many."""
    small = hasattr(value, "dtype") and value.dtype.kind in "iub" and value.size <= _ENTRIES
    return np.asarray(value) if small else None


def _jaxpr(program: ClosedJaxpr | Jaxpr) -> Jaxpr:
    return program.jaxpr if isinstance(program, ClosedJaxpr) else program


def _inner(params: Mapping[str, Any]) -> list[ClosedJaxpr | Jaxpr]:
    """The programs that an equation calls."""
    found = []
    for value in params.values():
        found += value if isinstance(value, tuple) else (value,)
    return [each for each in found if isinstance(each, ClosedJaxpr | Jaxpr)]


def _check_starts(shape: Any, sizes: Any, starts: list[Known]) -> None:
    for axis, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        if start is not None:
            _check_known(shape, axis, start, size)


def _check_gather(shape: Any, params: Mapping[str, Any], indices: Known) -> None:
    # With another mode the user says what indices outside mean.
    if indices is None or params["mode"] != jax.lax.GatherScatterMode.PROMISE_IN_BOUNDS:
        return
    for column, axis in enumerate(params["dimension_numbers"].start_index_map):
        _check_known(shape, axis, indices[..., column], params["slice_sizes"][axis])


def _check_known(shape: Any, axis: int, start: np.ndarray, size: int) -> None:
    outside = start[(start < 0) | (start > shape[axis] - size)]
    if outside.size:
        raise OutsideError(
            f"an array {list(shape)} is read at {int(outside.flat[0])} along axis {axis}"
        )


def _broadcast(value: np.ndarray, shape: Any, broadcast_dimensions: Any) -> np.ndarray:
    lengthened = np.ones(len(shape), int)
    lengthened[list(broadcast_dimensions)] = value.shape
    return np.broadcast_to(value.reshape(lengthened), shape)


def _cut(value: np.ndarray, start_indices: Any, limit_indices: Any, strides: Any) -> np.ndarray:
    steps = strides or (None,) * value.ndim
    return value[tuple(map(slice, start_indices, limit_indices, steps))]


def _iota(dtype: Any, shape: Any, dimension: int) -> np.ndarray:
    along = [1] * len(shape)
    along[dimension] = -1
    return np.broadcast_to(np.arange(shape[dimension], dtype=dtype).reshape(along), shape)


def _select(which: np.ndarray, *cases: np.ndarray) -> np.ndarray:
    which = np.broadcast_to(which, cases[0].shape).astype(int)
    return np.take_along_axis(np.stack(cases), which[None], axis=0)[0]


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))  # rounded to zero


# What JAX makes of indices, and what loops count with; and the parameters that matter there.
_OPERATIONS: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "lt": (np.less, ()),
    "le": (np.less_equal, ()),
    "gt": (np.greater, ()),
    "ge": (np.greater_equal, ()),
    "eq": (np.equal, ()),
    "ne": (np.not_equal, ()),
    "and": (np.bitwise_and, ()),
    "or": (np.bitwise_or, ()),
    "not": (np.invert, ()),
    "add": (np.add, ()),
    "sub": (np.subtract, ()),
    "mul": (np.multiply, ()),
    "rem": (np.fmod, ()),
    "div": (_divide, ()),
    "neg": (np.negative, ()),
    "sign": (np.sign, ()),
    "max": (np.maximum, ()),
    "min": (np.minimum, ()),
    "clamp": (lambda least, value, most: np.clip(value, least, most), ()),
    "iota": (_iota, ("dtype", "shape", "dimension")),
    "slice": (_cut, ("start_indices", "limit_indices", "strides")),
    "broadcast_in_dim": (_broadcast, ("shape", "broadcast_dimensions")),
    "reshape": (np.reshape, ("new_sizes",)),
    "squeeze": (np.squeeze, ("dimensions",)),
    "concatenate": (lambda *parts: np.concatenate(parts[:-1], parts[-1]), ("dimension",)),
    "convert_element_type": (np.ndarray.astype, ("new_dtype",)),
    "select_n": (_select, ()),
}
