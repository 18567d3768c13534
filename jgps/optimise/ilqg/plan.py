"""The plan of an iteration of iLQG: the boxed backward pass, and its second derivatives."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jgps.core.lqr import boxed
from jgps.core.types import NON_FINITE, NOT_PD
from jgps.optimise.ilqg.system import Bend, Expansion, Goal, KnownSystem, Paths

NEGATIVE_CURVATURE = ("drop", "firm")  # see `SearchConfig`

# Of paths [B, T, ...], their expansion, regularisation [B] and a goal: plans, leaves [B, ...], and
# whether what they were made of was finite, [B].
Plan = Callable[[Paths, Expansion, jax.Array, Goal], tuple[boxed.BoxedPlan, jax.Array]]


def make_plan(system: KnownSystem, negative_curvature: str) -> Plan:
    """The plan of every trajectory of a batch.

    Args:
      system: dynamics, cost, and limits.
      negative_curvature: what is done with second derivatives that leave the cost no minimum.
    """
    backward = None if system.bend is None else _bent(system.bend, negative_curvature)

    def plan(paths: Paths, expansion: Expansion, firm: jax.Array, goal: Goal):
        u = jnp.asarray(paths.u)
        limits = tuple(limit[..., None, :] - u for limit in system.limits)
        finite = _finite(expansion)
        F, H, g = jax.tree.map(lambda a: jnp.where(along(finite, a), a, 0), expansion)
        if backward is None:
            return jax.vmap(boxed.backward)(F, H, g, limits, firm), finite
        times = jnp.asarray(goal.first)[:, None] + jnp.arange(u.shape[1] - 1, dtype=jnp.int32)
        at = (paths.x[:, :-1], u[:, :-1], times)
        plans, known = jax.vmap(backward)(F, H, g, limits, firm, at, goal.params)
        return plans, finite & known

    return plan


def _bent(bend: Bend, negative_curvature: str) -> Callable[..., tuple[boxed.BoxedPlan, jax.Array]]:
    """The backward pass of one trajectory with second derivatives."""

    def backward(F, H, g, limits, firm, at, params):
        def taken(share):
            def bent(at, v):
                return jnp.where(share, bend((*at, params), v), 0)

            return boxed.backward(F, H, g, limits, firm, (bent, at))

        if negative_curvature == "firm":
            plan = taken(True)
            return plan, plan.status.code != NON_FINITE
        both = jax.vmap(taken)(jnp.array([True, False]))  # one program for both
        code = both.status.code
        known = (code[0] != NON_FINITE) | (code[1] == NON_FINITE)
        return jax.tree.map(lambda a: jnp.where(code[0] != NOT_PD, a[0], a[1]), both), known

    return backward


def _finite(tree: Any) -> jax.Array:
    flags = [jnp.all(jnp.isfinite(a), axis=tuple(range(1, a.ndim))) for a in jax.tree.leaves(tree)]
    return jnp.all(jnp.stack(flags), axis=0)


def along(flags: Any, a: Any) -> Any:
    """Flags [B] with as many axes as an array [B, ...] has."""
    return flags.reshape(-1, *[1] * (a.ndim - 1))
