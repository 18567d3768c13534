"""Networks as policies: what they are, how controllers supervise them, how they are linearised."""

from jgps.policies.linearize import linearize, offset
from jgps.policies.mlp import Mlp, count_parameters, mlp
from jgps.policies.network_policy import NetworkParams, NetworkPolicy, acting, initialise
from jgps.policies.supervise import SuperviseConfig, SuperviseInfo, Supervision, supervise

__all__ = [
    "Mlp",
    "NetworkParams",
    "NetworkPolicy",
    "SuperviseConfig",
    "SuperviseInfo",
    "Supervision",
    "acting",
    "count_parameters",
    "initialise",
    "linearize",
    "mlp",
    "offset",
    "supervise",
]
