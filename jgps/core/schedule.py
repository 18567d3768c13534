"""Settings that change from one iteration to the next: one number for all, or one for each.

    StepConfig(entropy_weight=0.1)                                  the same in all iterations
    StepConfig(entropy_weight=(0.1, 0.03, 0.01))                    one after the other, then 0.01
    StepConfig(entropy_weight=tuple(np.geomspace(0.1, 1e-3, 12)))   the same factor 12 times

A field says that it is one by the annotation `Annotated[float | tuple[float, ...], Schedule(...)]`.
"""

import jax
import jax.numpy as jnp


def at_iteration(
    schedule: float | tuple[float, ...], iteration: jax.Array | int
) -> float | jax.Array:
    """The number of an iteration, the first of which is 0; after the last entry that one stays.

    Args:
      schedule: one number, or one per iteration.
      iteration: [] int.
    """
    if isinstance(schedule, tuple):
        return jnp.asarray(schedule)[jnp.minimum(iteration, len(schedule) - 1)]
    return schedule
