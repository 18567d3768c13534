"""The simulator's state from the state x of a task."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jgps.simulation.layout import StateLayout


class StateInverse:
    """Joint positions, velocities and activations as x tells them.

    Raises:
      ValueError: names the joints, or the activations, that x does not tell.
    """

    def __init__(self, model: mujoco.MjModel, layout: StateLayout):
        self._model, self._layout = model, layout
        place = {int(feature): i for i, feature in enumerate(layout.index)}
        addresses = layout.quaternions
        turned = {int(start) + i for start in addresses for i in range(4)}
        rotations = layout.places.rotations
        columns = [range(rotations + 6 * n, rotations + 6 * n + 6) for n in range(len(addresses))]
        scalars = [i for i in range(model.nq) if i not in turned]
        velocities = range(model.nq, model.nq + model.nv)
        activations = range(velocities.stop, velocities.stop + model.na)
        # Of every feature that has to be told, the address of its joint's first number.
        qpos = [*zip(scalars, scalars, strict=True)]
        qpos += [(i, int(a)) for six, a in zip(columns, addresses, strict=True) for i in six]
        qvel = [(i, i - model.nq) for i in velocities]
        lacks = [
            *_joints(model, [a for i, a in qpos if i not in place], model.jnt_qposadr, "qpos"),
            *_joints(model, [a for i, a in qvel if i not in place], model.jnt_dofadr, "qvel"),
            *(["act"] if not set(activations) <= set(place) else []),
        ]
        if lacks:
            raise ValueError(
                "known models need a state that tells where the simulation is; it lacks "
                f"{', '.join(lacks)}: add them to the task's state"
            )
        self._scalars = scalars, [place[i] for i in scalars]
        self._columns = [[place[i] for i in six] for six in columns]
        self._velocities = [place[i] for i in velocities]
        self._activations = [place[i] for i in activations]
        # Which degrees of freedom are turns, and what tells each of the others.
        self._turned = [range(dof, dof + 3) for dof in _turning(model)]
        still = np.setdiff1d(np.arange(model.nv), [d for each in self._turned for d in each])
        dofs = [*still, *range(model.nv, 2 * model.nv + model.na)]
        told = [*self._scalars[1], *self._velocities, *self._activations]
        self._shape = 2 * model.nv + model.na, layout.size
        self._selection = np.zeros(self._shape)
        self._selection[dofs, told] = 1

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Qpos [..., nq] with unit quaternions, qvel [..., nv] and act [..., na] of x [..., dX]."""
        x = np.asarray(x, np.float64)
        qpos = np.empty((*x.shape[:-1], self._model.nq))
        joints, places = self._scalars
        qpos[..., joints] = x[..., places]
        for start, six in zip(self._layout.quaternions, self._columns, strict=True):
            qpos[..., start : start + 4] = _quaternion(x[..., six])
        return qpos, x[..., self._velocities], x[..., self._activations]

    def left(self, x: jax.Array) -> jax.Array:
        """What turns small changes of x [..., dX] into those of the simulator's state.

        With G [dX, dS] as in `jgps.simulation.derivatives`, dx = G ds, the result L [..., dS, dX]
        gives ds = L dx. It reads positions, velocities, rotations and activations alone, none of
        what else x tells.
        """
        L = jnp.broadcast_to(jnp.asarray(self._selection, x.dtype), (*x.shape[:-1], *self._shape))
        for rows, six in zip(self._turned, self._columns, strict=True):
            a, b = (x[..., np.asarray(part)] for part in (six[:3], six[3:]))
            c, none = jnp.cross(a, b), jnp.zeros_like(a)
            # A turn in the body's frame moves the columns by R (turn x e1), R (turn x e2).
            by_turn = [(none, c), (-c, none), (0.5 * b, -0.5 * a)]
            for row, parts in zip(rows, by_turn, strict=True):
                L = L.at[..., row, np.asarray(six)].set(jnp.concatenate(parts, axis=-1))
        return L


def _turning(model: mujoco.MjModel) -> list[int]:
    """The first degree of freedom of every joint's turn that a quaternion tells."""
    free, ball = int(mujoco.mjtJoint.mjJNT_FREE), int(mujoco.mjtJoint.mjJNT_BALL)
    shift = {free: 3, ball: 0}
    return [
        int(model.jnt_dofadr[j]) + shift[int(model.jnt_type[j])]
        for j in range(model.njnt)
        if int(model.jnt_type[j]) in shift
    ]


def _joints(
    model: mujoco.MjModel, addresses: Sequence[int], first: np.ndarray, kind: str
) -> list[str]:
    """Entries that tell these addresses of joints which begin at `first` [njnt], in their order."""
    numbers = sorted(set((np.searchsorted(first, addresses, side="right") - 1).tolist()))
    names = [model.joint(number).name for number in numbers]
    return list(dict.fromkeys(f"{kind}:{name}" if name else kind for name in names))


def _quaternion(columns: np.ndarray) -> np.ndarray:
    """The unit quaternion [..., 4] of a rotation matrix's first two columns [..., 6]."""
    a, b = columns[..., :3], columns[..., 3:]
    a = a / np.linalg.norm(a, axis=-1, keepdims=True)
    b = b - np.sum(a * b, axis=-1, keepdims=True) * a
    b = b / np.linalg.norm(b, axis=-1, keepdims=True)
    matrices = np.stack([a, b, np.cross(a, b)], axis=-1).reshape(-1, 9)
    found = np.empty((len(matrices), 4))
    for quat, matrix in zip(found, matrices, strict=True):
        mujoco.mju_mat2Quat(quat, matrix)
    return found.reshape(*columns.shape[:-1], 4)
