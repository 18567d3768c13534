"""What a name that nobody knows was probably meant to be."""

import difflib
from collections.abc import Iterable
from typing import Any

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


def shown(value: Any) -> str:
    """Returns a value as Python writes it, shortened where it is long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 100 else f"{text[:60]}... ({len(text)} characters)"


def _plain(name: str) -> str:
    return name.lower().translate(SEPARATORS)
