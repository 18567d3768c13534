"""Images, and numbers that are made of them, as part of the state (seed 0)."""

import copy
import functools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jgps import costs, tasks
from jgps.algorithms import TrajoptConfig, trajopt
from jgps.configs import NoiseConfig, RenderConfig
from jgps.dynamics import NoPriorConfig
from jgps.optimise.models import FittedModelsConfig
from jgps.rendering import make_view
from jgps.simulation import condition_models, make_sampler
from jgps.simulation.conditions import Conditions
from jgps.tasks import StateImage
from jgps.tasks.start import initial_states
from jgps.training.description import describe

MODEL = """
<mujoco><option timestep="0.05"/><worldbody><camera name="eye" pos="0 0 1.5" fovy="60"/>
<geom type="plane" size="2 2 .1" rgba="0.2 0.2 0.2 1" contype="0" conaffinity="0"/>
<body name="ball" pos="0 0 0.1"><joint name="x" type="slide" damping="0.5" axis="1 0 0"/>
<joint name="y" type="slide" axis="0 1 0" damping="0.5"/><geom size="0.2" mass="1" rgba="1 0 0 1"/>
</body></worldbody>
<actuator><motor joint="x" ctrlrange="-5 5"/><motor joint="y" ctrlrange="-5 5"/></actuator>
</mujoco>"""
SIZE = 12
RENDER = RenderConfig(supersample=2)
STARTS = [[0.0, 0.0], [-0.4, 0.3]]


def red(image, xp=jnp):
    """Where the red things in an image [H, W, 3] are: right and up, from -1 to 1."""
    colours = image.astype(xp.float32)
    weight = xp.maximum(colours[..., 0] - colours[..., 1], 0.0)
    height, width = weight.shape
    right = xp.sum(weight * xp.linspace(-1, 1, width))
    up = xp.sum(weight * xp.linspace(1, -1, height)[:, None])
    return xp.stack([right, up]) / (xp.sum(weight) + 1e-6)


def make_task(**arguments):
    settings = {
        "cost": lambda s: costs.weighted_sum(
            (1e-2, costs.action(1.0)), (1.0, costs.state_target(s["image"], (0.5, -0.3)))
        ),
        "state": ("qvel", "image"), "image": StateImage("eye", SIZE, SIZE, red), "horizon": 8,
        "control_dt": 0.1, "qpos": STARTS, "initial": NoiseConfig(), **arguments,
    }  # fmt: skip
    return tasks.from_mjcf(MODEL, **settings)


def images_by_hand(task, qpos):
    """What the camera sees at joint positions [..., 2] of the ball, [..., H, W, 3]."""
    view = make_view(task.model, "eye", width=SIZE, height=SIZE, config=RENDER)
    xpos = np.zeros((*qpos.shape[:-1], 2, 3))
    xpos[..., 1, :2], xpos[..., 1, 2] = qpos, 0.1
    xmat = np.broadcast_to(np.eye(3), (*qpos.shape[:-1], 2, 3, 3))
    return np.asarray(view.draw_rgb(xpos.astype(np.float32), xmat, as_uint8=True))


def steady(params, x, o, t, noise):
    return params + 0 * noise


@functools.cache
def rolled_out(backend):
    task = make_task(horizon=4, observation=("image", "qpos"))
    pushes = jnp.array([[1.0, 0.5], [2.0, -1.0]])
    sampler = make_sampler(task.system, task.train, steady, backend)
    return task, sampler.sample(pushes, jnp.zeros((2, 2, 4, 2)))


def test_the_entry_is_made_of_what_the_camera_sees_before_each_step():
    task, rollouts = rolled_out("native")
    images = images_by_hand(task, np.asarray(rollouts.qpos)).reshape(-1, SIZE, SIZE, 3)
    expected = np.stack([red(image, np) for image in images]).reshape(2, 2, 4, 2)
    np.testing.assert_allclose(rollouts.x[..., task.layout["image"]], expected, atol=1e-5)
    np.testing.assert_array_equal(rollouts.o[..., :2], rollouts.x[..., 2:])
    np.testing.assert_allclose(rollouts.o[..., 2:], rollouts.qpos, atol=1e-6)
    np.testing.assert_allclose(initial_states(task, task.train), rollouts.x[:, 0, 0], atol=1e-6)
    assert np.ptp(expected[:, :, :, 0], axis=2).min() > 0.02  # it moves


def test_both_backends_see_the_same():
    (_, native), (_, mjx) = rolled_out("native"), rolled_out("mjx")
    assert bool(mjx.valid.all())
    np.testing.assert_allclose(native.x, mjx.x, atol=2e-3)  # a level of grey is 0.004


