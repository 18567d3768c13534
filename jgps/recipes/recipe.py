"""The settings that a task is trained with, for Python and the command line alike.

`jgps.train(task, algorithm, policy=..., prior=..., random_starts=..., sampling=...)` and
`jgps train TASK` both take their settings and their number of iterations from `recipe`.
"""

import dataclasses
import typing
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from jgps.algorithms import (
    ALGORITHMS,
    FittedModelsConfig,
    FixedStartsConfig,
    IlqgConfig,
    MlpConfig,
    MpcConfig,
    MpcDaggerConfig,
    OffsetConfig,
    RandomStartsConfig,
    RegressionConfig,
    SearchConfig,
    VisualConfig,
)
from jgps.core.names import unknown
from jgps.dynamics import ConstantPriorConfig, MixturePriorConfig, NoPriorConfig
from jgps.optimise.guided.config import SAMPLING, MirrorDescentConfig
from jgps.optimise.guided.searched import SearchedConfig
from jgps.optimise.mpc.config import EPISODE
from jgps.optimise.steps.lqr import LqrStepConfig
from jgps.policies import DistilConfig
from jgps.simulation.derivatives import DerivativesConfig
from jgps.vision.config import KINDS

POLICIES = ("mlp", *KINDS)
ITERATIONS = 12
# Of trajectories by derivatives, each of which costs as much as some ten rollouts; those that have
# converged stay.
SEARCH_ITERATIONS = 100
# In which searched trajectories and a network come to agree, after those have been searched alone.
AGREEMENT_ITERATIONS = 30
# In each of which plans label a second of 48 episodes.
LABEL_ITERATIONS = 16
# In which controllers improve alone before a policy that looks through a camera learns, unless the
# task says otherwise.
TRAJECTORY_ITERATIONS = 10
# The hammer's many grasps and places each find a way of their own in longer, and a network imitates
# them less well.
TASK_TRAJECTORY_ITERATIONS = {"hammer": 5}
# Rollouts per condition and iteration, where it takes more than usual. Of those that meet the rim
# of a slot some rest on it and some fall in: linear models of a few promise a way through it.
TASK_SAMPLES = {"peg_insertion": 20}
# MDGPS moves a network's controllers once an iteration; with 20 rollouts two of nine runs lose
# one of four places, with 40 none of eleven.
FLAT_MDGPS_SAMPLES = 40
# From so many rollouts a network learns for longer and does not fail between them.
LONG_BADMM = {
    "inner_rounds": 4,
    "policy": MlpConfig(distil=DistilConfig(steps=500, learning_rate=3e-3)),
}
# A search that may become ever firmer holds on to a plan without a next step.
GAIT_PLANNER = SearchConfig(
    iterations=1,
    step_sizes=4,
    smallest_step=0.05,
    first_regularisation=0.1,
    min_regularisation=1e-4,
    max_regularisation=1.0,
)
# A quarter of the work; quadrupeds under plans by these keep their velocities as well.
FAST_DERIVATIVES = DerivativesConfig(physics_steps="first")
# Plans that label what a network visits, of robots that follow a gait.
TASK_LABELS = {
    "quadruped_velocity": {
        "horizon": 25,
        "planner": GAIT_PLANNER,
        "derivatives": FAST_DERIVATIVES,
    },
    "biped_push": {
        "horizon": 35,
        "planner": GAIT_PLANNER,
        "derivatives": FAST_DERIVATIVES,
    },
    "walker_policy": {
        "episodes": 32,
        "steps": 100,
        "horizon": 80,
        "replan_every": 4,
        "planner": GAIT_PLANNER,
    },
    "swimmer_policy": {"episodes": 32, "horizon": 60},
}
# How far plans look ahead, where half a second is not what suits.
TASK_PLANS = {
    # about two steps of its legs
    "walker": {
        "horizon": 80,
        "replan_every": 2,
        "planner": GAIT_PLANNER,
    },
    "swimmer": {"horizon": 60, "replan_every": 1},
}
PRIORS = {"mixture": MixturePriorConfig, "constant": ConstantPriorConfig, "none": NoPriorConfig}


class Recipe(NamedTuple):
    """What a task is trained with."""

    config: Any  # of the algorithm's own type
    iterations: int  # in all


