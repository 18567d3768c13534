"""A function of images that draws as many at once as its memory allows, under vmap as well."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def batching(draw: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """The same, but under vmap it gets the axis, and so draws as many at once as its memory allows.

    Args:
      draw: takes any leading axes, the same of all leaves.
    """

    @jax.custom_batching.custom_vmap
    def drawn(*arguments: Any) -> jax.Array:
        return draw(*arguments)

    @drawn.def_vmap
    def _(axis_size: int, in_batched: Any, *arguments: Any) -> tuple[jax.Array, bool]:
        def broadcast(leaf: jax.Array, batched: bool) -> jax.Array:
            return leaf if batched else jnp.broadcast_to(leaf, (axis_size, *jnp.shape(leaf)))

        return drawn(*jax.tree.map(broadcast, arguments, tuple(in_batched))), True

    return drawn
