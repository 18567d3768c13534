"""What a camera sees as part of the state: numbers that a function makes of the image.

The image is drawn at every control step from the poses of bodies, on both backends, so that local
controllers act on it and models are fitted to it, as to any other entry of the state.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jgps.core.checks import Range, check_argument
from jgps.core.names import shown
from jgps.core.traces import fingerprint
from jgps.rendering import RenderConfig, View, make_view
from jgps.rendering.batching import batching
from jgps.simulation import Conditions, StateLayout, load_model
from jgps.tasks.policy_camera import (
    Compiled,
    Vision,
    VisionSpec,
    body_poses,
    check_changes,
    make_vision,
    moving_bodies,
    pose_entries,
)

ENTRY = "image"
Features = Callable[[jax.Array], jax.Array]


class StateImage(NamedTuple):
    """What the state's entry `image` is made of.

    The image is that of `width` x `height` pixels, to which a camera's field of view is fitted.
    Without `features` the entry is the image itself, grey, row by row, from 0 for black to 1: for
    small images, since models are fitted to all of it. `features(image [H, W, 3] uint8)` returns
    other numbers [F] of it and has to be traceable; what it has learned it closes over, as in
    `functools.partial(network.apply, params)`.
    """

    camera: str  # of the model
    width: int = 16  # pixels
    height: int = 16
    features: Features | None = None
    render: RenderConfig = RenderConfig(supersample=2)


def grey(image: jax.Array) -> jax.Array:
    """The mean of the colours [H, W, 3] uint8, as [H * W] from 0 to 1."""
    return jnp.mean(image, axis=-1).ravel() / 255


@dataclasses.dataclass(frozen=True, eq=False)
class DrawnFeatures:
    """The entry's numbers as a function of the state's features, see `StateLayout.features`."""

    view: View
    vision: Vision  # whose places are in those features
    function: Features
    num_features: int  # that it is given

    @property
    def reads(self) -> np.ndarray:
        """See `jgps.simulation.drawn.Drawn`."""
        return np.concatenate([self.vision.position.ravel(), self.vision.rotation.ravel()])

    def __call__(self, features: jax.Array) -> jax.Array:
        """Numbers [..., F] of the images at features [..., n]."""
        draw = batching(functools.partial(self.view.draw_rgb, as_uint8=True))
        images = draw(*body_poses(self.vision, features))
        lead = images.shape[:-3]
        found = jax.vmap(self.function)(images.reshape(-1, *images.shape[-3:]))
        return found.reshape(*lead, -1).astype(features.dtype)

    @functools.cached_property
    def content(self) -> str:
        """Of all that it does, the same in every process: programs are shared by it."""
        dtype = jax.dtypes.canonicalize_dtype(float)
        like = jax.ShapeDtypeStruct((self.num_features,), dtype)
        return fingerprint(jax.make_jaxpr(self.__call__)(like))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DrawnFeatures):
            return NotImplemented
        return self is other or self.content == other.content

    def __hash__(self) -> int:
        return hash(self.content)


def image_dim(image: StateImage | None, entries: Sequence[str]) -> int | None:
    """How many numbers F the entry has; None where there is no image.

    Args:
      image: what it is made of.
      entries: of the state and the observation.

    Raises:
      ValueError: for what is no `StateImage` or is not used, an image without pixels, and features
        that are no vector of numbers.
    """
    if image is None:
        return None
    if not isinstance(image, StateImage):
        raise ValueError(f"image is {shown(image)}; pass jgps.tasks.StateImage(camera=...)")
    if ENTRY not in entries:
        raise ValueError(f"image is given, and the state has no entry {ENTRY!r}; add it to state")
    for name in ("width", "height"):
        check_argument(f"StateImage.{name}", getattr(image, name), Annotated[int, Range(">= 1")])
    if not isinstance(image.render, RenderConfig):
        raise ValueError(
            f"StateImage.render is {shown(image.render)}; it has to be a jgps.configs.RenderConfig"
        )
    shape = (image.height, image.width, 3)
    what = f"features(image {list(shape)} uint8)"
    function = grey if image.features is None else image.features
    if not callable(function):
        raise ValueError(f"StateImage.features is {shown(function)}; it has to be a function")
    try:
        inspect.signature(function).bind(None)
        found = jax.eval_shape(function, jax.ShapeDtypeStruct(shape, jnp.uint8))
    except Exception as error:
        reason = " ".join(str(error).split()) or "it says nothing more"
        raise ValueError(f"{what} fails with a {type(error).__name__}: {reason}") from error
    sound = isinstance(found, jax.ShapeDtypeStruct) and len(found.shape) == 1 and found.shape[0]
    if not sound or not jnp.issubdtype(found.dtype, jnp.floating):
        held = getattr(found, "shape", type(found).__name__)
        raise ValueError(
            f"{what} has to return a vector of floating-point numbers; it returns "
            f"{held} of {getattr(found, 'dtype', 'no dtype')}"
        )
    return int(found.shape[0])


def image_poses(
    model: mujoco.MjModel, sets: Sequence[Conditions], image: StateImage
) -> tuple[str, ...]:
    """Entries of the poses that the image is drawn from.

    Raises:
      ValueError: where nothing moves, or conditions look different in another way than by the
        poses of bodies.
    """
    check_changes(model, sets)
    return pose_entries(moving_bodies(model, sets, image.camera), ())


def with_image(
    compiled: Compiled, poses: Sequence[str], sets: Sequence[Conditions], image: StateImage
) -> Compiled:
    """The layouts with what draws their image.

    Args:
      compiled: with the sensors of these poses.
      poses: see `image_poses`.
      sets: of conditions, those to train in first.
      image: what it is made of.
    """
    model, layout, observed = compiled
    places = load_model(model, tuple(poses))[1]
    found = make_vision(model, places, 0, sets, VisionSpec(image.camera))
    vision = found._replace(
        position=places.index[found.position], rotation=places.index[found.rotation]
    )
    view = make_view(
        model, image.camera, width=image.width, height=image.height, config=image.render
    )
    drawn = DrawnFeatures(view, vision, image.features or grey, layout.places.image)

    def drawing(each: StateLayout) -> StateLayout:
        return dataclasses.replace(each, drawn=drawn, uses_sensors=True)

    return model, drawing(layout), None if observed is None else drawing(observed)
