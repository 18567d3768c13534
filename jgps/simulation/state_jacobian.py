"""How the state x of a task, or its observation o, follows small changes of the simulator's state.

    dx = G ds,    ds = (dq [nv], dqvel [nv], dact [na]) of dS numbers

Positions, velocities and activations are read off; orientations turn with their body; phases and
controls stay as they are; sensors are differentiated by whoever differentiates the simulation.
"""

import mujoco
import numpy as np

from jgps.simulation.features import FeaturePlaces, quaternion_addresses
from jgps.simulation.layout import StateLayout


def tangent_dim(model: mujoco.MjModel) -> int:
    """The dS of a model."""
    return 2 * model.nv + model.na


class StateJacobian:
    """Makes G for one model and layout of the state, or of the observation."""

    def __init__(self, model: mujoco.MjModel, layout: StateLayout):
        """Reads off what does not change.

        Raises:
          ValueError: if an entry does not follow from the simulator's state.
        """
        refuse_entries(model, layout)
        nq, nv, na = model.nq, model.nv, model.na
        turned = quaternion_addresses(model)
        dof = _dof_of_position(model)
        places = layout.places
        sensors, rotations = places.sensors, places.rotations
        self._fixed = np.zeros((layout.size, 2 * nv + na))
        self._sensor_rows: list[tuple[int, int]] = []  # place in x, and in sensordata
        self._columns: list[tuple[int, int, int, int]] = []  # in x, of qpos, of dS, of the matrix
        for row, feature in enumerate(map(int, layout.index)):
            if feature < nq:
                self._fixed[row, dof[feature]] = 1
            elif feature < sensors:
                self._fixed[row, nv + feature - nq] = 1
            elif feature < rotations:
                self._sensor_rows.append((row, feature - sensors))
            elif feature < places.phases:
                number, entry = divmod(feature - rotations, 6)
                address = turned[number]
                self._columns.append((row, address, int(dof[address]), entry))

    @property
    def uses_sensors(self) -> bool:
        """Whether x has numbers of sensors."""
        return bool(self._sensor_rows)

    @property
    def shape(self) -> tuple[int, int]:
        """The dX and dS."""
        return self._fixed.shape[0], self._fixed.shape[1]

    @property
    def sensor_places(self) -> np.ndarray:
        """The places in sensordata of those numbers."""
        return np.array([place for _, place in self._sensor_rows], int)

    def __call__(self, qpos: np.ndarray, sensors: np.ndarray | None) -> np.ndarray:
        """G [..., dX, dS] at qpos [..., nq] with the sensors' derivatives [..., nsensordata, dS].

        Those are None where x has no sensors.
        """
        G = np.empty((*qpos.shape[:-1], *self._fixed.shape))
        G[:] = self._fixed
        if sensors is not None and self._sensor_rows:
            rows, places = np.array(self._sensor_rows).T
            G[..., rows, :] = sensors[..., places, :]
        matrices: dict[int, np.ndarray] = {}
        for row, address, dof, entry in self._columns:
            if address not in matrices:
                matrices[address] = _matrix(qpos[..., address : address + 4])
            R = matrices[address]
            column, axis = divmod(entry, 3)
            # A turn w about axes of the body moves column j by R (w x e_j).
            if column == 0:
                turned = (0, -R[..., axis, 2], R[..., axis, 1])
            else:
                turned = (R[..., axis, 2], 0, -R[..., axis, 0])
            for i, value in enumerate(turned):
                G[..., row, dof + i] = value
        return G


def refuse_entries(model: mujoco.MjModel, layout: StateLayout) -> None:
    """Refuses entries that do not follow from the simulator's state at the same time.

    Phases and controls have a derivative by it, which is zero.

    Raises:
      ValueError: naming the first one.
    """
    for entry, place in layout.slices.items():
        why = _not_of_the_state(model, layout.places, layout.index[place])
        if why and layout.what == "state":
            raise ValueError(
                f"state entry {entry!r} {why}, so that the state has no derivative by the "
                "simulator's; name it in the observation instead"
            )
        if why:
            raise ValueError(
                f"{layout.what} entry {entry!r} {why}, so that the {layout.what} has no derivative "
                "by the simulator's state; leave it out"
            )


def _not_of_the_state(model: mujoco.MjModel, places: FeaturePlaces, features: np.ndarray) -> str:
    """Why features don't follow from positions, velocities and activations; empty where they do."""
    if np.any(features >= places.image):
        return "is an image"
    first = places.sensors
    read = features[(features >= first) & (features < places.rotations)] - first
    sensor_of = np.repeat(np.arange(model.nsensor), model.sensor_dim)
    delayed = (np.asarray(model.sensor_delay) > 0) | np.any(
        np.asarray(model.sensor_interval) > 0, axis=1
    )
    late = np.asarray(model.sensor_needstage) == int(mujoco.mjtStage.mjSTAGE_ACC)
    for sensor in np.unique(sensor_of[read]):
        if delayed[sensor]:
            return "is a sensor that shows what was before (delay or interval)"
        if late[sensor]:
            return "is a sensor of accelerations or forces, which follow the control before it"
    return ""


def _dof_of_position(model: mujoco.MjModel) -> np.ndarray:
    """Of every entry of qpos [nq] the place of its change; of a quaternion that of its turn."""
    dof = np.zeros(model.nq, int)
    free, ball = int(mujoco.mjtJoint.mjJNT_FREE), int(mujoco.mjtJoint.mjJNT_BALL)
    for joint in range(model.njnt):
        q, v = int(model.jnt_qposadr[joint]), int(model.jnt_dofadr[joint])
        kind = int(model.jnt_type[joint])
        if kind == free:
            dof[q : q + 7] = [v, v + 1, v + 2, v + 3, v + 3, v + 3, v + 3]
        else:
            dof[q : q + (4 if kind == ball else 1)] = v
    return dof


def _matrix(quat: np.ndarray) -> np.ndarray:
    """Rotation matrices [..., 3, 3] of quaternions (w, x, y, z) [..., 4]."""
    w, x, y, z = np.moveaxis(quat, -1, 0)
    rows = [
        [w * w + x * x - y * y - z * z, 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), w * w - x * x + y * y - z * z, 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), w * w - x * x - y * y + z * z],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
