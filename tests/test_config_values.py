"""Whatever is wrong in a field of a config is refused, and its class and field are named.

Values are drawn for every field of every config; hypothesis draws the same in every run.
"""

import dataclasses
import functools
import math
import types
import typing
from typing import Annotated, Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from jgps import configs
from jgps.core.checks import Config, OneOf, Range, Schedule
from jgps.costs import Penalty
from jgps.rendering import Camera

KINDS = [getattr(configs, name) for name in configs.__all__] + [Penalty, Camera]
FIELDS = [(kind, field) for kind in KINDS for field in dataclasses.fields(kind)]
# Without which the class does not make sense, whatever the field under test.
GIVEN = {Penalty: {"l2": 1.0, "l1": 1.0}}
# Fields that have to go with others, too; what the others then say names a field as well.
TOGETHER = {
    "BadmmConfig": {"initial_weight", "min_weight", "max_weight", "gain_dual_rate"},
    "CemConfig": {"elites", "samples"},
    "CgpsConfig": {"initial_multiplier", "max_multiplier"},
    "DaggerConfig": {"beta"},
    "DistilConfig": {"checks", "steps"},
    "DomainRandomisationConfig": {"nearest", "farthest"},
    "MdgpsConfig": {"rollouts"},
    "MpcConfig": {"horizon", "replan_every"},
    "MpcDaggerConfig": {"episodes", "steps", "labels_kept", "horizon", "replan_every"},
    "MixturePriorConfig": {"min_clusters", "max_clusters"},
    "MlpConfig": {"distil"},
    "MpcGpsConfig": {"horizon", "replan_every"},
    "PlatoConfig": {"beta", "horizon", "replan_every"},
    "TeachingConfig": {"horizon", "replan_every"},
    "PilqrStepConfig": {"grow_below", "shrink_above"},
    "RandomStartsConfig": {"num_groups", "num_rollouts"},
    "RandomiseConfig": {"cell", "light_range"},
    "RegressionConfig": {"prior"},
    "TrustRegionConfig": {"eta_min", "eta_max"},
    "VisualConfig": {"dense", "end_to_end"},
}
JUNK = [
    math.nan, math.inf, -math.inf, 10**400, 1e300, -1e300, 1e-300, 2**80, 1j, b"1", object(),
    np.array([[1.0]]), np.datetime64("nat"), {}, {"a": 1}, {1}, (), (None,), ("a",), (math.nan,),
    ((1.0,),), (1.0,) * 7, Range, int, len, lambda: 1, "", "nonsense", "1", "é" * 300, Ellipsis,
]  # fmt: skip


def hint_of(kind, field):
    return typing.get_type_hints(kind, include_extras=True)[field.name]


def options(hint) -> tuple[list[Any], list[Any]]:
    """The types that an annotation allows, and what it says of them."""
    limits: list[Any] = []
    if typing.get_origin(hint) is Annotated:
        limits = list(hint.__metadata__)
        hint = typing.get_args(hint)[0]
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return list(typing.get_args(hint)) if union else [hint], limits


def ends(limits) -> tuple[float, float, bool, bool]:
    """The least and the largest number of a range, and whether they belong to it."""
    text = next((each.interval for each in limits if isinstance(each, Range)), "")
    if text[:1] in ("(", "["):
        low, high = text[1:-1].split(", ")
        return float(low), float(high), text[0] == "[", text[-1] == "]"
    if text[:1] == ">":
        return float(text.split()[1]), math.inf, text[1] == "=", False
    return -math.inf, math.inf, False, False


def fits(value, option, limits) -> bool:
    """Whether a field that is annotated so may hold the value; written anew, on purpose."""
    if option is type(None):
        return value is None
    if option is bool:
        return isinstance(value, bool | np.bool_)
    if option is str:
        choices = [each.choices for each in limits if isinstance(each, OneOf)]
        return isinstance(value, str) and value in choices[0]
    if option in (int, float):
        allowed = (int, np.integer) if option is int else (int, float, np.integer, np.floating)
        if not isinstance(value, allowed) or isinstance(value, bool) or value != value:
            return False
        low, high, with_low, with_high = ends(limits)
        inside = low < value < high or (value == low and with_low) or (value == high and with_high)
        not_zero = not any(getattr(each, "interval", "") == "!= 0" for each in limits) or value != 0
        largest = 2**31 - 1 if option is int else 1e30
        size = largest if high == math.inf else high
        return inside and not_zero and abs(value) <= size and not 0 < abs(value) < 1e-30
    if typing.get_origin(option) is tuple:
        of, *rest = typing.get_args(option)
        empty = isinstance(value, tuple | list) and not value
        if empty and any(isinstance(each, Schedule) for each in limits):
            return False
        return (
            isinstance(value, tuple | list)
            and (rest == [Ellipsis] or len(value) == 1 + len(rest))
            and all(fits(each, of, limits) for each in value)
        )
    return isinstance(value, option)


def numbers_near(limits):
    """Numbers of every size, most of them at the ends of the range."""
    low, high, *_ = ends(limits)
    near = [0, 0.0, 1, 1.0, -1, 2.5, 1e30, 1.1e30, 2**31 - 1, 2**31]
    for end in (low, high):
        if math.isfinite(end):
            near += [end, np.nextafter(end, -math.inf), np.nextafter(end, math.inf), int(end)]
            near += [int(end) - 1, int(end) + 1, 2 * end + 0.5]
    kinds = [np.float32, np.float64, np.int64, float, int, bool]
    return st.one_of(
        st.sampled_from(near),
        st.floats(width=64),
        st.integers(),
        st.builds(lambda kind, value: kind(value), st.sampled_from(kinds), st.integers(-9, 9)),
    )


@functools.cache
def values(kind, field):
    """Whatever someone may write into a field."""
    _, limits = options(hint_of(kind, field))
    number = numbers_near(limits)
    choices = [choice for each in limits if isinstance(each, OneOf) for choice in each.choices]
    return st.one_of(
        number,
        st.sampled_from([None, True, False, np.True_, *choices]),
        st.sampled_from(JUNK),
        st.lists(number, max_size=4),
        st.lists(number, max_size=4).map(tuple),
        st.sampled_from([kind() for kind in KINDS[:-2]]),
    )


def check(kind, field, value):
    """Asserts that the value is taken or refused as the field's annotation says."""
    allowed, limits = options(hint_of(kind, field))
    settings_of_kind = {**GIVEN.get(kind, {}), field.name: value}
    if not any(fits(value, option, limits) for option in allowed):
        with pytest.raises(ValueError, match=rf"^{kind.__name__}\.{field.name} is "):
            kind(**settings_of_kind)
        return
    together = TOGETHER.get(kind.__name__, set())
    try:
        config = kind(**settings_of_kind)
    except ValueError as error:
        named = str(error).split(" ")[0].removeprefix(f"{kind.__name__}.").split(".")[0]
        assert {field.name, named} <= together, error
        return
    held = getattr(config, field.name)
    assert held == (tuple(value) if isinstance(value, list) else value)
    assert isinstance(hash(config), int)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@settings(max_examples=40, derandomize=True, deadline=None, database=None)
@given(data=st.data())
def test_what_is_wrong_is_refused_and_what_is_right_taken(kind, data):
    for field in dataclasses.fields(kind):
        check(kind, field, data.draw(values(kind, field), label=field.name))


def test_all_configs_are_drawn_for():
    assert all(issubclass(kind, Config) for kind in KINDS)
    assert len(FIELDS) > 150
