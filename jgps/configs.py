"""All settings in one place, whichever room reads them: `jgps.configs.MdgpsConfig(...)`.

Every config is a frozen keyword-only dataclass that checks its values, and is defined beside the
code that reads it.
"""

from jgps.algorithms.admm import AdmmConfig
from jgps.algorithms.badmm import BadmmConfig
from jgps.algorithms.cgps import CgpsConfig
from jgps.algorithms.dagger import DaggerConfig
from jgps.algorithms.ilqg import IlqgConfig
from jgps.algorithms.mdgps import MdgpsConfig
from jgps.algorithms.mdgps_pilqr import MdgpsPilqrConfig
from jgps.algorithms.mpc import MpcConfig
from jgps.algorithms.mpc_dagger import MpcDaggerConfig
from jgps.algorithms.mpc_gps import MpcGpsConfig
from jgps.algorithms.pi2 import Pi2Config
from jgps.algorithms.pigps import PigpsConfig
from jgps.algorithms.pilqr import PilqrConfig
from jgps.algorithms.plato import PlatoConfig
from jgps.algorithms.trajopt import TrajoptConfig
from jgps.controllers.hold import HoldConfig
from jgps.controllers.initial import LqrHoldConfig, NoiseConfig, PdHoldConfig
from jgps.core.estimation.mixture import MixtureConfig
from jgps.core.lqr.trust_region import PerStepTrustRegionConfig, TrustRegionConfig
from jgps.core.path_integral import Pi2StepConfig
from jgps.core.pilqr import PilqrStepConfig
from jgps.costs.expand import ExpandConfig
from jgps.dynamics.fit import FitConfig
from jgps.dynamics.prior import ConstantPriorConfig, MixturePriorConfig, NoPriorConfig
from jgps.dynamics.recursive import AdaptationConfig
from jgps.optimise.guided.config import (
    GuidedConfig,
    MirrorDescentConfig,
    OffsetConfig,
    RegressionConfig,
)
from jgps.optimise.guided.searched import SearchedConfig
from jgps.optimise.guided.weight_rules import AscentWeightConfig, AverageWeightConfig
from jgps.optimise.ilqg.solve import SearchConfig
from jgps.optimise.known_models import KnownModelsConfig
from jgps.optimise.local_loop import LocalConfig
from jgps.optimise.models import FittedModelsConfig
from jgps.optimise.mpc.sampling import (
    CemConfig,
    MppiConfig,
    PredictiveSamplingConfig,
    SamplingConfig,
)
from jgps.optimise.rollouts.random_starts import RandomStartsConfig
from jgps.optimise.rollouts.sampling import FixedStartsConfig
from jgps.optimise.steps.ilqg import IlqgStepConfig
from jgps.optimise.steps.lqr import LqrStepConfig
from jgps.optimise.teaching.config import TeachingConfig
from jgps.policies.distil import DistilConfig
from jgps.policies.learner import MlpConfig
from jgps.rendering.config import RenderConfig
from jgps.rendering.randomise import RandomiseConfig
from jgps.simulation.derivatives import DerivativesConfig, MjxDerivativesConfig
from jgps.training.checkpoint import CheckpointConfig
from jgps.vision.config import VisualConfig
from jgps.vision.domain_randomisation import DomainRandomisationConfig
from jgps.vision.pose_regression import PoseConfig

__all__ = [
    # of algorithms, and what they have in common
    "AdmmConfig",
    "BadmmConfig",
    "CgpsConfig",
    "DaggerConfig",
    "IlqgConfig",
    "SearchConfig",
    "MdgpsConfig",
    "MdgpsPilqrConfig",
    "MpcConfig",
    "MpcDaggerConfig",
    "MpcGpsConfig",
    "Pi2Config",
    "PigpsConfig",
    "PilqrConfig",
    "PlatoConfig",
    "TrajoptConfig",
    "GuidedConfig",
    "MirrorDescentConfig",
    "SearchedConfig",
    "LocalConfig",
    "TeachingConfig",
    # of an algorithm's parts: models, steps, rollouts, the network
    "FittedModelsConfig",
    "KnownModelsConfig",
    "FitConfig",
    "NoPriorConfig",
    "ConstantPriorConfig",
    "MixturePriorConfig",
    "MixtureConfig",
    "AdaptationConfig",
    "ExpandConfig",
    "LqrStepConfig",
    "IlqgStepConfig",
    "TrustRegionConfig",
    "PerStepTrustRegionConfig",
    "Pi2StepConfig",
    "PilqrStepConfig",
    "FixedStartsConfig",
    "RandomStartsConfig",
    "OffsetConfig",
    "RegressionConfig",
    "AverageWeightConfig",
    "AscentWeightConfig",
    "DerivativesConfig",
    "MjxDerivativesConfig",
    # of planners that draw samples
    "SamplingConfig",
    "PredictiveSamplingConfig",
    "CemConfig",
    "MppiConfig",
    # of policies: one that reads a vector, and those that look through a camera
    "MlpConfig",
    "DistilConfig",
    "VisualConfig",
    "DomainRandomisationConfig",
    "PoseConfig",
    "RandomiseConfig",
    "RenderConfig",
    # of a task's first controller, and of a run
    "HoldConfig",
    "LqrHoldConfig",
    "NoiseConfig",
    "PdHoldConfig",
    "CheckpointConfig",
]
