"""What the paper compares its feature points with: other ways from response maps to numbers.

All share the convolutions of `visuomotor`. Each is a trunk, image -> features, for a
`PoseRegressor` or for a policy.

Source: Levine et al. (2016), section 6. Widths that we do not know from the paper are those of the
feature points.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jgps.policies.networks.mlp import STANDARDISATION
from jgps.policies.networks.visuomotor import CHANNELS, Convolutions, FeaturePoints, Visuomotor

ARCHITECTURES = ("feature_points", "softmax_dense", "dense", "max_pool_dense")
WIDTH = 64  # as many as there are feature numbers
POOL = 3  # window of the max-pooling
POSE_SCALE = 1e-3  # metres; predicted poses that vary less are not scaled up further


class DenseFeatures(nn.Module):
    """A dense layer with a ReLU on all of the response maps.

    Attributes:
      convolutions: gives the maps.
      softmax: over the positions of every channel first.
      width: of the layer. It reads every position, so that its parameters fit one size of image.
    """

    convolutions: Convolutions = Convolutions()
    softmax: bool = False
    width: int = WIDTH

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        """[..., width] of an image [..., H, W, 3]."""
        maps = self.convolutions(image)
        maps = maps.astype(jnp.promote_types(maps.dtype, jnp.float32))
        if self.softmax:
            maps = jax.nn.softmax(maps, axis=(-3, -2))
        rows = maps.reshape(*maps.shape[:-3], -1)
        return nn.relu(nn.Dense(self.width, name="dense")(rows))


class PoseRegressor(nn.Module):
    """Where an object is, predicted from an image by one linear layer on a trunk.

    Attributes:
      trunk: image [..., H, W, 3] -> features [..., dF].
      pose_dim: P, three coordinates for each of a few points on the object.
    """

    trunk: nn.Module
    pose_dim: int

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        """Pose [..., P], metres."""
        features = self.trunk(image)
        pose = nn.Dense(self.pose_dim, name="pose")(features)

        def constant(name: str, value: float) -> jax.Array:
            shape = (self.pose_dim,)
            return self.variable(STANDARDISATION, name, jnp.full, shape, value, pose.dtype).value

        return pose * constant("scale", 1) + constant("shift", 0)


def make_trunk(
    architecture: str, channels: tuple[int, ...] = CHANNELS, conv_dtype: str | None = None
) -> nn.Module:
    """One of the trunks that are compared.

    Args:
      architecture: "feature_points" (spatial softmax, the paper's), "softmax_dense" (a dense layer
        on the softmax), "dense" (on the maps), "max_pool_dense" (on maps that were max-pooled).
      channels, conv_dtype: of the convolutions, as in `visuomotor`.

    Raises:
      ValueError: for an unknown one.
    """
    convolutions = Convolutions(tuple(channels), conv_dtype)
    if architecture == "feature_points":
        return FeaturePoints(convolutions)
    if architecture == "softmax_dense":
        return DenseFeatures(convolutions, softmax=True)
    if architecture == "dense":
        return DenseFeatures(convolutions)
    if architecture == "max_pool_dense":
        return DenseFeatures(Convolutions(tuple(channels), conv_dtype, pool=POOL))
    raise ValueError(
        f"architecture is {architecture!r}; it has to be one of {', '.join(ARCHITECTURES)}"
    )


def pose_prediction_policy(
    regressor: PoseRegressor,
    configuration_dim: int,
    action_dim: int,
    hidden: tuple[int, ...] = (40, 40),
) -> Visuomotor:
    """The baseline whose dense layers read the pose that a pretrained regressor predicts.

    The one on pose features is `visuomotor` itself. Both are trained with `frozen="convolutions"`
    after `transfer`.
    """
    return Visuomotor(regressor, configuration_dim, action_dim, tuple(hidden), POSE_SCALE)
