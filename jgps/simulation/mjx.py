"""Closed-loop rollouts in MJX: one traceable function, batched over conditions and samples."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from mujoco import mjx

from jgps.simulation.conditions import Conditions, condition_models
from jgps.simulation.system import Policy, SimulationRollouts, System, control_range


def make_mjx_sample(
    system: System, conditions: Conditions, policy: Policy
) -> Callable[[Any, jax.Array], SimulationRollouts]:
    """`sample(params, noise)` as in `jgps.simulation.Sampler`.

    Raises:
      ValueError: if MJX can't simulate the model.
    """
    try:
        model, model_axes = _stack([_put(m) for m in condition_models(system.model, conditions)])
        data = mjx.make_data(system.model)
    except NotImplementedError as error:
        raise ValueError(
            f"MJX can't simulate this model ({error}); use the native backend"
        ) from None
    lower, upper = control_range(system.model)
    qpos0, qvel0 = jnp.asarray(conditions.qpos), jnp.asarray(conditions.qvel)

    def sample(params: Any, noise: jax.Array) -> SimulationRollouts:
        dtype = noise.dtype

        def rollout(model, qpos, qvel, params, noise):
            start = data.replace(
                qpos=qpos.astype(data.qpos.dtype), qvel=qvel.astype(data.qvel.dtype)
            )
            return _closed_loop(
                system, model, start, policy, params, noise,
                lower.astype(dtype), upper.astype(dtype),
            )  # fmt: skip

        over_samples = jax.vmap(rollout, in_axes=(None, None, None, None, 0))
        over_conditions = jax.vmap(over_samples, in_axes=(model_axes, 0, 0, 0, 0))
        x, u, qpos = over_conditions(model, qpos0, qvel0, params, noise)
        finite = [jnp.isfinite(a).all(axis=(-2, -1)) for a in (x, u, qpos)]
        valid = finite[0] & finite[1] & finite[2]
        x, u, qpos = (jnp.where(valid[..., None, None], a, jnp.nan) for a in (x, u, qpos))
        return SimulationRollouts(x=x, u=u, valid=valid, qpos=qpos)

    return sample


def _put(model: mujoco.MjModel) -> mjx.Model:
    return mjx.put_model(model)


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
    layout = system.layout

    def observe(data):
        if layout.uses_sensors:
            data = mjx.forward(model, data)
        return layout.state(data.qpos, data.qvel, data.sensordata, jnp).astype(noise.dtype)

    def control_step(data, inputs):
        t, noise_t = inputs
        x = observe(data)
        u = jnp.clip(policy(params, x, t, noise_t).astype(noise.dtype), lower, upper)
        driven = data.replace(ctrl=u.astype(data.ctrl.dtype))
        after = jax.lax.fori_loop(0, system.substeps, lambda _, d: mjx.step(model, d), driven)
        return after, (x, u, data.qpos)

    steps = jnp.arange(system.horizon, dtype=jnp.int32)
    return jax.lax.scan(control_step, start, (steps, noise))[1]
