"""A legged robot that stands: which joints, feet and actuators it has, and where."""

from collections.abc import Sequence
from typing import NamedTuple

import mujoco
import numpy as np

from jgps.core.names import did_you_mean
from jgps.mujoco_log import quiet_mujoco


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
        stance that there is not, and feet that are not level.
    """
    try:
        model = spec.copy().compile()
    except (ValueError, mujoco.FatalError) as error:
        raise ValueError(f"the model does not compile: {' '.join(str(error).split())}") from None
    data = mujoco.MjData(model)
    free = _free_joint(model, trunk)
    data.qpos[:] = _pose(model, stance)
    mujoco.mj_kinematics(model, data)
    places = np.array([_mark(spec, model, data, foot) for foot in feet])
    if np.ptp(places[:, 2]) > 0.03:
        raise ValueError(
            f"feet are {', '.join(f'{z:.3f}' for z in places[:, 2])} m high in the stance; they "
            "have to be level, as those of a robot that stands"
        )
    kinds = [mujoco.mjtTrn.mjTRN_JOINT, mujoco.mjtTrn.mjTRN_JOINTINPARENT]
    if not np.isin(model.actuator_trntype, [int(kind) for kind in kinds]).all():
        raise ValueError("an actuator of the model moves no joint; legs have an actuator for each")
    joints = [model.joint(j).name for j in range(model.njnt)]
    if not all(joints):
        raise ValueError("a joint of the model has no name; give each of them one")
    driven = tuple(joints[j] for j in model.actuator_trnid[:, 0])
    trunk_place = data.body(trunk).xpos
    forward = data.body(trunk).xmat.reshape(3, 3)[:2, 0]
    forward = forward / max(np.linalg.norm(forward), 1e-9)
    along = np.stack([forward, [-forward[1], forward[0]]], axis=1)
    servos = (model.actuator_biastype == int(mujoco.mjtBias.mjBIAS_AFFINE)) & (
        model.actuator_biasprm[:, 1] < 0
    )
    low, high = model.actuator_ctrlrange.T
    half = np.where(model.actuator_ctrllimited.astype(bool) & (high > low), (high - low) / 2, 1.0)
    angles = np.array([data.joint(joint).qpos[0] for joint in driven])
    return Stance(
        qpos=np.array(data.qpos),
        joints=tuple(joint for joint in joints if joint != free),
        driven=driven,
        free=free,
        servos=servos,
        half=half,
        feet=(places[:, :2] - trunk_place[:2]) @ along,
        ground=float(places[:, 2].mean()),
        up=np.array(data.body(trunk).xmat.reshape(3, 3)[2]),
        angles=angles,
        ctrl=np.where(servos, angles, 0.0),
        places=model.jnt_qposadr[model.actuator_trnid[:, 0]],
        moves=_moving(model, trunk),
    )


def _free_joint(model: mujoco.MjModel, trunk: str) -> str:
    bodies = [model.body(i).name for i in range(1, model.nbody)]
    if trunk not in bodies:
        raise ValueError(
            f"the model has no body {trunk!r} for a trunk; it has: {', '.join(bodies)}"
            f"{did_you_mean(trunk, bodies)}"
        )
    joint = int(model.body(trunk).jntadr[0])
    if joint < 0 or model.jnt_type[joint] != int(mujoco.mjtJoint.mjJNT_FREE):
        raise ValueError(
            f"body {trunk!r} has no free joint, so that it goes nowhere; give it a <freejoint "
            'name="root"/>'
        )
    if not model.joint(joint).name:
        raise ValueError(f'the free joint of {trunk!r} has no name; call it name="root"')
    return model.joint(joint).name


def _pose(model: mujoco.MjModel, stance: str | Sequence[float]) -> np.ndarray:
    if not isinstance(stance, str):
        pose = np.asarray(stance, float)
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
