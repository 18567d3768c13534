"""Derivatives of a control step on native threads, in the tangent space of the simulator's state.

A state is s = (qpos, qvel, act); its small changes ds = (dq [nv], dqvel [nv], dact [na]) have dS
numbers, a rotation three of them (see `jgps.simulation.tangent`).

    ds' = F [ds; du],    dx = G ds,    x the state of the task

What else a simulation goes on from is held: the solver's warm start that the nominal step had,
mocap poses, and what delayed actuators remember. (Within a control step "copies" go on from their
own warm start, "chained" has the nominal one at each physics step. That makes a difference only
where the solver stops before it has converged.)
"""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import mujoco
import numpy as np

from jgps.core.checks import Config, OneOf, Range
from jgps.mujoco_log import quiet_mujoco
from jgps.simulation.differences import Chained, Copies, Found, Items, Method, Remembering
from jgps.simulation.state_jacobian import StateJacobian, tangent_dim
from jgps.simulation.system import System

_METHODS = {"chained": Chained, "copies": Copies}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DerivativesConfig(Config):
    """How control steps of a simulator are differentiated.

    Attributes:
      method: "chained" multiplies what `mjd_transitionFD` finds at each physics step; "copies"
        takes the whole control step of perturbed copies, which is right for every model, at one to
        four times the time; "auto" is the cheaper one that is right for the model.
      step: of the finite differences, in the units of the state and the controls.
      centred: whether differences are taken at both sides, which is twice the work and leaves an
        error of second order.
      key_steps: derivatives are computed at every so many control steps and at the last one, and
        are interpolated linearly in between; 1 computes all of them.
      key_tolerance: where `key_steps` is more than 1, those in the middle of two key steps are
        computed as well where the two differ by more than this share of their size, and so on until
        none do, as where a contact begins; None computes those of key steps alone.
      physics_steps: "all" differentiates every physics step of a control step; "first" takes its
        first one's derivatives for all of them, in a share of the time. They are then wrong as far
        as physics change within a control step, and not wrong about which feet are on the ground.
    """

    method: Annotated[str, OneOf("auto", "chained", "copies")] = "auto"
    step: Annotated[float, Range("[1e-9, 1e-2]", "usually 1e-7 to 1e-5")] = 1e-6
    centred: bool = False
    key_steps: Annotated[int, Range("[1, 1000]", "usually 1 to 5")] = 1
    key_tolerance: Annotated[float | None, Range(">= 0", "usually 0.1 to 0.5")] = None
    physics_steps: Annotated[str, OneOf("all", "first")] = "all"


@dataclasses.dataclass(frozen=True, kw_only=True)
class MjxDerivativesConfig(Config):
    """How control steps in MJX are differentiated.

    Attributes:
      method: "forward" is automatic differentiation; "differences" takes centred differences of
        perturbed copies, which reach across what has no derivative, such as a contact that begins.
      chunk: how many control steps are differentiated at once, at the least one of each
        trajectory, which bounds the memory; each takes that of dS + dU simulations, or twice as
        many by differences.
    """

    method: Annotated[str, OneOf("forward", "differences")] = "forward"
    chunk: Annotated[int, Range(">= 1", "usually 64 to 4096")] = 512


class Derivatives(NamedTuple):
    """Along B trajectories of T states; all NaN at a step where one of them is not finite."""

    F: np.ndarray  # [B, T-1, dS, dS+dU], of the next state
    G: np.ndarray  # [B, T, dX, dS], of the task's state


def method_of(model: mujoco.MjModel) -> str:
    """The cheaper method that is right for the model.

    Raises:
      ValueError: if it has a plugin whose own state is out of reach.
    """
    if np.any(model.plugin_statenum > 0):
        raise ValueError(
            "the model has a plugin that keeps a state of its own, which derivatives don't reach; "
            "take it out, or use an algorithm that learns models from rollouts"
        )
    return "copies" if _not_by_a_chain(model) else "chained"


