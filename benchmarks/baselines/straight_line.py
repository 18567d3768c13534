"""JAX functions of a few numbers as straight-line Python code, for solvers that loop over models.

A call of a compiled JAX function takes a hundred times as long as the arithmetic of a small model.
The code that is written here is what one would write by hand: every number is a float, what is
constant is folded, and what is needed twice is computed once.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

_BINARY = {
    "add": ("+", lambda a, b: a + b), "sub": ("-", lambda a, b: a - b),
    "mul": ("*", lambda a, b: a * b), "div": ("/", lambda a, b: a / b),
    "ge": (">=", lambda a, b: a >= b), "gt": (">", lambda a, b: a > b),
    "le": ("<=", lambda a, b: a <= b), "lt": ("<", lambda a, b: a < b),
    "eq": ("==", lambda a, b: a == b), "ne": ("!=", lambda a, b: a != b),
}  # fmt: skip
_LEAVES = ("constant", "input")
_COMPARISONS = ("ge", "gt", "le", "lt", "eq", "ne")
_UNARY = ("sin", "cos", "tan", "sqrt", "exp", "log", "asin", "acos", "atan", "tanh")
_ROUTED = (
    "broadcast_in_dim", "concatenate", "dynamic_slice", "expand_dims", "gather", "pad",
    "reshape", "rev", "slice", "split", "squeeze", "stack",
    "transpose",
)  # fmt: skip
_SAME = ("convert_element_type", "copy", "stop_gradient")


class _Code:
    """Expressions by number; equal ones have the same number, constants know their value."""

    def __init__(self):
        self.known: list[tuple[Any, ...]] = []
        self._numbers: dict[tuple[Any, ...], int] = {}

    def put(self, *expression: Any) -> int:
        """The number of an expression ("op", operands) or ("constant", value)."""
        key = (*expression, str(expression[1])) if expression[0] == "constant" else expression
        if key not in self._numbers:
            self._numbers[key] = len(self.known)
            self.known.append(expression)
        return self._numbers[key]

    def constant(self, value: Any) -> int:
        return self.put("constant", value)

    def value(self, number: int) -> Any:
        """Of a constant; None for what is none."""
        return self.known[number][1] if self.known[number][0] == "constant" else None

    def binary(self, name: str, a: int, b: int) -> int:
        """An operation on two expressions, folded where finite results stay as they are."""
        one, other = self.value(a), self.value(b)
        if one is not None and other is not None:
            return self.constant(_BINARY[name][1](one, other))
        if name == "mul" and (one == 0 or other == 0):
            return self.constant(0.0)
        if (name == "mul" and one == 1) or (name == "add" and one == 0):
            return b
        if (name in ("mul", "div") and other == 1) or (name in ("add", "sub") and other == 0):
            return a
        if name == "div" and one == 0:
            return a
        return self.put(name, a, b)

    def unary(self, name: str, a: int) -> int:
        value = self.value(a)
        if value is None:
            return self.put(name, a)
        return self.constant(-value if name == "neg" else getattr(math, name)(value))


def straight_line(
    function: Callable[..., Any], widths: Sequence[int], numbers: Sequence[int]
) -> list[Callable[..., list[float]]]:
    """`function(*vectors, t)` as Python functions of the vectors, one for each number t.

    Args:
      function: of JAX, without loops; returns a pytree of arrays.
      widths: of its vectors.
      numbers: values of its last argument. Where it only compares them with constants, numbers for
        which all comparisons say the same share a function.

    Returns:
      Functions of lists of floats, which return the results' entries one after the other, NaN
      throughout where Python's arithmetic finds no number.
    """
    with jax.enable_x64(True):
        example = [jax.ShapeDtypeStruct((width,), np.float64) for width in widths]
        trace = jax.make_jaxpr(function)(*example, 0)
        code = _Code()
        t = code.put("input", "t")
        results = _translate(code, trace, widths, t)[1]
        made: dict[Any, Callable[..., list[float]]] = {}
        found = []
        for number in numbers:
            key = _compared(code, results, t, number)
            if key not in made:
                made[key] = _made(trace, widths, number)
            found.append(made[key])
        return found


def _compared(code: _Code, results: list[int], t: int, number: int) -> Any:
    """What comparisons with t say where it is this number; the number if there is more to it."""
    formulas = [code.known[n] for n in _needed(code, results)]
    users = [each for each in formulas if each[0] not in _LEAVES and t in each[1:]]
    said = []
    for name, *operands in users:
        values = [number if n == t else code.value(n) for n in operands]
        if name not in _COMPARISONS or None in values:
            return number
        said.append(bool(_BINARY[name][1](*values)))
    return tuple(said)


def _made(trace: ClosedJaxpr, widths: Sequence[int], number: int) -> Callable[..., list[float]]:
    code = _Code()
    names, results = _translate(code, trace, widths, code.constant(number))
    space: dict[str, Any] = {"math": math}
    exec(_source(code, names, results), space)
    return space["function"]


def _translate(
    code: _Code, trace: ClosedJaxpr, widths: Sequence[int], t: int
) -> tuple[list[list[str]], list[int]]:
    """Names of the inputs, and the results' expressions one after the other."""
    names = [[f"v{i}_{j}" for j in range(width)] for i, width in enumerate(widths)]
    inputs = [np.array([code.put("input", name) for name in group]) for group in names]
    results = _evaluate(code, trace, [*inputs, np.array(t)])
    return names, [number for array in results for number in array.ravel().tolist()]


