"""A legged robot that stands: which joints, feet and actuators it has, and where."""

from collections.abc import Sequence
from typing import NamedTuple

import mujoco
import numpy as np

from jgps.core.checks import as_numbers
from jgps.core.names import did_you_mean
from jgps.mujoco_log import quiet_mujoco

LEAST_UPRIGHT = 0.9  # cosine of the trunk's tilt in the stance
OFF_FLOOR = 0.03  # metres, of feet in the stance


class Stance(NamedTuple):
    """A robot that stands, as forward kinematics have it.

    Attributes:
      qpos: [nq].
      joints: names of all joints but the free one.
      driven: names of those that actuators move, in the actuators' order.
      free: name of the trunk's free joint.
      servos: [dU] bool, which actuators are position servos.
      half: [dU], half the ranges of the controls.
      feet: [F, 2], places of the feet ahead and to the left of the trunk's place, m.
      ground: height of the feet's middles, m.
      up: [3], the direction up in the trunk's frame.
      angles: [dU], positions of the driven joints.
      ctrl: [dU], controls that hold it about there.
      places: [n], of the driven joints in qpos.
      low, high: [n], ranges of the driven joints, infinite where they have none.
      rises: [F, n], how the feet's heights follow the driven joints, m per rad or m.
      moves: [nv] bool, which velocities are those of the trunk and of driven joints.
    """

    qpos: np.ndarray
    joints: tuple[str, ...]
    driven: tuple[str, ...]
    free: str
    servos: np.ndarray
    half: np.ndarray
    feet: np.ndarray
    ground: float
    up: np.ndarray
    angles: np.ndarray
    ctrl: np.ndarray
    places: np.ndarray
    low: np.ndarray
    high: np.ndarray
    rises: np.ndarray
    moves: np.ndarray

    @property
    def height(self) -> float:
        """Of the trunk, m."""
        return float(self.qpos[2])


def foot_site(foot: str) -> str:
    """Name of the site in the middle of a foot."""
    return f"jgps/{foot}"


@quiet_mujoco()
def stand(
    spec: mujoco.MjSpec, trunk: str, feet: Sequence[str], stance: str | Sequence[float]
) -> Stance:
    """The robot in its stance; the spec gains a site for each foot, see `foot_site`.

    Raises:
      ValueError: for a trunk without a free joint, feet that are no geoms, joints without a name, a
        stance that there is not, a trunk that does not stand upright in it, feet that are not on
        the floor, and actuators that are no plain motors or servos of joints.
    """
    free = _free_joint(spec, trunk)
    try:
        model = spec.copy().compile()
    except (ValueError, mujoco.FatalError) as error:
        raise ValueError(f"the model does not compile: {' '.join(str(error).split())}") from None
    data = mujoco.MjData(model)
    data.qpos[:] = _pose(model, stance)
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    places = np.array([_mark(spec, model, data, foot) for foot in feet])
    rotation = data.body(trunk).xmat.reshape(3, 3)
    _check_axes(rotation, trunk)
    joints = [model.joint(j).name for j in range(model.njnt)]
    if not all(joints):
        raise ValueError("a joint of the model has no name; give each of them one")
    servos = _servos(model)
    driven = model.actuator_trnid[:, 0]
    forward = rotation[:2, 0] / np.linalg.norm(rotation[:2, 0])
    along = np.stack([forward, [-forward[1], forward[0]]], axis=1)
    low, high = model.actuator_ctrlrange.T
    ranged = model.actuator_ctrllimited.astype(bool) & (high > low)
    limited = model.jnt_limited[driven].astype(bool)
    address = model.jnt_qposadr[driven]
    angles = np.array(data.qpos[address])
    return Stance(
        qpos=np.array(data.qpos),
        joints=tuple(joint for joint in joints if joint != free),
        driven=tuple(joints[j] for j in driven),
        free=free,
        servos=servos,
        half=np.where(ranged, (high - low) / 2, 1.0),
        feet=(places[:, :2] - data.body(trunk).xpos[:2]) @ along,
        ground=float(places[:, 2].mean()),
        up=np.array(rotation[2]),
        angles=angles,
        ctrl=np.where(servos, angles, 0.0),
        places=address,
        low=np.where(limited, model.jnt_range[driven, 0], -np.inf),
        high=np.where(limited, model.jnt_range[driven, 1], np.inf),
        rises=_rises(model, data, feet, places)[:, model.jnt_dofadr[driven]],
        moves=_moving(model, trunk),
    )


def _free_joint(spec: mujoco.MjSpec, trunk: str) -> str:
    """Name of the trunk's free joint."""
    bodies = {body.name: body for body in spec.bodies if body.name}
    if trunk not in bodies:
        raise ValueError(
            f"the model has no body {trunk!r} for a trunk; it has: {', '.join(bodies)}"
            f"{did_you_mean(trunk, bodies)}"
        )
    free = [j for j in bodies[trunk].joints if j.type == mujoco.mjtJoint.mjJNT_FREE]
    if not free:
        raise ValueError(
            f"body {trunk!r} has no free joint, so that it goes nowhere; give it a <freejoint "
            'name="root"/>'
        )
    if not free[0].name:
        raise ValueError(f'the free joint of {trunk!r} has no name; call it name="root"')
    return free[0].name


