"""The sweep over other people's models: what a task of one is, and what a line says."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import sweep_models
from reproduce import Results

MODELS = sweep_models.find_models()
ARM, RUNNER = MODELS["gymnasium/reacher"], MODELS["gymnasium/hopper"]
SERVOS = """<mujoco><worldbody><body><joint name="j"/><geom size=".1" pos=".2 0 0"/></body>
  </worldbody>
  <actuator><position joint="j" kp="9"/></actuator>
  <keyframe><key name="up" qpos=".4"/></keyframe></mujoco>"""


def test_models_come_from_the_packages():
    assert {"gymnasium/ant", "gymnasium/humanoid", "gymnasium/walker2d_v5"} <= set(MODELS)
    assert all(path.is_file() for path in MODELS.values())


@pytest.fixture(scope="module")
def arm():
    return sweep_models.make_task(ARM)


def test_rollouts_are_those_of_mujoco(arm):
    assert sweep_models.difference(arm, 0) < sweep_models.EXACT
    other = dataclasses.replace(arm, train=arm.train._replace(qpos=arm.train.qpos + 0.1))
    assert sweep_models.difference(other, 0) < sweep_models.EXACT


def test_an_arm_holds_and_has_something_to_reach(arm):
    assert sweep_models.movement(arm) < 1e-3
    x = np.concatenate([arm.train.qpos[0], arm.train.qvel[0]])
    at_start = arm.cost(x, np.zeros(arm.action_dim), 0)
    assert float(at_start) == pytest.approx(0.5 * 4 * sweep_models.TURN**2)


def test_what_moves_on_is_to_move_on():
    runner = sweep_models.make_task(RUNNER)
    x = np.zeros(runner.state_dim)
    still = float(runner.cost(x, np.zeros(runner.action_dim), 0))
    x[runner.layout["qvel"].start] = sweep_models.SPEED
    assert (still, float(runner.cost(x, np.zeros(runner.action_dim), 0))) == (0.5, 0)


def test_a_line_says_what_stands_in_the_way(tmp_path: Path, monkeypatch):
    path = tmp_path / "servos.xml"
    path.write_text(SERVOS)

    def fails(*_):
        raise ValueError("it is too late")

    monkeypatch.setattr(sweep_models, "optimise", fails)
    line = sweep_models.sweep(path, 1, 0)
    assert line["loads"] == 1 and line["reports"] == 0 and line["moves"] < 1e-3
    assert line["note"] == "ValueError: it is too late"
    path.write_text("<mujoco/>")
    line = sweep_models.sweep(path, 1, 0)
    assert line["loads"] == 0 and line["difference"] is None
    assert "has no actuator" in line["note"]
    assert sweep_models.gain(4, 3) == 0.25 and sweep_models.gain(4, np.nan) is None


def test_claims_want_every_model():
    good = {"loads": 1, "difference": 0.0, "reports": 1}
    bad = {"loads": 1, "difference": None, "reports": 0}
    of_good, of_both = Results({"a": [good]}), Results({"a": [good], "b": [bad]})
    assert all(claim.holds(of_good) for claim in sweep_models.claims())
    assert [claim.holds(of_both) for claim in sweep_models.claims()] == [True, False, False]


def test_mistakes_of_the_command():
    assert sweep_models.main(only=("gymnasium/nothing",)) == 2
