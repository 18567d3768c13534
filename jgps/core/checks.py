"""What every config has in common: each field says what it may hold, and all are checked alike.

A field says it in its annotation, and no config can be made that holds anything else:

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class StepConfig(Config):
        kl_step: Annotated[float, Range("> 0", "usually 0.1 to 2 nats")] = 1.0
        rounds: Annotated[int, Range(">= 1")] = 20
        group_by: Annotated[str, OneOf("start", "trajectory")] = "start"
        cell: Annotated[tuple[float, float], Range("> 0")] = (0.02, 0.2)
        search: SearchConfig = SearchConfig()

What several fields have to satisfy together is checked in `__post_init__`, after the fields.
"""

import dataclasses
import functools
import math
import numbers
import operator
import re
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple, NoReturn, Self

import jax
import jax.core
import numpy as np

from jgps.core.names import did_you_mean, shown

# Numbers within which float32 has room for sums, and for what is divided by them.
LARGEST, SMALLEST = 1e30, 1e-30
LARGEST_INTEGER = 2**31 - 1
RELATIONS = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "!=": operator.ne,
}


@dataclasses.dataclass(frozen=True)
class Range:
    """Which numbers a field may hold; those of a tuple one by one.

    Without an upper limit floats are at most 1e30 and integers at most 2^31 - 1; floats that are
    not 0 are at least 1e-30 in size, so that float32 holds them.

    Attributes:
      interval: a relation such as "> 0", ">= 1" or "!= 0", an interval such as "(0, 1]", or
        "" for all finite numbers.
      note: what is usual, and why others are refused; by default the field's default is usual.
    """

    interval: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        _bounds(self.interval)

    def __contains__(self, value: float) -> bool:
        bounds = _bounds(self.interval)
        finite = abs(value) < math.inf  # of integers of any length, too; not of NaN
        return finite and all(holds(value, bound) for holds, bound in bounds)

    @property
    def text(self) -> str:
        """The range in words."""
        return f"in {self.interval}" if self.interval[:1] in ("(", "[") else self.interval

    @property
    def limited(self) -> bool:
        """Whether the range has an upper limit of its own."""
        return any(holds in (operator.lt, operator.le) for holds, _ in _bounds(self.interval))


class Schedule(Range):
    """Which numbers a field may hold that is one number for all iterations, or one for each.

    Its annotation is `float | tuple[float, ...]`, and the tuple has an entry at least; see
    `jgps.core.schedule`.
    """


@functools.cache
def _bounds(interval: str) -> list[tuple[Callable[[float, float], bool], float]]:
    if not interval:
        return []
    if found := re.fullmatch(r"(>=|>|<=|<|!=) (\S+)", interval):
        return [(RELATIONS[found[1]], float(found[2]))]
    if found := re.fullmatch(r"([(\[])(\S+), (\S+)([)\]])", interval):
        low = operator.gt if found[1] == "(" else operator.ge
        high = operator.lt if found[4] == ")" else operator.le
        return [(low, float(found[2])), (high, float(found[3]))]
    raise ValueError(f"{interval!r} is no range; write for example '> 0', '>= 1' or '(0, 1]'")


class OneOf:
    """Which strings a field may hold."""

    def __init__(self, *choices: str):
        self.choices = choices


class AnyText:
    """A string that nothing restricts."""


