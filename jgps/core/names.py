"""What a name that nobody knows was probably meant to be."""

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
SEPARATORS = str.maketrans("-: ", "___")


def unknown(kind: str, name: Any, known: Iterable[str]) -> str:
    """Returns one sentence on a name that is not known, with all that are and the nearest.

    Args:
      kind: what it should be the name of, `"task"` for example.
    """
    known = list(known)
    many = f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}s"
    names = ", ".join(known) or "none"
    return f"unknown {kind} {shown(name)}; {many}: {names}{did_you_mean(name, known)}"


def did_you_mean(name: Any, known: Iterable[Any]) -> str:
    """Returns `"; did you mean point_mass?"` for a name near to a known one, otherwise nothing.

    Capitals and the choice between `-`, `_`, `:` and a space do not count.
    """
    spelt = {_plain(each): each for each in known if isinstance(each, str) and each}
    if not isinstance(name, str) or not 0 < len(name) <= 100:
        return ""
    plain = _plain(name)
    near = difflib.get_close_matches(plain, list(spelt), n=1, cutoff=0.6)
    near = near or [each for each in spelt if plain in each or each in plain]
    return f"; did you mean {spelt[near[0]]}?" if near else ""


def explain_unknown(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Makes a function say which of its arguments was meant by one that it does not have.

    Raises:
      TypeError: for an argument that it does not have.
    """
    known = list(inspect.signature(function).parameters)

    @functools.wraps(function)
    def explained(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        for name in kwargs:
            if name not in known:
                raise TypeError(
                    f"{function.__name__} has no argument {shown(name)}; arguments: "
                    f"{', '.join(known)}{did_you_mean(name, known)}"
                )
        return function(*args, **kwargs)

    return explained


def shown(value: Any) -> str:
    """Returns a value as Python writes it, shortened where it is long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 100 else f"{text[:60]}... ({len(text)} characters)"


def _plain(name: str) -> str:
    return name.lower().translate(SEPARATORS)
