"""Every script of examples/ runs, and does what it says."""

import pathlib
import re
import runpy
from collections.abc import Callable
from typing import Any

import numpy as np

ROOT = pathlib.Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "examples").glob("*.py"))


def main_of(name: str) -> Callable[..., Any]:
    """The function `main` of a script, which does not run yet."""
    return runpy.run_path(str(ROOT / "examples" / f"{name}.py"))["main"]


def test_lqr():
    found = main_of("1_lqr")()
    assert abs(found["position_last"]) < 0.02
    assert found["cost"] < found["cost_idle"] / 2


def test_train():
    result = main_of("2_train")(iterations=4)
    assert np.mean(result.metrics[-1]["cost"]) < np.mean(result.metrics[0]["cost"]) / 2
    assert result.evaluation.test.success_rate >= 0.5


def test_own_robot():
    distances = main_of("3_own_robot")(iterations=6)
    assert distances[-1] < distances[0] / 4


def test_compare():
    curves = main_of("4_compare")(iterations=4, seeds=(0, 1))
    for curve in curves.values():
        assert curve.shape == (2, 4)
        assert np.all(curve[:, -1] < curve[:, 0])
        assert np.any(curve[0] != curve[1])
    assert np.all(curves["trajopt"][:, -1] < curves["pi2"][:, -1])


def test_own_cost():
    found = main_of("5_own_cost")(iterations=5)
    assert found["slow_point_mass"]["speed"] < 0.8 * found["point_mass"]["speed"]
    assert found["slow_point_mass"]["distance"] < 0.1  # of 1 m


def test_resume(tmp_path: pathlib.Path):
    costs = main_of("6_resume")(tmp_path, iterations=2)
    np.testing.assert_array_equal(costs["resumed"], costs["whole"])
    np.testing.assert_array_equal(costs["resumed"], costs["reloaded"])


def test_every_script_is_short_and_tested():
    tested = set(re.findall(r'main_of\("(\w+)"\)', pathlib.Path(__file__).read_text()))
    assert tested == {path.stem for path in SCRIPTS}
    lines = {path.name: len(path.read_text().splitlines()) for path in SCRIPTS}
    assert {name: number for name, number in lines.items() if number >= 60} == {}
