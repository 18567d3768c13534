"""Functions that are called inside programs and by hand alike."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import jax

_Args = ParamSpec("_Args")
_Result = TypeVar("_Result")


def one_program(
    *settings: str,
) -> Callable[[Callable[_Args, _Result]], Callable[_Args, _Result]]:
    """Makes a call outside of `jax.jit` one compiled program, not one for each operation.

    Inside a program the function leaves no call of its own: what XLA compiles is what it would be
    without this.

    Args:
      settings: names of arguments that are not arrays; they have to be hashable.
    """

    def decorate(function: Callable[_Args, _Result]) -> Callable[_Args, _Result]:
        compiled = jax.jit(function, static_argnames=settings, inline=True)
        return cast(Callable[_Args, _Result], compiled)

    return decorate
