"""What a camera sees of a task: all that moves, as poses of bodies at the end of the observation.

An image follows from these poses, so that simulators, history and checkpoints carry a few numbers
in its place. Whoever draws it sees to it that a network gets none of them.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jgps.core.names import did_you_mean
from jgps.simulation import Conditions, StateLayout, mocap_bodies

_VISIBLE = ("geom_pos", "geom_quat", "geom_size", "geom_rgba", "mat_", "cam_", "light_")


class VisionSpec(NamedTuple):
    """What a network of pixels looks through, by its names in the model."""

    camera: str
    # Bodies out of sight that conditions leave alone. In images that a network learns from they
    # stand about in any colours, so that it learns not to mind such things.
    clutter: Sequence[str] = ()


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
      ValueError: if one has no name, or if there is none.
    """
    placed = np.any([_placed(model, each) for each in sets], axis=0)
    seen = _seen(model) | {int(body) for body in model.light_bodyid}
    if camera is not None:
        seen.add(int(model.cam_bodyid[model.camera(camera).id]))
    moves = placed | (model.body_jntnum > 0) | (model.body_mocapid >= 0)
    for body in range(1, model.nbody):
        moves[body] |= moves[model.body_parentid[body]]
    names = [model.body(body).name for body in np.flatnonzero(moves) if body in seen]
    if "" in names:
        raise ValueError("a body that moves and is seen has no name; give every <body> a name")
    if not names:
        raise ValueError("nothing that a camera could see moves; leave vision out")
    return tuple(names)


# A model, the layout of its state, and that of the observation (None where it is the state).
Compiled = tuple[mujoco.MjModel, StateLayout, StateLayout | None]


def see(
    compile_with: Callable[[tuple[str, ...]], Compiled],
    compiled: Compiled,
    configuration: Sequence[str] | None,
    sets: Sequence[Conditions],
    spec: VisionSpec,
) -> tuple[Compiled, Vision]:
    """Adds to an observation the poses of all that a camera sees.

    Args:
      compile_with: compiles the model with an observation of these entries.
      compiled: the same with the configuration alone.
      configuration: entries of what a network reads beside the image.
      sets: of conditions, those to train in first.
      spec: names the camera and the clutter.

    Returns:
      The model and its layouts with these poses, and where they lie in the observation.

    Raises:
      ValueError: if there is no observation, it tells what the camera is there for, or conditions
        look different in another way than by the poses of bodies.
    """
    model, layout, observed = compiled
    if configuration is None:
        raise ValueError(
            "vision needs an observation: what of itself the robot knows without a camera, as "
            'in observation=("qpos", "qvel")'
        )
    entries = tuple(configuration)
    check_changes(model, sets)
    check_configuration(model, sets, entries)
    configuration_dim = (observed or layout).size
    poses = pose_entries(moving_bodies(model, sets, spec.camera), entries)
    model, layout, observed = compile_with((*entries, *poses))
    assert observed is not None
    vision = make_vision(model, observed, configuration_dim, sets, spec)
    return (model, layout, observed), vision


def pose_entries(bodies: Sequence[str], present: Sequence[str]) -> tuple[str, ...]:
    """Observation entries of poses that are not present yet."""
    wanted = (f"{kind}:{body}" for body in bodies for kind in ("body_pos", "body_rot"))
    return tuple(entry for entry in wanted if entry not in present)


def make_vision(
    model: mujoco.MjModel,
    observation: StateLayout,
    configuration_dim: int,
    sets: Sequence[Conditions],
    spec: VisionSpec,
) -> Vision:
    """Where everything lies in an observation [configuration, poses].

    Args:
      model: compiled with the sensors of the observation.
      observation: its layout, with the poses of all `moving_bodies`.
      configuration_dim: of the part in front that a network reads.
      sets: of conditions, those to train in first.
      spec: names the camera and the clutter.

    Raises:
      ValueError: if conditions differ in something visible that is no pose of a body, or place
        clutter.
    """
    names = moving_bodies(model, sets, spec.camera)
    _check_clutter(model, names, spec.clutter)
    ids = np.asarray([model.body(name).id for name in names], int)
    placed = _placed(model, sets[0])
    objects = [body for body in ids if placed[body]]
    data = mujoco.MjData(model)
    data.qpos[:] = sets[0].qpos[0]
    mujoco.mj_kinematics(model, data)

    def places(kind: str, size: int) -> np.ndarray:
        rows = [np.arange(observation.size)[observation[f"{kind}:{name}"]] for name in names]
        return np.asarray(rows, int).reshape(-1, size)

    return Vision(
        camera=spec.camera,
        configuration=slice(0, configuration_dim),
        bodies=ids,
        position=places("body_pos", 3),
        rotation=places("body_rot", 6),
        xpos=np.array(data.xpos),
        xmat=np.array(data.xmat).reshape(-1, 3, 3),
        objects=np.asarray(objects, int) if objects else ids,
        clutter=np.asarray([model.body(name).id for name in spec.clutter], int),
    )


