"""Learning where things are, the architectures that are compared, and what is transferred."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jgps.core.types import NON_FINITE, OK
from jgps.policies import (
    ARCHITECTURES,
    DistilConfig,
    PoseRegressor,
    Supervision,
    distil,
    initialise,
    make_trunk,
    pose_prediction_policy,
    visuomotor,
)
from jgps.policies.networks.architecture import check_architecture
from jgps.policies.networks.mlp import STANDARDISATION
from jgps.vision.learner import pretraining_problem
from jgps.vision.pose_regression import PoseConfig, regress_pose, transfer
from jgps.vision.pretraining import Pretraining

SIDE, CHANNELS = 32, (8, 8, 8)
CONFIG = PoseConfig(steps=400, batch_size=16, learning_rate=0.01, validation=0.2)
NETWORK = PoseRegressor(make_trunk("feature_points", CHANNELS), 3)


@functools.cache
def _scenes(num=200):
    """A red square somewhere on grey noise, and where it is: 1 cm per pixel."""
    rng = np.random.default_rng(0)
    images = rng.integers(90, 160, (num, SIDE, SIDE, 3), dtype=np.uint8)
    corners = rng.integers(2, SIDE - 8, (num, 2))
    for image, (row, column) in zip(images, corners, strict=True):
        image[row : row + 6, column : column + 6] = (250, 30, 20)
    pose = np.concatenate([0.01 * corners[:, ::-1], np.full((num, 1), 0.3)], axis=-1)
    return jnp.asarray(images), jnp.asarray(pose, jnp.float32)


@functools.cache
def _regressor():
    return regress_pose(NETWORK, *_scenes(), jax.random.key(0), CONFIG)


def test_it_learns_where_a_square_is():
    variables, info = _regressor()
    assert int(info.status.code) == OK
    # The mean pose is off by 8 cm, a pixel is 1 cm.
    assert float(info.error_constant) > 0.07
    assert float(info.error_validation) < 0.015
    assert float(info.error_train) < 0.015
    assert float(info.losses[-20:].mean()) < 0.05 * float(info.losses[:5].mean())
    images, pose = _scenes()
    predicted = jax.jit(NETWORK.apply)(variables, images)
    distance = np.linalg.norm(predicted - pose, axis=-1).mean()
    mixed = 0.2 * info.error_validation + 0.8 * info.error_train
    np.testing.assert_allclose(mixed, distance, rtol=1e-3)


def test_a_training_that_diverges_gives_finite_parameters():
    images, pose = _scenes()
    config = dataclasses.replace(CONFIG, steps=4, learning_rate=1e30)
    variables, info = regress_pose(NETWORK, images, pose, jax.random.key(0), config)
    assert int(info.status.code) == NON_FINITE
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(variables["params"]))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_regresses_at_64_pixels(architecture):
    network = PoseRegressor(make_trunk(architecture, (4, 4, 4)), 6)
    image = jnp.zeros((2, 64, 64, 3), jnp.uint8)
    variables = jax.eval_shape(network.init, jax.random.key(0), image)
    assert jax.eval_shape(network.apply, variables, image).shape == (2, 6)
    smallest = network.trunk.convolutions.smallest
    assert smallest == (51 if architecture == "max_pool_dense" else 25)
    kernels = variables["params"]["trunk"]["convolutions"]
    assert kernels["conv_0"]["kernel"].shape == (7, 7, 3, 4)
    for side in (smallest, smallest - 1):
        image = jnp.zeros((side, side, 3), jnp.uint8)
        if side == smallest:
            jax.eval_shape(network.init, jax.random.key(0), image)
        else:
            with pytest.raises(ValueError, match=f"smallest that works is {smallest}x{smallest}"):
                jax.eval_shape(network.init, jax.random.key(0), image)


def test_the_softmax_of_a_dense_baseline_is_over_positions():
    trunk = make_trunk("softmax_dense", (4, 4, 4))
    image = _scenes()[0][0]
    variables = jax.jit(trunk.init)(jax.random.key(0), image)
    maps = jax.jit(trunk.convolutions.apply)({"params": variables["params"]["convolutions"]}, image)
    share = np.exp(np.asarray(maps, np.float64))
    share = (share / share.sum((0, 1))).reshape(-1)
    dense = jax.tree.map(np.asarray, variables["params"]["dense"])
    wanted = np.maximum(share @ dense["kernel"] + dense["bias"], 0)
    np.testing.assert_allclose(jax.jit(trunk.apply)(variables, image), wanted, atol=1e-5)


def test_a_policy_takes_over_the_pretrained_trunk():
    pretrained, _ = _regressor()
    policy = initialise(visuomotor(2, 2, (8,), CHANNELS), jax.random.key(5), 0, 2, jnp.float32)
    variables = transfer(pretrained, policy.variables)
    jax.tree.map(
        np.testing.assert_array_equal, variables["params"]["trunk"], pretrained["params"]["trunk"]
    )
    jax.tree.map(
        np.testing.assert_array_equal,
        variables["params"]["head"],
        policy.variables["params"]["head"],
    )
    check_architecture(policy.variables, variables)


@pytest.mark.parametrize(
    ("error", "status", "fatal", "message"),
    [
        (0.01, NON_FINITE, True, "diverged; lower config.policy.pretraining.learning_rate"),
        (0.06, OK, False, r"error of 0.06 m, no better than a guess \(0.05 m\); raise"),
        (float("nan"), OK, False, "no better than a guess"),
    ],
)
def test_pretraining_that_came_to_nothing_is_a_problem(error, status, fatal, message):
    problem = pretraining_problem(Pretraining(error, 0.05, status))
    assert problem.fatal is fatal and re.search(message, problem.text)


def test_pretraining_that_went_well_is_none():
    assert pretraining_problem(Pretraining(0.01, 0.05, OK)) is None


def test_a_policy_on_predicted_poses_learns():
    """The action is towards the object, which the policy knows only from the frozen regressor."""
    pretrained, _ = _regressor()
    network = pose_prediction_policy(NETWORK, 1, 2, hidden=(16,))
    policy = initialise(network, jax.random.key(5), 0, 2, jnp.float32)
    policy = dataclasses.replace(policy, variables=transfer(pretrained, policy.variables))
    images, pose = _scenes()
    image = images.reshape(2, 10, 10, SIDE, SIDE, 3)
    rows = Supervision(
        o={"image": image, "configuration": jnp.zeros((2, 10, 10, 1))},
        target=10 * pose[:, :2].reshape(2, 10, 10, 2),
        precision=jnp.broadcast_to(jnp.eye(2), (2, 10, 2, 2)),
        weight=jnp.ones((2, 10, 10)),
    )
    config = DistilConfig(steps=300, frozen="convolutions", learning_rate=0.01)
    trained, info = distil(policy, rows, jax.random.key(0), config)
    assert int(info.status.code) == OK
    assert float(info.loss) < 0.02 < 0.2 < float(info.loss_before)
    jax.tree.map(
        np.testing.assert_array_equal,
        (trained.variables["params"]["trunk"], trained.variables[STANDARDISATION]["trunk"]),
        (pretrained["params"], pretrained[STANDARDISATION]),
    )


def test_trunks_of_another_architecture_are_refused():
    pretrained, _ = _regressor()
    network = visuomotor(2, 2)
    example = network.example(jnp.float32)
    shapes = jax.eval_shape(lambda key: network.init(key, **example), jax.random.key(5))
    message = (
        "the pretrained convolutions belong to another architecture: convolutions/conv_0/bias is "
        r"\(8,\) and has to be \(64,\)"
    )
    with pytest.raises(ValueError, match=message):
        transfer(pretrained, shapes)


def test_the_first_difference_is_named():
    tree = {"a": jnp.zeros(3), "b": {"c": jnp.zeros((2, 2))}}
    check_architecture(tree, jax.tree.map(np.asarray, tree))
    with pytest.raises(ValueError, match=r"x.npz belong to another .*: b/c \(2, 2\) is missing"):
        check_architecture(tree, {"a": jnp.zeros(3)}, "the variables in x.npz")
    with pytest.raises(ValueError, match=r"d \(1,\) is not known to this network"):
        check_architecture(tree, {**tree, "d": jnp.zeros(1)})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "PoseConfig.steps is 0"),
        ({"batch_size": 0.5}, "PoseConfig.batch_size is 0.5"),
        ({"learning_rate": 0}, "PoseConfig.learning_rate is 0"),
        ({"validation": 0.7}, r"PoseConfig.validation is 0.7; .* in \[0, 0.5\]"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message):
        PoseConfig(**settings)


@pytest.mark.parametrize(
    ("images", "pose", "pose_dim", "message"),
    [
        ((4, SIDE, SIDE, 3), (3, 3), 3, r"pose \(4, 3\), got .* and \(3, 3\)"),
        ((4, SIDE, SIDE, 3), (4, 4), 4, "pose_dim is 4; points have three coordinates"),
        ((1, SIDE, SIDE, 3), (1, 3), 3, "there is one image; .* at least 2"),
        ((4, 20, SIDE, 3), (4, 3), 3, "an image of 32x20 pixels is too small"),
    ],
)
def test_shapes_that_disagree(images, pose, pose_dim, message):
    network = PoseRegressor(make_trunk("feature_points", CHANNELS), pose_dim)
    with pytest.raises(ValueError, match=message):
        regress_pose(network, jnp.zeros(images), jnp.zeros(pose), jax.random.key(0), CONFIG)


def test_an_unknown_architecture():
    with pytest.raises(ValueError, match=r"architecture is 'resnet'; .*feature_points, softmax_d"):
        make_trunk("resnet")


def test_a_trunk_with_a_dense_layer_fits_the_images_it_is_initialised_for(key):
    network = pose_prediction_policy(PoseRegressor(make_trunk("dense", (4, 4, 4)), 6), 3, 2)
    policy = initialise(network, key, 3, 2, jnp.float32, image_size=(30, 41))
    image, configuration = jnp.zeros((30, 41, 3), jnp.uint8), jnp.zeros(3)
    u = jax.jit(network.apply)(policy.variables, image, configuration)
    assert u.shape == (2,)