def recipe(
    task_name: str,
    algorithm: str = "mdgps",
    policy: str | None = None,
    prior: str | None = None,
    random_starts: bool = False,
    sampling: str | None = None,
    spell: Callable[[str], str] = str,
) -> Recipe:
    """The settings and the iterations that go well together.

    Args:
      task_name: name of the task; one without settings of its own gets the algorithm's.
      algorithm: name of the algorithm.
      policy: what the network reads, one of `POLICIES`: "mlp" reads the
        observation, "visuomotor" the task's camera and the robot's configuration; "pose_features"
        and "pose_prediction" are baselines that see. None is "mlp".
      prior: of the fitted dynamics, a name in `PRIORS`; None is the algorithm's own.
      random_starts: whether rollouts start at random and are learned from in groups, in place of
        fixed conditions.
      sampling: "off_policy" or "on_policy": whose rollouts teach, the controllers' or the
        network's, with what goes well with that. None is the algorithm's own; so is all else with
        a policy that sees or with random starts.
      spell: how messages write the name of an argument, for a command line that has options.

    Raises:
      ValueError: for a name that is unknown, or an argument that the algorithm has no use for.
    """
    _check_choice("algorithm", algorithm, ALGORITHMS)
    if sampling is not None:
        _check_sampling(algorithm, sampling, spell)
    _, config_type = ALGORITHMS[algorithm]
    alone = policy in (None, "mlp") and not random_starts
    usual = config_type.suited_to(sampling) if sampling and alone else config_type()
    changes = {
        **({} if sampling is None else {"sampling": sampling}),
        **_prior_changes(algorithm, prior, spell),
        **_sample_changes(task_name, algorithm, usual),
        **(TASK_PLANS.get(task_name, {}) if isinstance(usual, MpcConfig) else {}),
        **(TASK_LABELS.get(task_name, {}) if isinstance(usual, MpcDaggerConfig) else {}),
        **_policy_changes(task_name, algorithm, policy, spell),
        **_start_changes(algorithm, policy, random_starts, sampling, spell),
    }
    config = dataclasses.replace(usual, **changes)
    return Recipe(config, usual_iterations(config))


def usual_iterations(config: Any) -> int:
    """How many iterations training with these settings takes, where nobody asks for a number."""
    if isinstance(config, MpcConfig):
        return EPISODE
    if isinstance(config, IlqgConfig):
        return SEARCH_ITERATIONS
    if isinstance(config, MpcDaggerConfig):
        return LABEL_ITERATIONS
    if isinstance(config, SearchedConfig):
        return config.trajectory_iterations + AGREEMENT_ITERATIONS
    alone = getattr(config, "trajectory_iterations", getattr(config, "teacher_iterations", 0))
    policy = getattr(config, "policy", None)
    return ITERATIONS if policy is None else policy.usual_iterations(alone, ITERATIONS)


def policy_kind(config: Any) -> str | None:
    """The name in `POLICIES` of a config's kind of policy; None where it trains no network."""
    policy = getattr(config, "policy", None)
    if policy is None:
        return None
    return "mlp" if isinstance(policy, MlpConfig) else policy.kind


def _visual_changes(config: Any, kind: str, task_name: str | None) -> dict[str, Any]:
    """The settings that go well with a policy that sees, by name, for `dataclasses.replace`.

    Controllers that hurry each go a way of their own, which no image tells.
    """
    names = {field.name for field in dataclasses.fields(config)}
    alone = TASK_TRAJECTORY_ITERATIONS.get(task_name or "", TRAJECTORY_ITERATIONS)
    changes = {
        "policy": VisualConfig(kind=kind),
        "trajectory_iterations": alone,
        "teacher_iterations": alone,
    }
    linearisation = getattr(config, "linearisation", None)
    if isinstance(config.step, LqrStepConfig) and linearisation is not None:
        changes["step"] = dataclasses.replace(config.step, max_multiplier=1.0)
    if isinstance(config, MirrorDescentConfig) and isinstance(linearisation, OffsetConfig):
        changes["linearisation"] = dataclasses.replace(linearisation, agreement=0.5)
    return {name: value for name, value in changes.items() if name in names}


def trains_network(algorithm: str) -> bool:
    """Whether the algorithm trains a network at all, and so has a kind of policy."""
    return has_setting(algorithm, "policy")


def has_setting(algorithm: str, name: str) -> bool:
    """Whether the algorithm's settings have one of that name."""
    _, config_type = ALGORITHMS[algorithm]
    return name in {field.name for field in dataclasses.fields(config_type)}


