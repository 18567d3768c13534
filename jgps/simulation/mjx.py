"""Closed-loop rollouts in MJX: one traceable function, batched over conditions and samples."""

import contextlib
import functools
import io
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jgps.simulation.conditions import Conditions, Starts, check_starts, condition_models
from jgps.simulation.layout import unit_quaternions
from jgps.simulation.system import (
    Policy,
    Sample,
    SimulationRollouts,
    System,
    control_range,
    split_shared,
)

with contextlib.redirect_stdout(io.StringIO()):  # it prints which optional parts it lacks
    from mujoco import mjx

_CANNOT = "MJX can't simulate this model ({}); use the native backend"


def make_mjx_sample(system: System, conditions: Conditions, policy: Policy) -> Sample:
    """`sample(params, noise, starts)` as in `jgps.simulation.Sampler`.

    Raises:
      ValueError: if MJX can't simulate the model.
    """
    try:
        models = condition_models(system.model, conditions)
        model, model_axes = _stack([mjx.put_model(m) for m in models])
        data = mjx.make_data(system.model)
    except NotImplementedError as error:
        raise ValueError(_CANNOT.format(error)) from None
    lower, upper = control_range(system.model)
    qpos0, qvel0 = jnp.asarray(conditions.qpos), jnp.asarray(conditions.qvel)
    mocap = _mocap_poses(models)

    def sample(params: Any, noise: jax.Array, starts: Starts | None = None) -> SimulationRollouts:
        dtype = noise.dtype
        qpos, qvel, own = qpos0, qvel0, None
        if starts is not None:
            check_starts(system.model, starts, *noise.shape[:2])
            qpos = unit_quaternions(system.model, jnp.asarray(starts.qpos), jnp)
            qvel, own = jnp.asarray(starts.qvel), 0

        def rollout(model, qpos, qvel, mocap, params, noise):
            start = data.replace(
                qpos=qpos.astype(data.qpos.dtype),
                qvel=qvel.astype(data.qvel.dtype),
                mocap_pos=mocap[0].astype(data.mocap_pos.dtype),
                mocap_quat=mocap[1].astype(data.mocap_quat.dtype),
            )
            return _closed_loop(
                system, model, start, policy, params, noise,
                lower.astype(dtype), upper.astype(dtype),
            )  # fmt: skip

        over_samples = jax.vmap(rollout, in_axes=(None, own, own, None, None, 0))
        values, axes = split_shared(params)
        over_conditions = jax.vmap(over_samples, in_axes=(model_axes, 0, 0, 0, axes, 0))
        try:
            x, u, qpos, o = over_conditions(model, qpos, qvel, mocap, values, noise)
        except NotImplementedError as error:
            raise ValueError(_CANNOT.format(error)) from None
        finite = [jnp.isfinite(a).all(axis=(-2, -1)) for a in (x, u, qpos, o)]
        valid = functools.reduce(jnp.logical_and, finite)
        x, u, qpos, o = (jnp.where(valid[..., None, None], a, jnp.nan) for a in (x, u, qpos, o))
        if system.observation is None:
            o = x
        return SimulationRollouts(x=x, u=u, valid=valid, qpos=qpos, o=o)

    return sample


def _mocap_poses(models: list[mujoco.MjModel]) -> tuple[jax.Array, jax.Array]:
    """Positions [C, M, 3] and quaternions [C, M, 4] of the mocap bodies, which follow the model."""
    bodies = np.flatnonzero(models[0].body_mocapid >= 0)
    bodies = bodies[np.argsort(models[0].body_mocapid[bodies])]
    positions = np.stack([model.body_pos[bodies] for model in models])
    return jnp.asarray(positions), jnp.asarray(np.stack([m.body_quat[bodies] for m in models]))


def _stack(models: list[mjx.Model]) -> tuple[mjx.Model, Any]:
    """Stacks only the arrays that differ between conditions; also returns their `in_axes`."""
    first = models[0]
    leaves = [jax.tree.leaves(model) for model in models]
    treedef = jax.tree.structure(first)
    stacked, axes = [], []
    for group in zip(*leaves, strict=True):
        differ = any(not np.array_equal(np.asarray(leaf), np.asarray(group[0])) for leaf in group)
        stacked.append(jnp.stack([jnp.asarray(leaf) for leaf in group]) if differ else group[0])
        axes.append(0 if differ else None)
    return jax.tree.unflatten(treedef, stacked), jax.tree.unflatten(treedef, axes)


def _closed_loop(system, model, start, policy, params, noise, lower, upper):
    def observe(data):
        if system.uses_sensors:
            data = mjx.forward(model, data)
        seen = system.observe(data.qpos, data.qvel, data.act, data.sensordata, jnp)
        return (each.astype(noise.dtype) for each in seen)

    def control_step(data, inputs):
        t, noise_t = inputs
        x, o = observe(data)
        u = jnp.clip(policy(params, x, o, t, noise_t).astype(noise.dtype), lower, upper)
        driven = data.replace(ctrl=u.astype(data.ctrl.dtype))
        after = jax.lax.fori_loop(0, system.substeps, lambda _, d: mjx.step(model, d), driven)
        return after, (x, u, data.qpos, o)

    steps = jnp.arange(system.horizon, dtype=jnp.int32)
    return jax.lax.scan(control_step, start, (steps, noise))[1]
