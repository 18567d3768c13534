"""The ablation of CGPS and ADMM: what its rows leave out, and what its claims say."""

import ablate_known
import numpy as np
from reproduce import Results

ROWS = list(ablate_known.VARIANTS)


def test_every_row_leaves_out_something_else():
    configs = list(ablate_known.VARIANTS.values())
    assert all(one != other for n, one in enumerate(configs) for other in configs[:n])
    assert ablate_known.VARIANTS["ADMM, neither"].policy.distil.gain_weight == 0


def test_the_pendulum_is_too_weak_to_be_lifted_at_once():
    task = ablate_known.make_task(horizon=5)
    assert ablate_known.TORQUE < ablate_known.MASS * ablate_known.GRAVITY * ablate_known.LENGTH
    hanging = np.array([np.pi, 0.0])
    after = task.dynamics(hanging, np.zeros(1), 0)
    np.testing.assert_allclose(after, hanging, atol=1e-6)
    upright = float(task.cost(np.zeros(2), np.zeros(1), 0))
    assert upright == 0 < float(task.cost(hanging, np.zeros(1), 0))


def test_claims_compare_rows():
    keys = [column.key for column in ablate_known.COLUMNS]
    good = dict.fromkeys(keys, 1.0)
    runs = {row: [dict(good)] * 2 for row in ROWS}
    for row in ("CGPS", "ADMM"):
        runs[row] = [{**good, "violation": 0.1, "disturbed": 0.5}] * 2
    verdicts = [claim.holds(Results(runs)) for claim in ablate_known.claims()]
    assert all(verdicts) and len(verdicts) == 9
    runs["ADMM"] = [{**good, "agreed": None}] * 2
    verdicts = [claim.holds(Results(runs)) for claim in ablate_known.claims()]
    assert verdicts == [True, False, True, True, False, False, False, False, False]
