"""Closed-loop rollouts in MJX: one traceable function, batched over conditions and samples."""

import contextlib
import copy
import dataclasses
import functools
import io
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jgps.core.host import to_device
from jgps.mujoco_log import quiet_mujoco
from jgps.simulation.conditions import (
    Conditions,
    Starts,
    check_starts,
    condition_models,
    initial_act,
)
from jgps.simulation.features import unit_quaternions
from jgps.simulation.inputs import Places, fields_over_time, mocap_bodies
from jgps.simulation.native import sensor_stage
from jgps.simulation.sensing import Sensing, memory_of, see
from jgps.simulation.system import (
    Layouts,
    Policy,
    Sample,
    SimulationRollouts,
    System,
    control_ranges,
    split_shared,
)

with contextlib.redirect_stdout(io.StringIO()):  # it prints which optional parts it lacks
    from mujoco import mjx

# Fields that follow from numbers, and that MJX does not compute with.
_UNREAD = (
    "eq_active0", "body_sameframe", "geom_sameframe", "site_sameframe", "body_simple",
    "dof_simplenum", "body_margin",
)  # fmt: skip
_ACCELERATIONS = int(mujoco.mjtStage.mjSTAGE_ACC)
_LEAST_FRICTION = 1e-9  # N or N m
# What a state and a control mean in a model, and how long a step is.
_SAME = (
    *("nbody", "njnt", "nu", "na", "nmocap", "nsensordata"),
    *("jnt_type", "jnt_qposadr", "body_parentid", "body_pos", "actuator_trnid", "sensor_type"),
    *("sensor_objid", "body_mass", "jnt_axis", "jnt_range", "dof_damping", "dof_armature"),
    *("actuator_gear", "actuator_gainprm", "actuator_biasprm", "actuator_ctrlrange"),
)

CANNOT = "MJX can't simulate this model ({}); use the native backend"


@dataclasses.dataclass(frozen=True)
class _Program:
    """What decides which program is compiled; compared by value."""

    policy: Policy
    layouts: Layouts
    horizon: int
    substeps: int
    model_axes: tuple[int | None, ...]  # 0 where an array of the model differs between conditions
    places: Places = ()  # what acts from outside is written to
    memory: int = 0  # how many observations latency makes it remember


class Outside(NamedTuple):
    """What conditions say of each control step, [C, ...]."""

    fields: dict[str, jax.Array]  # numbers for fields of the data, [C, T, ...]
    sensing: Sensing | None = None  # of the observation


class Inputs(NamedTuple):
    """Arrays that may differ between rollouts of one program."""

    model: mjx.Model  # some arrays [C, ...]
    data: mjx.Data  # of one simulation
    # Fields of the data at the start [C, ...]; qpos, qvel and act are [C, N, ...] where each
    # rollout starts at a pose of its own.
    start: dict[str, jax.Array]
    limits: jax.Array  # of controls, [2, C, dU]
    outside: Outside = Outside({})


def prepare(
    system: System, conditions: Conditions, *, clamp: bool = True
) -> tuple[Inputs, tuple[int | None, ...]]:
    """What MJX simulates in the conditions, and which arrays of the model differ between them.

    Args:
      system: what is simulated.
      conditions: where it begins.
      clamp: whether the simulation keeps controls within their range; else its user does, and what
        follows a control at its limit has a derivative by it.

    Returns:
      Arrays, and 0 for each of the model's that has a row for each condition, else None.

    Raises:
      ValueError: if MJX can't simulate the model.
    """
    simulated = _simulated_model(system)
    models = condition_models(simulated, conditions)
    limits = control_ranges(models)
    _check(simulated)
    try:
        put = _put(models if clamp else _without_clamp(models))
        data = mjx.make_data(put[0])
    except NotImplementedError as error:
        raise ValueError(CANNOT.format(error)) from None
    if sensor_stage(system) == _ACCELERATIONS and not data._impl.efc_J.size:
        # Its forward computation then ends before them.
        raise ValueError(CANNOT.format("sensors of accelerations where nothing is constrained"))
    model, axes = _stack(put)
    start = _start(models, conditions)
    # MJX binds its arrays to a device. Results would be bound, too, and what takes them would
    # compile anew: every program would be compiled twice, and once more in a run that goes on.
    model, data = jax.tree.map(to_device, (model, data))
    return Inputs(model, data, start, jnp.asarray(limits)), axes


def _without_clamp(models: list[mujoco.MjModel]) -> list[mujoco.MjModel]:
    """Copies, one of each distinct model, whose controls go beyond their range."""
    copies = {id(model): copy.copy(model) for model in models}
    for each in copies.values():
        each.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_CLAMPCTRL)
    return [copies[id(model)] for model in models]


