"""What JSON holds as settings and other objects, by their types, and back."""

import dataclasses
import numbers
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


def decode(hint: Any, value: Any, where: str = "it") -> Any:
    """What JSON says, as an object of an annotated type.

    Args:
      hint: the type: a dataclass, which `encode` wrote with its name; a TypedDict, whose further
        keys are kept as they are; a number, text, a boolean, a Literal; lists, tuples and dicts of
        those, and unions.
      value: as `json.loads` returns it.
      where: names the value in messages.

    Raises:
      ValueError: it does not fit the type; the message says where.
    """
    if hint is Any:
        return value
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return _decode_union(arguments, value, where)
    if origin is typing.Annotated or origin in (typing.Required, typing.NotRequired):
        return decode(arguments[0], value, where)
    if origin is typing.Literal and value in arguments:
        return value
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _decode_dataclass(hint, value, where)
    if typing.is_typeddict(hint) and isinstance(value, dict):
        return _decode_typed_dict(hint, value, where)
    if origin in (list, tuple) and isinstance(value, list):
        return _decode_sequence(origin, arguments, value, where)
    if origin is dict and isinstance(value, dict):
        return {k: decode(arguments[1], each, f"{where}.{k}") for k, each in value.items()}
    if _is_plain(hint, value):
        return value
    raise ValueError(f"{where} is {_shown(value)}; it has to be {_named(hint)}")


def _is_plain(hint: Any, value: Any) -> bool:
    """Whether a value is of a type that JSON knows itself."""
    if hint in (None, types.NoneType):
        return value is None
    if hint in (int, float):  # JSON writes 1.0 as users write it, with or without a point
        kind = numbers.Integral if hint is int else numbers.Real
        return isinstance(value, kind) and not isinstance(value, bool)
    return hint in (str, bool) and isinstance(value, hint)


def _decode_union(options: tuple[Any, ...], value: Any, where: str) -> Any:
    """The first option that fits; where one is named by its type, what is wrong with that one."""
    if isinstance(value, dict) and "type" in value:
        for option in options:
            if getattr(option, "__name__", None) == value["type"]:
                return decode(option, value, where)
    for option in options:
        try:
            return decode(option, value, where)
        except ValueError:
            continue
    kinds = " or ".join(_named(option) for option in options)
    raise ValueError(f"{where} is {_shown(value)}; it has to be {kinds}")


def _decode_dataclass(kind: type, value: Any, where: str) -> Any:
    hints = typing.get_type_hints(kind)
    if not isinstance(value, dict) or value.get("type") != kind.__name__:
        raise ValueError(f"{where} is {_shown(value)}; it has to be {_named(kind)}")
    fields = {k: v for k, v in value.items() if k != "type"}
    unknown = [name for name in fields if name not in hints]
    if unknown:
        raise ValueError(f"{where} has {', '.join(unknown)}, which {kind.__name__} lacks")
    required = {
        f.name
        for f in dataclasses.fields(kind)
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    }
    _check_keys(required, fields, where)
    return kind(**{k: decode(hints[k], v, f"{where}.{k}") for k, v in fields.items()})


def _decode_typed_dict(kind: Any, value: dict[str, Any], where: str) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    _check_keys(kind.__required_keys__, value, where)
    return {
        k: decode(hints[k], each, f"{where}.{k}") if k in hints else each
        for k, each in value.items()
    }


def _decode_sequence(origin: Any, kinds: tuple[Any, ...], value: list[Any], where: str) -> Any:
    if origin is list or kinds[1:] == (...,):
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        raise ValueError(f"{where} has {len(value)} entries; it has to have {len(kinds)}")
    pairs = zip(kinds, value, strict=True)
    return origin(decode(kind, each, f"{where}[{i}]") for i, (kind, each) in enumerate(pairs))


def _check_keys(required: Any, value: dict[str, Any], where: str) -> None:
    missing = sorted(set(required) - set(value))
    if missing:
        raise ValueError(f"{where} lacks {', '.join(missing)}")


def _named(hint: Any) -> str:
    """A type in words."""
    words = {int: "an integer", float: "a number", str: "text", bool: "true or false"}
    if hint in words:
        return words[hint]
    if hint in (None, types.NoneType):
        return "null"
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return " or ".join(map(repr, arguments))
    if origin in (list, tuple):
        return "a list"
    if origin is dict or typing.is_typeddict(hint):
        return "an object"
    return f"settings of type {getattr(hint, '__name__', hint)}"


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return f"settings of type {value['type']!r}" if "type" in value else "an object"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