def _check_clutter(model: mujoco.MjModel, moving: Sequence[str], clutter: Sequence[str]) -> None:
    for name in clutter:
        if mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, name) <= 0:
            known = [model.body(i).name for i in range(model.nbody)]
            raise ValueError(f"clutter: the model has no body {name!r}{did_you_mean(name, known)}")
        body = model.body(name).id
        if name in moving:
            raise ValueError(f"clutter: the body {name!r} moves, or conditions place it")
        if body in model.body_parentid or model.body_parentid[body] != 0:
            raise ValueError(
                f"clutter: the body {name!r} has children or a parent; it has to stand alone"
            )


def _seen(model: mujoco.MjModel) -> set[int]:
    """Bodies with a geom that is not transparent."""
    return {int(model.geom_bodyid[g]) for g in np.flatnonzero(model.geom_rgba[:, 3] > 0)}


def _placed(model: mujoco.MjModel, conditions: Conditions) -> np.ndarray:
    """Which bodies [B] conditions place: by the model, by a free joint, or with their parent."""
    placed = np.zeros(model.nbody, bool)
    for key in conditions.changes:
        field, _, name = key.partition(":")
        if field in ("body_pos", "body_quat"):
            placed[model.body(name).id] = True
    for joint in np.flatnonzero(model.jnt_type == mujoco.mjtJoint.mjJNT_FREE):
        start = model.jnt_qposadr[joint]
        if np.ptp(conditions.qpos[:, start : start + 7], axis=0).any():
            placed[model.jnt_bodyid[joint]] = True
    for body in range(1, model.nbody):  # parents come first
        placed[body] |= placed[model.body_parentid[body]] and model.body_jntnum[body] == 0
    return placed


def _mocap_differs(model: mujoco.MjModel, sets: Sequence[Conditions]) -> bool:
    """Whether mocap bodies start elsewhere in some of the conditions."""
    own = mocap_bodies(model)
    for poses, in_model in (
        ([each.mocap_pos for each in sets], model.body_pos[own]),
        ([each.mocap_quat for each in sets], model.body_quat[own]),
    ):
        rows = [in_model[None] if pose is None else pose for pose in poses]
        if in_model.size and np.ptp(np.concatenate(rows), axis=0).any():
            return True
    return False


def check_changes(model: mujoco.MjModel, sets: Sequence[Conditions]) -> None:
    """Refuses what would look different without being the pose of a body in o.

    Raises:
      ValueError: naming it.
    """
    if _mocap_differs(model, sets):
        raise ValueError(
            "conditions differ in mocap poses, which a camera for policies does not know of; take "
            'mocap="true" from what they place, and change its body_pos and body_quat'
        )
    for key in (key for each in sets for key in each.inputs if key.startswith("mocap_")):
        body = model.body(key.partition(":")[2]).id
        if np.any(model.geom_rgba[model.body_rootid[model.geom_bodyid] == body, 3] > 0):
            raise ValueError(
                f"conditions have the input {key!r}, which moves what a camera for policies sees "
                "and does not know of; make its geoms transparent, with an alpha of 0"
            )
    for key in (key for each in sets for key in each.changes):
        field, _, name = key.partition(":")
        if key.startswith(_VISIBLE):
            raise ValueError(
                f"conditions change {key!r}, which the camera for policies would not show: "
                "only poses of bodies may look different; give each look a body of its own"
            )
        if field in ("body_pos", "body_quat") and not name:
            raise ValueError(
                f"conditions change all of {field!r}; with a camera for policies name the bodies: "
                f"'{field}:NAME'"
            )
        if field in ("body_pos", "body_quat") and model.body_mocapid[model.body(name).id] >= 0:
            raise ValueError(
                f"conditions change {key!r}, and {name!r} is a mocap body, which its mocap pose "
                'places: take mocap="true" from it'
            )


def check_configuration(
    model: mujoco.MjModel, sets: Sequence[Conditions], entries: Sequence[str]
) -> None:
    """Refuses an observation that tells a network where objects are, which only images should.

    Args:
      entries: of the observation that a network reads beside the image.

    Raises:
      ValueError: naming the entry.
    """
    placed = _placed(model, sets[0])
    for entry in entries:
        kind, _, name = entry.partition(":")
        if kind.startswith("body_") and name:
            body = model.body(name).id
        elif kind.startswith("site_") and name:
            body = model.site_bodyid[model.site(name).id]
        else:
            continue
        if placed[body]:
            raise ValueError(
                f"the observation has {entry!r}, which says where an object is that the camera "
                "for policies is there to see; leave it out of observation"
            )
