"""Range checks of configuration values."""

import dataclasses
import math
import numbers
import typing
from collections.abc import Callable
from typing import Any


def check_field(
    config: Any,
    field: str,
    in_range: Callable[[Any], bool] = lambda value: True,
    text: str = "",
    *,
    integer: bool = False,
) -> None:
    """Refuses a field, a number or a tuple of them, that is not finite or out of range.

    Args:
      config: names the class in the message.
      in_range: of one number; text: the same in words, and the remedy.
      integer: refuse fractions too.

    Raises:
      ValueError: "Class.field is value; it has to be finite and <text>."
    """
    value = getattr(config, field)
    values = value if isinstance(value, tuple) else (value,)
    kind = numbers.Integral if integer else numbers.Real
    if not all(
        isinstance(v, kind) and not isinstance(v, bool) and math.isfinite(v) and in_range(v)
        for v in values
    ):
        raise ValueError(
            f"{type(config).__name__}.{field} is {value}; it has to be "
            f"{'an integer' if integer else 'finite'}{' and ' if text else ''}{text}."
        )


def check_choice(config: Any, field: str, choices: tuple[str, ...]) -> None:
    """Refuses a field that is none of `choices`.

    Raises:
      ValueError: "Class.field is value; it has to be one of <choices>".
    """
    value = getattr(config, field)
    if value not in choices:
        raise ValueError(
            f"{type(config).__name__}.{field} is {value!r}; it has to be one of "
            f"{', '.join(choices)}"
        )


def check_kinds(config: Any) -> None:
    """Refuses fields that are annotated as settings and hold something else.

    Raises:
      ValueError: "Class.field is value; it has to be a <kind> or a <kind>".
    """
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value, hint = getattr(config, field.name), hints[field.name]
        kinds = typing.get_args(hint) or (hint,)
        if all(map(dataclasses.is_dataclass, kinds)) and not isinstance(value, kinds):
            raise ValueError(
                f"{type(config).__name__}.{field.name} is {value!r}; it has to be a "
                f"{' or a '.join(f'jgps.configs.{kind.__name__}' for kind in kinds)}"
            )
