"""The command line: exit codes, sentences, and one run from beginning to end."""

import dataclasses
import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

import jgps
from jgps.algorithms import (
    ALGORITHMS,
    FittedModelsConfig,
    FixedStartsConfig,
    MlpConfig,
    RandomStartsConfig,
)
from jgps.cli import main as cli
from jgps.cli.arguments import flagged
from jgps.cli.progress import Progress
from jgps.cli.train import _options, read
from jgps.dynamics import MixturePriorConfig, NoPriorConfig
from jgps.training import checkpoint

# Small and quick to compile; all commands use the same programs, and so do the tests of faults.
QUICK = ["--config.rollouts.num-samples", "3", "--prior", "none"]
CLUSTERS = ["--config.models.prior.max-clusters", "2"]
TRAIN = ["train", "point_mass", "--algorithm", "trajopt", "--iterations", "2", *QUICK]
# Most of the time would go into a video of full quality.
WITH_A_ROUGH_VIDEO = """
import sys
import pytest
from made_runs import draw_roughly
from jgps.cli.main import main
draw_roughly(pytest.MonkeyPatch())
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def run(home: Path) -> subprocess.CompletedProcess:
    """`jgps train` in a process of its own, in an empty directory."""
    return subprocess.run(
        [sys.executable, "-c", WITH_A_ROUGH_VIDEO, *TRAIN],
        cwd=home,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


@pytest.fixture(scope="module")
def directory(run: subprocess.CompletedProcess, home: Path) -> Path:
    return home / "runs" / "point_mass-trajopt-seed0"


def environment() -> dict[str, str]:
    root = Path(jgps.__file__).parents[1]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (root, root / "tests")))}


@pytest.mark.slow
def test_train_leaves_a_whole_run(run: subprocess.CompletedProcess, directory: Path):
    assert run.returncode == 0, run.stderr
    summary = json.loads((directory / "summary.json").read_text())
    assert summary["iterations"] == 2
    assert len((directory / "metrics.jsonl").read_text().splitlines()) == 2
    assert list((directory / "figures").glob("*.png"))
    assert list((directory / "videos").glob("*.mp4"))


def test_train_says_what_it_does(run: subprocess.CompletedProcess):
    lines = run.stdout.splitlines()
    assert lines[0].startswith("point_mass, trajopt, seed 0, ")
    assert lines[1].split() == (
        ["iteration", "cost", "distance", "m", "KL", "eta", "KL", "factor", "seconds"]
    )
    rows = [line.split()[0] for line in lines[2:] if len(line.split()) == len(lines[1].split()) - 2]
    assert rows[:2] == ["0", "1"]  # counted as in metrics.jsonl
    assert "s for training and evaluation" in run.stdout
    assert "s in all" in lines[-1]
    assert "unseen" in run.stdout
    assert "figures" in run.stdout and ".mp4" in run.stdout
    assert "warp" not in run.stdout + run.stderr


def test_evaluate(directory: Path, capsys: pytest.CaptureFixture):
    assert cli.main(["evaluate", str(directory)]) == 0
    out = capsys.readouterr().out
    assert "all training" in out and "all unseen" in out


def test_training_again_is_refused_in_one_line(directory: Path, capsys: pytest.CaptureFixture):
    assert cli.main([*TRAIN, "--out", str(directory)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "--resume" in captured.err and "--overwrite" in captured.err


def test_resume_with_another_seed_is_refused(directory: Path, capsys: pytest.CaptureFixture):
    assert cli.main([*TRAIN, "--out", str(directory), "--resume", "--seed", "4"]) == 2
    assert "seed: saved 0, given 4" in capsys.readouterr().err


def test_list(capsys: pytest.CaptureFixture):
    assert cli.main(["list"]) == 0
    out = capsys.readouterr().out
    for name in (*jgps.tasks.names(), "trajopt", "native"):
        assert name in out


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["fly"], ["unknown command 'fly'", "list, train, evaluate, report, bench"]),
        (["list", "all"], ["takes no arguments"]),
        (["train"], ["TASK", "jgps list", "jgps train --help"]),
        (["trian"], ["unknown command 'trian'", "did you mean train?"]),
        (["train", "pointmass"], ["unknown task 'pointmass'", "did you mean point_mass?"]),
        (["train", "n" * 300], ["unknown task 'nnn", "... (302 characters); tasks: point_mass"]),
        (["train", "point_mass", "--algorithm="], ["unknown algorithm ''; algorithms: mdgps"]),
        (["train", "point_mass", "--algorithm", ""], ["unknown algorithm ''"]),
        (["train", "point_mass", "--algorithm", "trajop"], ["did you mean trajopt?"]),
        (
            ["train", "point_mass", "--iteratons", "3"],
            ["did you mean --iterations? See jgps"],
        ),
        (["train", "point_mass", "--kl-step", "3"], ["did you mean --config.step.kl-step? See"]),
        (["train", "point_mass", "--out="], ["--out is empty; name a directory"]),
        (["train", "point_mass", "--out", "n" * 300], ["cannot write into", "name too long"]),
        (["bench", "fitt"], ["unknown benchmark 'fitt'", "did you mean fit?"]),
        (
            ["train", "point_mass", "--config.rollouts.num-samples", "99999999999"],
            ["would need at least", "GiB are available; lower --config.rollouts.num-samples\n"],
        ),
        (["train", "peg"], ["unknown task 'peg'", *jgps.tasks.names()]),
        (["train", "point_mass", "--algorithm", "ppo"], ["unknown algorithm 'ppo'", "trajopt"]),
        (["train", "point_mass", "--prior", "flat"], ["unknown prior 'flat'", "mixture, constant"]),
        (["train", "point_mass", "--prior", "none", *CLUSTERS], ["max-clusters"]),
        (["train", "point_mass", "--backend", "gpu"], ["unknown backend 'gpu'", "native, mjx"]),
        (["train", "point_mass", "--frobnicate"], ["--frobnicate", "jgps train --help"]),
        (["train", "point_mass", "--iterations", "many"], ["--iterations", "many"]),
        (["train", "point_mass", "--iterations", "0"], ["--iterations is 0", "from 1 to 10"]),
        (["train", "point_mass", "--iterations", str(2**63)], ["--iterations is 9", "from 1 to"]),
        (["train", "point_mass", "--seed", "1e3"], ["--seed is '1e3'; it has to be an integer"]),
        (["train", "point_mass", "--seed=-1"], ["--seed is -1; it has to be from 0"]),
        (
            ["train", "point_mass", "--config.step.kl-step", "nan"],
            ["jgps: --config.step.kl-step is nan; it has to be finite"],
        ),
        (
            ["train", "point_mass", "--config.step.kl-step", "far"],
            ["jgps: --config.step.kl-step is 'far'; it has to be a number"],
        ),
        (["train", "point_mass", "--config.policy.hidden", "a"], ["--config.policy.hidden is 'a'"]),
        (["train", "point_mass", "--out", "r\udcff"], ["--out is 'r", "text in UTF-8"]),
        (["report", "r\0"], ["DIR is 'r", "text in UTF-8"]),
        (
            ["train", "point_mass", "--algorithm", "trajopt", "--config.rollouts.num-samples", "1"],
            ["--config.rollouts.num-samples is 1", "at least 2"],
        ),
        (
            ["train", "point_mass", "--config.step.kl-step", "-1"],
            ["--config.step.kl-step is -1", "in (0, 1e9], usually 0.1 to 2 nats"],
        ),
        (
            ["train", "point_mass", "--config.policy.distil.learning-rate", "0"],
            ["--config.policy.distil.learning-rate is 0", "> 0"],
        ),
        (
            ["train", "point_mass", "--evaluate-every", "-1"],
            ["--evaluate-every is -1", "at least 0"],
        ),
        (["train", "point_mass", "--resume", "--overwrite"], ["leave out one"]),
        (["train", "point_mass", "--out", "/dev/null/run"], ["cannot write", "--out"]),
        (["evaluate", "/nowhere"], ["/nowhere is no directory"]),
        (["evaluate"], ["DIR"]),
        (["evaluate", "/nowhere", "--samples", "0"], ["--samples is 0", "leave the option out"]),
        (["evaluate", "/nowhere", "--seed", "3"], ["--seed is of the noise", "Add --samples"]),
        (["evaluate", "/nowhere", "--samples=2", "--seed=-1"], ["--seed is -1", "to 4294967295"]),
        (["report"], ["at least one run directory"]),
        (["report", "/nowhere"], ["/nowhere is no directory"]),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[str], parts: list[str], capsys: pytest.CaptureFixture
):
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("jgps: ")
    assert captured.err.count("\n") == 1
    for part in parts:
        assert part in captured.err


def test_no_command_prints_the_help(capsys: pytest.CaptureFixture):
    assert cli.main([]) == 2
    shown = capsys.readouterr().out
    assert cli.main(["--help"]) == 0
    assert capsys.readouterr().out == shown
    for command in cli.COMMANDS:
        assert f"\n  {command}" in shown


def test_help_of_a_command_lists_the_settings(capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", "--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert "--config.rollouts.num-samples" in out and "--resume" in out
    assert "--config.models.prior.max-clusters" in out
    with pytest.raises(SystemExit):
        cli.main(["train", "point_mass", "--prior", "none", "--help"])
    out = capsys.readouterr().out
    assert (
        "--config.rollouts.num-samples" in out and "--config.models.prior.max-clusters" not in out
    )


def test_the_network_is_the_default_and_every_algorithm_has_options(capsys: pytest.CaptureFixture):
    for algorithm in (None, *ALGORITHMS):
        chosen = [] if algorithm is None else ["--algorithm", algorithm]
        with pytest.raises(SystemExit) as stop:
            cli.main(["train", *chosen, "--help"])
        assert stop.value.code == 0
        assert "--config." in capsys.readouterr().out
    assert _options("mdgps", None)(task="point_mass").algorithm == "mdgps"


def test_only_a_prior_that_is_asked_for_replaces_the_algorithms_own(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Modelled:
        models: FittedModelsConfig = FittedModelsConfig(prior=MixturePriorConfig(max_clusters=3))

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class ModelFree:
        gain: float = 1.0

    monkeypatch.setitem(ALGORITHMS, "modelled", (None, Modelled))
    monkeypatch.setitem(ALGORITHMS, "free", (None, ModelFree))
    for prior in (None, "mixture"):
        assert _options("modelled", prior)(task="t").config.models.prior.max_clusters == 3
    assert _options("modelled", "none")(task="t").config.models.prior == NoPriorConfig()
    assert _options("free", None)(task="t").config.gain == 1
    assert cli.main(["train", "point_mass", "--algorithm", "free", "--prior", "none"]) == 2
    assert "free fits no dynamics; leave out --prior" in capsys.readouterr().err


def test_random_starts_are_settings_where_an_algorithm_has_them(capsys: pytest.CaptureFixture):
    assert _options("mdgps", None)(task="t").config.rollouts == FixedStartsConfig()
    chosen = _options("mdgps", None, random_starts=True)(task="t").config
    assert chosen.rollouts == RandomStartsConfig()
    for spelling in ("--random-starts", "--random_starts"):
        assert flagged("random-starts", ["train", spelling])
    arguments = ["train", "point_mass", "--algorithm", "trajopt", "--random-starts"]
    assert cli.main(arguments) == 2
    assert "trajopt starts in fixed conditions" in capsys.readouterr().err


def test_progress_of_a_network_shows_its_success_and_what_went_wrong():
    console = Console(record=True, width=90)
    progress = Progress(console, 2)
    record = {"iteration": 0, "cost": [2.0, 4.0], "policy_loss": 0.25, "policy_status": 2}
    record |= {"success_train": 0.5, "success_test": None, "iteration_seconds": 1.0}
    progress({**record, "compile_seconds": 0.0})
    head, row, problem = console.export_text().splitlines()
    assert head.split() == (
        ["iteration", "cost", "distance", "m", "success", "unseen", "net", "loss", "seconds"]
    )
    assert row.split() == ["0", "3", "-", "50%", "-", "0.25", "1.00"]
    assert "the network kept its parameters" in problem and "(not finite)" in problem


@pytest.mark.parametrize(
    ("grouped", "said"),
    [(None, ["condition 1: 2 rollouts"]), (10, []), (11, ["1 rollouts were not finite"])],
)
def test_progress_counts_the_rollouts_left_out(grouped: int | None, said: list[str]):
    console = Console(record=True, width=90)
    record = {"iteration": 0, "cost": [1.0], "samples_valid": [6, 4], "compile_seconds": 0.0}
    Progress(console, 2, grouped)(record)
    lines = console.export_text().splitlines()[2:]
    assert len(lines) == len(said)
    assert all(line.strip().startswith(text) for line, text in zip(lines, said, strict=True))


def test_ctrl_c_saves_and_says_how_to_go_on(run: subprocess.CompletedProcess, tmp_path: Path):
    out = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "jgps.cli.main", *TRAIN, "--iterations", "100000"]
        + ["--out", str(out)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell may have started the tests in the background, deaf to Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    metrics = out / "metrics.jsonl"
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        if metrics.is_file() and len(metrics.read_text().splitlines()) >= 2:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors  # as shells say of Ctrl-C
    assert "interrupted" in errors and "--resume" in errors
    assert "Traceback" not in errors
    done = len(metrics.read_text().splitlines())
    assert checkpoint.iterations(out)[-1] == done
    assert checkpoint.problem(out, done) is None


def test_version(capsys: pytest.CaptureFixture):
    try:
        version = importlib.metadata.version("jgps")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("jgps is not installed")
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"jgps {version}\n"
    assert version == jgps.__version__


@pytest.mark.parametrize(
    ("arguments", "alone", "iterations"),
    [
        (["hanger"], 10, 17),
        (["hammer"], 5, 12),
        (["--out", "hammer", "hanger"], 10, 17),
        (["hammer", "--config.trajectory-iterations", "8"], 8, 15),
        (["hammer", "--iterations", "30"], 5, 30),
    ],
)
def test_iterations_of_policies_that_see(arguments, alone, iterations):
    _, options = read([*arguments, "--policy", "visuomotor"])
    assert options.config.trajectory_iterations == alone
    assert options.iterations == iterations


def test_help_shows_what_a_task_is_trained_with(capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit):
        read(["hammer", "--policy", "visuomotor", "--help"])
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for option, default in (("iterations", 12), ("config.trajectory-iterations", 5)):
        found = text.partition(f"--{option} INT")[2].partition("(default: ")[2]
        assert found.startswith(f"{default})")


def test_policies_that_see_are_settings_of_algorithms_with_a_network(capsys: pytest.CaptureFixture):
    assert _options("mdgps", None)(task="t").config.policy == MlpConfig()
    assert _options("badmm", None, policy="mlp")(task="t").iterations == 12
    options = _options("badmm", None, policy="pose_features")(task="t")
    seeing = options.config
    assert seeing.policy.kind == "pose_features" and seeing.step.max_multiplier == 1
    # Enough for all phases, the last one several times.
    assert options.iterations >= seeing.trajectory_iterations + seeing.policy.dense_iterations + 3
    for arguments, sentence in (
        (["--algorithm", "trajopt"], "trajopt trains no network; leave out --policy"),
        ([], "the task 'point_mass' has no camera for a visuomotor policy; those that have one: "),
    ):
        assert cli.main(["train", "point_mass", "--policy", "visuomotor", *arguments]) == 2
        assert sentence in capsys.readouterr().err
    assert cli.main(["train", "point_mass", "--policy", "cnn"]) == 2
    assert "unknown policy 'cnn'; policies: mlp, visuomotor" in capsys.readouterr().err
    for task, enough in (("shape_sorting_cube", 11), ("hammer", 6)):
        assert cli.main(["train", task, "--policy", "visuomotor", "--iterations", "2"]) == 2
        sentence = f"so that no network would be trained; ask for at least {enough}"
        assert sentence in capsys.readouterr().err