def _not_by_a_chain(model: mujoco.MjModel) -> str:
    """What of a model `mjd_transitionFD` does not do, or not right; empty where it is right."""
    integrators, gains, biases = mujoco.mjtIntegrator, mujoco.mjtGain, mujoco.mjtBias
    euler = model.opt.integrator == integrators.mjINT_EULER
    implicit = model.opt.integrator in (integrators.mjINT_IMPLICIT, integrators.mjINT_IMPLICITFAST)
    if not euler and not implicit:
        return f"the integrator {integrators(model.opt.integrator).name.removeprefix('mjINT_')}"
    if model.nplugin:
        return "plugins"
    if model.nhistory:  # what they remember from one physics step to the next
        return "delays"
    # What is inverted to integrate may follow the velocity, or controls and activations. For a
    # change of those `mjd_transitionFD` takes it to be as it was (by 10% wrong in our tests).
    if euler:
        fields = ("dof_dampingpoly", "tendon_dampingpoly", "actuator_dampingpoly")
        curved = any(getattr(model, field).any() for field in fields)
        return "damping that is not linear, in Euler's integrator" if curved else ""
    gain, bias = model.actuator_gaintype, model.actuator_biastype
    undamped = model.actuator_gainprm[:, 2] == 0
    steady = (gain == int(gains.mjGAIN_FIXED)) | ((gain == int(gains.mjGAIN_AFFINE)) & undamped)
    known = (biases.mjBIAS_NONE, biases.mjBIAS_AFFINE, biases.mjBIAS_MUSCLE)
    steady &= np.isin(bias, [int(each) for each in known])
    return "" if steady.all() else "actuators whose gain has damping, in an implicit integrator"


