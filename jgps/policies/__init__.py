"""Networks as policies: what they are, how they learn from controllers, how they are linearised."""

from jgps.policies.distil import DistilConfig, DistilInfo, Supervision, distil
from jgps.policies.linearise import linearise, offset
from jgps.policies.networks.architecture import check_architecture
from jgps.policies.networks.baselines import (
    ARCHITECTURES,
    PoseRegressor,
    make_trunk,
    pose_prediction_policy,
)
from jgps.policies.networks.mlp import STANDARDISATION, Mlp, count_parameters, mlp
from jgps.policies.networks.spatial_softmax import SpatialSoftmax, spatial_softmax
from jgps.policies.networks.visuomotor import Visuomotor, feature_pixels, visuomotor
from jgps.policies.observation import cache_features, look
from jgps.policies.policy import (
    NetworkParams,
    NetworkPolicy,
    acting,
    acting_on_images,
    initialise,
)

__all__ = [
    "ARCHITECTURES",
    "STANDARDISATION",
    "Mlp",
    "NetworkParams",
    "NetworkPolicy",
    "PoseRegressor",
    "SpatialSoftmax",
    "DistilConfig",
    "DistilInfo",
    "Supervision",
    "Visuomotor",
    "acting",
    "acting_on_images",
    "cache_features",
    "check_architecture",
    "count_parameters",
    "feature_pixels",
    "initialise",
    "linearise",
    "look",
    "make_trunk",
    "mlp",
    "offset",
    "pose_prediction_policy",
    "spatial_softmax",
    "distil",
    "visuomotor",
]
