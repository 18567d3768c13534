"""The command line: exit codes, sentences, and one run from beginning to end."""

import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import jgps
from jgps.app import cli
from jgps.training import checkpoint

# Small and quick to compile; all tests use the same programs.
QUICK = ["--config.num-samples", "2", "--config.prior.max-clusters", "2"]
TRAIN = ["train", "point_mass", "--iterations", "2", *QUICK]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def run(home: Path) -> subprocess.CompletedProcess:
    """`jgps train` in a process of its own, in an empty directory."""
    return subprocess.run(
        [sys.executable, "-m", "jgps.app.cli", *TRAIN],
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
    root = str(Path(jgps.__file__).parents[1])
    return {**os.environ, "PYTHONPATH": root}


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
        ["iteration", "cost", "distance", "m", "KL", "eta", "step", "size", "seconds"]
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
        (["train", "peg"], ["unknown task 'peg'", *jgps.tasks.names()]),
        (["train", "point_mass", "--algorithm", "ppo"], ["unknown algorithm 'ppo'", "trajopt"]),
        (["train", "point_mass", "--prior", "flat"], ["unknown prior 'flat'", "mixture, constant"]),
        (["train", "point_mass", "--prior", "none", *QUICK], ["max-clusters"]),
        (["train", "point_mass", "--backend", "gpu"], ["unknown backend 'gpu'", "native, mjx"]),
        (["train", "point_mass", "--frobnicate"], ["--frobnicate", "jgps train --help"]),
        (["train", "point_mass", "--iterations", "many"], ["--iterations", "many"]),
        (["train", "point_mass", "--iterations", "0"], ["iterations is 0", "at least 1"]),
        (
            ["train", "point_mass", "--config.num-samples", "1"],
            ["TrajoptConfig.num_samples is 1", "at least 2"],
        ),
        (
            ["train", "point_mass", "--config.step-size.kl-step", "-1"],
            ["StepSizeConfig.kl_step is -1", "> 0"],
        ),
        (["train", "point_mass", "--resume", "--overwrite"], ["leave out one"]),
        (["train", "point_mass", "--out", "/dev/null/run"], ["cannot write", "--out"]),
        (["evaluate", "/nowhere"], ["/nowhere is no directory"]),
        (["evaluate"], ["DIR"]),
        (["evaluate", "/nowhere", "--samples", "0"], ["--samples is 0", "leave the option out"]),
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
    assert "--config.num-samples" in out and "--resume" in out
    assert "--config.prior.max-clusters" in out
    with pytest.raises(SystemExit):
        cli.main(["train", "point_mass", "--prior", "none", "--help"])
    out = capsys.readouterr().out
    assert "--config.num-samples" in out and "--config.prior.max-clusters" not in out


def test_ctrl_c_saves_and_says_how_to_go_on(run: subprocess.CompletedProcess, tmp_path: Path):
    out = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "jgps.app.cli", *TRAIN, "--iterations", "100000"]
        + ["--out", str(out)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    metrics = out / "metrics.jsonl"
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        if metrics.is_file() and len(metrics.read_text().splitlines()) >= 2:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1, errors
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
