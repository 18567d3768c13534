"""How a task's observation follows small changes of the simulator's state, on native threads.

    do = J ds,    ds as in `jgps.simulation.derivatives`

What is not a sensor has a closed form. Sensors are differentiated by centred differences of the
forward computation up to the last of them, which takes no step of the simulation.
"""

from collections.abc import Sequence

import mujoco
import numpy as np
from mujoco.batch import Batch, SimulationError

from jgps.mujoco_log import quiet_mujoco
from jgps.simulation.state_jacobian import StateJacobian, tangent_dim
from jgps.simulation.system import System, num_threads
from jgps.simulation.tangent import moved

_STEP = 1e-6  # of the differences, in the units of the state
_MOST_COPIES = 4096  # simulations of one batch
_MOST_DATA = 256  # of them, where each keeps an MjData


class ObservationJacobian:
    """Derivatives of the observation, or of the state where a system tells no observation."""

    def __init__(self, system: System):
        """Reads off what does not change.

        Raises:
          ValueError: if an entry does not follow from the simulator's state: an image, a sensor of
            forces or accelerations, or one with a delay.
        """
        self._model = system.model
        self._jacobian = StateJacobian(system.model, system.observation or system.layout)
        read = self._jacobian.sensor_places
        sensor_of = np.repeat(np.arange(self._model.nsensor), self._model.sensor_dim)
        stages = self._model.sensor_needstage[sensor_of[read]]
        self._stage = int(stages.max()) if len(read) else int(mujoco.mjtStage.mjSTAGE_NONE)
        # Sensors of positions follow no velocities, and none of those here follows activations.
        of_positions = self._stage <= int(mujoco.mjtStage.mjSTAGE_POS)
        self._num = self._model.nv * (1 if of_positions else 2)
        most = _MOST_DATA if self._model.nplugin else _MOST_COPIES
        self._chunk = max(1, most // max(1, 2 * self._num))  # states
        self._batch: Batch | None = None

    def __call__(self, models: Sequence[mujoco.MjModel], states: np.ndarray) -> np.ndarray:
        """J [B, dO, dS] at states [B, nstate] of mjSTATE_INTEGRATION, each of its model [B].

        It is NaN where a state is not finite, or MuJoCo can't compute the sensors there.

        Raises:
          ValueError: if there are not as many models as states, or states have another size.
        """
        size = mujoco.mj_stateSize(self._model, mujoco.mjtState.mjSTATE_INTEGRATION)
        if states.shape != (len(models), size):
            raise ValueError(
                f"states have shape {states.shape}; they have to be [{len(models)}, {size}], one "
                "for each model"
            )
        sound = np.isfinite(states).all(axis=1)
        J = np.full((len(states), *self._jacobian.shape), np.nan)
        rows = np.flatnonzero(sound)
        for first in range(0, len(rows), self._chunk):
            part = rows[first : first + self._chunk]
            J[part] = self._at([models[row] for row in part], states[part])
        return J

    def _at(self, models: Sequence[mujoco.MjModel], states: np.ndarray) -> np.ndarray:
        qpos = states[:, 1 : 1 + self._model.nq]
        if not self._jacobian.uses_sensors:
            return self._jacobian(qpos, None)
        return self._jacobian(qpos, self._sensors(models, states))

    @quiet_mujoco()
    def _sensors(self, models: Sequence[mujoco.MjModel], states: np.ndarray) -> np.ndarray:
        """Derivatives [n, nsensordata, dS] of all sensors, right for those that are read."""
        model, num, nv = self._model, self._num, self._model.nv
        copies, n = 2 * num, len(states)
        batch = self._prepared(models, copies)
        change = np.zeros((copies, 2 * nv))
        change[:num, :num], change[num:, :num] = _STEP * np.eye(num), -_STEP * np.eye(num)
        ids = np.arange(n * copies)

        def of(name: str) -> np.ndarray:
            return batch.bind(name)[: len(ids)].reshape(n, copies, -1)

        batch.bind("sensordata")
        batch.state[ids] = np.repeat(states, copies, axis=0)
        of("qpos")[:] = moved(model, of("qpos"), change[:, :nv], np)
        of("qvel")[:] += change[:, nv:]
        failed = np.zeros(len(ids), bool)
        try:
            batch.forward(ids=ids, stage=self._stage)
        except SimulationError as error:
            failed[error.ids] = True
        seen = of("sensordata")
        found = np.zeros((n, model.nsensordata, tangent_dim(model)))
        found[..., :num] = ((seen[:, :num] - seen[:, num:]) / (2 * _STEP)).swapaxes(1, 2)
        found[failed.reshape(n, copies).any(axis=1)] = np.nan
        return found

    def _prepared(self, models: Sequence[mujoco.MjModel], copies: int) -> Batch:
        """A batch with room for so many copies of each model."""
        needed = len(models) * copies
        if self._batch is None or self._batch.nsim < needed:
            # Plugins may keep a state of their own, which needs an MjData for each simulation.
            persistent = self._model.nplugin > 0
            self._batch = Batch(self._model, needed, num_threads(), persistent=persistent)
        rest = [self._model] * (self._batch.nsim - needed)
        one = len({id(model) for model in models}) == 1
        repeated = [model for model in models for _ in range(copies)]
        self._batch.set_models(models[0] if one else [*repeated, *rest])
        return self._batch
