"""Closed-loop rollouts of a function x' = f(x, u, t) of JAX, batched over conditions and samples.

The MuJoCo model then draws the state, names its entries and says the controls' ranges. Every entry
of the state is one of qpos, qvel or act, so that the joint positions follow from it.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jgps.core.lifted import shared_jit
from jgps.simulation.condition_params import params_of, with_params
from jgps.simulation.conditions import (
    Conditions,
    Starts,
    check_starts,
    condition_models,
    initial_act,
)
from jgps.simulation.features import unit_quaternions
from jgps.simulation.layout import StateLayout
from jgps.simulation.system import (
    Policy,
    Sample,
    SimulationRollouts,
    System,
    control_ranges,
    split_shared,
)

# What conditions may change in the model: how it is drawn, and the controls' ranges.
_DRAWN = (
    *("body_pos", "body_quat", "jnt_pos", "jnt_axis", "geom_pos", "geom_quat", "geom_size"),
    *("geom_rgba", "tendon_rgba", "actuator_ctrlrange"),
)
_DRAWN_KINDS = ("site", "cam", "light", "mat")


class _Inputs(NamedTuple):
    """Arrays of the conditions; poses are [C, N, ...] where rollouts have their own."""

    start: dict[str, jax.Array]  # qpos, qvel and act [C, ...]
    limits: jax.Array  # of controls, [2, C, dU]
    params: Any  # of the conditions, leaves [C, ...]


def check_layouts(model: mujoco.MjModel, *layouts: StateLayout | None) -> None:
    """Refuses what does not follow from joint positions, velocities and activations alone.

    Raises:
      ValueError: names an entry of the state or the observation.
    """
    for layout in layouts:
        if layout is None:
            continue
        places = layout.places
        foreign = layout.index >= places.sensors
        if layout.what != "state":  # of joints that stay where they are
            foreign &= (layout.index < places.rotations) | (layout.index >= places.phases)
        for entry, place in layout.slices.items():
            if np.any(foreign[place]):
                raise ValueError(
                    f"the {layout.what} has the entry {entry!r}; with dynamics it has to be made "
                    "of qpos and qvel of hinges and slides, and of act: compute the rest in the "
                    "task's functions"
                )


def draws_only(model: mujoco.MjModel) -> bool:
    """Whether no actuator exerts a force, whatever its control: MuJoCo then simulates no task."""
    fixed = model.actuator_gaintype == int(mujoco.mjtGain.mjGAIN_FIXED)
    unbiased = model.actuator_biastype == int(mujoco.mjtBias.mjBIAS_NONE)
    return bool(np.all(fixed & unbiased & (model.actuator_gainprm[:, 0] == 0)))


def make_analytic_sample(system: System, conditions: Conditions, policy: Policy) -> Sample:
    """`sample(params, noise, starts)` as in `jgps.simulation.Sampler`.

    Equal programs are compiled once, see `jgps.core.lifted`.

    Raises:
      ValueError: if conditions change numbers of the model that a function can't know.
    """
    _check_changes(conditions)
    start = {
        "qpos": conditions.qpos,
        "qvel": conditions.qvel,
        "act": initial_act(system.model, conditions),
    }
    limits = control_ranges(condition_models(system.model, conditions))
    inputs = _Inputs(
        start={name: jnp.asarray(value) for name, value in start.items()},
        limits=jnp.asarray(limits),
        params=params_of(conditions),
    )
    roll_out = shared_jit(functools.partial(_roll_out, system, policy))

    def sample(params: Any, noise: jax.Array, starts: Starts | None = None) -> SimulationRollouts:
        given = inputs
        if starts is not None:
            check_starts(system.model, starts, *noise.shape[:2])
            own = {name: jnp.asarray(a) for name, a in starts._asdict().items() if a is not None}
            own["qpos"] = unit_quaternions(system.model, own["qpos"], jnp)
            given = inputs._replace(start={**inputs.start, **own})
        return roll_out(given, params, noise)

    return sample


def _check_changes(conditions: Conditions) -> None:
    for key in conditions.changes:
        field = key.partition(":")[0]
        if field not in _DRAWN and field.partition("_")[0] not in _DRAWN_KINDS:
            raise ValueError(
                f"conditions: {key!r} in changes is a number of the model, which the task's "
                "dynamics do not read; pass it as params of the conditions, which they take as "
                "their last argument, or simulate the model with backend 'native'"
            )


def _roll_out(
    system: System, policy: Policy, inputs: _Inputs, params: Any, noise: jax.Array
) -> SimulationRollouts:
    start = {name: value.astype(noise.dtype) for name, value in inputs.start.items()}
    start_axes = {name: 0 if value.ndim == 3 else None for name, value in start.items()}
    rollout = functools.partial(_closed_loop, system, policy)
    over_samples = jax.vmap(rollout, in_axes=(start_axes, None, None, None, 0))
    values, axes = split_shared(params)
    over_conditions = jax.vmap(over_samples, in_axes=(0, 1, 0, axes, 0))
    limits = inputs.limits.astype(noise.dtype)
    x, u, qpos, o, sound = over_conditions(start, limits, inputs.params, values, noise)
    finite = [jnp.isfinite(a).all(axis=(-2, -1)) for a in (x, qpos, o)]
    valid = functools.reduce(jnp.logical_and, finite, sound.all(axis=-1))
    x, u, qpos, o = (jnp.where(valid[..., None, None], a, jnp.nan) for a in (x, u, qpos, o))
    if system.observation is None:
        o = x
    return SimulationRollouts(x=x, u=u, valid=valid, qpos=qpos, o=o)


def _closed_loop(system, policy, start, limits, condition, params, noise):
    layout, observation, dtype = system.layout, system.observation, noise.dtype
    advance = with_params(system.dynamics, condition)
    # All that entries may name, at the start; the state's entries are then written over it.
    frozen = jnp.concatenate([start["qpos"], start["qvel"], start["act"]])
    ends = np.cumsum([len(start[name]) for name in ("qpos", "qvel")])
    # Neither x nor o reads what MuJoCo alone would know.
    unread = (jnp.zeros(n, dtype) for n in (system.model.nsensordata, system.model.nu, ()))
    no_sensors, no_ctrl, no_time = unread

    def control_step(x, inputs):
        t, noise_t = inputs
        qpos, qvel, act = jnp.split(frozen.at[layout.index].set(x), ends)
        o = x
        if observation is not None:
            o = observation.state(qpos, qvel, act, no_sensors, no_ctrl, no_time, jnp)
        wanted = policy(params, x, o, t, noise_t).astype(dtype)
        u = jnp.clip(wanted, *limits)
        return advance(x, u, t).astype(dtype), (x, u, qpos, o, jnp.isfinite(wanted).all())

    steps = jnp.arange(system.horizon, dtype=jnp.int32)
    return jax.lax.scan(control_step, frozen[layout.index], (steps, noise))[1]
