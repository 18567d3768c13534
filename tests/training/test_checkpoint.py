"""Saving and pruning of checkpoints."""

from pathlib import Path

import numpy as np

from jgps.training import checkpoint


def test_pruning_spares_what_was_just_saved(tmp_path: Path):
    for iteration in (6, 7, 8, 1):
        checkpoint.save(tmp_path, iteration, [np.zeros(2)])
    assert checkpoint.iterations(tmp_path) == [1, 7, 8]
    assert checkpoint.problem(tmp_path, 1) is None
    checkpoint.save(tmp_path, 2, [np.zeros(2)], keep=1)
    assert checkpoint.iterations(tmp_path) == [2]


def test_what_an_interrupted_save_left_is_replaced(tmp_path: Path):
    left = tmp_path / "checkpoints" / "000002.orbax-checkpoint-tmp"
    left.mkdir(parents=True)
    (left / "half").write_text("")
    checkpoint.save(tmp_path, 2, [np.zeros(2)])
    assert checkpoint.problem(tmp_path, 2) is None
    assert not left.exists()