def _evaluate(code: _Code, trace: ClosedJaxpr, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """Arrays of expressions' numbers for those of the arguments."""
    jaxpr = trace.jaxpr
    of: dict[Any, np.ndarray] = dict(zip(jaxpr.invars, inputs, strict=True))
    constant = np.vectorize(lambda value: code.constant(value), otypes=[np.int64])
    for variable, value in zip(jaxpr.constvars, trace.consts, strict=True):
        of[variable] = constant(np.asarray(value))

    def read(variable: Any) -> np.ndarray:
        return constant(np.asarray(variable.val)) if isinstance(variable, Literal) else of[variable]

    for equation in jaxpr.eqns:
        values = [read(variable) for variable in equation.invars]
        results = _apply(code, equation, values)
        of.update(zip(equation.outvars, results, strict=True))
    return [read(variable) for variable in jaxpr.outvars]


def _apply(code: _Code, equation: Any, values: list[np.ndarray]) -> list[np.ndarray]:
    name, params = equation.primitive.name, equation.params
    inner = params.get("jaxpr", params.get("call_jaxpr"))
    if inner is not None:
        closed = inner if isinstance(inner, ClosedJaxpr) else ClosedJaxpr(inner, [])
        return _evaluate(code, closed, values)

    def each(function: Callable[..., int]) -> list[np.ndarray]:
        return [np.vectorize(function, otypes=[np.int64])(*values)]

    if not values:  # iota
        result = np.asarray(equation.primitive.bind(**params))
        return [np.vectorize(code.constant, otypes=[np.int64])(result)]
    if name in _SAME:
        return [values[0]]
    name = "add" if name == "add_any" else name
    if name in _BINARY:
        return each(lambda a, b: code.binary(name, a, b))
    if name in _UNARY or name == "neg":
        return each(lambda a: code.unary(name, a))
    if name == "square":
        return each(lambda a: code.binary("mul", a, a))
    if name == "rsqrt":
        return each(lambda a: _power(code, code.unary("sqrt", a), -1))
    if name == "integer_pow":
        return each(lambda a: _power(code, a, params["y"]))
    if name == "select_n":
        return each(lambda which, a, b: _select(code, which, a, b))
    if name == "reduce_sum":
        axes = params["axes"]
        moved = np.moveaxis(values[0], axes, range(len(axes)))
        return [_sum(code, moved.reshape(-1, *moved.shape[len(axes) :]))]
    if name == "dot_general":
        return [_product(code, *values, params["dimension_numbers"])]
    if name in _ROUTED:  # as with the entries, so with their expressions
        entries = len(values) if name in ("concatenate", "stack") else 2 if name == "pad" else 1
        moved = [*values[:entries], *(_known(code, value) for value in values[entries:])]
        results = equation.primitive.bind(*map(jax.numpy.asarray, moved), **params)
        return list(map(np.asarray, results if isinstance(results, list | tuple) else [results]))
    raise NotImplementedError(f"no straight-line code is written for {name!r}")


def _known(code: _Code, value: np.ndarray) -> np.ndarray:
    """The constants themselves, of indices."""
    return np.vectorize(code.value, otypes=[np.int64])(value) if value.size else value


def _power(code: _Code, a: int, exponent: int) -> int:
    if exponent < 0:
        return code.binary("div", code.constant(1.0), _power(code, a, -exponent))
    result = code.constant(1.0)
    for _ in range(exponent):
        result = code.binary("mul", result, a)
    return result


def _select(code: _Code, which: int, a: int, b: int) -> int:
    chosen = code.value(which)
    if chosen is None:
        return code.put("select", which, a, b)
    return b if chosen else a


def _sum(code: _Code, terms: np.ndarray) -> np.ndarray:
    total = np.full(terms.shape[1:], code.constant(0.0))
    add = np.vectorize(lambda a, b: code.binary("add", a, b), otypes=[np.int64])
    for term in terms:
        total = add(total, term)
    return total


def _product(code: _Code, a: np.ndarray, b: np.ndarray, dimensions: Any) -> np.ndarray:
    (over_a, over_b), (batch, _) = dimensions
    if batch or len(over_a) != 1:
        raise NotImplementedError("no straight-line code is written for batches of products")
    a, b = np.moveaxis(a, over_a[0], 0), np.moveaxis(b, over_b[0], 0)
    multiply = np.vectorize(lambda a, b: code.binary("mul", a, b), otypes=[np.int64])
    shape = (len(a), *a.shape[1:], *b.shape[1:])
    pairs = multiply(a.reshape(len(a), -1, 1), b.reshape(len(b), 1, -1))
    return _sum(code, pairs.reshape(shape))


def _needed(code: _Code, results: list[int]) -> list[int]:
    """The expressions that these are made of, in the order in which they can be computed."""
    needed, todo = set(), list(results)
    while todo:
        number = todo.pop()
        if number not in needed:
            needed.add(number)
            if code.known[number][0] not in _LEAVES:
                todo += code.known[number][1:]
    return sorted(needed)


def _source(code: _Code, names: list[list[str]], results: list[int]) -> str:
    """Code of a function that computes these expressions and what they need."""

    def text(number: int) -> str:
        kind, *rest = code.known[number]
        if kind == "constant":
            return repr(float(rest[0])) if isinstance(rest[0], float) else repr(rest[0])
        return rest[0] if kind == "input" else f"e{number}"

    lines = [f"        [{', '.join(group)}] = a{i}" for i, group in enumerate(names)]
    for number in _needed(code, results):
        kind, *rest = code.known[number]
        if kind in _LEAVES:
            continue
        parts = list(map(text, rest))
        if kind == "select":
            formula = f"{parts[2]} if {parts[0]} else {parts[1]}"
        elif kind in _BINARY:
            formula = f"{parts[0]} {_BINARY[kind][0]} {parts[1]}"
        else:
            formula = f"-{parts[0]}" if kind == "neg" else f"math.{kind}({parts[0]})"
        lines.append(f"        e{number} = {formula}")
    arguments = ", ".join(f"a{i}" for i in range(len(names)))
    return "\n".join(
        (
            f"def function({arguments}):",
            "    try:",
            *lines,
            f"        return [{', '.join(map(text, results))}]",
            "    except (ValueError, OverflowError, ZeroDivisionError):",
            f"        return [math.nan] * {len(results)}",
        )
    )
