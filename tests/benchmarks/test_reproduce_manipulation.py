"""The comparison on pusher and door: what it claims; its runs are those of the MDGPS table."""

from network_success import RESULT_TEST, RESULT_TRAIN
from reproduce import Results
from reproduce_manipulation import TASKS, claims


def test_the_claims_are_on_unseen_conditions_of_every_task():
    for task, claim in zip(TASKS, claims(TASKS), strict=True):
        assert claim.text.startswith(task)
        for tests, holds in (((1.0, 0.8, 0.7), True), ((1.0, 0.8, 0.5), False)):
            runs = [{"test_16": 1.0, RESULT_TRAIN: 1.0, RESULT_TEST: t} for t in tests]
            assert claim.holds(Results({task: runs})) is holds
