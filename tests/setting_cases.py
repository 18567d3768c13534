"""Where each config is read, and how each of its fields is changed."""

import dataclasses
import typing
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pointer
import setting_network_readers as networks
import setting_readers as readers
from setting_programs import Fingerprints, of_algorithm

from jgps.configs import (
    AdaptationConfig,
    AdmmConfig,
    AscentWeightConfig,
    AverageWeightConfig,
    BadmmConfig,
    CemConfig,
    CgpsConfig,
    CheckpointConfig,
    ConstantPriorConfig,
    DaggerConfig,
    DerivativesConfig,
    DistilConfig,
    DomainRandomisationConfig,
    ExpandConfig,
    FitConfig,
    FittedModelsConfig,
    FixedStartsConfig,
    HoldConfig,
    IlqgConfig,
    IlqgStepConfig,
    KnownModelsConfig,
    LqrHoldConfig,
    LqrStepConfig,
    MdgpsConfig,
    MdgpsPilqrConfig,
    MixtureConfig,
    MixturePriorConfig,
    MjxDerivativesConfig,
    MlpConfig,
    MpcConfig,
    MpcDaggerConfig,
    MpcGpsConfig,
    MppiConfig,
    NoiseConfig,
    NoPriorConfig,
    OffsetConfig,
    PdHoldConfig,
    PerStepTrustRegionConfig,
    Pi2Config,
    Pi2StepConfig,
    PigpsConfig,
    PilqrConfig,
    PilqrStepConfig,
    PlatoConfig,
    PoseConfig,
    PredictiveSamplingConfig,
    RandomiseConfig,
    RandomStartsConfig,
    RegressionConfig,
    RenderConfig,
    SearchConfig,
    TrajoptConfig,
    TrustRegionConfig,
)

# Of every choice by name another one.
OTHERS = {
    "classic": "global",
    "drop": "firm",
    "continue": "stop",
    "controllers": "network",
    "adaptive": "mixture",
    "divergence": "constant",
    "network": "controllers",
    "none": "convolutions",
    "off_policy": "on_policy",
    "plan": "first",
    "pooled": "precision",
    "psd": "none",
    "relu": "tanh",
    "start": "trajectory",
    "linear": "cubic",
    "visuomotor": "pose_features",
}


