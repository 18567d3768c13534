"""Random scenes of a task, from which convolutions learn where objects are before they act.

Objects stand anywhere between their places in the training conditions, the robot near its start.
"""

import copy
import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jax.core import Tracer

from jgps.policies import NetworkPolicy, PoseRegressor
from jgps.simulation import condition_models
from jgps.tasks import Task
from jgps.vision.camera import make_policy_view, pose_dim
from jgps.vision.config import VisualConfig
from jgps.vision.domain_randomisation import make_randomise_scene
from jgps.vision.pose_regression import regress_pose, transfer

AXIS_LENGTH = 0.1  # metres from an object's origin to the points on its axes whose places are told
NUM_MIXED = 3  # training conditions between which a place is drawn


class PretrainingData(NamedTuple):
    """Poses of all bodies, and where the objects are."""

    xpos: np.ndarray  # [M, B, 3] metres, world frame
    xmat: np.ndarray  # [M, B, 3, 3]
    pose: np.ndarray  # [M, P], three points on every object, metres


class Pretraining(NamedTuple):
    """How it went: mean errors of points on images that were held out, metres."""

    error: jax.Array  # []
    error_constant: jax.Array  # [] of the mean pose
    status: jax.Array  # [] int32, as of `regress_pose`


def draw_pretraining_data(task: Task, config: VisualConfig, key: jax.Array) -> PretrainingData:
    """PretrainingData for `pretrain`, by MuJoCo's kinematics; of a traced key only their shapes."""
    begun = condition_models(task.model, task.train.select(slice(1)))[0]  # with its mocap poses
    model, num = copy.deepcopy(begun), config.pretraining_images
    if isinstance(key, Tracer):
        shapes = ((num, model.nbody, 3), (num, model.nbody, 3, 3), (num, pose_dim(task)))
        return PretrainingData(*(np.zeros(shape, np.float32) for shape in shapes))
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    data = mujoco.MjData(model)
    xpos = np.empty((num, model.nbody, 3), np.float32)
    xmat = np.empty((num, model.nbody, 9), np.float32)
    for scene in range(num):
        _place(model, task, rng)
        data.qpos[:] = _near_start(model, task, config.pretraining_joint_spread, rng)
        mujoco.mj_kinematics(model, data)
        xpos[scene], xmat[scene] = data.xpos, data.xmat
    xmat = xmat.reshape(num, -1, 3, 3)
    return PretrainingData(xpos, xmat, _points(task, xpos, xmat).reshape(num, -1))


def pretrain(
    task: Task,
    config: VisualConfig,
    learner: NetworkPolicy,
    scenes: PretrainingData,
    key: jax.Array,
) -> tuple[NetworkPolicy, Pretraining]:
    """The learner with convolutions that tell the objects' places in these scenes."""
    assert task.vision is not None
    view = make_policy_view(task, config)
    key, appearance_key = jax.random.split(key)
    keys = jax.random.split(appearance_key, scenes.xpos.shape[0])
    randomise_scene = make_randomise_scene(task, view, config.domain_randomisation)
    varied = jax.vmap(randomise_scene)(keys, jnp.asarray(scenes.xpos), jnp.asarray(scenes.xmat))
    images = view.draw_rgb(*varied, as_uint8=True)
    seeing: Any = learner.network  # of a kind that has one
    trunk = seeing.trunk
    network = trunk if isinstance(trunk, PoseRegressor) else PoseRegressor(trunk, pose_dim(task))
    pretrained, info = regress_pose(
        network, images, jnp.asarray(scenes.pose), key, config.pretraining
    )
    variables = transfer(pretrained, learner.variables)
    error = info.error_validation if config.pretraining.validation else info.error_train
    return dataclasses.replace(learner, variables=variables), Pretraining(
        error=error, error_constant=info.error_constant, status=info.status.code
    )


def _place(model: mujoco.MjModel, task: Task, rng: np.random.Generator) -> None:
    """Puts every body that conditions place somewhere between some of its places."""
    changes, weights, chosen = task.train.changes, rng.dirichlet(np.ones(NUM_MIXED)), {}
    for key in sorted(changes):
        field, _, name = key.partition(":")
        if field not in ("body_pos", "body_quat"):
            continue
        rows = chosen.setdefault(name, rng.integers(task.train.num, size=NUM_MIXED))
        mean = _mean_rotation if field == "body_quat" else np.matmul
        getattr(model, field)[model.body(name).id] = mean(weights, changes[key][rows])


def _mean_rotation(weights: np.ndarray, quaternions: np.ndarray) -> np.ndarray:
    """Of [n, 4] by weights [n]; q and -q are one rotation, so all are taken near the heaviest."""
    unit = quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)
    nearest = unit[np.argmax(weights)]
    mean = weights @ (unit * np.where(unit @ nearest < 0, -1, 1)[:, None])
    return mean / np.linalg.norm(mean)


def _near_start(
    model: mujoco.MjModel, task: Task, spread: float, rng: np.random.Generator
) -> np.ndarray:
    """One condition's start: hinges and slides elsewhere in their ranges, what is free between."""
    start = task.train.qpos
    qpos = np.array(start[rng.integers(task.train.num)])
    for joint in range(model.njnt):
        kind, address = mujoco.mjtJoint(model.jnt_type[joint]), model.jnt_qposadr[joint]
        if kind == mujoco.mjtJoint.mjJNT_FREE:
            rows = start[rng.integers(task.train.num, size=NUM_MIXED), address : address + 7]
            weights = rng.dirichlet(np.ones(NUM_MIXED))
            qpos[address : address + 3] = weights @ rows[:, :3]
            qpos[address + 3 : address + 7] = _mean_rotation(weights, rows[:, 3:])
        if kind not in (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE):
            continue
        whole = 2 * np.pi if kind == mujoco.mjtJoint.mjJNT_HINGE else 1.0
        low, high = model.jnt_range[joint] if model.jnt_limited[joint] else (-np.inf, np.inf)
        width = min(high - low, whole)
        qpos[address] = np.clip(qpos[address] + spread * width * rng.normal(), low, high)
    return qpos


def _points(task: Task, xpos: np.ndarray, xmat: np.ndarray) -> np.ndarray:
    """Origin and two points on the axes of every object, [M, objects, 3, 3]."""
    assert task.vision is not None
    origin = xpos[:, task.vision.objects, None]
    axes = np.swapaxes(xmat[:, task.vision.objects], -1, -2)[:, :, :2]
    return np.concatenate([origin, origin + AXIS_LENGTH * axes], axis=2)