def fits_models(algorithm: str) -> bool:
    """Whether the algorithm's models are fitted to rollouts by itself, and so have a prior."""
    models = getattr(ALGORITHMS[algorithm][1](), "models", None)
    return isinstance(models, FittedModelsConfig)


def sees(algorithm: str) -> bool:
    """Whether the algorithm's network can look through a camera."""
    _, config_type = ALGORITHMS[algorithm]
    hint = typing.get_type_hints(config_type).get("policy")
    return VisualConfig in typing.get_args(hint)


def takes_random_starts(algorithm: str) -> bool:
    """Whether the algorithm's rollouts can start at random."""
    _, config_type = ALGORITHMS[algorithm]
    hint = typing.get_type_hints(config_type).get("rollouts")
    return RandomStartsConfig in typing.get_args(hint)


def prior_name(algorithm: str) -> str:
    """The name in `PRIORS` of the prior that an algorithm with fitted dynamics has by itself."""
    default = ALGORITHMS[algorithm][1]().models.prior
    return next(name for name, kind in PRIORS.items() if type(default) is kind)


def _prior_changes(
    algorithm: str, prior: str | None, spell: Callable[[str], str]
) -> dict[str, Any]:
    if prior is None:
        return {}
    if not fits_models(algorithm):
        raise ValueError(f"{algorithm} fits no dynamics; leave out {spell('prior')}")
    _check_choice("prior", prior, PRIORS)
    # The algorithm's own prior may have settings that the default of its kind has not.
    if prior == prior_name(algorithm):
        return {}
    models = ALGORITHMS[algorithm][1]().models
    return {"models": dataclasses.replace(models, prior=PRIORS[prior]())}


def _policy_changes(
    task_name: str, algorithm: str, policy: str | None, spell: Callable[[str], str]
) -> dict[str, Any]:
    if policy is None:
        return {}
    _check_choice("policy", policy, POLICIES)
    if not trains_network(algorithm):
        raise ValueError(f"{algorithm} trains no network; leave out {spell('policy')}")
    if policy == "mlp":
        return {}
    if not sees(algorithm):
        raise ValueError(
            f"{algorithm} takes its network's derivative by the state, which no image tells; leave "
            f"out {spell('policy')}"
        )
    _, config_type = ALGORITHMS[algorithm]
    if typing.get_type_hints(config_type)["policy"] is MlpConfig:
        raise ValueError(
            f"{algorithm} trains a network that reads a vector; leave out {spell('policy')}"
        )
    return _visual_changes(config_type(), policy, task_name)


def _check_sampling(algorithm: str, sampling: str, spell: Callable[[str], str]) -> None:
    _check_choice("sampling", sampling, SAMPLING)
    if not has_setting(algorithm, "sampling"):
        raise ValueError(f"{algorithm} has no choice of rollouts; leave out {spell('sampling')}")


def _sample_changes(task_name: str, algorithm: str, config: Any) -> dict[str, Any]:
    usual = getattr(config, "rollouts", None)
    least = TASK_SAMPLES.get(task_name, 0)
    if least and algorithm == "mdgps":
        least = FLAT_MDGPS_SAMPLES
    if not isinstance(usual, FixedStartsConfig) or (usual.num_samples or 0) >= least:
        return {}
    changes: dict[str, Any] = {"rollouts": dataclasses.replace(usual, num_samples=least)}
    return {**changes, **LONG_BADMM} if algorithm == "badmm" else changes


def _start_changes(
    algorithm: str,
    policy: str | None,
    random_starts: bool,
    sampling: str | None,
    spell: Callable[[str], str],
) -> dict[str, Any]:
    if not random_starts:
        return {}
    if not takes_random_starts(algorithm):
        raise ValueError(
            f"{algorithm} starts in fixed conditions; leave out {spell('random_starts')}"
        )
    if policy not in (None, "mlp"):
        raise ValueError(
            f"a policy that looks through a camera learns from controllers that improve alone at "
            f"first, and from random starts only networks can act; leave out {spell('policy')} or "
            f"{spell('random_starts')}"
        )
    if sampling == "off_policy":
        raise ValueError(
            "a random start belongs to no controller before its rollout, so that only networks can "
            f"act; leave out {spell('sampling')} or {spell('random_starts')}"
        )
    return {
        "rollouts": RandomStartsConfig(),
        "sampling": "on_policy",
        "linearisation": RegressionConfig(),
    }


def _check_choice(what: str, value: str, choices: Iterable[str]) -> None:
    if not isinstance(value, str) or value not in choices:
        raise ValueError(unknown(what, value, choices))