class Case(NamedTuple):
    """A config and what is made of it."""

    base: Any  # the settings of which one field after the other is changed
    program: Callable[[Any], Fingerprints]  # what reads them
    values: Mapping[str, Any] = {}  # field: its other value, where `another` is not legal
    # field: settings of other fields without which it means nothing, as its docstring says
    within: Mapping[str, Mapping[str, Any]] = {}
    # settings that the program reads, with the case's own in them; None: those alone
    inside: Callable[[Any], Any] | None = None

    def whole(self, config: Any) -> Any:
        """The settings that the program reads, of which the config is the whole or a part."""
        return config if self.inside is None else self.inside(config)

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of all settings."""
        return tuple(field.name for field in dataclasses.fields(self.base))

    def changed(self, field: str) -> tuple[Any, Any]:
        """The config in which the field means something, and the same with another value of it."""
        base = dataclasses.replace(self.base, **self.within.get(field, {}))
        if field in self.values:
            return base, dataclasses.replace(base, **{field: self.values[field]})
        return base, with_another(base, field)


def with_another(config: Any, field: str) -> Any:
    """The config with another value of a field."""
    kinds = kinds_of(type(config), field)
    return dataclasses.replace(config, **{field: another(getattr(config, field), kinds)})


def another(value: Any, kinds: tuple[type, ...] = ()) -> Any:
    """A value near the given one; of settings another kind, or the same with their first changed.

    Raises:
      ValueError: where it knows none.
    """
    if dataclasses.is_dataclass(value):
        others = [kind for kind in kinds if not isinstance(value, kind)]
        if others:
            return others[0]()
        return with_another(value, dataclasses.fields(value)[0].name)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return 1.25 * value if value else 0.25
    if isinstance(value, tuple) and value:
        return *value[:-1], another(value[-1])
    if value in OTHERS:
        return OTHERS[value]
    raise ValueError(f"there is no other value of {value!r} yet; add one to its case's `values`")


def kinds_of(config_type: type, field: str) -> tuple[type, ...]:
    """The kinds of settings that a field may hold; none where it holds a value."""
    hint = typing.get_type_hints(config_type)[field]
    kinds = typing.get_args(hint) or (hint,)
    return kinds if all(map(dataclasses.is_dataclass, kinds)) else ()


# Mixtures are traced where they are what is looked at, nowhere else.
LOCAL = {
    "rollouts": FixedStartsConfig(num_samples=3),
    "models": FittedModelsConfig(prior=NoPriorConfig()),
}
GUIDED = {**LOCAL, "observation_prior": NoPriorConfig()}
REGRESSION = RegressionConfig(prior=NoPriorConfig())
GROUPS = {"sampling": "on_policy", "linearisation": REGRESSION}  # which random starts take
RANDOM_STARTS = RandomStartsConfig(num_rollouts=4, num_groups=2)
TEACHING = {
    "horizon": 4, "replan_every": 1, "first_iterations": 1, "num_samples": 1, "iterations_kept": 1,
    "planner": SearchConfig(iterations=1, step_sizes=2),
    "policy": MlpConfig(hidden=(3,), distil=DistilConfig(steps=2, checks=1)),
}  # fmt: skip
LABELLING = {
    **{name: TEACHING[name] for name in ("horizon", "replan_every", "first_iterations")},
    **{name: TEACHING[name] for name in ("planner", "policy")},
    "episodes": 2, "steps": 2, "labels_kept": 6, "beta": 0.0,
}  # fmt: skip
TASK = readers.task()
FEW = PredictiveSamplingConfig(samples=3, knots=2)


POLICY = networks.of_policy(TASK)
# What algorithms on known dynamics take: a task whose network observes the state.
KNOWN_TASK = readers.known_task()
UNPROJECTED = {"models": KnownModelsConfig(expand=ExpandConfig(projection="none"))}
SEARCHED = {
    "rollouts": FixedStartsConfig(num_samples=3),
    "search": SearchConfig(iterations=1, step_sizes=2),
    "policy": MlpConfig(hidden=(4,), distil=DistilConfig(steps=4, checks=2)),
}
MDGPS = of_algorithm("mdgps", TASK)


def _in_mdgps(field: str, base: Any, **settings: Any) -> Case:
    """Settings of a part of `mdgps`, which the loop of guided algorithms reads here and there."""
    return Case(base, MDGPS, inside=lambda part: MdgpsConfig(**{**GUIDED, **settings, field: part}))


def _with_near_parts(case: Case) -> Case:
    """Its policy and its step are changed in a number: other kinds of them take long to trace.

    That every kind is read where it may stand is what the cases of those show.
    """
    parts = [name for name in ("policy", "step") if name in case.fields]
    near = {name: another(getattr(case.base, name)) for name in parts}
    return case._replace(values={**near, **case.values})


ALGORITHM_CASES = [
    Case(
        MdgpsConfig(**GUIDED),
        MDGPS,
        {"rollouts": RANDOM_STARTS},
        {"rollouts": GROUPS},
    ),
    Case(
        BadmmConfig(**GUIDED),
        of_algorithm("badmm", TASK),
        within={"gain_dual_rate": {"linearisation": REGRESSION}},
    ),
    Case(DaggerConfig(**LOCAL), of_algorithm("dagger", TASK)),
    Case(PigpsConfig(**GUIDED), of_algorithm("pigps", TASK)),
    Case(MdgpsPilqrConfig(**GUIDED), of_algorithm("mdgps_pilqr", TASK)),
    Case(TrajoptConfig(**LOCAL), of_algorithm("trajopt", TASK)),
    Case(Pi2Config(rollouts=FixedStartsConfig(num_samples=3)), of_algorithm("pi2", TASK)),
    Case(PilqrConfig(**LOCAL), of_algorithm("pilqr", TASK)),
    Case(
        MpcConfig(horizon=4, planner=FEW, first_iterations=1, steps=3),
        readers.of_mpc,
        {
            "planner": CemConfig(samples=3, knots=2, elites=2),
            "replan_every": 1,
            "derivatives": DerivativesConfig(key_steps=2),
        },
        {"derivatives": {"planner": SearchConfig(iterations=1, step_sizes=2)}},
    ),
    Case(
        IlqgConfig(search=SearchConfig(step_sizes=2), second_order=False),
        readers.of_ilqg,
        {
            "search": SearchConfig(step_sizes=2, first_regularisation=1.0),
            "derivatives": DerivativesConfig(centred=True, step=1e-3),
            "second_order": True,
        },
    ),
    Case(CgpsConfig(**SEARCHED), of_algorithm("cgps", KNOWN_TASK, "analytic"), UNPROJECTED),
    Case(
        AdmmConfig(**SEARCHED),
        of_algorithm("admm", KNOWN_TASK, "analytic"),
        {**UNPROJECTED, "dual_rate": 0.5},
    ),
    Case(
        PlatoConfig(**TEACHING),
        readers.of_teaching("plato"),
        within={"beta": {"acting": "mixture"}},
    ),
    Case(MpcGpsConfig(**TEACHING), readers.of_teaching("mpc_gps")),
    Case(
        MpcDaggerConfig(**LABELLING),
        readers.of_labelling,
        {
            "derivatives": DerivativesConfig(centred=True, step=1e-3),
            "beta": 1.0,
            "labels_kept": 8,
        },
    ),
]
CASES = [
    *map(_with_near_parts, ALGORITHM_CASES),
    Case(FittedModelsConfig(prior=NoPriorConfig()), readers.of_models),
    Case(
        KnownModelsConfig(),
        readers.of_known_models,
        {"derivatives": DerivativesConfig(centred=True, step=1e-3), "correction": 100.0},
    ),
    Case(
        SearchConfig(iterations=3, tolerance=1e-3),
        readers.of_search,
        {"chunk": 4, "negative_curvature": "firm"},
    ),
    Case(PredictiveSamplingConfig(knots=3), readers.of_sampling_planner),
    Case(CemConfig(knots=3), readers.of_sampling_planner),
    Case(MppiConfig(knots=3), readers.of_sampling_planner),
    Case(FitConfig(), readers.of_fit),
    Case(AdaptationConfig(), readers.of_adaptation, {"forgetting": 0.5}),
    Case(ExpandConfig(), readers.of_expansion),
    Case(NoPriorConfig(), readers.of_prior),
    Case(ConstantPriorConfig(), readers.of_prior),
    Case(MixturePriorConfig(max_clusters=3), readers.of_prior),
    Case(
        MixtureConfig(max_iterations=2),
        readers.of_prior,
        inside=lambda em: MixturePriorConfig(max_clusters=3, em=em),
    ),
    Case(LqrStepConfig(), readers.of_lqr_step, values={"enough": 0.1}),
    Case(IlqgStepConfig(), readers.of_ilqg_step, values={"enough": 0.1}),
    Case(
        TrustRegionConfig(),
        readers.of_lqr_step,
        inside=lambda search: LqrStepConfig(trust_region=search),
    ),
    Case(AverageWeightConfig(), readers.of_weight_rule),
    Case(AscentWeightConfig(), readers.of_weight_rule),
    Case(Pi2StepConfig(), readers.of_pi2_step),
    Case(PilqrStepConfig(), readers.of_pilqr_step),
    Case(
        PerStepTrustRegionConfig(),
        readers.of_pilqr_step,
        inside=lambda search: PilqrStepConfig(trust_region=search),
    ),
    _in_mdgps("rollouts", FixedStartsConfig(num_samples=3)),
    _in_mdgps("rollouts", RANDOM_STARTS, **GROUPS),
    _in_mdgps("linearisation", OffsetConfig()),
    # What a mixture is made of, which other priors are not.
    _in_mdgps("linearisation", REGRESSION)._replace(
        within={"window": {"prior": MixturePriorConfig(window=1, max_clusters=3)}}
    ),
    Case(MlpConfig(hidden=(4,)), POLICY),
    Case(
        pointer.small_vision(4, 4, width=29, height=29, pretraining_images=2, channels=(2, 2, 2)),
        POLICY,
        {"conv_dtype": "bfloat16"},
    ),
    Case(
        DerivativesConfig(),
        readers.of_derivatives,
        {"method": "copies", "key_steps": 2, "key_tolerance": 1e-9, "physics_steps": "first"},
        {"key_tolerance": {"key_steps": 2}},
    ),
    Case(MjxDerivativesConfig(chunk=1), readers.of_mjx_derivatives, {"method": "differences"}),
    Case(DistilConfig(steps=4, checks=2, batch_size=4), networks.of_training),
    Case(PoseConfig(steps=4, batch_size=2), networks.of_pose_regression, {"validation": 0.5}),
    Case(DomainRandomisationConfig(), networks.of_randomised_scenes),
    Case(RandomiseConfig(), networks.of_random_looks),
    Case(
        RenderConfig(),
        networks.of_images,
        {"block": 16, "max_triangles": 3},
        # The width of soft shadows: with one ray their edges are hard, without any there are none.
        {"sun_radius": {"shadows": 4}, "simplify": {"max_triangles": 3}},
    ),
    Case(HoldConfig(), readers.of_first_controller),
    Case(LqrHoldConfig(), readers.of_first_controller),
    Case(PdHoldConfig(), readers.of_first_controller),
    Case(NoiseConfig(), readers.of_first_controller),
    # Of a run and no program: it decides when the state is saved.
    Case(CheckpointConfig(every_iterations=3), readers.of_checkpoints),
]
