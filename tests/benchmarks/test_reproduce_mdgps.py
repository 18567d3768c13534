"""The table of MDGPS: one short run, and what it claims."""

from network_success import FARTHEST, RESULT_TEST, RESULT_TRAIN, SECONDS, network_row
from reproduce import Results
from reproduce_mdgps import ENTRIES, ITERATIONS, claims, main, row

from jgps.algorithms import MdgpsConfig, mdgps
from jgps.policies import DistilConfig
from jgps.policies.learner import MlpConfig


def test_runs_report_success_at_the_iterations():
    config = MdgpsConfig(policy=MlpConfig(distil=DistilConfig(steps=500)))
    found = network_row("MDGPS", "point_mass", mdgps, config, (1, 6), "native").run(0)
    successes = {"train_1", "train_6", "test_1", "test_6", RESULT_TRAIN, RESULT_TEST}
    assert set(found) == {*successes, SECONDS, FARTHEST}
    assert found[RESULT_TRAIN] == found[RESULT_TEST] == 1
    assert found["train_1"] < 1 and found["train_6"] == found["test_6"] == 1
    assert 0 < found[SECONDS] < 10


def test_rows_are_beside_the_published_values():
    published = row(ENTRIES["badmm"], ITERATIONS, "native").published
    assert published == {"train_6": 0.52, "train_9": 0.52, "train_12": 0.78}


def test_claims_are_on_every_seed_of_the_rows_chosen():
    train, test, stays = claims(("badmm",))
    name = ENTRIES["badmm"].name
    for claim, key in ((train, "train_12"), (test, "test_12")):
        for value, holds in ((0.9, True), (0.85, False), (None, False)):
            assert claim.holds(Results({name: [{key: 1.0}, {key: value}]})) == holds
    before = {"train_9": 0.9, "test_9": 0.8}
    for last, holds in ((0.9, True), (0.8, True), (0.75, False), (None, False)):
        found = {**before, "train_12": last, "test_12": 0.75}
        assert stays.holds(Results({name: [{**found, "train_12": 1.0}, found]})) == holds
    assert len(claims(tuple(ENTRIES))) == 8


def test_unknown_rows_are_refused(capsys):
    assert main(rows=("offpolicy",)) == 2
    assert "name some of off_policy" in capsys.readouterr().err
