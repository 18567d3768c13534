"""Two ways to differentiate control steps on native threads, each of many items at once.

An item is a state at which a control acts; its derivatives do not depend on other items, or on the
number of threads.
"""

import copy
import queue
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

import mujoco
import numpy as np
from mujoco.batch import Batch, SimulationError

from jgps.mujoco_log import quiet_mujoco
from jgps.simulation.state_jacobian import tangent_dim
from jgps.simulation.system import System, control_ranges, num_threads
from jgps.simulation.tangent import difference, moved

STATE = mujoco.mjtState.mjSTATE_INTEGRATION
_NO_STAGE = int(mujoco.mjtStage.mjSTAGE_NONE)
_TOLERANCE = 1e-12  # of Newton's solver
_BLOCK = 4  # items that a thread takes at once
_MOST_COPIES = 4096  # simulations of one batch
_MOST_BYTES = 2**26  # of derivatives that are remembered
_MOST_DATA = 256  # of them, where each keeps an MjData


class Items(NamedTuple):
    """Control steps to differentiate, N of them."""

    models: Sequence[mujoco.MjModel]
    states: np.ndarray  # [N, nstate], of mjSTATE_INTEGRATION
    control: np.ndarray  # [N, dU]


class Found(NamedTuple):
    """Where derivatives are written to."""

    F: np.ndarray  # [N, dS, dS+dU]
    sensors: np.ndarray | None  # [N, nsensordata, dS]; None where nobody asks for them

    def of(self, rows: np.ndarray | slice) -> "Found":
        """A view or a copy of some items."""
        return Found(self.F[rows], None if self.sensors is None else self.sensors[rows])

    def put(self, rows: np.ndarray, found: "Found") -> None:
        """Writes those of some items."""
        self.F[rows] = found.F
        if self.sensors is not None:
            self.sensors[rows] = found.sensors


class Method(Protocol):
    """A way to differentiate items."""

    def __call__(self, items: Items, found: Found) -> str:
        """Writes derivatives; returns what MuJoCo raised where it did for all items, else ""."""
        ...


class Remembering:
    """What the last call differentiated, the next one does not again: results are the same.

    Trajectories that did not change, or moved on by some steps as in a receding horizon, have many
    such items.
    """

    def __init__(self, method: Method):
        self.method = method
        self._place: dict[tuple[int, bytes, bytes], int] = {}
        self._last: Found | None = None

    def __call__(self, items: Items, found: Found) -> str:
        """As `Method` says."""
        steps = zip(items.models, items.states, items.control, strict=True)
        names = [(id(model), state.tobytes(), u.tobytes()) for model, state, u in steps]
        place = np.array([self._place.get(name, -1) for name in names], int)
        old, new, error = np.flatnonzero(place >= 0), np.flatnonzero(place < 0), ""
        if self._last is not None:
            found.put(old, self._last.of(place[old]))
        if len(new):
            part = Items([items.models[int(i)] for i in new], items.states[new], items.control[new])
            own = found.of(new)
            error = self.method(part, own)
            found.put(new, own)
        sizes = [each.nbytes for each in found if each is not None]
        kept = sum(sizes) <= _MOST_BYTES
        self._place = {name: row for row, name in enumerate(names)} if kept else {}
        self._last = found.of(np.arange(len(names))) if kept else None
        return "" if len(old) else error