def make_mjx_sample(system: System, conditions: Conditions, policy: Policy) -> Sample:
    """`sample(params, noise, starts)` as in `jgps.simulation.Sampler`.

    It compiles by itself, once for equal policies and layouts: the model's arrays are arguments of
    the program. Traced by an outer function, they are constants of that one.

    Raises:
      ValueError: if MJX can't simulate the model.
    """
    inputs, axes = prepare(system, conditions)
    horizon, sensing = system.horizon, conditions.sensing
    places, fields = fields_over_time(system.model, conditions.inputs, horizon)
    memory = memory_of(sensing, horizon)
    numbers = {field: jnp.asarray(rows) for field, rows in fields.items()}
    seen = None if sensing is None else jax.tree.map(jnp.asarray, _within(sensing, horizon))
    inputs = inputs._replace(outside=Outside(numbers, seen))
    program = _Program(
        policy, system.layouts, horizon, system.substeps, axes, places=places, memory=memory
    )

    def sample(params: Any, noise: jax.Array, starts: Starts | None = None) -> SimulationRollouts:
        given = inputs
        if starts is not None:
            check_starts(system.model, starts, *noise.shape[:2])
            qpos = unit_quaternions(system.model, jnp.asarray(starts.qpos), jnp)
            own = {"qpos": qpos, "qvel": jnp.asarray(starts.qvel)}
            if starts.act is not None:
                own["act"] = jnp.asarray(starts.act)
            given = inputs._replace(start={**inputs.start, **own})
        try:
            return _roll_out(program, given, params, noise)
        except NotImplementedError as error:
            raise ValueError(CANNOT.format(error)) from None

    return sample


def _within(sensing: Sensing, horizon: int) -> Sensing:
    """The same with latencies that are no longer than the rollout, which small integers hold."""
    if sensing.latency is None:
        return sensing
    return sensing._replace(latency=np.minimum(sensing.latency, horizon - 1).astype(np.int32))


@functools.partial(jax.jit, static_argnums=0)
def _roll_out(
    program: _Program, inputs: Inputs, params: Any, noise: jax.Array
) -> SimulationRollouts:
    data, dtype = inputs.data, noise.dtype

    def rollout(model, start, outside, limits, params, noise):
        fields = {name: a.astype(getattr(data, name).dtype) for name, a in start.items()}
        begin = data.replace(**fields)
        return _closed_loop(program, model, begin, outside, params, noise, limits)

    own = [name for name in ("qpos", "qvel", "act") if inputs.start[name].ndim == 3]
    start_axes = {name: 0 if name in own else None for name in inputs.start}
    over_samples = jax.vmap(rollout, in_axes=(None, start_axes, None, None, None, 0))
    values, axes = split_shared(params)
    model_axes = jax.tree.unflatten(jax.tree.structure(inputs.model), program.model_axes)
    over_conditions = jax.vmap(over_samples, in_axes=(model_axes, 0, 0, 1, axes, 0))
    limits = inputs.limits.astype(dtype)
    x, u, qpos, o = over_conditions(
        inputs.model, inputs.start, inputs.outside, limits, values, noise
    )
    finite = [jnp.isfinite(a).all(axis=(-2, -1)) for a in (x, u, qpos, o)]
    valid = functools.reduce(jnp.logical_and, finite)
    x, u, qpos, o = (jnp.where(valid[..., None, None], a, jnp.nan) for a in (x, u, qpos, o))
    if program.layouts.observation is None:
        o = x
    return SimulationRollouts(x=x, u=u, valid=valid, qpos=qpos, o=o)


def _check(model: mujoco.MjModel) -> None:
    """Refuses what MJX takes without a word and leaves out.

    Raises:
      ValueError: naming it.
    """
    curved = ("jnt_stiffnesspoly", "dof_dampingpoly", "tendon_stiffnesspoly", "tendon_dampingpoly")
    lacking = {
        "actuators or sensors with a delay": model.nhistory > 0,
        "plugins": model.nplugin > 0,
        "actuators with several controls": model.nactuator != model.nu,
        "stiffness or damping that is not linear": any(getattr(model, f).any() for f in curved),
        "damping or armature of actuators": model.actuator_damping.any()
        or model.actuator_dampingpoly.any()
        or model.actuator_armature.any(),
        "adhesion of geoms": model.geom_adhesion.any() or model.pair_adhesion.any(),
        "surfaces that move": model.geom_surfacevel.any(),
        "fluid forces by the shape of geoms": model.geom_fluid.any(),
    }
    for what, present in lacking.items():
        if present:
            raise ValueError(CANNOT.format(what))


