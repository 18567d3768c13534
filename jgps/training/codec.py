"""Configs as JSON and back."""

import dataclasses
import types
import typing
from typing import Any


def encode(value: Any) -> Any:
    """A config as JSON; `decode` reads it again."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"type": type(value).__name__, **fields}
    if isinstance(value, tuple | list):
        return [encode(each) for each in value]
    return value


def decode(hint: Any, value: Any) -> Any:
    """The config that `encode` wrote, where `hint` is its type or a union of types.

    Raises:
      ValueError: if it does not fit the type.
    """
    options = (
        typing.get_args(hint)
        if typing.get_origin(hint) in (types.UnionType, typing.Union)
        else (hint,)
    )
    if isinstance(value, dict):
        for option in options:
            if isinstance(option, type) and option.__name__ == value.get("type"):
                hints = typing.get_type_hints(option)
                fields = {k: v for k, v in value.items() if k != "type"}
                if set(fields) <= set(hints):
                    return option(**{k: decode(hints[k], v) for k, v in fields.items()})
        raise ValueError(f"no settings of type {value.get('type')!r} with these fields are known")
    return tuple(decode(Any, each) for each in value) if isinstance(value, list) else value
