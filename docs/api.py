"""Writes docs/api.md, the list of everything public: `python docs/api.py`."""

import ast
import importlib
import inspect
import types
from pathlib import Path
from typing import Any

import jgps

PAGE = Path(__file__).with_name("api.md")
HEAD = """# What is public

All that `jgps` and its rooms export, by the first line of each docstring. `help(name)` shows all of
it: arguments with their shapes and units, results, errors and sources. What else a module
defines may change from one version to the next. `python docs/api.py` writes this page.
"""


def page() -> str:
    """The page as it has to be."""
    rooms = {name: getattr(jgps, name) for name in jgps.__all__}
    rooms = {name: room for name, room in rooms.items() if inspect.ismodule(room)}
    own = [name for name in jgps.__all__ if name not in rooms]
    sections = [HEAD, _section("jgps", jgps, own)]
    sections += [_section(f"jgps.{name}", room, room.__all__) for name, room in rooms.items()]
    return "\n".join(sections)


def _section(title: str, room: types.ModuleType, names: list[str]) -> str:
    lines = [f"## {title}", "", _first_line(room), ""]
    for name in sorted(names, key=lambda each: (each.casefold(), each)):
        value = getattr(room, name)
        call = "()" if _is_function(value) else ""
        lines.append(f"- `{name}{call}`: {_describe(room, name, value)}")
    return "\n".join(lines) + "\n"


def _describe(room: types.ModuleType, name: str, value: Any) -> str:
    """One line on what a name stands for."""
    if _is_function(value) and value.__module__ == f"jgps.algorithms.{name}":
        return _first_line(importlib.import_module(value.__module__))  # its docstring points there
    if isinstance(value, type | types.ModuleType) or _is_function(value):
        return _first_line(value)
    if isinstance(value, dict):
        return "a dictionary of " + ", ".join(f"`{key}`" for key in value)
    if isinstance(value, tuple):
        return f"`{value!r}`"
    return f"`{_right_hand_side(room, name)}`"  # a constant or a type


def _is_function(value: Any) -> bool:
    """Also of one that is jitted or cached."""
    return inspect.isfunction(inspect.unwrap(value)) if callable(value) else False


def _first_line(value: Any) -> str:
    return (inspect.getdoc(value) or "").partition("\n")[0]


def _right_hand_side(room: types.ModuleType, name: str) -> str:
    """What is assigned to the name, in the room or in the module that the room has it from."""
    tree = ast.parse(inspect.getsource(room))
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and name in [each.name for each in node.names]:
            return _right_hand_side(importlib.import_module(str(node.module)), name)
        if isinstance(node, ast.Assign) and name in [ast.unparse(each) for each in node.targets]:
            return ast.unparse(node.value)
    raise ValueError(f"{room.__name__} does not define {name}")


if __name__ == "__main__":
    PAGE.write_text(page())
