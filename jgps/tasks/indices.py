"""Finds where a function reads what its arrays do not have.

JAX reads the nearest entry in place of one that is not there, and cuts slices, without a word.
Indices that are constants show in the traced program; what a slice was before it was cut does not,
so that the arguments themselves watch how they are read.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

KNOWN = {
    "lt": np.less,
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "squeeze": lambda a, dimensions: np.squeeze(a, dimensions),
    "convert_element_type": lambda a, new_dtype, **_: np.asarray(a).astype(new_dtype),
    "select_n": lambda which, *cases: np.choose(np.asarray(which, int), cases),
    "concatenate": lambda *parts, dimension: np.concatenate(parts, dimension),
}


class OutsideError(IndexError):
    """An index beyond an array's axis."""


def watched(name: str, array: jax.Array) -> jax.Array:
    """The traced array, which raises `OutsideError` when it is read beyond its end.

    So does what is read from it. For JAX it stays the same tracer.

    Args:
      name: what a message calls it.
    """
    kind = type(array)
    if array.ndim and kind.__name__ != "Watched":
        array.__class__ = _watched_kind(kind, name)
    return array


@functools.cache
def _watched_kind(kind: Any, name: str) -> type:
    def read(self: Any, index: Any) -> Any:
        check_index(name, self.shape, index)
        return watched(name, kind.__getitem__(self, index))

    return type("Watched", (kind,), {"__slots__": (), "__getitem__": read})


def check_index(name: str, shape: tuple[int, ...], index: Any) -> None:
    """Checks one index of Python, as far as its values are known.

    Raises:
      OutsideError: "x has 4 entries along axis 0, and index 7 is read".
    """
    parts = index if isinstance(index, tuple) else (index,)
    taken = [part for part in parts if part is not None]
    given = sum(_axes(part) for part in taken if part is not Ellipsis)
    axis = 0
    for part in taken:
        if part is Ellipsis:
            axis += len(shape) - given
        elif axis < len(shape):  # of more than that JAX itself complains
            _check_part(name, axis, shape[axis], part)
            axis += _axes(part)


def _axes(part: Any) -> int:
    """How many axes a part of an index takes: as many as a mask has."""
    mask = getattr(part, "dtype", None) == np.bool_
    return max(1, part.ndim) if mask else 1


def _check_part(name: str, axis: int, size: int, part: Any) -> None:
    along = f"{name} has {size} entries along axis {axis}"
    if isinstance(part, slice):
        for end in (part.start, part.stop):
            if isinstance(end, int | np.integer) and not -size <= end <= size:
                start, stop = ("" if each is None else each for each in (part.start, part.stop))
                raise OutsideError(f"{along}, and the slice {start}:{stop} is read")
        return
    if isinstance(part, Tracer | bool | np.bool_):
        return
    values = np.asarray(part)
    if values.dtype == np.bool_ or not np.issubdtype(values.dtype, np.integer):
        return
    outside = values[(values < -size) | (values >= size)]
    if outside.size:
        raise OutsideError(f"{along}, and index {int(outside.flat[0])} is read")


def check_program(closed: ClosedJaxpr) -> None:
    """Checks all constant indices of a traced program.

    Raises:
      OutsideError: "an array [4, 3] is read at 7 along axis 0".
    """
    known = zip(closed.jaxpr.constvars, closed.consts, strict=True)
    _check_jaxpr(closed.jaxpr, {var: np.asarray(value) for var, value in known if _small(value)})


def _small(value: Any) -> bool:
    return hasattr(value, "dtype") and value.dtype.kind in "iub" and value.size <= 10_000


def _check_jaxpr(jaxpr: Jaxpr, known: dict[Any, np.ndarray]) -> None:
    for eqn in jaxpr.eqns:
        values = [
            np.asarray(var.val) if isinstance(var, Literal) else known.get(var)
            for var in eqn.invars
        ]
        name = eqn.primitive.name
        if name == "dynamic_slice":
            _check_starts(_shape(eqn.invars[0]), eqn.params["slice_sizes"], values[1:])
        elif name == "gather":
            _check_gather(_shape(eqn.invars[0]), eqn.params, values[1])
        elif name == "broadcast_in_dim" and values[0] is not None:
            known[eqn.outvars[0]] = _broadcast(values[0], eqn.params)
        elif name in KNOWN and all(value is not None for value in values):
            known[eqn.outvars[0]] = np.asarray(KNOWN[name](*values, **_options(eqn.params)))
        for inner in _inner(eqn.params):
            same = len(inner.jaxpr.invars) == len(values)
            pairs = zip(inner.jaxpr.invars, values, strict=True) if same else ()
            given = {var: value for var, value in pairs if value is not None}
            constants = zip(inner.jaxpr.constvars, inner.consts, strict=True)
            given |= {var: np.asarray(value) for var, value in constants if _small(value)}
            _check_jaxpr(inner.jaxpr, given)


def _shape(variable: Any) -> tuple[int, ...]:
    return variable.aval.shape


def _options(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if name not in ("weak_type", "sharding")}


def _broadcast(value: np.ndarray, params: Mapping[str, Any]) -> np.ndarray:
    shape = np.ones(len(params["shape"]), int)
    shape[list(params["broadcast_dimensions"])] = value.shape
    return np.broadcast_to(value.reshape(shape), params["shape"])


def _inner(params: Mapping[str, Any]) -> list[ClosedJaxpr]:
    """The programs that an equation calls."""
    found = []
    for value in params.values():
        found += [each for each in (value if isinstance(value, tuple) else (value,))]
    return [each for each in found if isinstance(each, ClosedJaxpr)]


def _check_starts(shape: Any, sizes: Any, starts: list[np.ndarray | None]) -> None:
    for axis, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        if start is not None:
            _check_known(shape, axis, start, size)


def _check_gather(shape: Any, params: Mapping[str, Any], indices: np.ndarray | None) -> None:
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
