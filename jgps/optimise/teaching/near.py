"""What it costs a plan to differ from a learner, and what the learner sees where a plan leads.

    weight / 2 |u - mu(o) + shift|^2 in units of S^-1,    the learner being N(mu(o), S)

is the part of weight KL(plan || learner) that the plan's mean actions can change. Residuals, or
a network without curvature of its own, make its curvature that of the network's linearisation.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jgps.core import linalg
from jgps.optimise.mpc.planner import with_term
from jgps.policies import NetworkPolicy
from jgps.policies.policy import Act, NetworkParams
from jgps.simulation import Conditions, resolve_backend
from jgps.simulation.conditions import initial_act
from jgps.tasks import Task

# Of x [dX] and what stays as it was at the start of a condition, the o [dO] that the task shows.
See = Callable[[jax.Array, Any], jax.Array]


class Near(NamedTuple):
    """What plans are to stay near to; leaves [B, ...] as params of a cost."""

    weight: Any  # [], cost of a nat; 0 for plans of their own
    root: Any  # [dU, dU], R of R'R = S^-1
    shift: Any  # [T, dU], see above
    first: Any  # [] int32, the step that is done next
    mean: Any  # [dU], the learner's mean action there
    variables: Any  # of the network; None where nothing but the next step counts
    frozen: Any  # what `See` takes


def make_near(policy: NetworkPolicy, weight: Any, whole: bool, like: Near) -> Near:
    """Of a learner, with what does not change from plan to plan taken from `like` [B, ...]."""
    B = like.first.shape[0]
    precision, _, _ = linalg.inverse_psd(policy.cov)
    root = linalg.transpose(linalg.cholesky(precision)[0])
    each = (jnp.asarray(weight, root.dtype), root, policy.variables if whole else None)
    weight, root, variables = jax.tree.map(lambda a: jnp.broadcast_to(a, (B, *a.shape)), each)
    return like._replace(weight=weight, root=root, variables=variables)


def with_learner(cost: Callable[..., jax.Array], act: Act, see: See | None) -> Any:
    """The task's cost and what it costs to differ from the learner.

    Args:
      cost: that of the task.
      act: the learner's, see `NetworkPolicy.act`.
      see: for a divergence that counts along the whole plan; None where it is the next step's.
    """

    def residual(x: jax.Array, u: jax.Array, t: jax.Array, near: Near) -> jax.Array:
        step = jnp.minimum(t, near.shift.shape[0] - 1)
        if see is None:
            weight, mean = near.weight * (t == near.first), near.mean
        else:
            weight = near.weight
            params = NetworkParams(near.variables, jnp.zeros_like(near.root))
            mean = act(params, x, see(x, near.frozen), t, jnp.zeros_like(u))
        return jnp.sqrt(weight) * (near.root @ (u - mean + near.shift[step]))

    def term(x: jax.Array, u: jax.Array, t: jax.Array, near: Near) -> jax.Array:
        return 0.5 * jnp.sum(jnp.square(residual(x, u, t, near)))

    if getattr(cost, "residual", None) is not None:
        term.residual = residual  # pyright: ignore[reportFunctionMemberAccess]
    return with_term(cost, term)


def make_see(task: Task, conditions: Conditions, backend: str) -> tuple[See | None, Any]:
    """How o follows from x, and what it takes beside x, leaves [B, ...]; None where it does not."""
    if task.observation is None:
        return _all, np.zeros((conditions.num, 0))
    if resolve_backend(backend, task.system) == "analytic":
        start = (conditions.qpos, conditions.qvel, initial_act(task.model, conditions))
        return functools.partial(_of_function, task), np.concatenate(start, axis=-1)
    places = {int(feature): place for place, feature in enumerate(task.layout.index)}
    wanted = [int(feature) for feature in task.observation.index]
    if not set(wanted) <= set(places):
        return None, None
    index = np.asarray([places[feature] for feature in wanted])
    return functools.partial(_entries, index), np.zeros((conditions.num, 0))


def _all(x: jax.Array, frozen: Any) -> jax.Array:
    del frozen
    return x


def _entries(index: np.ndarray, x: jax.Array, frozen: Any) -> jax.Array:
    del frozen
    return x[index]


def _of_function(task: Task, x: jax.Array, frozen: jax.Array) -> jax.Array:
    """As `jgps.simulation.analytic` puts o together."""
    assert task.observation is not None
    model = task.model
    whole = frozen.astype(x.dtype).at[task.layout.index].set(x)
    qpos, qvel, act = jnp.split(whole, [model.nq, model.nq + model.nv])
    sensors, ctrl = (jnp.zeros(n, x.dtype) for n in (model.nsensordata, model.nu))  # not read
    return task.observation.state(qpos, qvel, act, sensors, ctrl, 0, jnp)