def _pose(model: mujoco.MjModel, stance: str | Sequence[float]) -> np.ndarray:
    if not isinstance(stance, str):
        pose = as_numbers("stance", stance)
        if pose.shape != (model.nq,) or not np.isfinite(pose).all():
            raise ValueError(
                f"stance has the shape {list(pose.shape)}; it has to be {model.nq} finite numbers, "
                "or the name of a keyframe"
            )
        return pose
    names = [model.key(i).name for i in range(model.nkey)]
    if stance not in names:
        raise ValueError(
            f"the model has no keyframe {stance!r}; it has: {', '.join(names) or 'none'}"
            f"{did_you_mean(stance, names)}"
        )
    return np.array(model.key(stance).qpos)


def _check_axes(rotation: np.ndarray, trunk: str) -> None:
    if rotation[2, 2] < LEAST_UPRIGHT:
        raise ValueError(
            f"the z axis of {trunk!r} does not point up in the stance; its axes say what is ahead "
            "(x), to the left (y) and up (z): turn the body's frame, or name another one"
        )


def _servos(model: mujoco.MjModel) -> np.ndarray:
    """Which actuators are position servos, [dU].

    Raises:
      ValueError: for an actuator of something else than a joint, and a servo that does not come to
        rest where it is told.
    """
    kinds = [mujoco.mjtTrn.mjTRN_JOINT, mujoco.mjtTrn.mjTRN_JOINTINPARENT]
    if not np.isin(model.actuator_trntype, [int(kind) for kind in kinds]).all():
        raise ValueError("an actuator of the model moves no joint; legs have an actuator for each")
    servos = (model.actuator_biastype == int(mujoco.mjtBias.mjBIAS_AFFINE)) & (
        model.actuator_biasprm[:, 1] < 0
    )
    plain = (model.actuator_gear[:, 0] == 1) & np.isclose(
        model.actuator_gainprm[:, 0], -model.actuator_biasprm[:, 1]
    )
    if np.any(servos & ~plain):
        name = model.actuator(int(np.argmax(servos & ~plain))).name
        raise ValueError(
            f"servo {name!r} has a gear, or a gain that is not its stiffness, so that its control "
            "is no position of the joint; write it as <position> without a gear"
        )
    return servos


@quiet_mujoco()
def _rises(
    model: mujoco.MjModel, data: mujoco.MjData, feet: Sequence[str], places: np.ndarray
) -> np.ndarray:
    """How the feet's heights follow all velocities, [F, nv].

    Raises:
      ValueError: where the stance has a foot that is not on the floor.
    """
    found, above = np.zeros((len(feet), model.nv)), []
    round_ones = (int(mujoco.mjtGeom.mjGEOM_SPHERE), int(mujoco.mjtGeom.mjGEOM_CAPSULE))
    for row, foot, place in zip(found, feet, places, strict=True):
        geom = model.geom(foot).id
        jacobian = np.zeros((3, model.nv))
        mujoco.mj_jac(model, data, jacobian, None, place, int(model.geom_bodyid[geom]))
        row[:] = jacobian[2]
        size = model.geom_size[geom]
        depth = size[0]
        if model.geom_type[geom] not in round_ones:
            depth = np.abs(data.geom_xmat[geom].reshape(3, 3)[2]) @ size
        above.append(place[2] - depth)
    if np.max(np.abs(above)) > OFF_FLOOR:
        raise ValueError(
            f"feet are {', '.join(f'{z:.3f}' for z in above)} m above the floor in the stance, "
            "which is at height 0; a robot that stands has all of them on it: move its trunk"
        )
    return found


def _mark(spec: mujoco.MjSpec, model: mujoco.MjModel, data: mujoco.MjData, foot: str) -> np.ndarray:
    """Adds the site of a foot: in the middle of its geom, or of a capsule's lower end.

    Returns:
      Where that is in the world, [3].
    """
    known = [model.geom(i).name for i in range(model.ngeom)]
    if foot not in known:
        named = [each for each in known if each]
        raise ValueError(
            f"the model has no geom {foot!r} for a foot; it has: {', '.join(named) or 'none'}"
            f"{did_you_mean(foot, named)}"
        )
    geom = model.geom(foot).id
    place = np.array(data.geom_xpos[geom])
    if model.geom_type[geom] == int(mujoco.mjtGeom.mjGEOM_CAPSULE):
        end = model.geom_size[geom, 1] * data.geom_xmat[geom].reshape(3, 3)[:, 2]
        place += end if end[2] < 0 else -end
    body = int(model.geom_bodyid[geom])
    local = data.xmat[body].reshape(3, 3).T @ (place - data.xpos[body])
    parent = next(each.parent for each in spec.geoms if each.name == foot)
    parent.add_site(name=foot_site(foot), pos=local)
    return place


def _moving(model: mujoco.MjModel, trunk: str) -> np.ndarray:
    found = np.zeros(model.nv, bool)
    found[model.jnt_dofadr[model.actuator_trnid[:, 0]]] = True
    first = int(model.jnt_dofadr[model.body(trunk).jntadr[0]])
    found[first : first + 6] = True
    return found
