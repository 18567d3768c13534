"""Metrics of an iteration that updates controllers and network several times."""

import jax
import jax.numpy as jnp

from jgps.core.types import OK
from jgps.optimise.algorithm import Metrics


def over_rounds(metrics: Metrics) -> Metrics:
    """Metrics of the last round, leaves [rounds, ...], but the worst of all rounds' failures.

    That is the first failure, and the ridge that was raised most.
    """
    last = jax.tree.map(lambda rounds: rounds[-1], metrics)

    def first(code: str, *others: str) -> Metrics:
        """Of the first round that failed; of the last where none did."""
        failed = metrics[code] != OK
        rounds = failed.shape[0]
        index = jnp.where(jnp.any(failed, axis=0), jnp.argmax(failed, axis=0), rounds - 1)[None]
        return {
            name: jnp.take_along_axis(metrics[name], index, axis=0)[0] for name in (code, *others)
        }

    raised = [name for name in metrics if name.endswith(("ridge_raised", "ridge_added"))]
    return {
        **last,
        **{name: jnp.max(metrics[name], axis=0) for name in raised},
        **first("status", "status_step"),
        **first("policy_status"),
        "policy_gradient_norm": jnp.max(metrics["policy_gradient_norm"]),
    }
