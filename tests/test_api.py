"""What users import: every config in one place, and docs/api.md as it is generated."""

import dataclasses
import functools
import importlib
import inspect
import pathlib
import pkgutil
import re
import runpy
from typing import Any

import jgps
from jgps import configs

ROOT = pathlib.Path(__file__).parents[1]


def all_modules() -> list[str]:
    """Dotted names of all modules of the package."""
    return [found.name for found in pkgutil.walk_packages(jgps.__path__, "jgps.")]


def config_types() -> dict[str, type]:
    """The dataclasses named *Config of all modules, by name."""
    found = {}
    for name in all_modules():
        for key, value in vars(importlib.import_module(name)).items():
            public = key.endswith("Config") and not key.startswith("_")
            if public and isinstance(value, type) and dataclasses.is_dataclass(value):
                assert found.setdefault(key, value) is value, f"two classes are called {key}"
    return found


def test_configs_has_every_config():
    found = config_types()
    assert "jgps.vision.config" in all_modules()
    assert {name: getattr(configs, name, None) for name in found} == found
    assert sorted(configs.__all__) == sorted(found)


def test_configs_are_frozen_and_made_by_keyword():
    for config in config_types().values():
        parameters = config.__dataclass_params__  # what the decorator was told
        assert parameters.frozen, config
        assert all(field.kw_only for field in dataclasses.fields(config)), config


@functools.cache
def generator() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs" / "api.py"))


def test_page_is_what_its_script_writes():
    assert (ROOT / "docs" / "api.md").read_text() == generator()["page"](), (
        "what is public has changed: python docs/api.py"
    )


def test_everything_public_says_what_it_is():
    empty = [
        line for line in generator()["page"]().splitlines() if re.fullmatch(r"- `[^`]+`: *", line)
    ]
    assert empty == []


def test_rooms_export_what_they_define():
    """Without a name twice, and none that is private."""
    rooms = [jgps, *(each for each in map(vars(jgps).get, jgps.__all__) if inspect.ismodule(each))]
    assert len(rooms) > 10
    for room in rooms:
        assert len(set(room.__all__)) == len(room.__all__), room
        assert [name for name in room.__all__ if name.startswith("_")] == []
        assert [name for name in room.__all__ if not hasattr(room, name)] == []
