"""Networks as policies: what they are, how they learn from controllers, how they are linearised.

And `make_adaptive_policy`, which does what a network wants with a model adapted online.
"""

from jgps.policies.adaptive import (
    AdaptivePolicy,
    AdaptivePolicyInfo,
    AdaptivePolicyState,
    make_adaptive_policy,
)
from jgps.policies.distil import DistilConfig, distil
from jgps.policies.linearise import linearise, offset
from jgps.policies.networks.baselines import (
    ARCHITECTURES,
    PoseRegressor,
    make_trunk,
    pose_prediction_policy,
)
from jgps.policies.networks.mlp import Mlp, mlp
from jgps.policies.networks.visuomotor import Visuomotor, visuomotor
from jgps.policies.observation import observe_all
from jgps.policies.policy import (
    NetworkPolicy,
    acting,
    acting_on_images,
    initialise,
)
from jgps.policies.supervision import DistilInfo, Supervision

__all__ = [
    "ARCHITECTURES",
    "AdaptivePolicy",
    "AdaptivePolicyInfo",
    "AdaptivePolicyState",
    "Mlp",
    "NetworkPolicy",
    "PoseRegressor",
    "DistilConfig",
    "DistilInfo",
    "Supervision",
    "Visuomotor",
    "acting",
    "acting_on_images",
    "initialise",
    "linearise",
    "observe_all",
    "make_adaptive_policy",
    "make_trunk",
    "mlp",
    "offset",
    "pose_prediction_policy",
    "distil",
    "visuomotor",
]
