"""Whether variables belong to a network, said in one sentence where they don't."""

from typing import Any

import jax


def difference(expected: Any, found: Any) -> str | None:
    """The first difference between two trees of arrays in what there is and its shape, or None.

    Args:
      expected: arrays or `jax.ShapeDtypeStruct`s, of the network at hand.
      found: of a checkpoint, say.
    """
    wanted, given = _shapes(expected), _shapes(found)
    for name, shape in wanted.items():
        if name not in given:
            return f"{name} {shape} is missing"
        if given[name] != shape:
            return f"{name} is {given[name]} and has to be {shape}"
    for name, shape in given.items():
        if name not in wanted:
            return f"{name} {shape} is not known to this network"
    return None


def check_architecture(expected: Any, found: Any, where: str = "these variables") -> None:
    """Refuses variables of another network.

    Args:
      expected, found: as of `difference`.
      where: what is refused, the subject of the sentence.

    Raises:
      ValueError: naming the first difference.
    """
    wrong = difference(expected, found)
    if wrong is not None:
        raise ValueError(
            f"{where} belong to another architecture: {wrong}; use the network they were made "
            "with, or train anew"
        )


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(p, simple=True, separator="/"): leaf.shape for p, leaf in leaves}
