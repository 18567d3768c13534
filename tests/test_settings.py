"""Every field of every config has an effect: on a program, its shapes, or the state.

What reads a config is in tests/setting_cases.py; a new config needs a case there, a new field none
where another value of it can be guessed.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from setting_cases import CASES, Case, kinds_of
from setting_programs import Fingerprints

from jgps import configs
from jgps.algorithms import ALGORITHMS

# What others inherit: their fields are changed in each of these.
ABSTRACT = {
    configs.GuidedConfig,
    configs.MirrorDescentConfig,
    configs.LocalConfig,
    configs.SamplingConfig,
    configs.SearchedConfig,
    configs.TeachingConfig,
}
Program = Callable[[Any], Fingerprints]
COVERED = {type(case.base): case for case in CASES}


class _Remembered:
    """Fingerprints, each made once and only when it is asked for."""

    def __init__(self, fingerprints: Fingerprints):
        self._rest, self._known = fingerprints, []

    def __iter__(self):
        for index in itertools.count():
            if index == len(self._known):
                try:
                    self._known.append(next(self._rest))
                except StopIteration:
                    return
            yield self._known[index]


@functools.cache
def _fingerprints(program: Program, config: object) -> _Remembered:
    return _Remembered(program(config))


def _same(one, other) -> bool:
    """Whether all fingerprints are the same; stops at the first that is not."""
    return all(a == b for a, b in itertools.zip_longest(one, other))


# One config of each program.
FIRST = {case.program: case for case in reversed(CASES)}


@pytest.mark.parametrize("case", FIRST.values(), ids=lambda case: type(case.base).__name__)
def test_equal_settings_make_the_same(case):
    config = case.whole(case.base)
    assert _same(_fingerprints(case.program, config), case.program(dataclasses.replace(config))), (
        f"two equal {type(config).__name__} make different things: what they are compared by says "
        "nothing of their settings"
    )


@pytest.mark.parametrize(
    ("config_type", "field"),
    [(kind, field) for kind, case in COVERED.items() for field in case.fields],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_every_field_has_an_effect(config_type, field):
    case: Case = COVERED[config_type]
    base, changed = case.changed(field)
    assert base != changed
    known = _fingerprints(case.program, case.whole(base))
    assert not _same(known, case.program(case.whole(changed))), (
        f"{config_type.__name__}.{field} has no effect: programs, shapes and state are the same "
        f"with {getattr(base, field)!r} and {getattr(changed, field)!r}. Read it, take it out, or "
        "move it to the settings of what reads it; where it counts with other settings only, say "
        "so in its docstring and name them in its case's `within` (tests/setting_cases.py)"
    )


def test_a_policy_on_predicted_poses_reads_the_temperature():
    case: Case = COVERED[configs.VisualConfig]
    base = dataclasses.replace(case.base, kind="pose_prediction")
    learned = dataclasses.replace(base, learned_temperature=True)
    assert not _same(_fingerprints(case.program, base), case.program(learned))


def test_every_config_has_a_case():
    named = {getattr(configs, name) for name in configs.__all__}
    missing = sorted(kind.__name__ for kind in named - ABSTRACT - set(COVERED))
    assert not missing, (
        f"no test changes the fields of {', '.join(missing)}: add a case to tests/setting_cases.py"
    )
    assert len(COVERED) == len(CASES), "two cases are of one config; only the last would be tested"
    assert {config for _, config in ALGORITHMS.values()} <= set(COVERED)


def test_every_kind_of_settings_is_public():
    """Whatever a config may hold is in `jgps.configs` and so has a case."""
    named = {getattr(configs, name) for name in configs.__all__}
    for kind in named:
        for field in dataclasses.fields(kind):
            hidden = [held.__name__ for held in kinds_of(kind, field.name) if held not in named]
            assert not hidden, (
                f"{kind.__name__}.{field.name} holds {', '.join(hidden)}: add it to jgps.configs"
            )


def test_what_is_inherited_is_tested_where_it_is_used():
    for kind in ABSTRACT:
        assert any(issubclass(covered, kind) for covered in COVERED), (
            f"{kind.__name__} is inherited by no config that has a case; give it one of its own"
        )
