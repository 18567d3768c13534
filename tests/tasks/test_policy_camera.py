"""What a camera sees, as poses of bodies in the observation."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jgps import costs, tasks
from jgps.algorithms import VisualConfig
from jgps.simulation import Conditions, condition_models, make_sampler
from jgps.tasks.policy_camera import body_poses
from jgps.vision.pretraining import draw_pretraining_data

# Two joints and a ball on a table that stands elsewhere in every condition; the lamp hangs still.
ARM = """
<mujoco model="arm">
  <option timestep="0.02" gravity="0 0 0"/>
  <default><geom contype="0" conaffinity="0"/></default>
  <worldbody>
    <light pos="0 0 2" dir="0 0 -1" directional="true"/>
    <camera name="eye" pos="0 0 1.2" fovy="50"/>
    <geom type="plane" size="1 1 0.1" rgba="0.8 0.8 0.8 1"/>
    <body name="lamp" pos="0.4 0.4 0.3"><geom type="sphere" size="0.03"/></body>
    <body name="upper" pos="0 0 0.1">
      <joint name="shoulder" axis="0 0 1" damping="1"/>
      <geom type="capsule" fromto="0 0 0 0.2 0 0" size="0.02" rgba="0.3 0.3 0.3 1"/>
      <body name="fore" pos="0.2 0 0">
        <joint name="elbow" axis="0 0 1" damping="1"/>
        <geom type="capsule" fromto="0 0 0 0.2 0 0" size="0.02" rgba="0.3 0.3 0.3 1"/>
        <site name="tip" pos="0.2 0 0"/>
      </body>
    </body>
    <body name="ball" pos="0.3 0.1 0.1"><geom type="sphere" size="0.05" rgba="1 0 0 1"/></body>
  </worldbody>
  <actuator><motor joint="shoulder"/><motor joint="elbow"/></actuator>
