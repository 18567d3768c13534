"""Domain randomisation: images to learn from are the task's own, but for things of no concern.

Colours and lights differ a little, and bodies that are clutter stand about, in any colours. A
network that acts sees the task as it is.
"""

import dataclasses
from collections.abc import Callable
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jgps.core.checks import Config, Range, refuse
from jgps.rendering import Appearance, RandomiseConfig, View, randomise
from jgps.tasks import Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class DomainRandomisationConfig(Config):
    """How images to learn from differ from the task's own.

    Attributes:
      randomise: colours, textures, lights and the camera.
      clutter: probability that each body of the task's clutter stands about, in [0, 1].
      nearest, farthest: least and greatest distance of that body from an object, metres, > 0.
    """

    randomise: RandomiseConfig = RandomiseConfig(
        colour=0.1,
        texture=0.0,
        light_turn=10.0,
        light_shift=0.0,
        light_range=(0.85, 1.15),
        sky=0.1,
        camera_shift=0.0,
        camera_turn=0.0,
        camera_fovy=0.0,
    )
    clutter: Annotated[float, Range("[0, 1]")] = 0.5
    nearest: Annotated[float, Range("> 0", "usually 0.1 metres")] = 0.1
    farthest: Annotated[float, Range("> 0", "usually 0.35 metres")] = 0.35

    def __post_init__(self) -> None:
        if self.farthest < self.nearest:
            refuse(self, "farthest", f">= nearest = {self.nearest}, usually 0.35")


class RandomisedScene(NamedTuple):
    """What a view draws: poses of all bodies, and the appearance of everything."""

    xpos: jax.Array  # [B, 3] metres, world frame
    xmat: jax.Array  # [B, 3, 3]
    appearance: Appearance


RandomiseScene = Callable[[jax.Array, jax.Array, jax.Array], RandomisedScene]


def make_randomise_scene(
    task: Task, view: View, config: DomainRandomisationConfig
) -> RandomiseScene:
    """`randomise_scene(key, xpos [B, 3], xmat [B, 3, 3])`: the scene as networks learn from it."""
    vision, model = task.vision, task.model
    assert vision is not None
    standing = vision.objects[model.body_parentid[vision.objects] == 0]
    around = standing if len(standing) else vision.objects
    clutter = vision.clutter
    geoms = np.flatnonzero(np.isin(model.geom_bodyid, clutter))

    def randomise_scene(key: jax.Array, xpos: jax.Array, xmat: jax.Array) -> RandomisedScene:
        appearance_key, colour_key, there_key, place_key = jax.random.split(key, 4)
        appearance = randomise(appearance_key, view.appearance, config.randomise)
        if not len(clutter):
            return RandomisedScene(xpos, xmat, appearance)
        rgb = jax.random.uniform(colour_key, (len(geoms), 3), appearance.rgba.dtype)
        appearance = appearance._replace(
            rgba=appearance.rgba.at[geoms, :3].set(rgb), rgb2=appearance.rgb2.at[geoms].set(rgb)
        )
        there = jax.random.bernoulli(there_key, config.clutter, (len(clutter), 1))
        places, turns = _stand_about(place_key, xpos[around], len(clutter), config)
        xpos = xpos.at[clutter].set(jnp.where(there, places, xpos[clutter]))
        return RandomisedScene(xpos, xmat.at[clutter].set(turns), appearance)

    return randomise_scene


def _stand_about(
    key: jax.Array, objects: jax.Array, num: int, config: DomainRandomisationConfig
) -> tuple[jax.Array, jax.Array]:
    """Places [num, 3] about any of the objects [n, 3], at their heights, and rotations."""
    which_key, distance_key, angle_key, turn_key = jax.random.split(key, 4)
    dtype = objects.dtype
    which = jax.random.randint(which_key, (num,), 0, objects.shape[0])
    distance = jax.random.uniform(
        distance_key, (num,), dtype, minval=config.nearest, maxval=config.farthest
    )
    angle = 2 * jnp.pi * jax.random.uniform(angle_key, (num,), dtype)
    turn = 2 * jnp.pi * jax.random.uniform(turn_key, (num,), dtype)
    zero, one = jnp.zeros_like(turn), jnp.ones_like(turn)
    aside = jnp.stack([distance * jnp.cos(angle), distance * jnp.sin(angle), zero], axis=-1)
    cos, sin = jnp.cos(turn), jnp.sin(turn)
    rows = ((cos, -sin, zero), (sin, cos, zero), (zero, zero, one))
    rotation = jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)
    return objects[which] + aside, rotation
