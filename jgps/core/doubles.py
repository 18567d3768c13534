"""Double precision numbers of the host in pytrees that JAX holds, bit for bit."""

from typing import Any, NamedTuple

import jax
import numpy as np


class Bits(NamedTuple):
    """An array of float64 as its bits, which JAX, that computes in float32, leaves alone."""

    bits: Any  # [..., 2] uint32


def packed(tree: Any) -> Any:
    """The pytree with each NumPy array of float64 as its `Bits`."""
    return jax.tree.map(_pack, tree)


def unpacked(tree: Any) -> Any:
    """The pytree with NumPy arrays of float64 where `Bits` are."""
    return jax.tree.map(_unpack, tree, is_leaf=_is_bits)


def _pack(leaf: Any) -> Any:
    if not isinstance(leaf, np.ndarray) or leaf.dtype != np.float64:
        return leaf
    return Bits(np.array(leaf, order="C")[..., None].view(np.uint32))


def _unpack(leaf: Any) -> Any:
    if not _is_bits(leaf):
        return leaf
    return np.array(leaf.bits, order="C").view(np.float64)[..., 0]


def _is_bits(node: Any) -> bool:
    return isinstance(node, Bits)
