"""Networks as policies: what they are, how controllers supervise them, how they are linearised."""

from jgps.policies.architecture import check_architecture
from jgps.policies.linearize import linearize, offset
from jgps.policies.mlp import STANDARDISATION, Mlp, count_parameters, mlp
from jgps.policies.network_policy import (
    NetworkParams,
    NetworkPolicy,
    acting,
    acting_on_images,
    initialise,
)
from jgps.policies.observation import cache_features, look
from jgps.policies.pose_regression import PoseConfig, PoseInfo, regress_pose, transfer
from jgps.policies.spatial_softmax import SpatialSoftmax, spatial_softmax
from jgps.policies.supervise import SuperviseConfig, SuperviseInfo, Supervision, supervise
from jgps.policies.vision_baselines import (
    ARCHITECTURES,
    PoseRegressor,
    make_trunk,
    pose_prediction_policy,
)
from jgps.policies.visuomotor import Visuomotor, feature_pixels, visuomotor

__all__ = [
    "ARCHITECTURES",
    "STANDARDISATION",
    "Mlp",
    "NetworkParams",
    "NetworkPolicy",
    "PoseConfig",
    "PoseInfo",
    "PoseRegressor",
    "SpatialSoftmax",
    "SuperviseConfig",
    "SuperviseInfo",
    "Supervision",
    "Visuomotor",
    "acting",
    "acting_on_images",
    "cache_features",
    "check_architecture",
    "count_parameters",
    "feature_pixels",
    "initialise",
    "linearize",
    "look",
    "make_trunk",
    "mlp",
    "offset",
    "pose_prediction_policy",
    "regress_pose",
    "spatial_softmax",
    "supervise",
    "transfer",
    "visuomotor",
]
