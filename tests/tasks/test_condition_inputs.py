"""Tasks whose conditions have inputs over time and sensing."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jgps import costs, tasks
from jgps.algorithms import ALGORITHMS
from jgps.configs import KnownModelsConfig
from jgps.optimise.ilqg.task_system import task_system
from jgps.optimise.known_models import _of_simulator
from jgps.rendering.frames import Poses, scene_poses
from jgps.reports.poses import poses_at
from jgps.simulation import Sensing, Starts, condition_models, make_sampler
from jgps.tasks.policy_camera import check_changes
from jgps.tasks.start import initial_states
from jgps.training.description import _hash
from jgps.training.evaluate import _join

# A cart on a spring to a hand beside its rail, so that its slope depends on where the hand is.
MODEL = """
<mujoco>
  <option timestep="0.02" gravity="0 0 0"/>
  <worldbody>
    <body name="hand" mocap="true" pos="0.5 0.3 0"><site name="hand"/><geom size="0.05"/></body>
    <body name="cart"><joint name="x" type="slide" axis="1 0 0"/>
      <geom size="0.1" mass="0.1"/><site name="cart"/></body>
  </worldbody>
  <tendon><spatial stiffness="20" springlength="0.2"><site site="hand"/><site site="cart"/>
    </spatial></tendon>
  <actuator><motor joint="x"/></actuator>
</mujoco>
"""
C, T = 2, 5
STATE = ("qpos", "qvel", "body_pos:hand")
RNG = np.random.default_rng(0)
PLACES = RNG.normal(size=(C, 3, 3)) * 0.5
INPUTS = {"mocap_pos:hand": PLACES, "xfrc_applied:cart": RNG.normal(size=(C, T, 6))}


def _task(observation=("qpos",), **given):
    task = tasks.from_mjcf(
        MODEL, cost=lambda s: costs.distance(s["body_pos:hand"], (0, 0, 0)), state=STATE,
        observation=observation, horizon=T, control_dt=0.02, qpos=np.zeros((C, 1)),
    )  # fmt: skip
    return dataclasses.replace(task, train=task.train._replace(**given))


def _open_loop(params, x, o, t, noise):
    del params, x, o, t
    return noise


def test_tasks_begin_at_row_0_are_told_apart_and_refuse_what_does_not_fit():
    plain, task = _task(), _task(inputs=INPUTS)
    late = _task(sensing=Sensing(None, [0, 1]))
    np.testing.assert_allclose(initial_states(task, task.train)[:, 2:], PLACES[:, 0], atol=1e-6)
    np.testing.assert_allclose(initial_states(plain, plain.train)[:, 2:], [[0.5, 0.3, 0]] * C)
    other = _task(inputs={**INPUTS, "mocap_pos:hand": PLACES + 1e-9})
    later = _task(sensing=Sensing(None, [0, 2]))
    assert len({_hash(each) for each in (plain, task, other, late, later)}) == 5
    with pytest.raises(ValueError, match="and the task names no observation"):
        _task(observation=None, sensing=Sensing(None, [0, 1]))
    with pytest.raises(ValueError, match="'mocap_pos:hand', which changes over time, and searches"):
        task_system(task, task.train, "native")
    for name, what in (("mpc", "model predictive control"), ("plato", "plans teach")):
        with pytest.raises(ValueError, match=f"{what} does not simulate; leave sensing out"):
            ALGORITHMS[name][0](late, backend="native")
    with pytest.raises(ValueError, match="input 'mocap_pos:hand', which moves what a camera"):
        check_changes(task.model, [task.train])


def test_sets_are_evaluated_as_one_unless_a_place_or_noise_can_not_be_joined():
    plain, moved = _task().train, _task(inputs=INPUTS).train
    model = _task().model
    joined = _join(model, [plain, moved])
    assert joined is not None
    np.testing.assert_array_equal(joined.inputs["mocap_pos:hand"][C:], PLACES)
    np.testing.assert_array_equal(joined.inputs["mocap_pos:hand"][0], [[0.5, 0.3, 0]] * 3)
    changed = plain._replace(changes={"body_pos:hand": np.ones((C, 3))})
    assert _join(model, [changed, moved]) is None
    two, three = (
        plain._replace(sensing=Sensing(np.ones((C, num, 1)), np.zeros(C, int))) for num in (2, 3)
    )
    assert _join(model, [two, three]) is None
    found = _join(model, [plain, two])
    assert found is not None and found.sensing is not None and found.sensing.noise.shape[1] == 2


def test_known_models_are_those_under_the_inputs_of_their_step():
    """Beside differences of whole rollouts from starts that differ a little."""
    with jax.enable_x64(True):
        task, size = _task(inputs=INPUTS), 1e-5
        sampler = make_sampler(task.system, task.train, _open_loop, "native")
        change = size * np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1.0]])
        starts = Starts(*(np.tile(change[:, i : i + 1], (C, 1, 1)) for i in range(2)))
        noise = jnp.zeros((C, 5, T, 1))
        x, u = sampler.sample(jnp.zeros((C, 1)), noise, starts).rollouts[:2]
        by_state = _of_simulator(task, KnownModelsConfig())
        F = np.asarray(by_state(x[:, :1], u[:, :1]))[:, 0, :, :2, :2]  # of position and velocity
        slope = np.stack([x[:, 1] - x[:, 2], x[:, 3] - x[:, 4]], axis=-1)[..., :2, :] / (2 * size)
        whole = np.stack([np.eye(2)] * C)
        for t in range(T - 1):
            whole = F[:, t] @ whole
            np.testing.assert_allclose(whole, slope[:, t + 1], atol=1e-5)
    assert np.abs(F - F[:, :1]).max() > 0.01  # it does follow the hand


def test_pictures_have_mocap_bodies_where_inputs_put_them():
    task = _task(inputs=INPUTS)
    model = condition_models(task.model, task.train)[1]
    qpos, steps = RNG.normal(size=(T, 1)), np.array([0, 1, 4])
    places = scene_poses(model, poses_at(task.train, model, 1, qpos, steps))[0]
    np.testing.assert_allclose(places[:, 0], PLACES[1, [0, 1, 2]])
    np.testing.assert_allclose(places[:, 1, 0], qpos[steps, 0])
    with pytest.raises(ValueError, match=r"shape \(1, 3\); these frames need \(3, 1, 3\)"):
        scene_poses(model, Poses(qpos[steps], np.zeros((1, 3)), np.zeros((1, 4))))
    plain = poses_at(_task().train, model, 1, qpos, steps)
    np.testing.assert_allclose(scene_poses(model, plain)[0][:, 0], [[0.5, 0.3, 0]] * 3)