class Config:
    """Base of all settings: it checks every field as its annotation says.

    Numbers of NumPy and JAX become plain ones, and lists tuples, so that a config is hashable and
    can be written as JSON.

    Raises:
      ValueError: "Class.field is value; it has to be ..., usually ...".
      TypeError: for a setting that the class does not have.
    """

    def __new__(cls, *args: Any, **settings: Any) -> Self:
        """Refuses settings that the class does not have, before Python does without a remedy."""
        known = [each.name for each in dataclasses.fields(typing.cast(Any, cls))]
        for name in sorted(set(settings) - set(known)):
            place = written_out(cls, name)
            hint = did_you_mean(name, known) if place is None else f"; write {place}"
            raise TypeError(
                f"{cls.__name__} has no setting {shown(name)}; settings: {', '.join(known)}{hint}"
            )
        return super().__new__(cls)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Checks the fields before what the class itself checks, whatever that calls."""
        super().__init_subclass__(**kwargs)
        own = cls.__dict__.get("__post_init__")
        if own is not None:

            @functools.wraps(own)
            def after_fields(self: Any) -> None:
                check_fields(self)
                own(self)

            cls.__post_init__ = after_fields

    def __post_init__(self) -> None:
        check_fields(self)


def refuse(config: Any, field: str, text: str) -> NoReturn:
    """Raises the error of a field that does not go with others.

    Raises:
      ValueError: "Class.field is value; it has to be <text>"; the class may be a part, for example
        of the field `"search.tolerance"`.
    """
    value = functools.reduce(getattr, field.split("."), config)
    raise ValueError(f"{type(config).__name__}.{field} is {shown(value)}; it has to be {text}")


def check_fields(config: Any) -> None:
    """Refuses fields that hold what they may not, and writes others as plain Python values.

    Raises:
      ValueError: "Class.field is value; it has to be ..., usually ...".
    """
    for name, rule in rules(type(config)).items():
        value = getattr(config, name)
        plain = rule.read(value)
        if plain is UNFIT:
            refuse(config, name, rule.text(value))
        if plain is not value:
            object.__setattr__(config, name, plain)


def check_argument(name: str, value: Any, annotation: Any) -> Any:
    """Returns an argument of a function, checked as a config's field with this annotation is.

    Raises:
      ValueError: "name is value; it has to be ...".
    """
    rule = _rule(annotation)
    plain = rule.read(value)
    if plain is UNFIT:
        notes = [each.note for each in getattr(annotation, "__metadata__", ()) if each.note]
        text = ", ".join((rule.text(value), *notes))
        raise ValueError(f"{name} is {shown(value)}; it has to be {text}")
    return plain


def as_numbers(name: str, value: Any) -> np.ndarray:
    """An argument that is numbers, in any nesting of lists, as an array of float64.

    Raises:
      ValueError: "name is value; it has to be numbers".
    """
    try:
        return np.asarray(value, np.float64)
    except (TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{name} is {shown(value)}; it has to be numbers, as an array or lists of one length "
            f"({reason})"
        ) from None


class Rule(NamedTuple):
    """What a field may hold."""

    read: Callable[[Any], Any]  # the value as plain Python; UNFIT where the field may not hold it
    text: Callable[[Any], str]  # "it has to be" this, where a value is refused
    declared: bool  # whether the annotation says more than a type where there is more to say


UNFIT = object()


@functools.cache
def rules(config_type: type) -> dict[str, Rule]:
    """The rule of every field of a class of settings, by name."""
    hints = typing.get_type_hints(config_type, include_extras=True)
    found = {}
    for field in dataclasses.fields(config_type):
        rule = _rule(hints[field.name])
        found[field.name] = rule._replace(text=_with_default(rule.text, field, hints[field.name]))
    return found


def _with_default(text: Callable[[Any], str], field: Any, hint: Any) -> Callable[[Any], str]:
    """The rule's text and what is usual, which is the default where no note says it."""
    notes = [each.note for each in getattr(hint, "__metadata__", ()) if isinstance(each, Range)]
    default = () if field.default in (dataclasses.MISSING, None) else (field.default,)
    plain = [shown(each) for each in default if isinstance(each, int | float | tuple)]
    usual = "".join(notes) or "".join(f"usually {each}" for each in plain)
    return lambda value: ", ".join(each for each in (text(value), usual) if each)


