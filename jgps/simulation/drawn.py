"""What the state's entry `image` is made of, as far as a simulator has to know it."""

import functools
from typing import Protocol

import jax
import numpy as np


class Drawn(Protocol):
    """Makes the entry's numbers; hashable, and equal where it makes the same."""

    @property
    def reads(self) -> np.ndarray:
        """Places [n] in what `StateLayout.features` gives of all that it reads."""
        ...

    @property
    def content(self) -> str:
        """A digest of all that it does, the same in every process."""
        ...

    def __call__(self, features: jax.Array) -> jax.Array:
        """The entry's numbers [..., F], from features [..., n] without its own; traceable."""
        ...


def draw_on_host(drawn: Drawn, features: np.ndarray) -> np.ndarray:
    """The same outside of a trace."""
    dtype = jax.dtypes.canonicalize_dtype(float)
    return np.asarray(_draw(drawn, features.astype(dtype)), features.dtype)


@functools.partial(jax.jit, static_argnums=0)
def _draw(drawn: Drawn, features: jax.Array) -> jax.Array:
    return drawn(features)