</mujoco>
"""
BALLS = ((0.3, 0.1, 0.1), (0.1, 0.3, 0.1))


def _task(source=ARM, **settings):
    arguments = {
        "state": ("qpos", "qvel", "site_pos:tip"),
        "observation": ("qpos", "qvel"),
        "cost": lambda s: costs.distance(s["site_pos:tip"], (0.0, 0.0, 0.0)),
        "changes": {"body_pos:ball": BALLS, "body_quat:ball": [[1, 0, 0, 0], [0.8, 0.6, 0, 0]]},
        "horizon": 5,
        "control_dt": 0.04,
        "vision": "eye",
    }
    return tasks.from_mjcf(source, **{**arguments, **settings})


@pytest.mark.parametrize("backend", ["native", pytest.param("mjx", marks=pytest.mark.slow)])
def test_poses_of_all_bodies_follow_from_the_observation(backend, rng):
    task = _task()
    assert task.configuration_dim == 4 and task.observation_dim == 4 + 3 * 9
    names = [task.model.body(body).name for body in task.vision.bodies]
    assert names == ["upper", "fore", "ball"]
    assert [task.model.body(body).name for body in task.vision.objects] == ["ball"]
    sampler = make_sampler(task.system, task.train, lambda p, x, o, t, noise: noise, backend)
    sample = jax.jit(sampler.sample) if sampler.jittable else sampler.sample
    rollouts = sample((), jnp.asarray(rng.normal(size=(2, 1, 5, 2)), jnp.float32))
    xpos, xmat = body_poses(task.vision, jnp.asarray(rollouts.o))
    for c, model in enumerate(condition_models(task.model, task.train)):
        data = mujoco.MjData(model)
        for t in range(5):
            data.qpos[:] = rollouts.qpos[c, 0, t]
            mujoco.mj_kinematics(model, data)
            np.testing.assert_allclose(xpos[c, 0, t], data.xpos, atol=1e-5)
            np.testing.assert_allclose(xmat[c, 0, t].reshape(-1, 9), data.xmat, atol=1e-5)


def test_without_vision_a_network_reads_all_of_the_observation():
    task = _task(vision=None)
    assert task.vision is None and task.configuration == slice(0, task.observation_dim)
    # What was named is not added again.
    named = _task(observation=("body_pos:upper", "qpos"))
    assert named.configuration_dim == 5 and named.observation_dim == 5 + 3 * 9 - 3


def test_bodies_that_move_elsewhere_are_seen():
    moved = Conditions(np.zeros((1, 2)), np.zeros((1, 2)), {"body_pos:lamp": [[0.2, 0.2, 0.3]]})
    for unseen in (moved, tasks.EvaluationSets(distracted=moved)):
        task = _task(test=unseen)
        assert "lamp" in [task.model.body(body).name for body in task.vision.bodies]
        assert [task.model.body(body).name for body in task.vision.objects] == ["ball"]
    # Where nothing stands elsewhere, all that moves is worth knowing.
    same = _task(changes={})
    assert same.vision.objects.tolist() == same.vision.bodies.tolist()


def test_bad_vision():
    with pytest.raises(ValueError, match="the model has no camera 'nose'; it has: eye"):
        _task(vision="nose")
    with pytest.raises(ValueError, match="vision is 3; pass the name of a camera, or"):
        _task(vision=3)
    with pytest.raises(ValueError, match="only poses of bodies may look different"):
        _task(changes={"geom_size": np.ones((2, 5, 3))})
    for changes, wrong in (
        ({"body_pos": np.zeros((2, 5, 3))}, "name the bodies: 'body_pos:NAME'"),
        ({"geom_rgba": np.ones((2, 5, 4))}, "only poses of bodies may look different"),
    ):
        with pytest.raises(ValueError, match=wrong):
            _task(changes=changes)
    with pytest.raises(ValueError, match="vision needs an observation"):
        _task(observation=None)
    with pytest.raises(ValueError, match="'body_pos:ball', which says where an object is"):
        _task(observation=("qpos", "body_pos:ball"))
    with pytest.raises(ValueError, match="has no name"):
        _task(source=ARM.replace('body name="fore"', "body"))
    mocap = ARM.replace('<body name="ball"', '<body name="ball" mocap="true"')
    with pytest.raises(ValueError, match="'ball' is a mocap body"):
        _task(source=mocap)
    with pytest.raises(ValueError, match="clutter is the string 'lamp'"):
        _task(vision=tasks.VisionSpec("eye", clutter="lamp"))
    with pytest.raises(ValueError, match="the body 'fore' moves"):
        _task(vision=tasks.VisionSpec("eye", clutter=("fore",)))


def test_objects_are_what_conditions_place():
    def objects(task):
        return [task.model.body(body).name for body in task.vision.objects]

    ball = next(line.strip() for line in ARM.splitlines() if '"ball"' in line)
    inside = ball.replace('name="ball"', 'name="core"').replace("0.3 0.1 0.1", "0 0 0")
    carried = ARM.replace(ball, f'<body name="ball" pos="0.3 0.1 0.1">{inside}</body>')
    assert objects(_task(source=carried)) == ["core"]
    free = ARM.replace(ball, ball.replace("<geom", "<freejoint/><geom"))
    starts = [[0, 0, *place, 1, 0, 0, 0] for place in BALLS]
    task = _task(source=free, changes={}, qpos=starts, observation=("qpos:shoulder", "qpos:elbow"))
    assert objects(task) == ["ball"]
    scenes = draw_pretraining_data(
        task, VisualConfig(pretraining_images=50, pretraining_joint_spread=0.02), jax.random.key(0)
    )
    where = scenes.xpos[:, task.model.body("ball").id]
    assert len(np.unique(where, axis=0)) > 30
    assert (where <= np.max(BALLS, axis=0) + 1e-6).all()
    # The arm is elsewhere in every image.
    assert len(np.unique(scenes.xmat[:, task.model.body("fore").id], axis=0)) == 50