class Chained:
    """Multiplies what `mjd_transitionFD` finds at each physics step.

    It computes anew only what a change reaches: a change of velocities no kinematics, one of
    controls no velocity-dependent forces. Where Newton's solver has converged in the nominal step,
    the perturbed ones start from its solution, which is near theirs and saves a quarter of the
    time; a smaller tolerance then sees to it that they leave it.
    """

    def __init__(self, system: System, step: float, centred: bool):
        self._system, self._step, self._centred = system, step, centred
        model, threads = system.model, num_threads()
        self._pool = ThreadPoolExecutor(threads)
        self._idle: queue.SimpleQueue[mujoco.MjData] = queue.SimpleQueue()
        for _ in range(threads):
            self._idle.put(mujoco.MjData(model))
        self._exact: dict[int, mujoco.MjModel] = {}  # by the id of a model that is kept
        warm = not model.opt.disableflags & int(mujoco.mjtDisableBit.mjDSBL_WARMSTART)
        self._newton = warm and model.opt.solver == int(mujoco.mjtSolver.mjSOL_NEWTON)

    def __call__(self, items: Items, found: Found) -> str:
        """As `Method` says."""
        num = len(items.states)
        for model in items.models:
            if self._newton and id(model) not in self._exact:
                self._exact[id(model)] = exact = copy.copy(model)
                exact.opt.tolerance = min(model.opt.tolerance, _TOLERANCE)

        def run(first: int) -> list[str]:
            return self._block(items, found, range(first, min(first + _BLOCK, num)))

        errors = [e for part in self._pool.map(run, range(0, num, _BLOCK)) for e in part]
        return errors[0] if errors and all(errors) else ""

    def _block(self, items: Items, found: Found, rows: range) -> list[str]:
        model = self._system.model
        dS, dU, steps = tangent_dim(model), model.nu, self._system.substeps
        A = np.full((steps, len(rows), dS, dS), np.nan)
        B = np.full((steps, len(rows), dS, dU), np.nan)
        errors, data = [""] * len(rows), self._idle.get()
        try:
            for place, row in enumerate(rows):
                try:
                    self._item(data, items, found, row, (A[:, place], B[:, place]))
                except mujoco.FatalError as error:
                    errors[place] = " ".join(str(error).split())
                    data = mujoco.MjData(model)  # the other may be left in the middle of a step
                    A[:, place] = np.nan
        finally:
            self._idle.put(data)
        for place, row in enumerate(rows):
            whole = np.concatenate([A[0, place], B[0, place]], axis=-1)
            for step in range(1, steps):
                after = np.empty_like(whole)
                # NumPy's product of larger matrices wakes threads of its own, which get in the way.
                mujoco.mju_mulMatMat(after, A[step, place], whole)
                after[:, dS:] += B[step, place]
                whole = after
            found.F[row] = whole
        return errors

    @quiet_mujoco()
    def _item(self, data, items: Items, found: Found, row: int, places) -> None:
        model, steps = items.models[row], self._system.substeps
        here = np.array(items.states[row])
        mujoco.mj_setState(model, data, here, STATE)
        data.ctrl[:] = items.control[row]
        seen = None if found.sensors is None else found.sensors[row]
        for step in range(steps):
            mujoco.mj_getState(model, data, here, STATE)
            after, solved = None, None
            if self._newton or step + 1 < steps:
                mujoco.mj_step(model, data)
                after = np.empty_like(here)
                mujoco.mj_getState(model, data, after, STATE)
                solved = self._solution(model, data)
                mujoco.mj_setState(model, data, here, STATE)
            by = model
            if solved is not None:
                data.qacc_warmstart[:] = solved
                by = self._exact[id(model)]
            A, B = (place[step] for place in places)
            mujoco.mjd_transitionFD(by, data, self._step, self._centred, A, B, seen, None)
            seen = None
            if after is not None and step + 1 < steps:
                mujoco.mj_setState(model, data, after, STATE)

    def _solution(self, model: mujoco.MjModel, data: mujoco.MjData) -> np.ndarray | None:
        """What a step solved for, if that is as good as it gets; else None."""
        most = model.opt.iterations
        if not self._newton or data.solver_niter[: max(1, data.nisland)].max() >= most:
            return None
        return data.qacc_warmstart.copy()


