"""NumPy's arrays on their way to JAX, without a program that is compiled for every shape."""

from typing import Any

import jax
import numpy as np


def to_device(values: Any, dtype: Any = None) -> jax.Array:
    """A copy of numbers of the host on JAX's default device, bound to none.

    `jnp.asarray` of the same compiles a program for every shape, and another one for every change
    of dtype, each of which takes longer than all that the array is for.

    Args:
      values: as NumPy takes them, of any shape; not traced.
      dtype: None is their own, of which float64 becomes JAX's default float.
    """
    host = np.array(values, dtype)
    return jax.device_put(host.astype(jax.dtypes.canonicalize_dtype(host.dtype), copy=False))