def test_controllers_learn_where_only_the_camera_sees_the_position():
    config, task = TrajoptConfig(models=FittedModelsConfig(prior=NoPriorConfig())), make_task()
    algorithm = trajopt(task, config, backend="native")
    state = algorithm.init(jax.random.key(0))
    for _ in range(5):
        state, metrics = algorithm.step(state)
    away = np.asarray(initial_states(task, task.train))[:, 2:] - [0.5, -0.3]
    staying = task.horizon * np.sum(away**2, axis=1)  # what it costs to do nothing
    assert (np.asarray(metrics["noise_free_cost"]) < 0.7 * staying).all()


def test_without_a_function_the_entry_is_the_image_in_grey():
    image = StateImage("eye", SIZE, SIZE)
    task = make_task(state=("image", "qvel"), image=image, cost=lambda s: costs.action(1.0))
    assert task.layout["image"] == slice(0, SIZE * SIZE) and task.state_dim == SIZE * SIZE + 2
    seen = images_by_hand(task, np.array(STARTS)).mean(axis=-1).reshape(2, -1) / 255
    np.testing.assert_allclose(initial_states(task, task.train)[:, :-2], seen, atol=1e-6)


def test_bodies_that_conditions_place_are_seen_where_they_are():
    body = '<body name="block" pos="3 3 0"><geom size="0.2" rgba="1 0 0 1"/></body></worldbody>'
    places = np.array([[0.3, 0.0, 0.0], [0.0, -0.4, 0.0]])
    test = Conditions(np.zeros((1, 2)), np.zeros((1, 2)), {"body_pos:block": places[:1]})
    arguments = {"qpos": np.zeros((2, 2)), "changes": {"body_pos:block": places}, "test": test}
    model = MODEL.replace("</worldbody>", body)
    image = StateImage("eye", SIZE, SIZE, red)
    task = tasks.from_mjcf(
        model, cost=lambda s: costs.action(1.0), state=("qvel", "image"), image=image,
        initial=NoiseConfig(), **arguments,
    )  # fmt: skip
    x = np.asarray(initial_states(task, task.train))
    assert x[0, 2] > 0.1 and x[1, 3] < -0.1 and abs(x[0, 3]) < 0.05 and abs(x[1, 2]) < 0.05
    assert len(condition_models(task.model, task.train)) == 2


def test_what_is_drawn_tells_tasks_apart():
    task, same = make_task(), make_task()
    other = make_task(image=StateImage("eye", SIZE, SIZE, lambda image: 2 * red(image)))
    assert task.layout == same.layout and hash(task.layout) == hash(same.layout)
    assert task.layout != other.layout

    def hash_of(task):
        return describe(task, "trajopt", TrajoptConfig(), 1, 0, "native")["model"]["hash"]

    assert hash_of(task) == hash_of(same) != hash_of(other)
    again = pickle.loads(pickle.dumps(copy.deepcopy(task).layout))
    assert again == task.layout and task.layout.drawn.content == again.drawn.content


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image": None}, r"the entry 'image' needs a camera: pass image=jgps.tasks.StateImage"),
        ({"image": "eye"}, r"^image is 'eye'; pass jgps.tasks.StateImage\(camera=\.\.\.\)"),
        ({"state": ("qvel",)}, "^image is given, and the state has no entry 'image'; add it"),
        ({"state": ("image", "image:eye")}, "a state has one image; write 'image'"),
        ({"image": StateImage("ear")}, "the model has no camera 'ear'; it has: eye"),
        ({"image": StateImage("eye", 0)}, r"StateImage.width is 0; it has to be .*>= 1"),
        ({"image": StateImage("eye", 4.5)}, "StateImage.width is 4.5; it has to be .*integer"),
        ({"image": StateImage("eye", render=3)}, "StateImage.render is 3; it has to be a"),
        ({"image": StateImage("eye", features=3)}, "StateImage.features is 3; it has to be a func"),
        (
            {"image": StateImage("eye", features=lambda image: image)},
            r"^features\(image \[16, 16, 3\] uint8\) has to return a vector .*16, 3\) of uint8",
        ),
        ({"image": StateImage("eye", features=lambda a, b: a)}, "fails with a TypeError: missing"),
        ({"image": StateImage("eye", features=lambda i: float(i[0, 0, 0]))}, "fails with a Conc"),
        ({"changes": {"cam_fovy:eye": [[40.0], [60.0]]}}, "which the camera for .* not show"),
    ],
)
def test_images_that_cannot_be_are_refused_when_the_task_is_made(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_task(**arguments)
