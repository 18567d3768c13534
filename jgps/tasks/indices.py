"""Finds where a function reads what its arguments do not have.

JAX reads the nearest entry in place of one that is not there, and cuts slices, without a word. What
a slice was before it was cut does not show in the traced program, so that the arguments
themselves watch how they are read. What else is read outside, `constant_indices` finds.
"""

import functools
from typing import Any

import jax
import numpy as np
from jax.core import Tracer


class OutsideError(IndexError):
    """An index beyond an array's axis."""


def watched(name: str, array: jax.Array, time_axis: int | None = None) -> jax.Array:
    """The traced array, which raises `OutsideError` when it is read beyond its end.

    So does what is read from it. For JAX it stays the same tracer.

    Args:
      name: what a message calls it.
      time_axis: the axis on which slices may be longer than the array, as in Python: the last 20
        steps of 10 are all of them. None where it has no such axis.
    """
    kind = type(array)
    if array.ndim and kind.__name__ != "Watched":
        array.__class__ = _watched_kind(kind, name, time_axis)
    return array


@functools.cache
def _watched_kind(kind: Any, name: str, time_axis: int | None) -> type:
    def read(self: Any, index: Any) -> Any:
        check_index(name, self.shape, index, time_axis)
        part = kind.__getitem__(self, index)
        if time_axis is None:
            return watched(name, part)
        known, left = _follow(self.ndim, index, time_axis)
        return watched(name, part, left) if known else part

    return type("Watched", (kind,), {"__slots__": (), "__getitem__": read})


def check_index(
    name: str, shape: tuple[int, ...], index: Any, time_axis: int | None = None
) -> None:
    """Checks one index of Python, as far as its values are known.

    Args:
      time_axis: see `watched`.

    Raises:
      OutsideError: "x has 4 entries along axis 0, and index 7 is read".
    """
    axis = 0
    for part in _parts(len(shape), index):
        if part is not None and axis < len(shape):  # of more than that JAX itself complains
            if not (axis == time_axis and isinstance(part, slice)):
                _check_part(name, axis, shape[axis], part)
            axis += _axes(part)


def _parts(ndim: int, index: Any) -> list[Any]:
    """The parts of an index, with a slice for every axis that an ellipsis stands for."""
    parts = list(index) if isinstance(index, tuple) else [index]
    given = sum(_axes(part) for part in parts if part is not None and part is not Ellipsis)
    found = []
    for part in parts:
        found += [slice(None)] * (ndim - given) if part is Ellipsis else [part]
    return found


def _axes(part: Any) -> int:
    """How many axes a part of an index takes: as many as a mask has."""
    mask = getattr(part, "dtype", None) == np.bool_
    return max(1, part.ndim) if mask else 1


def _follow(ndim: int, index: Any, axis: int) -> tuple[bool, int | None]:
    """Whether it is known where an axis goes, and which it is in what an index reads, if any."""
    before, now = 0, 0
    for part in _parts(ndim, index):
        if part is None:
            now += 1
        elif isinstance(part, slice):
            if before == axis:
                return True, now
            before, now = before + 1, now + 1
        elif isinstance(part, int | np.integer) and not isinstance(part, bool):
            if before == axis:
                return True, None
            before += 1
        else:  # arrays move axes
            return False, None
    return True, now + axis - before


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
