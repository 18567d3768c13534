"""Local models whose dynamics are the simulator's own derivatives, in the task's state x.

x' ~ N(F [x; u] + f, W) about the mean of the rollouts, F derivatives at the rollout that is
most like it, W what linear models leave of where the rollouts went
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

from jgps import costs
from jgps.core import linalg
from jgps.core.checks import Config, Range
from jgps.core.host_calls import HostCall
from jgps.core.types import (
    NON_FINITE,
    TOO_FEW_SAMPLES,
    Dynamics,
    Rollouts,
    first_failure,
    worst,
)
from jgps.dynamics import FitConfig
from jgps.mujoco_log import quiet_mujoco
from jgps.optimise.algorithm import Metrics
from jgps.optimise.models import LocalModels, Models, with_costs
from jgps.simulation import Inputs, resolve_backend
from jgps.simulation.conditions import condition_models, initial_act, initial_history
from jgps.simulation.derivatives import DerivativesConfig, Differentiator
from jgps.simulation.inverse import StateInverse
from jgps.simulation.native import Stepper
from jgps.simulation.state_jacobian import tangent_dim
from jgps.tasks import Task
from jgps.tasks.functions import params_of, with_params

_PRECISIONS = (np.float32, np.float64)
_QPOS = 1  # of mjSTATE_INTEGRATION, which begins with the time


@dataclasses.dataclass(frozen=True, kw_only=True)
class KnownModelsConfig(Config):
    """How local models come of the simulator's derivatives.

    Attributes:
      derivatives_at: at how many of a condition's rollouts derivatives are taken, at least 1, and
        averaged: those nearest to the mean of all. 1, the one that is most like it, did best on peg
        insertion: the mean over several is that of no trajectory.
      correction: how far the rollouts with noise correct the derivatives, >= 0; 0 for not at all.
        Otherwise each entry of the next state follows its derivatives by the share of the samples'
        variance that they explain, and a regression of what is left, whose ridge is that part,
        1 / correction, of the variance of each entry of state and action. At a stiff contact
        derivatives hold for smaller changes than the noise makes, and models of them alone explode;
        where they are right there is nothing to correct. It takes some 20 rollouts or more.
      noise_variance: variance of the dynamics' noise beyond what linear models leave, squared units
        of the state.
      derivatives: how the simulator is differentiated.
      fit: of the regressions that algorithms need beside the dynamics.
      expand: how the cost becomes quadratic.
      initial_variance: least variance of the initial state's entries, squared units of the state.
    """

    derivatives_at: Annotated[int, Range(">= 1", "usually 1")] = 1
    correction: Annotated[float, Range("[0, 1e6]", "usually 0, or 100 with contacts")] = 0.0
    noise_variance: Annotated[float, Range("> 0", "usually 1e-8 to 1e-4")] = 1e-6
    derivatives: DerivativesConfig = DerivativesConfig()
    fit: FitConfig = FitConfig()
    expand: costs.ExpandConfig = costs.ExpandConfig()
    initial_variance: Annotated[float, Range("> 0")] = 1e-6


def known_models(
    task: Task, config: KnownModelsConfig, shape: tuple[int, int], backend: str
) -> Models:
    """Models by derivatives at the rollouts' own states and actions.

    Args:
      task: its state has to tell where the simulation is.
      config: says how.
      shape: leading axes of the rollouts.
      backend: on "analytic" derivatives are those of the task's own dynamics, on "native" and
        "mjx" those of the native simulator.

    Raises:
      ValueError: for rollouts in groups, and for a task whose state does not tell joint positions,
        velocities and activations, or whose actuators have delays.
    """
    if shape[0] != task.train.num:
        raise ValueError(
            "known models belong to training conditions; take rollouts=FixedStartsConfig()"
        )
    own = resolve_backend(backend, task.system) == "analytic"
    differentiate = _of_function(task) if own else _of_simulator(task, config)
    fit = functools.partial(_fit, task, config, differentiate)
    return Models(init=lambda key: (), fit=fit)


# Of states x [C, M, T, dX] and actions u [C, M, T, dU]: A [C, M, T-1, dX, dX+dU].
_ByState = Callable[[jax.Array, jax.Array], jax.Array]


def _of_function(task: Task) -> _ByState:
    params, dynamics = params_of(task.train), task.dynamics
    assert dynamics is not None

    def by_state(x: jax.Array, u: jax.Array) -> jax.Array:
        times = jnp.arange(x.shape[2] - 1, dtype=jnp.int32)

        def along(params, x, u):
            step = jax.jacfwd(with_params(dynamics, params), argnums=(0, 1))
            return jnp.concatenate(jax.vmap(step)(x[:-1], u[:-1], times), axis=-1)

        over_rollouts = jax.vmap(along, in_axes=(None, 0, 0))
        return jax.vmap(over_rollouts)(params, x, u)

    return by_state


def _of_simulator(task: Task, config: KnownModelsConfig) -> _ByState:
    system, model = task.system, task.model
    conditions, inverse = task.train, StateInverse(task.model, task.layout)
    models = condition_models(model, conditions)
    if initial_history(models, conditions) is not None:
        raise ValueError(
            "known models can't do with actuators that have a delay: the state does not tell what "
            "they remember"
        )
    stepper = Stepper(system, models)
    with quiet_mujoco():
        stepper.start(conditions.qpos, conditions.qvel, initial_act(model, conditions))
    rest = stepper.states  # of mocap bodies and equalities, at the start
    inputs = Inputs(model, conditions.inputs) if conditions.inputs else None
    nq, nv, na = model.nq, model.nv, model.na
    dX, dS, dU = task.state_dim, tangent_dim(model), model.nu
    made: dict[int, Differentiator] = {}

    def on_host(dtype: np.dtype, x: jax.Array, u: jax.Array) -> tuple[np.ndarray, np.ndarray]:
        x_host, u_host = (_of_bits(np.asarray(each), dtype) for each in (x, u))
        C, M, T, _ = x_host.shape
        states = np.tile(rest[:, None, None], (1, M, T, 1))
        if inputs is not None:
            for t in range(T):
                states[:, :, t, inputs.columns] = inputs.at(t)[:, None]
        first = _QPOS
        for part, size in zip(inverse(x_host), (nq, nv, na), strict=True):
            states[..., first : first + size] = part
            first += size
        if M not in made:
            own = [each for each in models for _ in range(M)]
            made[M] = Differentiator(system, own, config.derivatives)
        acts = u_host.astype(np.float64).reshape(C * M, T, -1)
        found = made[M](states.reshape(C * M, T, -1), acts)
        F, G = (_bits(a.reshape(C, M, *a.shape[1:]).astype(dtype)) for a in found)
        return F, G

    hosts = {np.dtype(e): HostCall(functools.partial(on_host, np.dtype(e))) for e in _PRECISIONS}

    @linalg.full_precision
    def by_state(x: jax.Array, u: jax.Array) -> jax.Array:
        C, M, T, _ = x.shape
        shapes = (C, M, T - 1, dS, dS + dU), (C, M, T, dX, dS)
        # JAX calls from a thread that does not know of `enable_x64`, and would round on the way.
        pair = (2,) if x.dtype.itemsize == 8 else ()
        results = tuple(jax.ShapeDtypeStruct((*each, *pair), jnp.uint32) for each in shapes)
        given = (jax.lax.bitcast_convert_type(each.astype(x.dtype), jnp.uint32) for each in (x, u))
        found = hosts[np.dtype(x.dtype)](results, *given)
        F, G = (jax.lax.bitcast_convert_type(each, x.dtype) for each in found)
        before, after = G[:, :, :-1], G[:, :, 1:]
        # What x tells beside the simulator's state, such as where a site is, moves on from where
        # it is. For small changes that is the same; for larger ones a site would otherwise be
        # where the tangent of its path is, at every step anew.
        change = after @ F[..., :dS] - before
        by_state = jnp.eye(dX, dtype=F.dtype) + change @ inverse.left(x[:, :, :-1])
        return jnp.concatenate([by_state, after @ F[..., dS:]], axis=-1)

    return by_state


def _of_bits(bits: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The numbers of uint32 [..., 2] of double precision, [...] of single."""
    values = np.ascontiguousarray(bits).view(dtype)
    return values[..., 0] if dtype.itemsize == 8 else values


