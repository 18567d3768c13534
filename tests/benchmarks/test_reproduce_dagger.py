"""The comparison of DAgger with behaviour cloning: one short run, and what it claims."""

import pytest
from reproduce import Results
from reproduce_dagger import CLONING, DAGGER, claims, main, train

from jgps.algorithms import DaggerConfig
from jgps.policies import DistilConfig
from jgps.policies.learner import MlpConfig


def test_runs_report_the_network_and_its_teacher():
    config = DaggerConfig(teacher_iterations=3, policy=MlpConfig(distil=DistilConfig(steps=500)))
    found = train("point_mass", config, 5, "native", 0)
    assert found["rollouts"] == 5 * 4 * (5 + 1)
    assert found["train"] == 1 and found["test"] == 1
    assert found["teacher_cost"] == pytest.approx(11.1, abs=0.2)
    assert found["train_cost"] == pytest.approx(found["teacher_cost"], rel=0.1)


def test_the_claim_compares_unseen_conditions():
    (claim,) = claims()
    for dagger, cloning, holds in ((0.9, 0.8, True), (0.8, 0.8, True), (0.7, 0.8, False)):
        measured = Results({DAGGER: [{"test": dagger}], CLONING: [{"test": cloning}]})
        assert claim.holds(measured) == holds


def test_too_few_iterations_are_refused(capsys):
    assert main(iterations=9) == 2
    assert "--iterations is 9; it has to be at least 10" in capsys.readouterr().err
