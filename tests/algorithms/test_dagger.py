"""DAgger on a small task: its two phases, who acts, what is labelled, settings, failures."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from shared_algorithms import on_many_sets, springs

from jgps import tasks
from jgps.algorithms.dagger import DaggerConfig, dagger, make_parts
from jgps.core.types import OK, TOO_FEW_SAMPLES
from jgps.optimise.guided.history import recent
from jgps.optimise.guided.projection import targets
from jgps.policies import DistilConfig
from jgps.policies.learner import MlpConfig

TEACHING, ROUNDS = 3, 3
CONFIG = DaggerConfig(
    teacher_iterations=TEACHING, rounds_kept=2, policy=MlpConfig(distil=DistilConfig(steps=1000))
)
NUM_SAMPLES = 5  # of each condition, where no number is given


@functools.cache
def _runs():
    """The task, and `run(name, iterations)` on it; the last condition of "broken" is that."""
    task = tasks.make("point_mass")
    stiff = {"healthy": np.zeros(4), "broken": np.array([0, 0, 0, 1e12])}
    return task, on_many_sets(dagger, task, CONFIG, springs(task, stiff))


def _run(name="healthy"):
    """The task, and states and metrics of all iterations with seed 0, on point_mass."""
    task, run = _runs()
    found = [run(name, iterations) for iterations in range(TEACHING + ROUNDS + 1)]
    return task, [state for state, _ in found], [jax.device_get(each) for _, each in found[1:]]


def _same(a, b):
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(one, other)


def test_first_the_controllers_learn_and_then_the_network():
    _, states, metrics = _run()
    taught = states[TEACHING]
    assert not np.array_equal(states[0].controllers.k, taught.controllers.k)
    for state in states[: TEACHING + 1]:
        _same(state.newest, states[0].newest)
        _same(state.policy, states[0].policy)
        assert np.isinf(state.policy_cost)
    for found in metrics[:TEACHING]:
        assert np.isnan(found["policy_loss"]) and np.isfinite(found["kl"]).all()
    for before, after, found in zip(
        states[TEACHING:], states[TEACHING + 1 :], metrics[TEACHING:], strict=False
    ):
        _same(after.controllers, taught.controllers)
        assert not np.array_equal(before.newest.cov, after.newest.cov) or not np.array_equal(
            before.newest.variables["params"]["action"]["kernel"],
            after.newest.variables["params"]["action"]["kernel"],
        )
        assert found["policy_loss"] < found["policy_loss_before"]
        assert np.isnan(found["kl"]).all()  # no step was taken
    assert float(states[-1].policy_cost) < 1.2 * float(np.mean(taught.memory.teacher_cost))


def test_the_teacher_is_what_did_best_in_a_trial():
    _, states, metrics = _run()
    costs = np.stack([found["noise_free_cost"] for found in metrics[:TEACHING]])
    np.testing.assert_array_equal(states[TEACHING].memory.teacher_cost, costs.min(axis=0))
    for c, best in enumerate(costs.argmin(axis=0)):
        made = states[best + 1].memory.teacher  # right after the trial in which it was the best
        np.testing.assert_array_equal(states[TEACHING].controllers.k[c], made.k[c])


def test_the_best_network_is_kept():
    _, states, metrics = _run()
    costs = [float(np.mean(found["noise_free_cost"])) for found in metrics[TEACHING:]]
    np.testing.assert_allclose(states[-1].policy_cost, min(costs), rtol=1e-6)
    _same(states[-1].policy, states[TEACHING + 1 + int(np.argmin(costs))].newest)


def test_the_dataset_is_a_ring_of_what_was_visited_once_there_was_a_teacher():
    _, states, _ = _run()
    rounds = [int(state.history.valid.sum()) // (4 * NUM_SAMPLES) for state in states]
    assert rounds == [0] * (TEACHING + 1) + [1, 2, 2]


def _actors(beta, seed=0):
    """Fractions of the steps of a round in which the actions are the teacher's, without noise."""
    task, states, _ = _run()
    config = dataclasses.replace(CONFIG, beta=beta)
    parts = make_parts(task, config, "native")
    state = states[-1]
    # Controllers that no network resembles, and neither has noise.
    controllers = state.controllers._replace(
        K=0 * state.controllers.K, k=0 * state.controllers.k + 3.0, C=0 * state.controllers.C
    )
    sampled = parts.sample(state._replace(controllers=controllers), jax.random.key(seed))
    return np.all(np.asarray(sampled.u) == 3.0, axis=-1)


def test_teacher_and_network_act_in_turns():
    assert _actors((1.0,)).all()
    assert not _actors((1.0, 0.0)).any()
    mixed = _actors((0.3,))
    assert 0.15 < mixed.mean() < 0.45
    assert not np.array_equal(mixed, _actors((0.3,), seed=1))


def test_every_visited_state_is_labelled_by_the_teacher():
    """Training on these labels only: a linear network finds the teacher's own gains."""
    _, states, _ = _run()
    state = states[-1]
    seen = recent(state.history, state.iteration)
    controllers = jax.tree.map(np.asarray, state.controllers)
    expected = np.einsum("ctij,cntj->cnti", controllers.K, np.asarray(seen.x))
    expected = expected + controllers.k[:, None]
    found = targets(state, seen)
    np.testing.assert_allclose(found.target, expected, rtol=1e-4, atol=1e-4)
    learned = np.asarray(state.newest.mean(seen.o))
    valid = np.asarray(seen.valid)
    error = np.sqrt(np.mean(np.square(learned - expected)[valid]))
    assert error < 0.2 * np.std(expected[valid])


def test_a_condition_without_rollouts_does_not_stop_the_others():
    _, states, metrics = _run("broken")
    _, healthy, _ = _run()
    for found in metrics:
        assert found["status"].tolist() == [OK, OK, OK, TOO_FEW_SAMPLES]
        assert found["samples_valid"].tolist() == [NUM_SAMPLES] * 3 + [0]
    start, end = states[0], states[-1]
    _same(*(jax.tree.map(lambda a: a[3], s.controllers) for s in (start, end)))
    assert np.isinf(end.memory.teacher_cost).tolist() == [False, False, False, True]
    assert np.isfinite(end.policy_cost)
    assert float(end.policy_cost) < 2 * float(healthy[-1].policy_cost)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"teacher_iterations": 0}, "teacher_iterations is 0; .* >= 1, usually 8"),
        ({"rounds_kept": 0}, "rounds_kept is 0"),
        ({"beta": (1.0, -0.1)}, r"beta is .* in \[0, 1\]"),
        ({"beta": (1.5,)}, r"beta is .* in \[0, 1\]"),
        ({"beta": ()}, "a probability for every round, at least one"),
        ({"beta": 1.0}, "has to be a tuple"),
        ({"policy": "mlp"}, "policy is 'mlp'; it has to be a .*MlpConfig"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        DaggerConfig(**settings)
