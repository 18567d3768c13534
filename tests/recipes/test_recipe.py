"""One recipe for both doors: Python's `jgps.train` and the command line."""

import dataclasses
import json
from pathlib import Path
from typing import NamedTuple

import pytest
from small_runs import read_lines, without_seconds

import jgps
from jgps.algorithms import (
    ALGORITHMS,
    FixedStartsConfig,
    LqrStepConfig,
    MdgpsConfig,
    OffsetConfig,
    RandomStartsConfig,
    RegressionConfig,
    TrajoptConfig,
    VisualConfig,
)
from jgps.cli import main as cli
from jgps.cli.arguments import as_options
from jgps.cli.train import read
from jgps.dynamics import ConstantPriorConfig
from jgps.recipes import POLICIES, PRIORS, recipe
from jgps.recipes.recipe import fits_models, has_setting, sees, usual_iterations
from jgps.training import UsageError


class Refused(NamedTuple):
    """An algorithm that no number of iterations is enough for: nothing is trained with it."""

    first_training: int = 10**9


def config_and_message(train, algorithm: str, monkeypatch: pytest.MonkeyPatch):
    """The config that `train()` makes the algorithm with, and what it then says."""
    made = []

    def make(task, config, backend):
        made.append(config)
        return Refused()

    with monkeypatch.context() as patch:
        patch.setitem(ALGORITHMS, algorithm, (make, ALGORITHMS[algorithm][1]))
        message = train()
    return made, message


def python(*arguments, **settings):
    with pytest.raises(jgps.training.UsageError) as error:
        jgps.train(*arguments, **settings)
    return str(error.value)


@pytest.mark.parametrize("task", jgps.tasks.with_vision())
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_command_line_reads_the_recipe(task: str, policy: str, algorithm: str):
    arguments = [task, "--algorithm", algorithm, "--policy", policy]
    try:
        chosen = recipe(task, algorithm, policy)
    except ValueError as error:
        with pytest.raises(jgps.training.UsageError) as refused:
            read(arguments)
        assert str(refused.value) == str(error).replace("leave out ", "leave out --")
        return
    _, options = read(arguments)
    assert (options.config, options.iterations) == chosen


@pytest.mark.parametrize(
    ("task", "algorithm", "settings"),
    [
        ("hammer", "mdgps", {"policy": "visuomotor"}),
        ("hanger", "badmm", {"policy": "pose_features"}),
        ("point_mass", "mdgps", {}),
        ("point_mass", "mdgps", {"random_starts": True}),
        ("point_mass", "trajopt", {"prior": "none"}),
    ],
)
def test_both_doors_train_with_the_same_settings(
    task: str,
    algorithm: str,
    settings: dict,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
):
    options = []
    for name, value in settings.items():
        options += [f"--{name.replace('_', '-')}", *([] if value is True else [value])]

    def command():
        assert cli.main(["train", task, "--algorithm", algorithm, *options]) == 2
        return capsys.readouterr().err

    own, said = config_and_message(
        lambda: python(task, algorithm, **settings), algorithm, monkeypatch
    )
    others, shown = config_and_message(command, algorithm, monkeypatch)
    chosen = recipe(task, algorithm, **settings)
    assert own == others == [chosen.config]
    assert as_options(said) in shown and f"iterations is {chosen.iterations}," in said


def test_a_policy_that_sees_brings_what_goes_well_with_it():
    plain, hammer = recipe("hammer"), recipe("hammer", policy="visuomotor")
    hanger = recipe("hanger", policy="visuomotor")
    assert plain == (MdgpsConfig(), 12)
    assert hanger.config == MdgpsConfig(
        policy=VisualConfig(),
        trajectory_iterations=10,
        linearisation=OffsetConfig(agreement=0.5),
        step=LqrStepConfig(min_multiplier=0.1, max_multiplier=1.0),
    )
    assert (hammer.iterations, hanger.iterations) == (5 + 7, 10 + 7)
    assert hammer.config.trajectory_iterations == 5
    taught = recipe("hammer", "dagger", policy="visuomotor")
    assert (taught.config.teacher_iterations, taught.iterations) == (5, 12)
    assert recipe("a task of my own", policy="visuomotor") == hanger
    agreeing = recipe("hanger", "badmm", policy="visuomotor").config
    assert agreeing.step == LqrStepConfig(min_multiplier=0.1, max_multiplier=1.0)
    assert agreeing.linearisation == OffsetConfig()  # whose agreement badmm does not read


