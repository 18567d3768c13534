"""Published algorithms, one file each, on shared parts."""

from jgps.algorithms.admm import AdmmConfig, admm
from jgps.algorithms.badmm import BadmmConfig, badmm
from jgps.algorithms.cgps import CgpsConfig, cgps
from jgps.algorithms.dagger import DaggerConfig, dagger
from jgps.algorithms.ilqg import IlqgConfig, ilqg
from jgps.algorithms.mdgps import MdgpsConfig, mdgps
from jgps.algorithms.mdgps_pilqr import MdgpsPilqrConfig, mdgps_pilqr
from jgps.algorithms.mpc import MpcConfig, mpc
from jgps.algorithms.mpc_dagger import MpcDaggerConfig, mpc_dagger
from jgps.algorithms.mpc_gps import MpcGpsConfig, mpc_gps
from jgps.algorithms.pi2 import Pi2Config, pi2
from jgps.algorithms.pigps import PigpsConfig, pigps
from jgps.algorithms.pilqr import PilqrConfig, pilqr
from jgps.algorithms.plato import PlatoConfig, plato
from jgps.algorithms.trajopt import TrajoptConfig, TrajoptState, trajopt
from jgps.core.path_integral import Pi2StepConfig
from jgps.core.pilqr import PilqrStepConfig
from jgps.optimise.algorithm import Algorithm, Inspection, Metrics
from jgps.optimise.guided.config import OffsetConfig, RegressionConfig
from jgps.optimise.ilqg.solve import SearchConfig
from jgps.optimise.known_models import KnownModelsConfig
from jgps.optimise.models import FittedModelsConfig
from jgps.optimise.rollouts.random_starts import RandomStartsConfig
from jgps.optimise.rollouts.sampling import FixedStartsConfig
from jgps.optimise.steps.ilqg import IlqgStepConfig
from jgps.optimise.steps.lqr import LqrStepConfig
from jgps.policies.learner import MlpConfig
from jgps.vision.config import VisualConfig
from jgps.vision.domain_randomisation import DomainRandomisationConfig

# name: (what makes the algorithm on a task, the type of its settings)
ALGORITHMS = {
    "mdgps": (mdgps, MdgpsConfig),
    "badmm": (badmm, BadmmConfig),
    "dagger": (dagger, DaggerConfig),
    "pigps": (pigps, PigpsConfig),
    "mdgps_pilqr": (mdgps_pilqr, MdgpsPilqrConfig),
    "trajopt": (trajopt, TrajoptConfig),
    "pi2": (pi2, Pi2Config),
    "pilqr": (pilqr, PilqrConfig),
    "ilqg": (ilqg, IlqgConfig),
    "mpc": (mpc, MpcConfig),
    "cgps": (cgps, CgpsConfig),
    "admm": (admm, AdmmConfig),
    "plato": (plato, PlatoConfig),
    "mpc_gps": (mpc_gps, MpcGpsConfig),
    "mpc_dagger": (mpc_dagger, MpcDaggerConfig),
}

__all__ = [
    "ALGORITHMS",
    "AdmmConfig",
    "Algorithm",
    "BadmmConfig",
    "CgpsConfig",
    "DaggerConfig",
    "IlqgConfig",
    "Inspection",
    "DomainRandomisationConfig",
    "MdgpsConfig",
    "MdgpsPilqrConfig",
    "Metrics",
    "MpcConfig",
    "MpcDaggerConfig",
    "MpcGpsConfig",
    "Pi2Config",
    "PigpsConfig",
    "PilqrConfig",
    "PlatoConfig",
    "FixedStartsConfig",
    "RandomStartsConfig",
    "OffsetConfig",
    "RegressionConfig",
    "FittedModelsConfig",
    "KnownModelsConfig",
    "LqrStepConfig",
    "IlqgStepConfig",
    "Pi2StepConfig",
    "PilqrStepConfig",
    "SearchConfig",
    "TrajoptConfig",
    "TrajoptState",
    "MlpConfig",
    "VisualConfig",
    "admm",
    "badmm",
    "cgps",
    "dagger",
    "ilqg",
    "mdgps",
    "mdgps_pilqr",
    "mpc",
    "mpc_dagger",
    "mpc_gps",
    "pi2",
    "pigps",
    "pilqr",
    "plato",
    "trajopt",
]