def _start(models: list[mujoco.MjModel], conditions: Conditions) -> dict[str, jax.Array]:
    """What the simulations of the conditions begin with, [C, ...], by fields of `mjx.Data`."""
    bodies = mocap_bodies(models[0])
    start = {
        "qpos": conditions.qpos,
        "qvel": conditions.qvel,
        "act": initial_act(models[0], conditions),
        "mocap_pos": np.stack([model.body_pos[bodies] for model in models]),
        "mocap_quat": np.stack([model.body_quat[bodies] for model in models]),
        "eq_active": np.stack([model.eq_active0 for model in models]),
    }
    return {name: jnp.asarray(value) for name, value in start.items()}


@quiet_mujoco()
def _put(models: list[mujoco.MjModel]) -> list[mjx.Model]:
    """The models in MJX, of one structure.

    Raises:
      ValueError: if they differ in more than numbers of a program.
    """
    distinct = {id(model): model for model in models}
    put = {number: mjx.put_model(model) for number, model in distinct.items()}
    first = put[id(models[0])]
    same = {name: getattr(first, name) for name in _UNREAD}
    # How large a program has to be follows from the numbers: as large as any of them needs.
    for name in ("dof_hasfrictionloss", "tendon_hasfrictionloss", "geom_rbound_hfield"):
        every = [getattr(model._impl, name) for model in put.values()]
        same[f"_impl.{name}"] = functools.reduce(np.maximum, every)
    put = {number: _with_least_friction(model.tree_replace(same)) for number, model in put.items()}
    if len({jax.tree.structure(model) for model in put.values()}) > 1:
        raise ValueError(
            "MJX can't simulate these conditions, which differ in more than numbers of a program; "
            "use the native backend"
        )
    return [put[id(model)] for model in models]


def _with_least_friction(model: mjx.Model) -> mjx.Model:
    """The same with friction near 0 where the program has some, of which MJX takes no 0."""
    return model.tree_replace(
        {
            f"{kind}_frictionloss": jnp.maximum(
                getattr(model, f"{kind}_frictionloss"),
                jnp.where(getattr(model._impl, f"{kind}_hasfrictionloss"), _LEAST_FRICTION, 0),
            )
            for kind in ("dof", "tendon")
        }
    )


def _simulated_model(system: System) -> mujoco.MjModel:
    """The model, or the one that stands in for it here.

    Raises:
      ValueError: if the state would mean something else there.
    """
    model, other = system.model, system.mjx_model
    if other is None:
        return model
    fields = {name: (getattr(model, name), getattr(other, name)) for name in _SAME}
    for name in ("timestep", "gravity", "integrator"):
        fields[name] = getattr(model.opt, name), getattr(other.opt, name)
    for field, (one, two) in fields.items():
        if not np.array_equal(one, two):
            raise ValueError(
                f"Task.mjx_model has another {field} than Task.model; bodies, joints, actuators "
                "and sensors have to be the same, only geoms may differ"
            )
    return other


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


def _closed_loop(program, model, start, outside, params, noise, limits):
    sensing = outside.sensing

    def observe(data):
        if program.layouts.uses_sensors:
            data = mjx.forward(model, data)
        numbers = (data.qpos, data.qvel, data.act, data.sensordata, data.ctrl, data.time)
        seen = program.layouts.observe(*numbers, jnp)
        return (each.astype(noise.dtype) for each in seen)

    def control_step(carry, inputs):
        (data, past), (t, noise_t, fields) = carry, inputs
        # A sum of physics steps in float32 is off by hundredths of a second after a minute.
        data = data.replace(time=(t * control_dt).astype(data.time.dtype))
        data = _with_fields(data, program.places, fields)
        x, o = observe(data)
        o, past = see(sensing, past, o, t)
        u = jnp.clip(program.policy(params, x, o, t, noise_t).astype(noise.dtype), *limits)
        driven = data.replace(ctrl=u.astype(data.ctrl.dtype))
        after = jax.lax.fori_loop(0, program.substeps, lambda _, d: mjx.step(model, d), driven)
        return (after, past), (x, u, data.qpos, o)

    control_dt = program.substeps * model.opt.timestep
    past = None
    if program.memory:
        observation = program.layouts.observation
        assert observation is not None  # as `check_observed` says
        past = jnp.zeros((program.memory, observation.size), noise.dtype)
    steps = jnp.arange(program.horizon, dtype=jnp.int32)
    return jax.lax.scan(control_step, (start, past), (steps, noise, outside.fields))[1]


def _with_fields(data: mjx.Data, places: Places, fields: dict[str, jax.Array]) -> mjx.Data:
    """The data under what acts from outside during a control step, [k, ...] of each field."""
    new = {}
    for field, rows in places:
        old = getattr(data, field)
        new[field] = old.at[np.asarray(rows)].set(fields[field].astype(old.dtype))
    return data.replace(**new) if new else data
