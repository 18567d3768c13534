"""The smallest readers of settings of networks, of their training and of what they see."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import pointer
from setting_programs import Fingerprints, digest, struct, traced, traced_for
from setting_readers import KEY, C, N, T, task

from jgps import policies, tasks
from jgps.algorithms import MdgpsConfig
from jgps.policies import DistilConfig, Supervision, observation
from jgps.policies.learner import MlpConfig
from jgps.rendering import make_view, randomise
from jgps.training.setup import Options, set_up
from jgps.vision.camera import make_observers, make_policy_view
from jgps.vision.config import VisualConfig
from jgps.vision.domain_randomisation import make_randomise_scene
from jgps.vision.learner import make_learner, make_network
from jgps.vision.pose_regression import regress_pose

MESH = """
<mujoco>
  <asset><mesh name="tetrahedron" vertex="0 0 0  1 0 0  0 1 0  0 0 1"/></asset>
  <worldbody>
    <camera name="eye" pos="0 0 3"/>
    <light pos="0 0 3"/>
    <geom type="mesh" mesh="tetrahedron"/>
    <geom type="plane" size="1 1 0.1"/>
  </worldbody>
</mujoco>
"""


def of_policy(task: tasks.Task) -> Callable[[Any], Fingerprints]:
    """A policy: what it is made from, how it is made, acts and learns."""
    dO, dU = task.observation_dim, task.action_dim
    supervision = Supervision(
        o=struct(C, N, T, dO),
        target=struct(C, N, T, dU),
        precision=struct(C, T, dU, dU),
        weight=struct(C, N, T),
        gain=struct(C, T, dU, task.configuration_dim),
    )

    def program(config: MlpConfig | VisualConfig) -> Fingerprints:
        learner = make_learner(task, config)
        prepared = None if learner.prepare is None else learner.prepare(KEY)
        yield digest(prepared)
        initial, (policy, _) = traced_for(learner.init, KEY, prepared)
        yield initial
        yield traced(learner.train, policy, supervision, struct(dtype=jnp.int32), KEY)
        yield traced(learner.mean, policy, struct(dO), struct(dtype=jnp.bool_))

    return program


def of_training(config: DistilConfig) -> Fingerprints:
    """The training of a network that sees, and what its failure means for the run."""
    seen = task()
    vision = pointer.small_vision(4, 4, width=29, height=29)
    network, size = make_network(seen, vision), seen.configuration_dim
    observe, _ = make_observers(seen, vision)
    policy = jax.eval_shape(
        lambda: policies.initialise(network, KEY, size, 1, jnp.float32, observe)
    )
    image = struct(C, N, T, vision.height, vision.width, 3, dtype=jnp.uint8)
    supervision = Supervision(
        o={"image": image, observation.VECTOR: struct(C, N, T, size)},
        target=struct(C, N, T, 1),
        precision=struct(C, T, 1, 1),
        weight=struct(C, N, T),
        gain=struct(C, T, 1, size),
    )
    yield traced(lambda *args: policies.distil(*args, config), policy, supervision, KEY)
    options = Options(
        task=seen, algorithm="mdgps", config=MdgpsConfig(policy=MlpConfig(distil=config)),
        policy=None, prior=None, random_starts=False, sampling=None, iterations=1,
        seed=0, backend="native",
        start_from=None, keep_samples=False, out=None, resume=False, overwrite=False,
        evaluate_every=0, checkpoint=None, on_start=None, on_iteration=None,
    )  # fmt: skip
    yield set_up(options).stop_on_divergence


def of_pose_regression(config: Any) -> Fingerprints:
    """The pretraining of convolutions on images."""
    trunk = policies.make_trunk("feature_points", (2, 2, 2))
    network = policies.PoseRegressor(trunk, 3)
    images, pose = struct(8, 29, 29, 3, dtype=jnp.uint8), struct(8, 3)
    yield traced(lambda *args: regress_pose(network, *args, config), images, pose, KEY)


def of_randomised_scenes(config: Any) -> Fingerprints:
    """Scenes as a network learns from them."""
    seen, vision = task(), VisualConfig()
    scene = make_randomise_scene(seen, make_policy_view(seen, vision), config)
    num = seen.model.nbody
    yield traced(scene, KEY, struct(num, 3), struct(num, 3, 3))


def of_random_looks(config: Any) -> Fingerprints:
    """Random appearances."""
    look = make_view(task().model, "eye").appearance
    yield traced(lambda key: randomise(key, look, config), KEY)


def of_images(config: Any) -> Fingerprints:
    """Images of a scene with a mesh of four triangles, or that it is refused."""
    model = mujoco.MjModel.from_xml_string(MESH)
    try:
        view = make_view(model, "eye", width=4, height=4, config=config)
    except ValueError as error:
        yield str(error)
        return
    yield traced(view.draw_rgb, struct(3, model.nbody, 3), struct(3, model.nbody, 3, 3))
