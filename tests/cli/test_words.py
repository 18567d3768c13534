"""What Python says of its arguments, in the words of the command line."""

import pytest

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
        ("see --keep-samples", "see --keep-samples"),
    ],
)
def test_arguments_become_options(said: str, shown: str):
    assert as_options(said) == shown
