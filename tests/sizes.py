"""Sizes of files and functions: `python tests/sizes.py` prints what is longer than we aim for."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).resolve().parents[1] / "jgps"

ALGORITHM_LINES = 120  # of a file in jgps/algorithms, without the docstring of the module
FUNCTION_LINES = 60  # of a function's body, without its docstring
FUNCTION_ARGUMENTS = 7  # `self` and `cls` do not count


class Function(NamedTuple):
    """A function or method of the package."""

    name: str  # the module and the qualified name, e.g. "jgps.costs.expand.expand"
    lines: int  # of the body, without its docstring
    arguments: int  # without `self` and `cls`


def algorithm_files() -> dict[str, int]:
    """Lines of each file in jgps/algorithms without its module's docstring, by the file's name."""
    files = sorted((PACKAGE / "algorithms").glob("*.py"))
    return {path.name: _module_lines(path) for path in files if path.name != "__init__.py"}


def functions() -> list[Function]:
    """All functions and methods of the package, nested ones too, in the order of their names."""
    return sorted(each for path in PACKAGE.rglob("*.py") for each in _functions_of(path))


def too_long() -> dict[str, int]:
    """Lines of the functions that are longer than we aim for, by name."""
    return {f.name: f.lines for f in functions() if f.lines > FUNCTION_LINES}


def too_many_arguments() -> dict[str, int]:
    """Number of arguments of the functions that take more than we aim for, by name."""
    return {f.name: f.arguments for f in functions() if f.arguments > FUNCTION_ARGUMENTS}


def functions_in(node: ast.AST, name: str) -> Iterator[Function]:
    """The functions defined anywhere below a node, whose own name is `name`."""
    for child in ast.iter_child_nodes(node):
        inner = name
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            inner = f"{name}.{child.name}"
            yield Function(inner, _body_lines(child), _num_arguments(child.args))
        elif isinstance(child, ast.ClassDef):
            inner = f"{name}.{child.name}"
        yield from functions_in(child, inner)


def _module_lines(path: Path) -> int:
    text = path.read_text()
    return len(text.splitlines()) - _docstring_lines(ast.parse(text))


def _docstring_lines(node: ast.Module | ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    if ast.get_docstring(node) is None:
        return 0
    return _span(node.body[0])


def _span(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _functions_of(path: Path) -> Iterator[Function]:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    module = ".".join(part for part in parts if part != "__init__")
    yield from functions_in(ast.parse(path.read_text()), module)


def _body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first, last = function.body[0], function.body[-1]
    return (last.end_lineno or last.lineno) - first.lineno + 1 - _docstring_lines(function)


def _num_arguments(arguments: ast.arguments) -> int:
    named = arguments.posonlyargs + arguments.args + arguments.kwonlyargs
    starred = [a for a in (arguments.vararg, arguments.kwarg) if a is not None]
    return len(starred) + sum(a.arg not in ("self", "cls") for a in named)


def _print_table(title: str, sizes: dict[str, int], aim: int) -> None:
    print(f"{title} (aim: at most {aim})")
    for name, size in sorted(sizes.items(), key=lambda item: -item[1]):
        print(f"  {size:4d}{' !' if size > aim else '  '} {name}")
    print()


def main() -> None:
    """Prints all tables."""
    _print_table("Lines of the algorithms' files", algorithm_files(), ALGORITHM_LINES)
    _print_table("Lines of functions beyond the aim", too_long(), FUNCTION_LINES)
    _print_table("Arguments of functions beyond the aim", too_many_arguments(), FUNCTION_ARGUMENTS)


if __name__ == "__main__":
    main()
