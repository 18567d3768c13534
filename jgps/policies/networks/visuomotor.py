"""A policy that reads pixels: convolutions, feature points by spatial softmax, dense layers.

    image -> conv 7x7 stride 2 -> conv 5x5 -> conv 5x5 -> where each channel is active, 2 numbers
    [feature points; configuration] -> dense -> dense -> mean action

Source: Levine, Finn, Darrell & Abbeel (2016), section 5.1.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jgps.policies.networks.convolution import convolution
from jgps.policies.networks.mlp import STANDARDISATION, Mlp
from jgps.policies.networks.spatial_softmax import SpatialSoftmax

KERNELS = ((7, 2), (5, 1), (5, 1))  # size and stride of the convolutions, the image first
CHANNELS = (64, 32, 32)
CONV_DTYPES = (None, "float32", "bfloat16")
NUM_COLOURS = 3


class Convolutions(nn.Module):
    """Response maps of an image; unpadded convolutions, each with a ReLU.

    Attributes:
      channels: of each convolution.
      dtype: in which they are computed, None for that of the parameters, which stay as they are.
      pool: window of a max-pooling with stride 2 after every convolution that has no stride of its
        own, 0 for none.
    """

    channels: tuple[int, ...] = CHANNELS
    dtype: str | None = None
    pool: int = 0

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        """Maps [..., h, w, K] of an image [..., H, W, 3], uint8 or float in [0, 1].

        Raises:
          ValueError: while tracing, for an image of another kind, or one that is too small.
        """
        self.check(image)
        h = 2 * as_float(image) - 1
        h = h.reshape(-1, *image.shape[-3:])
        for number, ((size, stride), width) in enumerate(zip(KERNELS, self.channels, strict=True)):
            name, shape = f"conv_{number}", (size, size)
            h = nn.Conv(
                width,
                shape,
                stride,
                padding="VALID",
                dtype=self.dtype,
                conv_general_dilated=convolution,
                name=name,
            )(h)
            h = nn.relu(h)
            if self.pool and stride == 1:
                h = nn.max_pool(h, (self.pool, self.pool), (2, 2))
        return h.reshape(*image.shape[:-3], *h.shape[1:])

    @property
    def smallest(self) -> int:
        """Side of the smallest image, pixels; its maps are 2x2, so that they have a position."""
        side = 2
        for size, stride in reversed(KERNELS):
            side = (side - 1) * 2 + self.pool if self.pool and stride == 1 else side
            side = (side - 1) * stride + size
        return side

    def check(self, image: jax.Array) -> None:
        """Refuses what is no image, or a too small one."""
        if image.ndim < 3 or image.shape[-1] != NUM_COLOURS:
            raise ValueError(
                f"the image must be [..., H, W, {NUM_COLOURS}], got shape {image.shape}"
            )
        if image.dtype != jnp.uint8 and not jnp.issubdtype(image.dtype, jnp.floating):
            raise ValueError(f"the image must be uint8 or float in [0, 1], got {image.dtype}")
        if min(image.shape[-3:-1]) < self.smallest:
            height, width = image.shape[-3:-1]
            raise ValueError(
                f"an image of {width}x{height} pixels is too small for this network; the smallest "
                f"that works is {self.smallest}x{self.smallest}"
            )


class FeaturePoints(nn.Module):
    """The trunk of the policy: an image's feature points.

    Attributes:
      convolutions: gives the response maps.
      learned_temperature: of the softmax.
    """

    convolutions: Convolutions = Convolutions()
    learned_temperature: bool = False

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        """[..., 2K] in [-1, 1], in the order of `spatial_softmax`."""
        return SpatialSoftmax(self.learned_temperature, name="softmax")(self.convolutions(image))


class Visuomotor(nn.Module):
    """Mean action mu(image, configuration).

    Its variables are those of "trunk", which turns an image into a few numbers, and of "head", an
    `Mlp` that reads these numbers and the configuration.

    Attributes:
      trunk: a module, image [..., H, W, 3] -> features [..., dF].
      configuration_dim: dq.
      action_dim: dU.
      hidden: widths of the head's hidden layers.
      smallest_scale: features that spread less than this are not scaled up further.
    """

    trunk: nn.Module
    configuration_dim: int
    action_dim: int
    hidden: tuple[int, ...] = (40, 40)
    smallest_scale: float = 0.02

    def setup(self) -> None:
        """Names the head; Flax calls it."""
        self.head = Mlp(self.action_dim, self.hidden)

    def __call__(self, image: jax.Array, configuration: jax.Array) -> jax.Array:
        """Mean actions [..., dU].

        Args:
          image: [..., H, W, 3], uint8 or float in [0, 1]; any size from the smallest.
          configuration: of the robot, [..., dq].

        Raises:
          ValueError: while tracing, if shapes disagree or the image is too small.
        """
        return self.act_on_features(self.features(image), configuration)

    def features(self, image: jax.Array) -> jax.Array:
        """What the trunk makes of the image, [..., dF]."""
        return self.trunk(image)

    def act_on_features(self, features: jax.Array, configuration: jax.Array) -> jax.Array:
        """Mean actions [..., dU] for features [..., dF] and configurations [..., dq]."""
        expected = (*features.shape[:-1], self.configuration_dim)
        if configuration.shape != expected:
            raise ValueError(f"the configuration must be {expected}, got {configuration.shape}")
        return self.head(jnp.concatenate([features, configuration], axis=-1))

    def example(
        self, dtype: jnp.dtype, image_size: tuple[int, int] = (64, 64)
    ) -> dict[str, jax.Array]:
        """An observation that suits, for initialising.

        The size of the image, (height, width) in pixels, counts for trunks with a dense layer only:
        no variable of convolutions and feature points depends on it.
        """
        return {
            "image": jnp.zeros((*image_size, NUM_COLOURS), jnp.uint8),
            "configuration": jnp.zeros(self.configuration_dim, dtype),
        }

    def standardised(self, variables: dict, shift: dict, scale: dict, action_scale: jax.Array):
        """The same function, written with another standardisation of what the head reads.

        Args:
          variables: of this module.
          shift, scale: {"configuration": [dq]}, and "features" [dF] where those are known.
          action_scale: [dU], > 0.
        """
        old = variables[STANDARDISATION]["head"]
        num = old["shift"].shape[0] - self.configuration_dim
        features = {"shift": old["shift"][:num], "scale": old["scale"][:num]}
        if "features" in shift:
            wide = jnp.maximum(scale["features"], self.smallest_scale)
            features = {"shift": shift["features"], "scale": wide}
        head = Mlp(self.action_dim, self.hidden, parent=None).standardised(
            {"params": variables["params"]["head"], STANDARDISATION: old},
            jnp.concatenate([features["shift"], shift["configuration"]]),
            jnp.concatenate([features["scale"], scale["configuration"]]),
            action_scale,
        )
        return {
            name: {**variables[name], "head": head[name]} for name in ("params", STANDARDISATION)
        }


def visuomotor(
    configuration_dim: int = 39,
    action_dim: int = 7,
    hidden: tuple[int, ...] = (40, 40),
    channels: tuple[int, ...] = CHANNELS,
    learned_temperature: bool = False,
    conv_dtype: str | None = None,
) -> Visuomotor:
    """The network of a policy that reads pixels; 92,423 parameters by default.

    Args:
      configuration_dim: what the robot knows of itself, dq.
      action_dim: dU.
      hidden: widths of the dense layers.
      channels: of the three convolutions; the last has half as many as there are feature numbers.
      learned_temperature: of the spatial softmax; 1 otherwise.
      conv_dtype: "bfloat16" computes the convolutions in it, which accelerators do faster;
        parameters, softmax and dense layers stay as they are.

    Raises:
      ValueError: if a size is not a positive integer, or for another dtype.
    """
    sizes = (("configuration_dim", configuration_dim), ("action_dim", action_dim))
    sizes += tuple(("hidden", width) for width in hidden)
    for name, size in (*sizes, *(("channels", width) for width in channels)):
        if not isinstance(size, int) or size < 1:
            raise ValueError(f"{name} is {size!r}; it has to be an integer and at least 1")
    if len(channels) != len(KERNELS):
        raise ValueError(f"channels is {channels}; there are {len(KERNELS)} convolutions")
    if conv_dtype not in CONV_DTYPES:
        raise ValueError(f"conv_dtype is {conv_dtype!r}; it has to be one of {CONV_DTYPES}")
    trunk = FeaturePoints(Convolutions(tuple(channels), conv_dtype), learned_temperature)
    return Visuomotor(trunk, configuration_dim, action_dim, tuple(hidden))


def as_float(image: jax.Array) -> jax.Array:
    """uint8 [0, 255] as float32 [0, 1]; floats unchanged."""
    return image.astype(jnp.float32) / 255 if image.dtype == jnp.uint8 else image


def feature_pixels(features: jax.Array, height: int, width: int) -> jax.Array:
    """Where feature points of `visuomotor` lie in the image, to draw them.

    Args:
      features: [..., 2K].
      height, width: of the image, pixels.

    Returns:
      Column and row [..., K, 2] of the centre of the pixels that the response depends on.
    """
    points = features.reshape(*features.shape[:-1], -1, 2)
    first, step = 0.0, 1
    sides = jnp.array([width, height])
    for size, stride in KERNELS:
        first += step * (size - 1) / 2
        step *= stride
        sides = (sides - size) // stride + 1
    return first + step * (points + 1) / 2 * (sides - 1)
