"""JSON as objects of annotated types: what does not fit is named with its place."""

import dataclasses
import json
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import pytest

from jgps.algorithms import ALGORITHMS
from jgps.training.codec import decode, encode


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 1.0
    sizes: tuple[int, ...] = (1, 2)
    pair: tuple[float, str] = (0.5, "a")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Other:
    on: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outer:
    needed: int
    part: Inner | Other = Inner()
    either: float | tuple[float, ...] | None = None
    kind: Literal["a", "b"] = "a"
    checked: Annotated[int, "from 1"] = 1


class Document(TypedDict):
    name: str
    numbers: list[float]
    parts: dict[str, int]
    more: NotRequired[bool]


WHOLE = {"name": "n", "numbers": [1, 2.5], "parts": {"a": 1}}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_settings_of_all_algorithms_come_back(algorithm: str):
    kind = ALGORITHMS[algorithm][1]
    assert decode(kind, json.loads(json.dumps(encode(kind())))) == kind()


@pytest.mark.parametrize(
    "value",
    [
        Outer(needed=3),
        Outer(needed=3, part=Other(on=False), either=(1.0, 2.0), kind="b"),
        Outer(needed=3, part=Inner(sizes=(), pair=(1, "b")), either=2),
    ],
)
def test_what_is_written_is_read(value: Outer):
    assert decode(Outer, json.loads(json.dumps(encode(value)))) == value


def test_further_keys_of_documents_are_kept():
    assert decode(Document, {**WHOLE, "more": True, "new": [1]}) == {
        **WHOLE,
        "more": True,
        "new": [1],
    }


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"needed": 1.5}, "config.needed is 1.5; it has to be an integer"),
        ({"needed": True}, "config.needed is True; it has to be an integer"),
        ({"needed": None}, "config.needed is None; it has to be an integer"),
        ({"kind": "c"}, "config.kind is 'c'; it has to be 'a' or 'b'"),
        ({"checked": "1"}, "config.checked is '1'; it has to be an integer"),
        ({"either": "x" * 80}, "config.either is 'xxx.*[.]{3}; it has to be a number or a list or"),
        ({"part": 7}, "config.part is 7; .* settings of type Inner or settings of type Other"),
        ({"part": {"type": "Third"}}, "config.part is settings of type 'Third'"),
        ({"part": {"type": "Inner", "rate": "1"}}, "config.part.rate is '1'; .* a number"),
        ({"part": {"type": "Inner", "sizes": [1, [2]]}}, r"config.part.sizes\[1\] is \[2\]"),
        ({"part": {"type": "Inner", "pair": [1]}}, "config.part.pair has 1 entries; .* have 2"),
        ({"part": {"type": "Inner", "mass": 1}}, "config.part has mass, which Inner lacks"),
        ({"type": 3}, "config is settings of type 3; it has to be settings of type Outer"),
    ],
)
def test_settings_that_do_not_fit_are_named(change: dict[str, Any], sentence: str):
    with pytest.raises(ValueError, match=sentence):
        decode(Outer, {**encode(Outer(needed=1)), **change}, "config")


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ({"name": "n"}, "it lacks numbers, parts"),
        ({**WHOLE, "numbers": 1}, "it.numbers is 1; it has to be a list"),
        ({**WHOLE, "numbers": [1, "2"]}, r"it.numbers\[1\] is '2'; it has to be a number"),
        ({**WHOLE, "parts": {"a": None}}, "it.parts.a is None; it has to be an integer"),
        ({**WHOLE, "more": 1}, "it.more is 1; it has to be true or false"),
        ([], r"it is \[\]; it has to be an object"),
    ],
)
def test_documents_that_do_not_fit_are_named(document: Any, sentence: str):
    with pytest.raises(ValueError, match=sentence):
        decode(Document, document)


def test_settings_that_are_needed_are_named():
    with pytest.raises(ValueError, match="config lacks needed"):
        decode(Outer, {"type": "Outer"}, "config")
