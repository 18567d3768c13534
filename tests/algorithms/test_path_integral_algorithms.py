"""PI2 and PILQR on tasks: progress, what each needs, and PILQR against its parts."""

import jax
import numpy as np

from jgps import tasks
from jgps.algorithms.pi2 import Pi2Config, pi2
from jgps.algorithms.pilqr import PilqrConfig, pilqr
from jgps.algorithms.trajopt import TrajoptConfig, trajopt
from jgps.configs import FixedStartsConfig
from jgps.core.path_integral import Pi2StepConfig
from jgps.core.types import OK
from jgps.dynamics import NoPriorConfig
from jgps.optimise.models import FittedModelsConfig

# So many samples need no prior, which takes longest to compile.
ALONE = FittedModelsConfig(prior=NoPriorConfig())
MANY = FixedStartsConfig(num_samples=20)


def _run(make, task, config, iterations, seed=0):
    """The first and the last state, and metrics."""
    algorithm = make(task, config, backend="native")
    start, history = algorithm.init(jax.random.key(seed)), []
    state = start
    for _ in range(iterations):
        state, metrics = algorithm.step(state)
        history.append(metrics)
    return start, state, history


def test_pi2_improves_without_touching_the_gains():
    task = tasks.make("point_mass")
    start, state, history = _run(pi2, task, Pi2Config(rollouts=MANY), 10)
    assert all(bool((metrics["status"] == OK).all()) for metrics in history)
    first, last = history[0]["noise_free_cost"], history[-1]["noise_free_cost"]
    assert bool((last < 0.6 * first).all())
    np.testing.assert_array_equal(state.controllers.K, start.controllers.K)
    for metrics in history:
        np.testing.assert_allclose(metrics["weights_kl"], 1, atol=1e-3)
    assert bool((np.linalg.eigvalsh(state.controllers.C) > 0).all())


def test_pi2_obeys_its_bound():
    """Half the bound moves less far, from the same samples."""
    task = tasks.make("point_mass")
    moves = []
    for epsilon in (0.1, 0.5, 2.0):
        config = Pi2Config(rollouts=MANY, step=Pi2StepConfig(epsilon=epsilon))
        start, state, history = _run(pi2, task, config, 1, seed=1)
        np.testing.assert_allclose(history[0]["weights_kl"], epsilon, atol=1e-3)
        moves.append(float(np.linalg.norm(state.controllers.k - start.controllers.k)))
    assert moves[0] < 0.7 * moves[1] < 0.7 * 0.9 * moves[2]


def test_pilqr_solves_what_its_models_explain_with_few_samples():
    task = tasks.make("point_mass")
    *_, history = _run(pilqr, task, PilqrConfig(), 8)
    assert all(bool((metrics["status"] == OK).all()) for metrics in history)
    # Later there is hardly anything left to explain.
    assert all(bool((metrics["unexplained"] < 0.05).all()) for metrics in history[:3])
    assert bool((history[-1]["noise_free_cost"] < 0.2 * history[0]["cost"]).all())
    assert float(np.max(history[-1]["noise_free_distance"])) < 0.05
    for metrics in history:  # LQR keeps to the bounds, which grow while it serves
        assert bool((metrics["kl"] <= 1.1 * metrics["kl_bound"]).all())
    assert bool((history[2]["kl_bound"] > 2 * history[0]["kl_bound"]).all())


def test_pilqr_beats_both_of_its_parts_where_the_cost_jumps():
    """12 of the 20 iterations that the benchmark takes, one seed."""
    task = tasks.make("disc_point_mass")
    found = {}
    for make, config in [
        (trajopt, TrajoptConfig(rollouts=MANY, models=ALONE)),
        (pi2, Pi2Config(rollouts=MANY)),
        (pilqr, PilqrConfig(rollouts=MANY, models=ALONE)),
    ]:
        _, state, history = _run(make, task, config, 12)
        found[make] = float(np.mean(state.policy_cost)), history
    cost, history = found[pilqr]
    assert cost < 0.85 * found[pi2][0] and cost < 0.7 * found[trajopt][0]
    assert bool((history[-1]["noise_free_success"] == 1).all())
    assert not found[trajopt][1][-1]["noise_free_success"].any()
    # The models don't see the region: once samples find it, LQR hardly moves.
    assert bool((history[-1]["unexplained"] > 0.5).all())
    assert bool((history[-1]["kl_bound"] < 0.5 * history[0]["kl_bound"]).all())
