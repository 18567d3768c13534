"""Closed-loop rollouts in MJX: one traceable function, batched over conditions and samples."""

import contextlib
import dataclasses
import functools
import io
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jgps.simulation.conditions import Conditions, Starts, check_starts, condition_models
from jgps.simulation.layout import unit_quaternions
from jgps.simulation.system import (
    Layouts,
    Policy,
    Sample,
    SimulationRollouts,
    System,
    control_range,
    split_shared,
)

with contextlib.redirect_stdout(io.StringIO()):  # it prints which optional parts it lacks
    from mujoco import mjx

# What a state and a control mean in a model, and how long a step is.
_SAME = (
    *("nbody", "njnt", "nu", "na", "nmocap", "nsensordata"),
    *("jnt_type", "jnt_qposadr", "body_parentid", "body_pos", "actuator_trnid", "sensor_type"),
    *("sensor_objid", "body_mass"),
)

_CANNOT = "MJX can't simulate this model ({}); use the native backend"


@dataclasses.dataclass(frozen=True)
class _Program:
    """What decides which program is compiled; compared by value."""

    policy: Policy
    layouts: Layouts
    horizon: int
    substeps: int
    model_axes: tuple[int | None, ...]  # 0 where an array of the model differs between conditions


class _Inputs(NamedTuple):
    """Arrays that may differ between rollouts of one program."""

    model: mjx.Model  # some arrays [C, ...]
    data: mjx.Data  # of one simulation
    qpos: jax.Array  # [C, nq], or [C, N, nq] where each rollout starts at a pose of its own
    qvel: jax.Array  # [C, nv], or [C, N, nv]
    mocap: tuple[jax.Array, jax.Array]  # positions [C, M, 3], quaternions [C, M, 4]
    limits: tuple[jax.Array, jax.Array]  # of controls, [dU] each


def make_mjx_sample(system: System, conditions: Conditions, policy: Policy) -> Sample:
    """`sample(params, noise, starts)` as in `jgps.simulation.Sampler`.

    It compiles by itself, once for equal policies and layouts: the model's arrays are arguments of
    the program. Traced by an outer function, they are constants of that one.

    Raises:
      ValueError: if MJX can't simulate the model.
    """
    simulated = _simulated_model(system)
    try:
        models = condition_models(simulated, conditions)
        model, axes = _stack([mjx.put_model(m) for m in models])
        data = mjx.make_data(simulated)
    except NotImplementedError as error:
        raise ValueError(_CANNOT.format(error)) from None
    program = _Program(policy, system.layouts, system.horizon, system.substeps, axes)
    lower, upper = control_range(system.model)
    inputs = _Inputs(
        model=model,
        data=data,
        qpos=jnp.asarray(conditions.qpos),
        qvel=jnp.asarray(conditions.qvel),
        mocap=_mocap_poses(models),
        limits=(jnp.asarray(lower), jnp.asarray(upper)),
    )

    def sample(params: Any, noise: jax.Array, starts: Starts | None = None) -> SimulationRollouts:
        given = inputs
        if starts is not None:
            check_starts(system.model, starts, *noise.shape[:2])
            qpos = unit_quaternions(system.model, jnp.asarray(starts.qpos), jnp)
            given = inputs._replace(qpos=qpos, qvel=jnp.asarray(starts.qvel))
        try:
            return _roll_out(program, given, params, noise)
        except NotImplementedError as error:
            raise ValueError(_CANNOT.format(error)) from None

    return sample


