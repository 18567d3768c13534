"""What fields of configs may hold: one mechanism, which no field escapes."""

import dataclasses
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jgps import configs
from jgps.core.checks import Config, OneOf, Range, check_argument, refuse, rules


@dataclasses.dataclass(frozen=True, kw_only=True)
class InnerConfig(Config):
    tolerance: Annotated[float, Range("(0, 1)")] = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class OuterConfig(Config):
    """One field of every kind."""

    rate: Annotated[float, Range("> 0", "usually 0.1 to 2 nats")] = 1.0
    steps: Annotated[int, Range(">= 1")] = 20
    gain: Annotated[float | tuple[float, ...], Range("!= 0")] = 1.0
    cell: Annotated[tuple[float, float], Range(">= 0")] = (0.02, 0.2)
    widths: Annotated[tuple[int, ...], Range(">= 1")] = (40, 40)
    limit: Annotated[int | None, Range(">= 1")] = None
    group_by: Annotated[str, OneOf("start", "trajectory")] = "start"
    shared: bool = True
    inner: InnerConfig = InnerConfig()

    def __post_init__(self):
        if self.cell[0] > self.cell[1]:
            refuse(self, "cell", "the smallest and the largest, in this order")


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("rate", 0, "0; it has to be finite and > 0, usually 0.1 to 2 nats"),
        ("rate", "1", "'1'; it has to be finite and > 0"),
        ("rate", True, "True; it has to be finite"),
        ("rate", np.bool_(True), r"np.True_; it has to be finite"),
        ("rate", float("nan"), "nan; it has to be finite"),
        ("rate", 10**400, r"\(401 characters\); it .* > 0 and from 1e-30 to 1e\+30"),
        ("rate", 1e-40, "1e-40; it has to be finite and > 0 and from 1e-30 to"),
        ("rate", 1 + 0j, r"\(1\+0j\); it has to be finite"),
        ("rate", np.ones(1), r"array\(\[1.\]\); it has to be finite"),
        ("steps", 2.5, "2.5; it has to be an integer and >= 1, usually 20"),
        ("steps", 2.0, "2.0; it has to be an integer"),
        ("steps", 2**31, "2147483648; it has to be an integer and >= 1 and below 2\\^31"),
        ("gain", (1.0, 0.0), r"\(1.0, 0.0\); it has to be finite and != 0 or a tuple, each finite"),
        ("gain", {1.0, 2.0}, r"\{1.0, 2.0\}; it has to be finite"),
        ("cell", (1.0,), r"\(1.0,\); it has to be a tuple of 2, each finite and >= 0, usually \("),
        ("cell", 1.0, "1.0; it has to be a tuple of 2"),
        ("cell", (2.0, 1.0), r"\(2.0, 1.0\); it has to be the smallest and the largest"),
        ("widths", "12", "'12'; it has to be a tuple, each an integer"),
        ("widths", (n for n in (1, 2)), "generator .*; it has to be a tuple, each an integer"),
        ("widths", np.ones((2, 2), int), "array.*; it has to be a tuple, each an integer"),
        ("limit", 0, "0; it has to be an integer and >= 1 or None"),
        ("group_by", "strat", r"'strat'; it has to be one of .*, trajectory; did you mean start\?"),
        ("group_by", None, "None; it has to be one of start, trajectory"),
        ("shared", 1, "1; it has to be True or False"),
        ("inner", {"tolerance": 0.1}, r"\{'tolerance': 0.1\}; it has to be a jgps.configs.Inner"),
        ("inner", InnerConfig, "<class .*; it has to be a jgps.configs.InnerConfig"),
    ],
)  # fmt: skip
def test_what_a_field_may_not_hold(field, value, text):
    with pytest.raises(ValueError, match=f"^OuterConfig.{field} is .*{text}"):
        OuterConfig(**{field: value})


@pytest.mark.parametrize(
    ("field", "value", "plain"),
    [
        ("rate", 1, 1.0),
        ("rate", np.float32(0.5), 0.5),
        ("rate", jnp.float32(0.5), 0.5),
        ("steps", np.int64(3), 3),
        ("steps", jnp.int32(3), 3),
        ("gain", [1, np.float64(2.0)], (1.0, 2.0)),
        ("gain", np.array([1.0, 2.0]), (1.0, 2.0)),
        ("widths", jnp.array([3, 4]), (3, 4)),
        ("widths", [], ()),
        ("limit", np.int8(3), 3),
        ("group_by", np.str_("trajectory"), "trajectory"),
        ("shared", np.bool_(False), False),
    ],
)
def test_values_become_plain(field, value, plain):
    config = OuterConfig(**{field: value})
    held = getattr(config, field)
    assert held == plain
    assert type(held) is type(plain)
    if isinstance(held, tuple):
        assert [type(each) for each in held] == [type(each) for each in plain]
    assert hash(config) == hash(OuterConfig(**{field: plain}))


def test_a_traced_value_is_refused():
    with pytest.raises(ValueError, match=r"OuterConfig.rate is .*float32.*; it has to be finite"):
        jax.jit(lambda rate: OuterConfig(rate=rate).rate)(1.0)


def test_fields_are_checked_before_what_the_class_checks():
    """Also where a class that inherits calls nothing."""

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class QuietConfig(OuterConfig):
        more: Annotated[int, Range(">= 0")] = 0

        def __post_init__(self):
            assert self.more >= 0

    with pytest.raises(ValueError, match=r"QuietConfig.more is -1; it has to be an integer"):
        QuietConfig(more=-1)
    with pytest.raises(ValueError, match=r"QuietConfig.rate is -1"):
        QuietConfig(rate=-1)


def test_an_unknown_setting_is_named_with_its_place():
    with pytest.raises(TypeError, match=r"no setting 'stepz'.*did you mean steps\?"):
        OuterConfig(stepz=3)
    with pytest.raises(TypeError, match=r"write OuterConfig\(inner=InnerConfig\(tolerance=...\)\)"):
        OuterConfig(tolerance=0.1)
    with pytest.raises(TypeError, match=r"\(step=LqrStepConfig\(trust_region=TrustRegionConfig\("):
        configs.MdgpsConfig(max_rounds=3)


def test_configs_stay_frozen_and_are_copied():
    config = OuterConfig(rate=2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.rate = 3.0
    assert dataclasses.replace(config, steps=3) == OuterConfig(rate=2.0, steps=3)


def test_a_range_that_is_none_is_refused():
    with pytest.raises(ValueError, match="'positive' is no range; write for example"):
        Range("positive")


def test_arguments_of_functions_are_checked_alike():
    assert check_argument("horizon", np.int64(3), Annotated[int, Range(">= 2")]) == 3
    with pytest.raises(ValueError, match=r"^horizon is 1; it has to be an integer and >= 2$"):
        check_argument("horizon", 1, Annotated[int, Range(">= 2")])


def test_every_field_of_every_config_declares_what_it_holds():
    for name in configs.__all__:
        kind = getattr(configs, name)
        assert issubclass(kind, Config), f"{name} has to inherit jgps.core.checks.Config"
        missing = [field for field, rule in rules(kind).items() if not rule.declared]
        assert not missing, (
            f"{name} says of {', '.join(missing)} only the type: write what it may hold at the "
            'field, for example Annotated[float, Range("> 0")], see jgps/core/checks.py'
        )