@pytest.mark.parametrize(
    ("config", "iterations"),
    [
        (MdgpsConfig(), 12),
        (MdgpsConfig(trajectory_iterations=20), 20 + 4),
        (MdgpsConfig(policy=VisualConfig()), 7),
        (MdgpsConfig(policy=VisualConfig(), trajectory_iterations=10), 10 + 7),
        (TrajoptConfig(), 12),
    ],
)
def test_as_many_iterations_as_go_with_the_settings(config, iterations):
    assert usual_iterations(config) == iterations


def test_a_flat_peg_takes_more_rollouts_than_a_round_one():
    for algorithm, (_, config_type) in ALGORITHMS.items():
        if not has_setting(algorithm, "rollouts"):
            continue
        usual = config_type().rollouts
        assert recipe("peg_insertion_round", algorithm).config.rollouts == usual
        chosen = recipe("peg_insertion", algorithm).config.rollouts
        least = 40 if algorithm == "mdgps" else 20
        assert chosen == dataclasses.replace(usual, num_samples=max(usual.num_samples or 0, least))
    assert recipe("peg_insertion", random_starts=True).config.rollouts == RandomStartsConfig()


def test_settings_follow_the_sampling():
    suited = MdgpsConfig.suited_to("on_policy")
    assert recipe("peg_insertion_round", sampling="on_policy").config == suited
    assert suited.on_policy and suited.rollouts.num_samples == 10
    assert (suited.step.min_multiplier, suited.step.max_multiplier) == (0.5, 3.0)
    assert suited.step.shared_multiplier
    distil = suited.policy.distil
    assert (distil.steps, distil.batch_size, distil.learning_rate) == (4000, 25, 1e-3)
    assert recipe("reacher", sampling="off_policy").config == MdgpsConfig()
    assert MdgpsConfig.suited_to("off_policy") == recipe("reacher").config == MdgpsConfig()
    flat = recipe("peg_insertion", sampling="on_policy").config
    assert flat == dataclasses.replace(suited, rollouts=FixedStartsConfig(num_samples=40))
    constant = recipe("reacher", sampling="on_policy", prior="constant").config
    assert dataclasses.replace(constant, models=suited.models) == suited
    for algorithm in ("pigps", "mdgps_pilqr"):
        chosen = recipe("reacher", algorithm, sampling="on_policy").config
        assert chosen == ALGORITHMS[algorithm][1](sampling="on_policy")
    started = recipe("reacher", random_starts=True, sampling="on_policy").config
    assert started == recipe("reacher", random_starts=True).config
    seeing = recipe("hanger", policy="visuomotor", sampling="on_policy").config
    usual = recipe("hanger", policy="visuomotor").config
    assert seeing == dataclasses.replace(usual, sampling="on_policy")


def test_priors_and_random_starts():
    for algorithm in ALGORITHMS:
        if not fits_models(algorithm):
            with pytest.raises(ValueError, match=f"^{algorithm} fits no dynamics; leave out prior"):
                recipe("reacher", algorithm, prior="none")
            continue
        for name, kind in PRIORS.items():
            config = recipe("reacher", algorithm, prior=name).config
            assert type(config.models.prior) is kind
    assert recipe("reacher", prior="constant").config.models.prior == ConstantPriorConfig()
    started = recipe("reacher", random_starts=True).config
    assert started.rollouts == RandomStartsConfig()
    assert (started.sampling, started.linearisation) == ("on_policy", RegressionConfig())


@pytest.mark.parametrize("algorithm", ["cgps", "admm"])
def test_searched_trajectories_take_longer_and_a_network_that_reads_the_state(algorithm):
    made = recipe("reacher", algorithm)
    assert made.iterations == made.config.trajectory_iterations + 30
    assert not sees(algorithm) and sees("dagger")
    with pytest.raises(ValueError, match="derivative by the state, which no image tells; leave"):
        recipe("hanger", algorithm, policy="visuomotor")


