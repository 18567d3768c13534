"""What a camera sees of a task: all that moves, as poses of bodies at the end of the observation.

An image follows from these poses, so that simulators, history and checkpoints carry a few numbers
in its place. Whoever draws it sees to it that a network gets none of them.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jgps.simulation import Conditions, StateLayout

_VISIBLE = (
    "geom_pos", "geom_quat", "geom_size", "geom_rgba", "geom_matid", "mat_", "tex_", "cam_",
    "light_",
)  # fmt: skip


class Vision(NamedTuple):
    """A camera, and where in o there is what it sees."""

    camera: str
    configuration: slice  # of o, all that a network reads beside the image
    bodies: np.ndarray  # [M] those whose poses are in o
    position: np.ndarray  # [M, 3] places in o
    rotation: np.ndarray  # [M, 6] the same of the first two columns of the rotation
    xpos: np.ndarray  # [B, 3] metres, of all the model's bodies; the others stay there
    xmat: np.ndarray  # [B, 3, 3]
    objects: np.ndarray  # bodies that stand elsewhere in other training conditions, or all M
    clutter: np.ndarray  # bodies that stand about in images a network learns from, nowhere else


def body_poses(vision: Vision, o: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Positions [..., B, 3] and rotations [..., B, 3, 3] of all bodies, for o [..., dO]."""
    first, second = jnp.split(o[..., vision.rotation], 2, axis=-1)
    matrix = jnp.stack([first, second, jnp.cross(first, second)], axis=-1)
    lead, num = o.shape[:-1], vision.xpos.shape[0]
    xpos = jnp.broadcast_to(jnp.asarray(vision.xpos, o.dtype), (*lead, num, 3))
    xmat = jnp.broadcast_to(jnp.asarray(vision.xmat, o.dtype), (*lead, num, 3, 3))
    xpos = xpos.at[..., vision.bodies, :].set(o[..., vision.position])
    return xpos, xmat.at[..., vision.bodies, :, :].set(matrix)


def orthonormal(columns: jax.Array) -> jax.Array:
    """The first two columns [..., 6] of rotations: the first as it points, the second nearby."""
    first, second = jnp.split(columns, 2, axis=-1)
    first = first / jnp.linalg.norm(first, axis=-1, keepdims=True)
    second = second - jnp.sum(first * second, axis=-1, keepdims=True) * first
    second = second / jnp.linalg.norm(second, axis=-1, keepdims=True)
    return jnp.concatenate([first, second], axis=-1)


def moving_bodies(
    model: mujoco.MjModel, sets: Sequence[Conditions], camera: str | None = None
) -> tuple[str, ...]:
    """Names of the bodies with a visible geom that move, or stand elsewhere in some condition.

    What a camera sees follows from their poses; all else looks the same always. A body that carries
    the camera or a light is among them where it moves.

    Raises:
      ValueError: if one has no name.
    """
    shifted = {name for each in sets for name in _shifted(each)}
    seen = {int(model.geom_bodyid[g]) for g in np.flatnonzero(model.geom_rgba[:, 3] > 0)}
    seen |= {int(body) for body in model.light_bodyid}
    if camera is not None:
        seen.add(int(model.cam_bodyid[model.camera(camera).id]))
    names, moves = [], np.zeros(model.nbody, bool)
    for body in range(1, model.nbody):
        name = model.body(body).name
        jointed = model.body_jntnum[body] > 0
        moves[body] = moves[model.body_parentid[body]] or jointed or name in shifted
        if moves[body] and body in seen:
            names.append(name)
    if "" in names:
        raise ValueError("a body that moves and is seen has no name; give every <body> a name")
    return tuple(names)


def pose_entries(bodies: Sequence[str], present: Sequence[str]) -> tuple[str, ...]:
    """Observation entries of poses that are not present yet."""
    wanted = (f"{kind}:{body}" for body in bodies for kind in ("body_pos", "body_rot"))
    return tuple(entry for entry in wanted if entry not in present)


def make_vision(
    model: mujoco.MjModel,
    observation: StateLayout,
    configuration_dim: int,
    sets: Sequence[Conditions],
    camera: str,
    clutter: Sequence[str] = (),
) -> Vision:
    """Where everything lies in an observation [configuration, poses].

    Args:
      model: compiled with the sensors of the observation.
      observation: its layout, with the poses of all `moving_bodies`.
      configuration_dim: of the part in front that a network reads.
      sets: of conditions, those to train in first.
      camera: name of the model's camera.
      clutter: names of bodies that conditions leave alone.

    Raises:
      ValueError: if conditions differ in something visible that is no pose of a body, or place
        clutter.
    """
    for key in (key for each in sets for key in each.changes):
        if key.startswith(_VISIBLE):
            raise ValueError(
                f"conditions change {key!r}, which the camera for policies would not show: "
                "only poses of bodies may look different; give each look a body of its own"
            )
    names = moving_bodies(model, sets, camera)
    for name in clutter:
        if mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, name) <= 0:
            raise ValueError(f"clutter: the model has no body {name!r}")
        if name in names:
            raise ValueError(f"clutter: the body {name!r} moves, or conditions place it")
    ids = np.asarray([model.body(name).id for name in names], int)
    objects = [model.body(name).id for name in names if name in _shifted(sets[0])]
    data = mujoco.MjData(model)
    data.qpos[:] = sets[0].qpos[0]
    mujoco.mj_kinematics(model, data)

    def places(kind: str, size: int) -> np.ndarray:
        rows = [np.arange(observation.size)[observation[f"{kind}:{name}"]] for name in names]
        return np.asarray(rows, int).reshape(-1, size)

    return Vision(
        camera=camera,
        configuration=slice(0, configuration_dim),
        bodies=ids,
        position=places("body_pos", 3),
        rotation=places("body_rot", 6),
        xpos=np.array(data.xpos),
        xmat=np.array(data.xmat).reshape(-1, 3, 3),
        objects=np.asarray(objects, int) if objects else ids,
        clutter=np.asarray([model.body(name).id for name in clutter], int),
    )


def _shifted(conditions: Conditions) -> set[str]:
    """Names of the bodies that conditions place."""
    fields: Any = ("body_pos:", "body_quat:")
    return {key.partition(":")[2] for key in conditions.changes if key.startswith(fields)}