@functools.partial(jax.jit, static_argnums=0)
def _roll_out(
    program: _Program, inputs: _Inputs, params: Any, noise: jax.Array
) -> SimulationRollouts:
    data, dtype = inputs.data, noise.dtype
    lower, upper = (limit.astype(dtype) for limit in inputs.limits)

    def rollout(model, qpos, qvel, mocap, params, noise):
        start = data.replace(
            qpos=qpos.astype(data.qpos.dtype),
            qvel=qvel.astype(data.qvel.dtype),
            mocap_pos=mocap[0].astype(data.mocap_pos.dtype),
            mocap_quat=mocap[1].astype(data.mocap_quat.dtype),
        )
        return _closed_loop(program, model, start, params, noise, lower, upper)

    own = 0 if inputs.qpos.ndim == 3 else None
    over_samples = jax.vmap(rollout, in_axes=(None, own, own, None, None, 0))
    values, axes = split_shared(params)
    model_axes = jax.tree.unflatten(jax.tree.structure(inputs.model), program.model_axes)
    over_conditions = jax.vmap(over_samples, in_axes=(model_axes, 0, 0, 0, axes, 0))
    x, u, qpos, o = over_conditions(
        inputs.model, inputs.qpos, inputs.qvel, inputs.mocap, values, noise
    )
    finite = [jnp.isfinite(a).all(axis=(-2, -1)) for a in (x, u, qpos, o)]
    valid = functools.reduce(jnp.logical_and, finite)
    x, u, qpos, o = (jnp.where(valid[..., None, None], a, jnp.nan) for a in (x, u, qpos, o))
    if program.layouts.observation is None:
        o = x
    return SimulationRollouts(x=x, u=u, valid=valid, qpos=qpos, o=o)


def _simulated_model(system: System) -> mujoco.MjModel:
    """The model, or the one that stands in for it here.

    Raises:
      ValueError: if the state would mean something else there.
    """
    model, other = system.model, system.mjx_model
    if other is None:
        return model
    for field in _SAME:
        one, two = getattr(model, field), getattr(other, field)
        if not np.array_equal(one, two):
            raise ValueError(
                f"Task.mjx_model has another {field} than Task.model; bodies, joints, actuators "
                "and sensors have to be the same, only geoms may differ"
            )
    return other


def _mocap_poses(models: list[mujoco.MjModel]) -> tuple[jax.Array, jax.Array]:
    """Positions [C, M, 3] and quaternions [C, M, 4] of the mocap bodies, which follow the model."""
    bodies = np.flatnonzero(models[0].body_mocapid >= 0)
    bodies = bodies[np.argsort(models[0].body_mocapid[bodies])]
    positions = np.stack([model.body_pos[bodies] for model in models])
    return jnp.asarray(positions), jnp.asarray(np.stack([m.body_quat[bodies] for m in models]))


def _stack(models: list[mjx.Model]) -> tuple[mjx.Model, tuple[int | None, ...]]:
    """Stacks only the arrays that differ between conditions; also returns all `in_axes`."""
    first = models[0]
    leaves = [jax.tree.leaves(model) for model in models]
    treedef = jax.tree.structure(first)
    stacked, axes = [], []
    for group in zip(*leaves, strict=True):
        differ = any(not np.array_equal(np.asarray(leaf), np.asarray(group[0])) for leaf in group)
        stacked.append(jnp.stack([jnp.asarray(leaf) for leaf in group]) if differ else group[0])
        axes.append(0 if differ else None)
    return jax.tree.unflatten(treedef, stacked), tuple(axes)


def _closed_loop(program, model, start, params, noise, lower, upper):
    def observe(data):
        if program.layouts.uses_sensors:
            data = mjx.forward(model, data)
        seen = program.layouts.observe(data.qpos, data.qvel, data.act, data.sensordata, jnp)
        return (each.astype(noise.dtype) for each in seen)

    def control_step(data, inputs):
        t, noise_t = inputs
        x, o = observe(data)
        u = jnp.clip(program.policy(params, x, o, t, noise_t).astype(noise.dtype), lower, upper)
        driven = data.replace(ctrl=u.astype(data.ctrl.dtype))
        after = jax.lax.fori_loop(0, program.substeps, lambda _, d: mjx.step(model, d), driven)
        return after, (x, u, data.qpos, o)

    steps = jnp.arange(program.horizon, dtype=jnp.int32)
    return jax.lax.scan(control_step, start, (steps, noise))[1]
