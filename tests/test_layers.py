"""The house of docs/architecture.md: imports point only downwards, files stay short."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "jgps"
FILES = sorted(PACKAGE.rglob("*.py"))
LEVELS = [
    ("core",),
    ("dynamics", "costs", "controllers"),
    ("policies",),
    ("mujoco_log",),
    ("simulation", "rendering"),
    ("tasks",),
    ("vision",),
    ("optimise",),
    ("algorithms",),
    ("recipes",),
    ("training",),
    ("reports",),
    ("bench",),
    ("cli",),
    ("configs",),
    ("jgps",),  # the package's own __init__.py, which may import all rooms
]
SINGLE_FILES = {"configs", "jgps", "mujoco_log"}
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
MAX_LINES = 420


def room_of(module: str) -> str:
    """`jgps.core.lqr` -> `core`; the package itself is `jgps`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def module_of(path: pathlib.Path) -> str:
    """The dotted name of a file of the package; of the package itself for an `__init__.py`."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(source: str, module: str, is_package: bool) -> list[tuple[int, str]]:
    """Line and absolute dotted name of everything of jgps that `source` imports, at any depth."""
    package = module if is_package else module.rpartition(".")[0]
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                anchor = parts[: len(parts) - node.level + 1]
                base = ".".join([*anchor, base] if base else anchor)
            # `from jgps import core` names a room only in what it imports.
            names = [f"jgps.{a.name}" if a.name in LEVEL else "jgps" for a in node.names]
            found += [(node.lineno, name) for name in (names if base == "jgps" else [base])]
    return [(line, name) for line, name in found if name.split(".")[0] == "jgps"]


def violations(source: str, module: str, is_package: bool = False) -> list[str]:
    """One sentence per import that points upwards, sideways or to a room that is not on the map."""
    here = room_of(module)
    if here not in LEVEL:
        return [f"{module} is in a room that docs/architecture.md does not have"]
    wrong = []
    for line, target in imported_modules(source, module, is_package):
        there = room_of(target)
        if there not in LEVEL:
            wrong.append(f"{module}:{line} imports {target}: no such room")
        elif here != there and LEVEL[there] >= LEVEL[here]:
            direction = "upwards" if LEVEL[there] > LEVEL[here] else "sideways"
            wrong.append(f"{module}:{line} imports {target}: {direction}")
    return wrong


def test_imports_point_down():
    wrong = []
    for path in FILES:
        wrong += violations(path.read_text(), module_of(path), path.name == "__init__.py")
    assert wrong == []


def test_files_stay_short():
    lines = {module_of(path): len(path.read_text().splitlines()) for path in FILES}
    assert {module: number for module, number in lines.items() if number > MAX_LINES} == {}


def test_rooms_are_those_of_the_architecture():
    """As packages, and for every single file."""
    rooms = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert rooms == set(LEVEL) - SINGLE_FILES
    files = {module_of(path): room_of(module_of(path)) for path in FILES}
    assert {module: room for module, room in files.items() if room not in LEVEL} == {}


def private_reads(source: str) -> list[str]:
    """What `source` reads of an algorithm's `state` that is not the public `policy`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            value = node.value
            name = value.attr if isinstance(value, ast.Attribute) else getattr(value, "id", "")
            if name == "state" and node.attr not in ("policy", "shape"):  # of arrays too
                found.append(ast.unparse(node))
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr"):
            if ast.unparse(node.args[0]).rpartition(".")[2] == "state":
                found.append(ast.unparse(node))
    return found


def test_only_algorithms_read_private_fields_of_their_states():
    """What others need of a state is its `policy` or a function of `Algorithm`."""
    rooms = ("training", "reports", "cli")  # `bench` times the parts of iterations, and may
    reads = {
        module_of(path): private_reads(path.read_text())
        for path in FILES
        if room_of(module_of(path)) in rooms
    }
    assert {module: found for module, found in reads.items() if found} == {}


def test_a_read_of_a_private_field_is_found():
    source = "state.newest\nrun.state.key\ngetattr(state, 'learner', state.policy)"
    assert len(private_reads(source)) == 3


@pytest.mark.parametrize(
    ("source", "module", "expected"),
    [
        ("import jgps.dynamics.fit", "jgps.core.lqr", "upwards"),
        ("from jgps import training", "jgps.tasks.registry", "upwards"),
        ("from jgps.costs import ramp", "jgps.dynamics.fit", "sideways"),
        ("from ..rendering import raycast", "jgps.simulation.mjx", "sideways"),
        ("from .. import cli", "jgps.core.lqr", "upwards"),
        ("import jgps", "jgps.cli.main", "upwards"),
        ("from jgps import __version__", "jgps.cli.main", "upwards"),
        ("def f():\n    from jgps.cli import main", "jgps.core.lqr", "upwards"),
        ("import jgps.utils", "jgps.core.lqr", "no such room"),
    ],
)
def test_a_wrong_import_is_found(source: str, module: str, expected: str):
    (sentence,) = violations(source, module)
    assert expected in sentence


@pytest.mark.parametrize(
    ("source", "module"),
    [
        ("import jax\nfrom jgps.core import lqr", "jgps.dynamics.fit"),
        ("from jgps import core", "jgps.costs.terms"),
        ("from . import types\nfrom .linalg import cholesky", "jgps.core.lqr"),
        ("from ..simulation import native", "jgps.tasks.task"),
    ],
)
def test_a_right_import_passes(source: str, module: str):
    assert violations(source, module) == []


def test_relative_import_in_a_room_s_init_stays_in_the_room():
    assert violations("from .lqr import backward", "jgps.core", is_package=True) == []
    assert violations("from ..cli import main", "jgps.core", is_package=True) != []
