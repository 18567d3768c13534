"""What users import: every config in one place, and docs/api.md as it is generated."""

import dataclasses
import importlib
import pkgutil

import jgps
from jgps import configs


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
