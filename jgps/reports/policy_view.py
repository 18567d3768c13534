"""Draws the images that a policy gets from its camera, and the feature points in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jgps.policies import NetworkPolicy, PoseRegressor, Visuomotor
from jgps.policies.networks.mlp import STANDARDISATION
from jgps.policies.networks.visuomotor import FeaturePoints, feature_pixels
from jgps.policies.observation import CHUNK, observed
from jgps.reports.run_data import RunData
from jgps.tasks import Task
from jgps.training import UsageError, load
from jgps.vision.config import VisualConfig

MAX_POINTS = 8  # of all feature points are shown: as many colours as can be told apart


class PolicyView(NamedTuple):
    """The images that a network got in some rollouts, and its feature points in them."""

    images: np.ndarray  # [M, T, H, W, 3] uint8
    points: np.ndarray  # [M, T, K, 2] column and row of the feature points to draw, pixels
    num_features: int  # points that the network has, K or more

    def select(self, rollouts: Sequence[int]) -> PolicyView:
        """Returns the view of some of the rollouts, by their index."""
        index = list(rollouts)
        return self._replace(images=self.images[index], points=self.points[index])

    @property
    def caption(self) -> str:
        """A sentence that says which feature points are drawn."""
        num = self.points.shape[2]
        if num == self.num_features:
            return f"Dots: the {num} feature points."
        return (
            f"Dots: the {num} of {self.num_features} feature points whose movements the dense "
            "layers weigh most."
        )


def load_policy(
    run: RunData, task: Task, say: Callable[[str], None] = print
) -> NetworkPolicy | None:
    """Loads the policy that a run trained, if it reads camera images and has feature points.

    Args:
      run: a finished run.
      task: the task that the policy was trained on.
      say: is called with the reason where such a policy cannot be loaded.

    Returns:
      The policy; None where it reads no images, has no feature points or cannot be loaded.
    """
    settings = run.config.get("config") or {}
    if task.vision is None or (settings.get("policy") or {}).get("type") != VisualConfig.__name__:
        return None
    try:
        policy = load(run.directory, task).state.policy
    except UsageError as error:
        say(f"What the policy sees is not drawn: {error}")
        return None
    return policy if _trunk(policy) is not None else None


def draw_policy_view(
    task: Task,
    policy: NetworkPolicy,
    rollouts: Sequence[tuple[mujoco.MjModel, np.ndarray]],
    max_points: int = MAX_POINTS,
) -> PolicyView:
    """Draws the images that the network got from its camera and finds its feature points in them.

    Args:
      task: a task with a camera for policies.
      policy: a policy that reads the images of that camera, see `load_policy`.
      rollouts: for each rollout the model of its condition, and joint positions [T, nq].
      max_points: the number of feature points to keep; those are kept whose movements change the
        sums of the first dense layer most.
    """
    draw = _make_image_drawer(policy)
    scenes = np.stack([_scene(task, model, qpos) for model, qpos in rollouts])
    rows = scenes.reshape(-1, scenes.shape[-1])
    parts = []
    for start in range(0, len(rows), CHUNK):
        # The last chunk repeats its last row, so that all have one shape.
        index = np.minimum(np.arange(start, start + CHUNK), len(rows) - 1)
        parts.append(jax.device_get(draw(jnp.asarray(rows[index]))))
    images, features = (
        np.concatenate(part)[: len(rows)].reshape(*scenes.shape[:2], *part[0].shape[1:])
        for part in zip(*parts, strict=True)
    )
    points = np.asarray(feature_pixels(jnp.asarray(features), *images.shape[2:4]))
    weights = _influence(policy, features)
    chosen = np.sort(np.argsort(-weights, kind="stable")[:max_points])
    return PolicyView(images, points[:, :, chosen], points.shape[2])


def _scene(task: Task, model: mujoco.MjModel, qpos: np.ndarray) -> np.ndarray:
    """Computes observations [T, dO] with the poses that the camera reads and zeros elsewhere."""
    vision = task.vision
    assert vision is not None
    o = np.zeros((len(qpos), task.observation_dim), np.float32)
    data = mujoco.MjData(model)
    for row, joints in zip(o, qpos, strict=True):
        data.qpos[:] = joints
        mujoco.mj_kinematics(model, data)
        columns = data.xmat[vision.bodies].reshape(-1, 3, 3).swapaxes(1, 2)
        row[vision.position] = data.xpos[vision.bodies]
        row[vision.rotation] = columns[:, :2].reshape(-1, 6)
    return o


def _trunk(policy: NetworkPolicy) -> tuple[FeaturePoints, dict] | None:
    """Returns the layers that find feature points and their parameters; None without any."""
    network = policy.network
    if not isinstance(network, Visuomotor):
        return None
    trunk, params = network.trunk, policy.variables["params"]["trunk"]
    if isinstance(trunk, PoseRegressor):
        trunk, params = trunk.trunk, params["trunk"]
    return (trunk, params) if isinstance(trunk, FeaturePoints) else None


def _make_image_drawer(policy: NetworkPolicy) -> Callable[[jax.Array], tuple[jax.Array, jax.Array]]:
    """Makes a jitted function that draws images of observations and finds features in them.

    Returns:
      `draw(o [M, dO]) -> (images [M, H, W, 3] uint8, features [M, 2K])`.
    """
    found, observe = _trunk(policy), policy.observe
    assert found is not None and observe is not None
    trunk, params = found

    def one(o: jax.Array) -> tuple[jax.Array, jax.Array]:
        observation = observed(observe, o)
        assert not isinstance(observation, jax.Array)
        with jax.default_matmul_precision("highest"):  # as where it acts
            image = observation["image"]
            return image, jnp.asarray(trunk.apply({"params": params}, image))

    return jax.jit(jax.vmap(one))


def _influence(policy: NetworkPolicy, features: np.ndarray) -> np.ndarray:
    """Measures how much each point's movements change the sums of the first dense layer.

    The measure of a coordinate is its standard deviation over all images times the norm of its
    weights in that layer.

    Args:
      policy: the policy whose weights are read.
      features: coordinates of the K points, [M, T, 2K].

    Returns:
      The norm of the measures of each point's two coordinates, [K].
    """
    weights = np.linalg.norm(_readout(policy), axis=1)
    spread = np.std(features.reshape(-1, features.shape[-1]), axis=0)
    return np.linalg.norm((weights * spread).reshape(-1, 2), axis=1)


def _readout(policy: NetworkPolicy) -> np.ndarray:
    """The derivative of the first dense layer's sums by each feature coordinate, [2K, width]."""
    network = policy.network
    assert isinstance(network, Visuomotor)
    variables = jax.device_get(policy.variables)
    params, constants = variables["params"], variables[STANDARDISATION]
    first = params["head"]["dense_0" if network.hidden else "action"]["kernel"]
    first = first / constants["head"]["scale"][:, None]
    read = first[: len(first) - network.configuration_dim]
    if isinstance(network.trunk, PoseRegressor):
        return params["trunk"]["pose"]["kernel"] * constants["trunk"]["scale"] @ read
    return read