def test_the_command_line_has_the_defaults_that_go_with_the_sampling():
    command = ["peg_insertion_round", "--algorithm", "mdgps"]
    for sampling in (["--config.sampling", "on_policy"], ["--config.sampling=on_policy"]):
        _, options = read([*command, *sampling])
        assert options.config == MdgpsConfig.suited_to("on_policy")
    _, options = read([*command, "--config.sampling", "on_policy", "--config.step.kl-step", "2"])
    step = dataclasses.replace(MdgpsConfig.suited_to("on_policy").step, kl_step=2.0)
    assert options.config == dataclasses.replace(MdgpsConfig.suited_to("on_policy"), step=step)
    assert read(command)[1].config == MdgpsConfig()
    with pytest.raises(UsageError, match=r"^unknown sampling 'onpolicy'; .*did you mean on_policy"):
        read([*command, "--config.sampling", "onpolicy"])
    with pytest.raises(UsageError, match=r"config\.sampling"):
        read(["point_mass", "--algorithm", "trajopt", "--config.sampling", "on_policy"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"algorithm": "ppo"}, "unknown algorithm 'ppo'; algorithms: mdgps, "),
        ({"sampling": "onpolicy"}, "unknown sampling 'onpolicy'; samplings: "),
        ({"algorithm": "trajopt", "sampling": "on_policy"}, "trajopt has no choice of rollouts; "),
        ({"random_starts": True, "sampling": "off_policy"}, "leave out sampling or random_starts"),
        ({"policy": "cnn"}, "unknown policy 'cnn'; policies: mlp, visuomotor, "),
        ({"prior": "flat"}, "unknown prior 'flat'; priors: mixture, constant, none"),
        ({"algorithm": "pi2", "prior": "none"}, "pi2 fits no dynamics; leave out prior"),
        ({"algorithm": "pi2", "policy": "mlp"}, "pi2 trains no network; leave out policy"),
        (
            {"algorithm": "trajopt", "random_starts": True},
            "trajopt starts in fixed conditions; leave out random_starts",
        ),
        (
            {"policy": "visuomotor", "random_starts": True},
            "from random starts only networks can act; leave out policy or random_starts",
        ),
        ({"config": MdgpsConfig(), "prior": "none"}, "pass one or the other"),
        ({"config": MdgpsConfig(), "random_starts": True}, "pass one or the other"),
        ({"config": MdgpsConfig(), "policy": "mlp"}, "pass one or the other"),
        ({"config": MdgpsConfig(), "sampling": "on_policy"}, "pass one or the other"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_sentence(arguments: dict, sentence: str):
    said = python("point_mass", **arguments)
    assert sentence in said and "\n" not in said


def test_both_doors_train_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """To the last bit, each with what it takes by itself."""
    # This process goes on: its settings stay, and figures are another test's matter.
    monkeypatch.setattr("jgps.cli.train.enable_compilation_cache", lambda: None)
    monkeypatch.setattr("jgps.cli.train.report_one", lambda directory: None)

    def lines(directory: Path) -> list[dict]:
        return without_seconds(read_lines(directory))

    jgps.train("point_mass", "trajopt", prior="none", iterations=2, out=tmp_path / "python")
    arguments = ["point_mass", "--algorithm", "trajopt", "--prior", "none", "--iterations", "2"]
    assert cli.main(["train", *arguments, "--out", str(tmp_path / "command")]) == 0
    assert len(lines(tmp_path / "python")) == 2
    assert lines(tmp_path / "python") == lines(tmp_path / "command")
    one, other = (
        json.loads((tmp_path / door / "config.json").read_text()) for door in ("python", "command")
    )
    assert one == other


def test_badmm_learns_for_longer_from_more_rollouts():
    usual, more = (
        recipe(task, "badmm").config for task in ("peg_insertion_round", "peg_insertion")
    )
    assert (usual.inner_rounds, more.inner_rounds) == (1, 4)
    assert (usual.policy.distil.steps, more.policy.distil.steps) == (450, 500)
    assert recipe("peg_insertion", "badmm", policy="visuomotor").config.policy.kind == "visuomotor"
