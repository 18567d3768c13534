"""The sweep over other people's models: what a task of one is, and what a line says."""

import dataclasses
from pathlib import Path

import mujoco
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
    assert float(at_start) == pytest.approx(0.5 * 2 * sweep_models.TURN**2)


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
    assert line["holds"] == 1

    # What was measured stays in the line where the report fails.
    numbers = {"improves": 0.5, "improves_noise_free": 0.4}
    monkeypatch.setattr(sweep_models, "optimise", lambda *_: numbers)
    monkeypatch.setattr(sweep_models, "report", fails)
    line = sweep_models.sweep(path, 1, 0)
    assert (line["improves"], line["improves_noise_free"], line["reports"]) == (0.5, 0.4, 0)
    assert line["note"] == "ValueError: it is too late"

    path.write_text("<mujoco/>")
    line = sweep_models.sweep(path, 1, 0)
    assert line["loads"] is None and line["difference"] is None
    assert line["note"] == "a template without actuators, which its package fills in"
    assert sweep_models.gain(4, 3) == 0.25 and sweep_models.gain(4, np.nan) is None


def test_claims_want_every_model():
    good = {"loads": 1, "difference": 0.0, "holds": None, "reports": 1}
    good |= {"improves": 0.31, "improves_noise_free": 0.3}
    bad = good | {"difference": None, "holds": 0, "reports": 0}
    template = dict.fromkeys(good)
    learner = sweep_models.LEARNERS[0]

    def held(**rows):
        results = Results({name: [line] for name, line in rows.items()})
        return [claim.holds(results) for claim in sweep_models.claims([learner])]

    assert all(held(**{learner: good, "b": template, "c": good | {"improves": None}}))
    assert held(a=good, b=bad) == [True, False, False, False, False]
    assert len(sweep_models.claims([])) == len(sweep_models.claims()) - 1
    assert not sweep_models.claims()[3].holds(Results({learner: [good]})), "all have to be there"
    for key in ("improves", "improves_noise_free"):
        for value in (0.29, None):
            assert held(**{learner: good | {key: value}}) == [True, True, True, False, True]


REACHES = """<mujoco><worldbody>
  <body><joint name="a"/><joint name="b" axis="1 0 0"/><joint name="c" axis="0 1 0"/>
    <geom size=".1"/></body>
  <body pos="1 0 0"><joint name="loose" type="slide"/><geom size=".1"/></body></worldbody>
  <default><joint limited="true" range="-1 1"/></default>
  <actuator><motor joint="a"/><motor joint="b"/><motor joint="c"/></actuator></mujoco>"""
GLIDES = """<mujoco><option gravity="0 0 0"/><worldbody><body>
  <joint name="up" type="slide" axis="0 0 1"/><joint name="on" type="slide" axis="1 0 0"/>
  <geom size=".1" mass="100"/></body></worldbody>
  <actuator><motor joint="up"/><motor joint="on" ctrllimited="true" ctrlrange="-1 1"/></actuator>
  </mujoco>"""


def test_only_what_is_driven_has_a_goal_and_none_beyond_its_range(arm):
    model = mujoco.MjModel.from_xml_string(REACHES.replace('"-1 1"', '"-57 57"'))
    joints = sweep_models.driven(model, model.qpos0)
    assert joints.tolist() == [0, 1, 2]  # what lies loose is not to be moved
    start = np.array([0.0, 0.9, -0.9, 0.0])
    found = sweep_models.goals(model, start, joints)
    np.testing.assert_allclose(found, [0.3, 0.6, -0.6])
    model.jnt_range[0] = [-0.1, 0.1]
    assert sweep_models.goals(model, start, joints)[0] == -0.1
    assert sweep_models.can_hold(arm)
    assert not sweep_models.can_hold(sweep_models.make_task(RUNNER))


def test_what_moves_is_to_move_along_the_ground_at_a_speed_in_reach():
    model = mujoco.MjModel.from_xml_string(GLIDES)
    assert sweep_models.forward(model) == 1
    slow = sweep_models.speed_in_reach(model, model.qpos0, 1, 20)
    assert 1e-3 < slow < 2 * 1.2 / 100  # a force of 1 N for 1.2 s on 100 kg
    assert sweep_models.forward(mujoco.MjModel.from_xml_string(REACHES)) is None
    light = GLIDES.replace('"100"', '"1"')
    model = mujoco.MjModel.from_xml_string(light)
    assert sweep_models.speed_in_reach(model, model.qpos0, 1, 20) == sweep_models.SPEED


def test_mistakes_of_the_command():
    assert sweep_models.main(only=("gymnasium/nothing",)) == 2
