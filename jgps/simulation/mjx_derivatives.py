"""Control steps and their derivatives in MJX, in the tangent space of the simulator's state.

A state is a row (qpos [nq], qvel [nv], act [na], qacc_warmstart [nv]); its small changes are those
of `jgps.simulation.derivatives`, under the warm start that the nominal step has.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jgps.simulation import mjx as backend
from jgps.simulation.conditions import Conditions
from jgps.simulation.derivatives import MjxDerivativesConfig
from jgps.simulation.layout import StateLayout
from jgps.simulation.mjx import CANNOT, prepare
from jgps.simulation.state_jacobian import refuse_entries, tangent_dim
from jgps.simulation.system import System
from jgps.simulation.tangent import difference, moved

mjx = backend.mjx  # imported there, quietly


class Simulation(NamedTuple):
    """The arrays of one simulation, or of B with axes as `MjxDynamics.axes` says."""

    model: Any  # mjx.Model
    fixed: Any  # mocap poses and active equalities by name
    limits: Any  # of controls, [2, dU]


class MjxDynamics:
    """A task's control steps in MJX: functions to trace, of one simulation each."""

    def __init__(
        self,
        system: System,
        conditions: Conditions,
        config: MjxDerivativesConfig = MjxDerivativesConfig(),
    ):
        """Puts the models of the conditions into MJX.

        Raises:
          ValueError: if MJX can't simulate the model, or the state has no derivative.
        """
        refuse_entries(system.model, system.layout)
        _refuse_times(system.model, system.layout)
        self._system, self._config = system, config
        self._mujoco = system.model
        inputs, axes = prepare(system, conditions, clamp=False)
        self._inputs = inputs
        fixed = ("mocap_pos", "mocap_quat", "eq_active")
        structure = jax.tree.structure(inputs.model)
        fixed_axes = dict.fromkeys(fixed, 0)
        self.axes = Simulation(jax.tree.unflatten(structure, axes), fixed_axes, 1)
        dtype = jnp.zeros(()).dtype
        self.simulations = Simulation(
            inputs.model, {name: inputs.start[name] for name in fixed}, inputs.limits.astype(dtype)
        )
        pose = [inputs.start[name].astype(dtype) for name in ("qpos", "qvel", "act")]
        warm = jnp.zeros((conditions.num, system.model.nv), dtype)
        self.initial = jnp.concatenate([*pose, warm], axis=-1)  # [C, nstate]

    @property
    def tangent_dim(self) -> int:
        """The dS of the model."""
        return tangent_dim(self._mujoco)

    def step(self, simulation: Simulation, state: jax.Array, u: jax.Array) -> tuple[Any, Any]:
        """The state after a control step, and the task's state x before it."""
        qpos, qvel, act, warm = self._split(state)
        data = self._inputs.data
        fields = {"qpos": qpos, "qvel": qvel, "act": act, "qacc_warmstart": warm, "ctrl": u}
        fields |= simulation.fixed
        fields = {name: a.astype(getattr(data, name).dtype) for name, a in fields.items()}
        start = data.replace(**fields)

        def physics_step(number, carry):
            data, seen = carry
            data = mjx.step(simulation.model, data)
            # Sensors are those of the state before it.
            return data, jnp.where(number == 0, data.sensordata, seen)

        # One trace of the physics, whose program is large.
        steps, carry = self._system.substeps, (start, start.sensordata)
        try:
            after, seen = jax.lax.fori_loop(0, steps, physics_step, carry)
        except NotImplementedError as error:
            raise ValueError(CANNOT.format(error)) from None
        # The state reads neither controls nor the time.
        numbers = (qpos, qvel, act, seen.astype(state.dtype), u, 0)
        x = self._system.layout.state(*numbers, jnp)
        parts = (after.qpos, after.qvel, after.act, after.qacc_warmstart)
        return jnp.concatenate([part.astype(state.dtype) for part in parts]), x

    def tangent(self, states: jax.Array, reference: jax.Array) -> jax.Array:
        """The small changes [..., dS] from references to states [..., nstate]."""
        qpos, *rest = self._split(states)[:3]
        start, *other = self._split(reference)[:3]
        change = difference(self._mujoco, qpos, start)
        parts = [a - b for a, b in zip(rest, other, strict=True)]
        return jnp.concatenate([change, *parts], axis=-1)

    def moved(self, state: jax.Array, change: jax.Array) -> jax.Array:
        """A state after a small change [dS], with the same warm start."""
        model = self._mujoco
        qpos, qvel, act, warm = self._split(state)
        dq, dv, da = jnp.split(change, (model.nv, 2 * model.nv))
        return jnp.concatenate([moved(model, qpos, dq), qvel + dv, act + da, warm])

    def derivatives(
        self, simulations: Simulation, states: jax.Array, u: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """F [B, T-1, dS, dS+dU] and G [B, T, dX, dS] along states [B, T, nstate], u [B, T, dU]."""
        B, T = states.shape[:2]
        num = -(-T // max(1, self._config.chunk // B))
        # Chunks of one size, for which one program is enough; the last step fills up.
        rows = jnp.minimum(jnp.arange(num * -(-T // num)), T - 1).reshape(num, -1)
        over_steps = jax.vmap(self._derivatives, in_axes=(None, 0, 0))
        over_all = jax.vmap(over_steps, in_axes=(self.axes, 0, 0))

        def at(rows):
            return over_all(simulations, states[:, rows], u[:, rows])

        found = jax.lax.map(at, rows)  # [num, B, size, ...]
        F, G = (jnp.moveaxis(a, 0, 1).reshape(B, -1, *a.shape[3:])[:, :T] for a in found)
        return F[:, :-1], G

    def _derivatives(
        self, simulation: Simulation, state: jax.Array, u: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """F and G at one step; NaN where one of them is not finite."""
        dS = self.tangent_dim

        def of(z, around=None):
            after, x = self.step(simulation, self.moved(state, z[:dS]), u + z[dS:])
            around = jax.lax.stop_gradient(after) if around is None else around
            return jnp.concatenate([self.tangent(after, around), x])

        zero = jnp.zeros(dS + u.shape[0], state.dtype)
        if self._config.method == "forward":
            J = jax.jacfwd(of)(zero)
        else:
            around, _ = self.step(simulation, state, u)
            # The error of rounding is that of truncation, about, at the third root of a digit.
            size = float(jnp.finfo(state.dtype).eps) ** (1 / 3)
            change = size * jnp.eye(len(zero), dtype=state.dtype)
            both = jax.vmap(of, in_axes=(0, None))(jnp.concatenate([change, -change]), around)
            J = (jnp.subtract(*jnp.split(both, 2)) / (2 * size)).T
        J = jnp.where(jnp.all(jnp.isfinite(J)), J, jnp.nan)
        return J[:dS], J[dS:, :dS]

    def _split(self, state: jax.Array) -> list[jax.Array]:
        model: mujoco.MjModel = self._mujoco
        ends = (model.nq, model.nq + model.nv, model.nq + model.nv + model.na)
        return jnp.split(state, ends, axis=-1)


def _refuse_times(model: mujoco.MjModel, layout: StateLayout) -> None:
    """Refuses entries of the state that show the time, which a row of a state here does not have.

    Raises:
      ValueError: naming the first one.
    """
    places = layout.places
    clocks = np.asarray(model.sensor_type) == int(mujoco.mjtSensor.mjSENS_CLOCK)
    timed = [*places.sensors + model.sensor_adr[clocks], *range(places.phases, places.ctrl)]
    for entry, place in layout.slices.items():
        if np.isin(layout.index[place], timed).any():
            raise ValueError(
                f"{layout.what} entry {entry!r} shows the time, which known dynamics in MJX don't "
                "hold; name it in the observation instead, or use backend 'native'"
            )
