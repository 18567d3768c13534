"""What a policy saw, against what it would see in the simulation (seed 0)."""

import dataclasses

import jax
import jax.numpy as jnp
import mediapy
import numpy as np
import pytest
from pointer import SHOWN, shown_task, untrained

from jgps import policies
from jgps.policies.learner import MlpConfig
from jgps.policies.networks.visuomotor import feature_pixels
from jgps.policies.observation import cache_features
from jgps.rendering import RenderConfig
from jgps.reports.plots.features import POINT_COLOURS, draw_feature_points
from jgps.reports.policy_view import PolicyView, _influence, _readout, _trunk, draw_policy_view
from jgps.reports.video import VideoOptions, VideoRollouts, thin_out, write_task_video
from jgps.simulation import condition_models, make_sampler
from jgps.vision.learner import make_learner

T = 8
ROUGH = RenderConfig(shadows=0, supersample=1)
SMALL = SHOWN.policy


@pytest.fixture(scope="module")
def task():
    return shown_task()


def _policy(task, kind, hidden=(8,)):
    return untrained(task, dataclasses.replace(SMALL, kind=kind, hidden=hidden))


def test_images_are_those_that_the_simulation_gave_the_network(task):
    policy = _policy(task, "visuomotor")

    def act(params, x, o, t, noise):
        return params + noise

    sampler = make_sampler(task.system, task.distracted, act, "native")
    found = sampler.sample(jnp.ones((2, 1)), jnp.zeros((2, 1, T, 1)))
    o, qpos = jnp.asarray(found.o)[:, 0], np.asarray(found.qpos)[:, 0]
    assert np.ptp(qpos) > 0.5
    models = condition_models(task.model, task.distracted)
    policy_view = draw_policy_view(
        task, policy, list(zip(models, qpos, strict=True)), max_points=100
    )
    expected = policies.observe_all(policy.observe, o)
    # Poses are rounded in other places, and now and then a colour with them.
    difference = np.abs(policy_view.images.astype(int) - np.asarray(expected["image"], int))
    assert difference.max() <= 1 or np.mean(difference > 1) < 1e-3
    features = cache_features(policy.network, policy.variables, expected)["features"]
    points = feature_pixels(features, 32, 40)
    np.testing.assert_allclose(policy_view.points, points, atol=0.05)
    assert policy_view.images.shape == (2, T, 32, 40, 3) and policy_view.num_features == 8
    blue = (policy_view.images[..., 2] > 100) & (policy_view.images[..., 0] < 50)
    assert blue.any((2, 3)).all(), "the cube that distracts is not in the picture"


@pytest.mark.parametrize("kind", ["visuomotor", "pose_features", "pose_prediction"])
def test_points_are_weighed_by_what_the_first_layer_makes_of_them(task, kind):
    policy = _policy(task, kind, hidden=())  # its action is what that layer sums
    network, variables = policy.network, policy.variables

    def action(features):
        if kind == "pose_prediction":
            dense = variables["params"]["trunk"]["pose"]
            features = features @ dense["kernel"] + dense["bias"]
        return network.apply(variables, features, jnp.zeros(2), method="act_on_features")

    slope = jax.jacobian(action)(jnp.ones(16)).T
    np.testing.assert_allclose(_readout(policy), slope, atol=1e-6)
    features = np.zeros((1, 50, 16), np.float32)
    features[..., 6] = np.linspace(-1, 1, 50)  # the fourth point alone moves
    weights = _influence(policy, features)
    assert np.argmax(weights) == 3 and np.count_nonzero(weights) == 1
    network_of_vectors, _ = make_learner(task, MlpConfig()).init(jax.random.key(0), None)
    assert _trunk(network_of_vectors) is None


def _still(num, at, steps=T, shape=(32, 40)):
    """Black images with points that stay where they are, [K, 2]."""
    images = np.zeros((num, steps, *shape, 3), np.uint8)
    return PolicyView(images, np.broadcast_to(np.array(at, float), (num, steps, len(at), 2)), 32)


def _centre(image, colour):
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    rows, columns = np.nonzero(np.abs(image[..., :3].astype(int) - rgb).max(-1) < 40)
    return np.array([columns.mean(), rows.mean()])


def test_points_lie_where_they_are_in_the_figure(tmp_path):
    at = [(4.0, 10.0), (20.0, 25.0)]
    names = ["unseen 0"]
    path = draw_feature_points(_still(1, at, steps=2), names, 0.1, "title", tmp_path / "points.png")
    image = mediapy.read_image(path)
    assert image.shape[1] == 1200
    rows, columns = np.nonzero((image[..., :3] == 0).all(-1))
    corner, scale = np.array([columns.min(), rows.min()]), 586 // 40  # two pictures, side by side
    first = image[: corner[1] + 32 * scale, : corner[0] + 40 * scale]
    for point, colour in zip(at, POINT_COLOURS, strict=False):
        expected = corner + (np.array(point) + 0.5) * scale - 0.5
        np.testing.assert_allclose(_centre(first, colour), expected, atol=1)


def test_points_lie_where_they_are_in_the_video(task, tmp_path):
    at = [(4.0, 10.0), (20.0, 25.0)]
    qpos, poster = np.zeros((3, T, 1)), tmp_path / "final.png"
    write_task_video(
        task,
        VideoRollouts(qpos, unseen=True, policy_view=_still(3, at)),
        tmp_path / "final.mp4",
        poster=poster,
        options=VideoOptions(tile=(120, 96), config=ROUGH),
    )
    image = mediapy.read_image(poster)
    assert image.shape[:2] == (3 * 96, 3 * (120 + 120))  # three moments, image beside picture
    tile = image[96:192, 240 + 120 : 240 + 240]  # of the second condition, second moment
    for point, colour in zip(at, POINT_COLOURS, strict=False):
        np.testing.assert_allclose(_centre(tile, colour), (np.array(point) + 0.5) * 3, atol=1)
    other = VideoRollouts(qpos, unseen=True, policy_view=_still(2, at))
    with pytest.raises(ValueError, match=r"policy_view has images \(2, 8\).*\(3, 8\)"):
        write_task_video(task, other, tmp_path / "f.mp4")


def test_a_video_of_many_shows_some_at_equal_distances():
    assert thin_out(range(3)) == [0, 1, 2]
    assert thin_out([0, 1, 2, 4, 5, 6, 7]) == [0, 1, 2, 5, 6, 7]
    assert thin_out(range(15)) == [0, 3, 6, 8, 11, 14]
