"""Commands: what is asked of each state at the moment, which may change at any control step."""

from typing import Any, NamedTuple

import jax
import numpy as np

from jgps.core.names import shown


class CommandRange(NamedTuple):
    """Which commands are allowed.

    Both are pytrees like the params of one condition, with numbers or arrays of the same shapes;
    infinite where nothing limits them.
    """

    low: Any
    high: Any


def check_range(allowed: CommandRange, params: Any) -> CommandRange:
    """The range as arrays.

    Args:
      allowed: as it was given.
      params: those of the conditions, leaves [B, ...].

    Raises:
      ValueError: if it is not like the params, or empty.
    """
    if params is None:
        raise ValueError("a range of commands is given, but the conditions have no params")
    low, high = (_like(f"allowed.{name}", side, params) for name, side in _sides(allowed))
    for path, least, most in _leaves(low, high):
        if not np.all(least <= most):
            raise ValueError(
                f"allowed{path} is from {_text(least)} to {_text(most)}; low has to be at most high"
            )
    return CommandRange(low, high)


def check_command(command: Any, params: Any, allowed: CommandRange | None = None) -> Any:
    """The command with a row for each state, leaves [B, ...], in the params' own types.

    Args:
      command: a pytree like the params; a leaf without the axis of states serves all of them.
      params: those of the conditions, leaves [B, ...].
      allowed: a range that `check_range` returned.

    Raises:
      ValueError: if it is not like the params, not finite, or outside its range.
    """
    if params is None:
        if command is not None:
            raise ValueError(
                f"command is {shown(command)}, but the conditions have no params that it could be "
                "in place of; give the task some"
            )
        return None
    found = _like("command", command, params)
    for path, leaf in _leaves(found):
        _check_leaf(f"command{path}", leaf, -np.inf, np.inf)
    if allowed is not None:
        for path, leaf, low, high in _leaves(found, *allowed):
            _check_leaf(f"command{path}", leaf, low, high)
    return found


def _check_leaf(name: str, leaf: np.ndarray, low: Any, high: Any) -> None:
    good = (leaf >= low) & (leaf <= high) & np.isfinite(leaf)
    if np.all(good):
        return
    at: Any = tuple(int(i) for i in np.argwhere(~good)[0])
    entry = f", entry {list(at[1:])}" if len(at) > 1 else ""
    least, most = (float(np.broadcast_to(side, leaf.shape)[at]) for side in (low, high))
    limits = "finite" if least == -np.inf and most == np.inf else f"in [{least:g}, {most:g}]"
    raise ValueError(
        f"{name} is {float(leaf[at]):g} in state {at[0]}{entry}; it has to be {limits}"
    )


def _like(name: str, given: Any, params: Any) -> Any:
    """The pytree with leaves [B, ...] in the params' own types."""
    tree = jax.tree.map(_array, given, is_leaf=_is_list)  # a list is numbers, not a tree of them
    if jax.tree.structure(tree) != jax.tree.structure(params):
        raise ValueError(
            f"{name} is {shown(given)}; it has to have the same entries as the params of the "
            f"conditions, {shown(jax.tree.map(lambda leaf: leaf[0].tolist(), params))} for instance"
        )

    def fit(path: Any, leaf: Any, own: np.ndarray) -> np.ndarray:
        array = np.asarray(leaf)
        if array.dtype.kind not in "fiub":
            raise ValueError(f"{name}{_at(path)} is {shown(leaf)}; it has to be numbers")
        if array.shape not in (own.shape, own.shape[1:], ()):
            raise ValueError(
                f"{name}{_at(path)} has the shape {list(array.shape)}; it has to be "
                f"{list(own.shape)}, or {list(own.shape[1:])} for all states"
            )
        dtype = own.dtype if np.all(np.isfinite(array)) else np.float64
        return np.broadcast_to(array, own.shape).astype(dtype)

    return jax.tree_util.tree_map_with_path(fit, tree, params)


def _is_list(node: Any) -> bool:
    return isinstance(node, list)


def _array(leaf: Any) -> Any:
    return np.asarray(leaf) if _is_list(leaf) else leaf


def _leaves(*trees: Any) -> list[tuple[Any, ...]]:
    paths = [_at(path) for path, _ in jax.tree_util.tree_leaves_with_path(trees[0])]
    return list(zip(paths, *map(jax.tree.leaves, trees), strict=True))


def _at(path: Any) -> str:
    return jax.tree_util.keystr(path)


def _sides(allowed: CommandRange) -> list[tuple[str, Any]]:
    return list(zip(CommandRange._fields, allowed, strict=True))


def _text(values: np.ndarray) -> str:
    return ", ".join(f"{value:g}" for value in np.unique(values))
