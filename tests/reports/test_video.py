"""Film strips."""

import mediapy
import numpy as np
import pytest
from pointer import make_task

from jgps.rendering import RenderConfig
from jgps.reports.video import StripOptions, film_strip


def test_film_strip_has_a_row_per_condition_and_checks_indices(tmp_path):
    task = make_task((-1.0, 1.0), horizon=6)
    qpos = 0.1 * np.random.default_rng(0).normal(size=(2, 6, 1))
    quick = StripOptions(width=160, config=RenderConfig(shadows=0, supersample=1))
    path = film_strip(
        task, qpos, tmp_path / "s.png", conditions=(1, 0), steps=(0, 5), options=quick
    )
    assert mediapy.read_image(path).shape[:2] == (2 * 60, 160)
    with pytest.raises(ValueError, match=r"condition 2 is not in 0\.\.1"):
        film_strip(task, qpos, tmp_path / "s.png", conditions=(2,))
    with pytest.raises(ValueError, match=r"step 6 is not in 0\.\.5"):
        film_strip(task, qpos, tmp_path / "s.png", steps=(6,))
    with pytest.raises(ValueError, match=r"needs \[2, T, 1\]"):
        film_strip(task, qpos[:1], tmp_path / "s.png")
