"""A policy that reaches wanted next states with a model that it adapts while it acts.

Somebody else says which state is wanted next: a network, or a plan. The policy finds the action by
its own model of one step, which starts as the nominal one and follows what actions really do. So
what was learned with one dynamics is done with others.

Source: Mordatch et al. (2016), "Combining model-based policy search with online model learning for
control of physical humanoids".
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jgps.controllers.tracking import Target, track
from jgps.core.types import Dynamics, Status, worst
from jgps.dynamics.recursive import Adaptation, AdaptationState


class AdaptivePolicyState(NamedTuple):
    """What is remembered from one action to the next."""

    adaptation: AdaptationState
    prior: Dynamics  # the prior model of the last step
    x: jax.Array  # [dX], the state in which the last action was taken
    u: jax.Array  # [dU], the last action
    started: jax.Array  # [] bool, whether there was one


class AdaptivePolicyInfo(NamedTuple):
    """How an action came about."""

    model: Dynamics  # of one step, adapted
    status: Status  # of the model, then of the action; see `Adaptation` and `controllers.track`
    ridge_added: jax.Array  # [], see `Adaptation`


class AdaptivePolicy(NamedTuple):
    """Pure functions of a policy that is adapted online, each of one state; callers `vmap`.

    init() -> state
    act(state, x [dX], target, prior) -> (u [dU], state, AdaptivePolicyInfo). It learns from what
      the last action led to, which is x, and acts by the prior model of this step, adapted. The
      prior is a Dynamics without an axis of time: a nominal model's derivatives near x and
      target.u, step t of a fit, or `jgps.dynamics.prior_model` of a mixture. Where another action
      than u was done, such as one with noise on it, say so before the next step:
      `state._replace(u=done)`.

    Raises:
      ValueError: see `jgps.dynamics.Adaptation` and `jgps.controllers.track`.
    """

    init: Callable[[], AdaptivePolicyState]
    act: Callable[
        [AdaptivePolicyState, Any, Target, Dynamics],
        tuple[jax.Array, AdaptivePolicyState, AdaptivePolicyInfo],
    ]


def make_adaptive_policy(adaptation: Adaptation, limits: tuple[Any, Any]) -> AdaptivePolicy:
    """The functions of a policy that adapts a model and tracks wanted next states with it.

    Args:
      adaptation: see `jgps.dynamics.make_adaptation`.
      limits: lower and upper [dU] of the action, which may be infinite.

    Raises:
      ValueError: the limits have no one shape [dU].
    """
    limits = (jnp.asarray(limits[0]), jnp.asarray(limits[1]))
    if limits[0].ndim != 1 or limits[0].shape != limits[1].shape:
        raise ValueError(
            f"limits must be lower and upper [dU], got {limits[0].shape} and {limits[1].shape}"
        )

    def init() -> AdaptivePolicyState:
        adaptation_state = adaptation.init()
        dtype, dU = adaptation_state.mean.dtype, limits[0].shape[0]
        dX = (adaptation_state.mean.shape[0] - dU) // 2
        return AdaptivePolicyState(
            adaptation=adaptation_state,
            prior=Dynamics(
                F=jnp.zeros((dX, dX + dU), dtype),
                f=jnp.zeros(dX, dtype),
                W=jnp.zeros((dX, dX), dtype),
            ),
            x=jnp.zeros(dX, dtype),
            u=jnp.zeros(dU, dtype),
            started=jnp.asarray(False),
        )

    def act(state, x, target, prior) -> tuple[jax.Array, AdaptivePolicyState, AdaptivePolicyInfo]:
        x = jnp.asarray(x, state.x.dtype)
        learned = adaptation.update(state.adaptation, state.prior, state.x, state.u, x)
        learned = jax.tree.map(
            lambda new, old: jnp.where(state.started, new, old), learned, state.adaptation
        )
        model, info = adaptation.evaluate(learned, prior)
        u, status = track(model, x, target, limits)
        next_state = AdaptivePolicyState(
            adaptation=learned,
            prior=jax.tree.map(lambda leaf, like: leaf.astype(like.dtype), prior, state.prior),
            x=x,
            u=u.astype(state.u.dtype),
            started=jnp.asarray(True),
        )
        found = AdaptivePolicyInfo(
            model=model, status=worst(info.status, status), ridge_added=info.ridge_added
        )
        return u, next_state, found

    return AdaptivePolicy(init=init, act=act)
