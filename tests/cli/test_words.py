"""What Python says of its arguments, in the words of the command line."""

import sys

import jax
import pytest

from jgps import tasks
from jgps.cli import main
from jgps.cli.arguments import as_options


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("lower config.step.kl_step", "lower --config.step.kl-step"),
        ("pass resume=True, or choose another out", "pass --resume, or choose another --out"),
        ("evaluate_every is -1", "--evaluate-every is -1"),
        ("CheckpointConfig.keep is 1", "--checkpoint.keep is 1"),
        ("start_from.iteration: saved 3", "--start-iteration: saved 3"),
        ("resume, overwrite and keep_samples need", "resume, overwrite and --keep-samples need"),
        ("runs/config.json is damaged", "runs/config.json is damaged"),
        ("seed is -1", "--seed is -1"),
        ("the seed is -1", "the seed is -1"),
        ("out is empty", "--out is empty"),
        ("see --keep-samples", "see --keep-samples"),
    ],
)
def test_arguments_become_options(said: str, shown: str):
    assert as_options(said) == shown


@pytest.mark.parametrize("error", [RuntimeError("no backend 'moon'\nmore"), AssertionError()])
def test_a_machine_without_the_device_that_is_asked_for_is_named(error, monkeypatch, capsys):
    def devices():
        raise error

    monkeypatch.setattr(jax, "devices", devices)
    monkeypatch.setenv("JAX_PLATFORMS", "moon")
    assert main.main(["list"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("jgps: JAX finds no device to compute on") and said.count("\n") == 1
    assert said.endswith("JAX_PLATFORMS is 'moon'; leave it out, or set it to cpu\n")
    monkeypatch.delenv("JAX_PLATFORMS")
    assert main.main(["list"]) == 2
    assert capsys.readouterr().err.endswith("set JAX_PLATFORMS to cpu\n")
    with pytest.raises(SystemExit) as ended:  # which needs none
        main.main(["train", "--help"])
    assert ended.value.code == 0


def test_lists_do_without_docstrings(monkeypatch, capsys):
    """Which `python -OO` takes out."""
    monkeypatch.setattr(tasks.registry._TASKS["reacher"], "__doc__", None)
    monkeypatch.setattr(sys.modules["jgps.algorithms.trajopt"], "__doc__", None)
    assert main.main(["list"]) == 0
    said = capsys.readouterr().out
    assert "\n  reacher              \n" in said and "\n  trajopt              \n" in said


def test_a_closed_output_is_no_mistake(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    assert main.main(["list"]) == 0
    assert sys.stdout is None