class Differentiator:
    """Derivatives along trajectories of a batch, by threads that it keeps.

    A trajectory's do not depend on the others, or on the number of threads.
    """

    def __init__(
        self,
        system: System,
        models: Sequence[mujoco.MjModel],
        config: DerivativesConfig = DerivativesConfig(),
    ):
        """Prepares threads.

        Args:
          system: what is simulated.
          models: one for each trajectory [B].
          config: how to differentiate.

        Raises:
          ValueError: if the model's derivatives can't be taken, or not by the method.
        """
        distinct = {id(model): model for model in models}
        able = {method_of(model) for model in distinct.values()}
        if config.method == "chained" and "copies" in able:
            why = next(filter(None, map(_not_by_a_chain, distinct.values())))
            raise ValueError(
                f"DerivativesConfig.method is 'chained', which is not right for {why}; choose "
                "'copies' or 'auto'"
            )
        auto = "copies" if "copies" in able else "chained"
        self._system, self._models, self._config = system, list(models), config
        self._jacobian = StateJacobian(system.model, system.layout)
        make = _METHODS[auto if config.method == "auto" else config.method]
        # How often what is found is taken, one after the other.
        self._repeats = system.substeps if config.physics_steps == "first" else 1
        own = system._replace(substeps=system.substeps // self._repeats)
        self._method = Remembering(make(own, config.step, config.centred))

    def __call__(self, states: np.ndarray, control: np.ndarray) -> Derivatives:
        """Derivatives at states [B, T, nstate] (mjSTATE_INTEGRATION) under controls [B, T, dU].

        T is at least 2; the last control has no next state.

        Raises:
          ValueError: if shapes don't fit, or MuJoCo can't step the model at all.
        """
        B, T = states.shape[:2]
        if B != len(self._models) or T < 2 or control.shape != (B, T, self._system.model.nu):
            raise ValueError(
                f"states have shape {states.shape} and controls {control.shape}; they have to be "
                f"[{len(self._models)}, T, nstate] and [{len(self._models)}, T, "
                f"{self._system.model.nu}] with T of at least 2"
            )
        keys = key_steps(T - 1, self._config.key_steps)
        sensing = self._jacobian.uses_sensors
        dS, dU = tangent_dim(self._system.model), self._system.model.nu
        # Nobody looks at sensors' derivatives where x has no sensors.
        num = self._system.model.nsensordata if sensing else 0
        F, C = np.empty((B, T, dS, dS + dU)), np.empty((B, T, num, dS))
        known = np.zeros((B, T), bool)
        # Sensors are differentiated at the last state as well.
        known[:, np.append(keys, T - 1) if sensing else keys] = True
        at, method = np.nonzero(known), self._method
        while len(at[0]):
            F[at], C[at] = self._at(method, at[0], states[at], control[at])
            known[at] = True
            at = self._missing(F[:, : T - 1], known[:, : T - 1])
            method = self._method.method  # key steps are remembered until the next call
        for row in np.flatnonzero(~known[:, : T - 1].all(axis=1)):
            F[row, : T - 1] = interpolated(F[row], known[row, : T - 1])
            if sensing:
                C[row] = interpolated(C[row], known[row])
        qpos = states[..., 1 : 1 + self._system.model.nq]
        G = self._jacobian(qpos, C if sensing else None)
        return Derivatives(F=F[:, : T - 1], G=G)

    def _missing(self, F: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows and steps between those of F [B, T-1, dS, dS+dU] that are known and differ."""
        most = self._config.key_tolerance
        if most is None or known.all():
            return np.empty(0, int), np.empty(0, int)
        row, step = np.nonzero(known)
        pairs = np.flatnonzero((row[1:] == row[:-1]) & (step[1:] - step[:-1] > 1))
        row, before, after = row[pairs], step[pairs], step[pairs + 1]
        one, other = F[row, before], F[row, after]
        axes = (1, 2)
        size = 0.5 * (np.square(one).sum(axes) + np.square(other).sum(axes))
        differ = np.square(one - other).sum(axes) > most**2 * size
        return row[differ], (before + after)[differ] // 2

    def _at(
        self,
        method: Method,
        trajectories: np.ndarray,
        states: np.ndarray,
        control: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """F [N, dS, dS+dU] and sensors' derivatives at N states, each of one of the trajectories.

        Args:
          method: that differentiates.
          trajectories: [N], their numbers.
          states: [N, nstate].
          control: [N, dU].
        """
        model = self._system.model
        dS, dU = tangent_dim(model), model.nu
        F = np.full((len(states), dS, dS + dU), np.nan)
        num = model.nsensordata if self._jacobian.uses_sensors else 0
        C = np.full((len(states), num, dS), np.nan)
        sound = np.isfinite(states).all(axis=1) & np.isfinite(control).all(axis=1)
        rows = np.flatnonzero(sound)
        models = [self._models[each] for each in trajectories[rows]]
        items = Items(models, states[rows].astype(np.float64), control[rows].astype(np.float64))
        found = Found(F[rows], C[rows] if num else None)
        with quiet_mujoco():
            error = method(items, found)
        if error:
            raise ValueError(f"MuJoCo can't differentiate this model: {error}")
        F[rows] = repeated(found.F, self._repeats)
        if found.sensors is not None:
            C[rows] = found.sensors
        finite = np.isfinite(F).all(axis=(1, 2)) & np.isfinite(C).all(axis=(1, 2))
        F[~finite], C[~finite] = np.nan, np.nan
        return F, C


def key_steps(num: int, every: int) -> np.ndarray:
    """Steps of `num` at which derivatives are computed: every so many, and the last one."""
    return np.unique(np.append(np.arange(0, num, every), num - 1))


def repeated(F: np.ndarray, times: int) -> np.ndarray:
    """Derivatives [N, dS, dS+dU] of so many steps that each have F, under one control."""
    dS, whole = F.shape[1], F
    for _ in range(times - 1):
        after = F[..., :dS] @ whole
        after[..., dS:] += F[..., dS:]
        whole = after
    return whole


def interpolated(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Values [T, ...] that go linearly from one of those that are known [T] to the next."""
    whole, between = values[: len(known)].copy(), np.flatnonzero(~known)
    if not len(between):
        return whole
    keys = np.flatnonzero(known)
    after = np.searchsorted(keys, between)
    first, last = keys[after - 1], keys[after]
    share = ((between - first) / (last - first)).reshape(-1, *[1] * (values.ndim - 1))
    whole[between] = (1 - share) * values[first] + share * values[last]
    return whole
