"""Settings that change from one iteration to the next: one number for all, or one for each.

    StepConfig(entropy_weight=0.1)                                  the same in all iterations
    StepConfig(entropy_weight=(0.1, 0.03, 0.01))                    one after the other, then 0.01
    StepConfig(entropy_weight=tuple(np.geomspace(0.1, 1e-3, 12)))   the same factor 12 times

Iterations are those of the state: a run that is resumed, or that begins with another run's state on
the same task, goes on where that one was. On another task `trajopt`, `pi2` and `pilqr` begin with
the first entry again, and algorithms with a network go on.

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
        if isinstance(iteration, int):  # of the host, which compiles nothing for it
            return schedule[min(iteration, len(schedule) - 1)]
        return jnp.asarray(schedule)[jnp.minimum(iteration, len(schedule) - 1)]
    return schedule