class Copies:
    """Takes the control step of perturbed copies, which every model can do."""

    def __init__(self, system: System, step: float, centred: bool):
        self._system, self._step = system, step
        model = system.model
        self._sides = (1, -1) if centred else (1,)
        self._each = 1 + len(self._sides) * (tangent_dim(model) + model.nu)
        most = _MOST_DATA if model.nplugin else _MOST_COPIES
        self._chunk = max(1, most // self._each)  # items
        self._batch: Batch | None = None
        self._simulated: list[int] | None = None  # ids of the models of the batch

    def __call__(self, items: Items, found: Found) -> str:
        """As `Method` says."""
        errors = []
        for first in range(0, len(items.states), self._chunk):
            rows = slice(first, first + self._chunk)
            part = Items(items.models[rows], items.states[rows], items.control[rows])
            errors.append(self._part(part, found.of(rows)))
        return errors[0] if errors and all(errors) else ""

    def _part(self, items: Items, found: Found) -> str:
        """Takes all steps of some items; returns the error that all of them had."""
        num, model = len(items.states), self._system.model
        batch, ids = self._prepared(items), np.arange(num * self._each)
        change, controls = self._nudges(items)
        sensors = batch.bind("sensordata")

        def of(name: str) -> np.ndarray:
            return batch.bind(name)[: len(ids)].reshape(num, self._each, -1)

        batch.state[ids] = np.repeat(items.states, self._each, axis=0)
        nv = model.nv
        of("qpos")[:] = moved(model, of("qpos"), change[:, :nv], np)
        of("qvel")[:] += change[:, nv : 2 * nv]
        of("act")[:] += change[:, 2 * nv :]
        of("ctrl")[:] = controls
        failed = np.zeros(len(ids), bool)
        message = _run(batch, ids, 1, failed)
        seen = sensors[: len(ids)].reshape(num, self._each, -1).copy()
        if self._system.substeps > 1:
            message = _run(batch, ids, self._system.substeps - 1, failed) or message
        q, v, a = (of(name) for name in ("qpos", "qvel", "act"))
        step = [difference(model, q[:, 1:], q[:, :1], np), v[:, 1:] - v[:, :1], a[:, 1:] - a[:, :1]]
        own = (controls - controls[:, :1])[:, 1:]
        found.F[:] = self._quotients(np.concatenate(step, axis=-1), own)
        if found.sensors is not None:
            by = self._quotients(seen[:, 1:] - seen[:, :1], own)
            found.sensors[:] = by[..., : tangent_dim(model)]
        broken = failed.reshape(num, self._each).any(axis=1)
        found.F[broken] = np.nan
        return message if broken.all() else ""

    def _prepared(self, items: Items) -> Batch:
        """A batch with room for the copies of the items, and their models."""
        model, needed = self._system.model, len(items.states) * self._each
        if self._batch is None or self._batch.nsim < needed:
            # Plugins may keep a state of their own, which needs an MjData for each simulation.
            self._batch = Batch(model, needed, num_threads(), persistent=model.nplugin > 0)
            self._simulated = [id(model)]
        ids = [id(each) for each in items.models]
        if len(set(ids)) == 1:
            ids = ids[:1]
        if ids != self._simulated:
            copies = [each for each in items.models for _ in range(self._each)]
            copies += [model] * (self._batch.nsim - len(copies))
            self._batch.set_models(items.models[0] if len(ids) == 1 else copies)
            self._simulated = ids
        return self._batch

    def _nudges(self, items: Items) -> tuple[np.ndarray, np.ndarray]:
        """Changes of the state [copies, dS], and controls [N, copies, dU].

        A control is moved the other way where its range ends, and not at all where there is no room
        at either side, as `mjd_transitionFD` does.
        """
        dS, dU, size = tangent_dim(self._system.model), items.control.shape[1], self._step
        change = np.zeros((self._each, dS))
        controls = np.repeat(items.control[:, None], self._each, axis=1)
        lower, upper = control_ranges(items.models)
        up, down = (items.control + size <= upper), (items.control - size >= lower)
        room = {1: up, -1: down}
        for place, side in enumerate(self._sides):
            first = 1 + place * (dS + dU)
            change[first : first + dS] = side * size * np.eye(dS)
            amount = np.where(room[side], side * size, 0)
            if len(self._sides) == 1:
                amount = np.where(~up & down, -size, amount)
            rows = np.arange(first + dS, first + dS + dU)
            controls[:, rows, np.arange(dU)] += amount
        return change, controls

    def _quotients(self, differences: np.ndarray, control: np.ndarray) -> np.ndarray:
        """Derivatives [N, n, dS+dU] of the copies' differences [N, copies - 1, n] to the first.

        Args:
          differences: of what is differentiated.
          control: those of the controls [N, copies - 1, dU].
        """
        dU = control.shape[-1]
        half = (self._each - 1) // len(self._sides)
        dS = half - dU
        size = np.full(control.shape[:2], self._step)
        for place, side in enumerate(self._sides):
            first = place * half
            size[:, first : first + dS] *= side
            rows = np.arange(first + dS, first + dS + dU)
            size[:, rows] = control[:, rows, np.arange(dU)]
        if len(self._sides) == 2:
            differences = differences[:, :half] - differences[:, half:]
            size = size[:, :half] - size[:, half:]
        size = size[..., None]
        moved_by = np.divide(differences, size, out=np.zeros_like(differences), where=size != 0)
        return moved_by.swapaxes(1, 2)


def _run(batch: Batch, ids: np.ndarray, steps: int, failed: np.ndarray) -> str:
    """Takes physics steps; marks what MuJoCo raises in, and returns its message if it does."""
    try:
        batch.step(ids=ids, nstep=steps, stage=_NO_STAGE)
    except SimulationError as error:
        failed[error.ids] = True
        return " ".join(batch.error(int(error.ids[0])).split())
    return ""