def _bits(values: np.ndarray) -> np.ndarray:
    """The reverse."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return bits.reshape(*values.shape, -1) if values.dtype.itemsize == 8 else bits


def _fit(
    task: Task,
    config: KnownModelsConfig,
    differentiate: _ByState,
    memory: Any,
    rollouts: Rollouts,
    seen: Rollouts | None = None,
) -> tuple[Any, LocalModels, Metrics]:
    del seen
    nearest = jax.vmap(functools.partial(_nearest, config.derivatives_at))(rollouts)
    chosen = jax.vmap(lambda r, rows: jax.tree.map(lambda a: a[rows], r))(rollouts, nearest)
    F = differentiate(chosen.x, chosen.u)
    linear = functools.partial(_linear, config.noise_variance, config.correction)
    known, status = jax.vmap(linear)(rollouts, chosen.valid, F)
    models, metrics = with_costs(task, config.expand, config.initial_variance, rollouts, known)
    return memory, models._replace(status=jax.vmap(worst)(status, models.status)), metrics


def _nearest(most: int, rollouts: Rollouts) -> jax.Array:
    """The rollouts [N, T, ...] that are nearest to their mean, in units of their spread, [M]."""
    x, u, valid = rollouts
    z = jnp.where(valid[:, None, None], jnp.concatenate([x, u], axis=-1), 0)
    count = jnp.maximum(jnp.sum(valid), 1)
    mean = jnp.sum(z, axis=0) / count
    away = jnp.where(valid[:, None, None], z - mean, 0)
    spread = jnp.sqrt(jnp.sum(jnp.square(away), axis=(0, 1)))
    scaled = away * jnp.where(spread > 0, 1 / jnp.where(spread > 0, spread, 1), 0)
    distance = jnp.where(valid, jnp.sum(jnp.square(scaled), axis=(1, 2)), jnp.inf)
    return jnp.argsort(distance)[:most]


@linalg.full_precision
def _linear(
    noise_variance: float,
    correction: float,
    rollouts: Rollouts,
    usable: jax.Array,
    F: jax.Array,
) -> tuple[Dynamics, Any]:
    """The model of one condition, from derivatives F [M, T-1, ...] at some usable rollouts [M]."""
    x, u, valid = rollouts
    weights = valid.astype(x.dtype) / jnp.maximum(jnp.sum(valid), 1)
    z = jnp.where(valid[:, None, None], jnp.concatenate([x, u], axis=-1), 0)
    after = jnp.where(valid[:, None, None], x, 0)[:, 1:]
    finite = jnp.all(jnp.isfinite(F), axis=(2, 3))  # [M, T-1]
    counts = (usable[:, None] & finite).astype(F.dtype)
    total = jnp.sum(counts, axis=0)
    share = counts / jnp.maximum(total, 1)
    mean_F = jnp.einsum("mt,mtij->tij", share, jnp.where(counts[..., None, None] > 0, F, 0))
    mean_z = jnp.einsum("n,nti->ti", weights, z)[:-1]
    mean_after = jnp.einsum("n,nti->ti", weights, after)
    if correction > 0:
        moved = after - mean_after, z[:, :-1] - mean_z
        mean_F = _corrected(correction, weights, mean_F, *moved)
    f = mean_after - jnp.einsum("tij,tj->ti", mean_F, mean_z)
    left_over = after - jnp.einsum("tij,ntj->nti", mean_F, z[:, :-1]) - f
    W = jnp.einsum("n,nti,ntj->tij", weights, left_over, left_over)
    W = W + noise_variance * jnp.eye(x.shape[-1], dtype=x.dtype)
    few = jnp.broadcast_to(jnp.sum(valid) < 1, total.shape)
    status = worst(first_failure(few, TOO_FEW_SAMPLES), first_failure(total < 1, NON_FINITE))
    return Dynamics(F=mean_F, f=f, W=linalg.symmetrise(W)), status


def _corrected(
    correction: float, weights: jax.Array, F: jax.Array, after: jax.Array, z: jax.Array
) -> jax.Array:
    """Derivatives F [T-1, dX, n] as far as they explain samples, and a regression of the rest.

    Args:
      correction: see `KnownModelsConfig`, > 0.
      weights: of the samples, [N], sum 1.
      F: derivatives.
      after, z: deviations from their means, [N, T-1, dX] and [N, T-1, n]; finite, also where the
        weight is 0.
    """
    variance = jnp.einsum("n,nti->ti", weights, jnp.square(after))
    missed = after - jnp.einsum("tij,ntj->nti", F, z)
    unexplained = jnp.einsum("n,nti->ti", weights, jnp.square(missed))
    share = 1 - unexplained / jnp.where(variance > 0, variance, 1)
    # Of a next state that does not vary derivatives explain all where they say so, or nothing.
    still = jnp.where(unexplained > 0, 0, 1)
    F = jnp.where(variance > 0, jnp.clip(share, 0, 1), still)[..., None] * F
    left = after - jnp.einsum("tij,ntj->nti", F, z)
    deviation = jnp.sqrt(jnp.einsum("n,ntj->tj", weights, jnp.square(z)))
    scale = jnp.where(deviation > 0, 1 / jnp.where(deviation > 0, deviation, 1), 0)
    scaled = z * scale
    gram = jnp.einsum("n,ntj,ntk->tjk", weights, scaled, scaled)
    gram = gram + jnp.eye(z.shape[-1], dtype=z.dtype) / correction
    chol, _ = linalg.cholesky(gram)
    seen = jnp.einsum("n,ntj,nti->tji", weights, scaled, left)
    return F + linalg.transpose(linalg.solve_psd(chol, seen) * scale[..., None])
