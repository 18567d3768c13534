"""Networks as policies: what they are, how controllers supervise them, how they are linearised."""

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
from jgps.policies.spatial_softmax import SpatialSoftmax, spatial_softmax
from jgps.policies.supervise import SuperviseConfig, SuperviseInfo, Supervision, supervise
from jgps.policies.visuomotor import Visuomotor, feature_pixels, visuomotor

__all__ = [
    "STANDARDISATION",
    "Mlp",
    "NetworkParams",
    "NetworkPolicy",
    "SpatialSoftmax",
    "SuperviseConfig",
    "SuperviseInfo",
    "Supervision",
    "Visuomotor",
    "acting",
    "acting_on_images",
    "cache_features",
    "count_parameters",
    "feature_pixels",
    "initialise",
    "linearize",
    "look",
    "mlp",
    "offset",
    "spatial_softmax",
    "supervise",
    "visuomotor",
]