def _rule(hint: Any, limits: tuple[Any, ...] = ()) -> Rule:
    """The rule of an annotation."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _rule(parts[0], hint.__metadata__)
    if origin in (typing.Union, types.UnionType):
        return _any_of([_rule(each, limits) for each in parts])
    if origin is tuple:
        return _tuple(parts, limits)
    if hint in (int, float):
        return _number(hint, next((each for each in limits if isinstance(each, Range)), None))
    if hint is str:
        return _text(next((each for each in limits if isinstance(each, OneOf | AnyText)), None))
    if isinstance(hint, type):
        return _instance(hint)
    return Rule(lambda value: value, lambda value: "", False)


def _number(kind: type, limit: Range | None) -> Rule:
    inside = limit or Range()
    largest = math.inf if inside.limited else LARGEST_INTEGER if kind is int else LARGEST

    def is_number(value: Any) -> bool:
        expected = numbers.Integral if kind is int else numbers.Real
        return isinstance(value, expected) and not isinstance(value, bool)

    def read(value: Any) -> Any:
        value = _plain(value)
        if not is_number(value) or value not in inside or abs(value) > largest:
            return UNFIT
        return UNFIT if 0 < abs(value) < SMALLEST else kind(value)

    def text(value: Any) -> str:
        value = _plain(value)
        words = ["an integer" if kind is int else "finite", inside.text]
        if is_number(value) and value in inside:
            many = f"from {SMALLEST:g} to {LARGEST:g} in size, with which float32 can count"
            words.append("below 2^31" if kind is int else many)
        return " and ".join(word for word in words if word)

    return Rule(read, text, limit is not None)


def _plain(value: Any) -> Any:
    """A number of NumPy or JAX as one of Python; all else as it is."""
    if isinstance(value, jax.core.Tracer):
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, np.generic | np.ndarray | jax.Array) and value.shape == ():
        return value.item() if np.issubdtype(value.dtype, np.number) else value
    return value


def _tuple(parts: tuple[Any, ...], limits: tuple[Any, ...]) -> Rule:
    each = _rule(parts[0], limits)
    length = None if parts[-1] is Ellipsis else len(parts)
    scheduled = any(isinstance(limit, Schedule) for limit in limits)

    def read(value: Any) -> Any:
        if isinstance(value, np.ndarray | jax.Array) and not isinstance(value, jax.core.Tracer):
            value = list(value) if value.ndim == 1 else UNFIT
        if not isinstance(value, tuple | list) or length not in (None, len(value)):
            return UNFIT
        if scheduled and not value:
            return UNFIT
        found = tuple(each.read(entry) for entry in value)
        return UNFIT if any(entry is UNFIT for entry in found) else found

    def text(value: Any) -> str:
        entries = value if isinstance(value, tuple | list) else ()
        wrong = next((entry for entry in entries if each.read(entry) is UNFIT), None)
        size = "" if length is None else f" of {length}"
        if scheduled:
            size = " with one entry per iteration"
        return f"a tuple{size}, each {each.text(wrong)}"

    return Rule(read, text, each.declared)


def _text(limit: OneOf | AnyText | None) -> Rule:
    def read(value: Any) -> Any:
        fits = isinstance(value, str) and (not isinstance(limit, OneOf) or value in limit.choices)
        return str(value) if fits else UNFIT

    def text(value: Any) -> str:
        if isinstance(limit, OneOf):
            return f"one of {', '.join(limit.choices)}{did_you_mean(value, limit.choices)}"
        return "a string"

    return Rule(read, text, limit is not None)


def _instance(kind: type) -> Rule:
    """Of settings, of True and False, of None, and of whatever else is told by its type alone."""
    words = f"a {kind.__name__}"
    if kind is bool:
        words = "True or False"
    elif kind is type(None):
        words = "None"
    elif issubclass(kind, Config):
        words = f"a jgps.configs.{kind.__name__}"

    def read(value: Any) -> Any:
        value = _plain(value)
        return value if isinstance(value, kind) else UNFIT

    return Rule(read, lambda value: words, True)


def _any_of(options: list[Rule]) -> Rule:
    def read(value: Any) -> Any:
        found = (option.read(value) for option in options)
        return next((plain for plain in found if plain is not UNFIT), UNFIT)

    def text(value: Any) -> str:
        return " or ".join(option.text(value) for option in options)

    return Rule(read, text, all(option.declared for option in options))


def written_out(config_type: Any, name: str) -> str | None:
    """How a setting of a config, or of the settings in it, is given; None where there is none.

    For instance `MdgpsConfig(step=LqrStepConfig(kl_step=...))`.
    """
    waiting = [(config_type, f"{config_type.__name__}(%s)")]
    while waiting:  # nearest first
        kind, text = waiting.pop(0)
        if name in {each.name for each in dataclasses.fields(kind)}:
            return text % f"{name}=..."
        for field, hint in typing.get_type_hints(kind).items():
            for held in typing.get_args(hint) or (hint,):
                if isinstance(held, type) and issubclass(held, Config):
                    waiting.append((held, text % f"{field}={held.__name__}(%s)"))
    return None
